"""Many entries of the log by id at once: each group that holds some of them is decoded once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from sentinel.domain import Decision, Transaction
from sentinel.ledger.index import LedgerIndex, number_features
from sentinel.ledger.index_values import Explain
from sentinel.log.entries import (
    FLAG_DEGRADED,
    FLAG_IS_FRAUD,
    N_REASONS,
    OUTCOMES,
    DecisionGroup,
    Group,
    GroupKind,
    decode_decisions,
    outcome_of,
)
from sentinel.spare_time import Between, go_on


class Recorded(NamedTuple):
    """A transaction of the log.

    Attributes:
        transaction: With its attributes.
        decision: None if it was imported.
    """

    transaction: Transaction
    decision: Decision | None


class TransactionLookup:
    """Finds transactions and decisions. For one thread.

    Args:
        index: Where they are in the log; the look-up closes it.
        between: Called between two pieces of a long look-up for transactions, each of which takes
            about half a millisecond, so that other threads have their turn.

    Attributes:
        index: The same, for other questions.
    """

    def __init__(self, index: LedgerIndex, between: Between = go_on) -> None:
        self.index = index
        self._between = between

    def transactions(self, transaction_ids: Iterable[str]) -> dict[str, Transaction]:
        """Those of the transactions that the index holds, by id.

        Raises:
            LedgerUnavailable: The index or the ledger cannot be read right now.
        """
        found: dict[str, Transaction] = {}
        for group, rows in self._groups(transaction_ids):
            if group.kind == GroupKind.DECISIONS:
                decided = decode_decisions(group.payload).transactions
                transactions = [decided[row] for row in rows.values()]
            else:
                transactions = self._imported(group, list(rows.values()))
            found.update(zip(rows, transactions, strict=True))
            self._between()
        return found

    def recorded(
        self, transaction_ids: Iterable[str], explain: Explain = number_features
    ) -> dict[str, Recorded]:
        """The same, with the decisions.

        Args:
            transaction_ids: What to find.
            explain: See `decision_in`.

        Raises:
            LedgerUnavailable: The index or the ledger cannot be read right now.
        """
        found: dict[str, Recorded] = {}
        for group, rows in self._groups(transaction_ids):
            if found:  # a single payment that comes again waits no longer than it has to
                self._between()
            if group.kind != GroupKind.DECISIONS:
                imported = zip(rows, self._imported(group, list(rows.values())), strict=True)
                found.update({name: Recorded(transaction, None) for name, transaction in imported})
                continue
            decided = decode_decisions(group.payload)
            for name, row in rows.items():
                decision = decision_in(decided, group.first_sequence, row, explain)
                found[name] = Recorded(decided.transactions[row], decision)
        return found

    def close(self) -> None:
        """Release the index."""
        self.index.close()

    def _groups(self, transaction_ids: Iterable[str]) -> Iterator[tuple[Group, dict[str, int]]]:
        """Each group that holds some of them, and their rows in it by id."""
        found = self.index.find_many(transaction_ids, self._between).values()
        group: Group | None = None
        rows: dict[str, int] = {}
        for entry in sorted(found, key=lambda entry: entry.sequence):
            if group is None or entry.sequence >= group.first_sequence + group.entries:
                if group is not None:
                    yield group, rows
                group, rows = self.index.group_of(entry.sequence), {}
            rows[entry.transaction_id] = entry.sequence - group.first_sequence
        if group is not None:
            yield group, rows

    def _imported(self, group: Group, rows: list[int]) -> list[Transaction]:
        from sentinel.ledger.imports import imported_transactions

        return imported_transactions(group, rows, self._between)


def decision_in(
    decided: DecisionGroup, first_sequence: int, row: int, explain: Explain = number_features
) -> Decision:
    """A decision of a group.

    Args:
        decided: The group's content.
        first_sequence: Of its first entry.
        row: The decision's place in it, from 0.
        explain: Puts a recorded reason into words; the ledger knows features by number only.
    """
    n = len(decided.transactions)
    vector = tuple(None if math.isnan(v) else v for v in decided.vector_array()[row].tolist())
    features = np.frombuffer(decided.reason_features, "<i2").reshape(n, N_REASONS)[row].tolist()
    contributions = np.frombuffer(decided.reason_contributions, "<f4").reshape(n, N_REASONS)
    flags = int(decided.flag_array()[row])
    model_name, model_version = decided.decided_by()[row]
    return Decision(
        transaction_id=decided.transactions[row].transaction_id,
        sequence=first_sequence + row,
        score=float(decided.deciding_scores()[row]),
        fraud_probability=float(decided.deciding_probabilities()[row]),
        is_fraud=bool(flags & FLAG_IS_FRAUD),
        outcome=outcome_of(flags),
        model_name=model_name,
        model_version=model_version,
        plan_hash=decided.plan_hash,
        degraded=bool(flags & FLAG_DEGRADED),
        reasons=tuple(
            explain(decided.plan_hash, feature, vector[feature], contribution)
            for feature, contribution in zip(features, contributions[row].tolist(), strict=True)
            if feature >= 0
        ),
        latency_us=int(np.frombuffer(decided.latencies_us, "<u4")[row]),
        vector=vector,
        policy_hash=decided.policy_hash,
        base_outcome=OUTCOMES[decided.base_outcome_codes()[row]],
        propensity=float(decided.columns.propensity_array(n)[row]),
        rules=decided.columns.rules_by_row(n)[row],
        called_by=decided.columns.callers_by_row(n)[row],
        eligible=bool(decided.columns.eligible_array(n)[row]),
    )
