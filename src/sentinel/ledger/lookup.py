"""Many entries of the log by id at once: each group that holds some of them is decoded once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from sentinel.domain import Decision, Transaction
from sentinel.ledger.index import LedgerIndex, decision_in, number_features
from sentinel.ledger.index_values import Explain
from sentinel.log.entries import Group, GroupKind, decode_decisions


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

    Attributes:
        index: The same, for other questions.
    """

    def __init__(self, index: LedgerIndex) -> None:
        self.index = index

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
                transactions = _imported(group, list(rows.values()))
            found.update(zip(rows, transactions, strict=True))
        return found

    def recorded(
        self, transaction_ids: Iterable[str], explain: Explain = number_features
    ) -> dict[str, Recorded]:
        """The same, with the decisions.

        Args:
            transaction_ids: What to find.
            explain: See `LedgerIndex.decision`.

        Raises:
            LedgerUnavailable: The index or the ledger cannot be read right now.
        """
        found: dict[str, Recorded] = {}
        for group, rows in self._groups(transaction_ids):
            if group.kind != GroupKind.DECISIONS:
                imported = zip(rows, _imported(group, list(rows.values())), strict=True)
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
        found = self.index.find_many(transaction_ids).values()
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


def _imported(group: Group, rows: list[int]) -> list[Transaction]:
    from sentinel.ledger.imports import imported_transactions

    return imported_transactions(group, rows)
