"""Questions to the index. They cost the log's writer nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from sentinel.domain import InvalidQuery, Label, Outcome, Verdict
from sentinel.ledger.index_rows import MINUTE_US
from sentinel.ledger.index_values import (
    Activity,
    Counts,
    DecisionFilter,
    DecisionsPage,
    IndexedDecision,
    IndexedTransaction,
)
from sentinel.ledger.sqlite_errors import unavailable
from sentinel.log.entries import (
    FLAG_DEGRADED,
    FLAG_EXPIRED_EVENT,
    FLAG_IS_FRAUD,
    FLAG_LATE_EVENT,
    OUTCOMES,
)

MAX_PAGE: Final = 1000
"""Most decisions in one page."""

_IDS_AT_ONCE: Final = 500
_CORE: Final = """sequence, transaction_id, event_time_us, received_at_us, amount_minor,
    customer_id, card_id, merchant_id, device_id, ip_address"""
_FIND: Final = f"""
SELECT {_CORE}, 'imported' FROM imported WHERE transaction_id IN (?) UNION ALL
SELECT {_CORE}, 'live' FROM decisions WHERE transaction_id IN (?)"""
_VERDICT: Final = """(SELECT verdict FROM labels WHERE transaction_id = d.transaction_id
    ORDER BY sequence DESC LIMIT 1)"""
_DECISIONS: Final = f"""
SELECT {_CORE}, probability, score, flags, name, version, plan_hash, latency_us, top_reason,
    {_VERDICT} AS verdict
FROM decisions AS d JOIN models USING (model_id)"""
_LABEL: Final = "SELECT label_id, transaction_id, verdict, received_at_us, origin FROM labels"
_NEAREST: Final = """
SELECT sequence, received_at_us FROM decisions WHERE sequence >= ? ORDER BY sequence LIMIT 1"""


class IndexQueries:
    """Questions to an index, from any thread, while it is being filled.

    All raise LedgerUnavailable where the index cannot be read right now.
    """

    def __init__(self, path: Path, reader: sqlite3.Connection) -> None:
        self.path = path
        self._reader = reader

    @property
    def indexed_through(self) -> int:
        """Sequence of the last entry that the index holds, 0 if there is none."""
        return int(self._rows("SELECT indexed_through FROM bookmark")[0][0])

    def ids_after(self, after: int, through: int) -> list[str]:
        """Ids of the transactions with a sequence above ``after`` and up to ``through``."""
        query = "SELECT transaction_id FROM {} WHERE sequence > ? AND sequence <= ?"
        tables = ("imported", "decisions")
        return [
            row[0] for table in tables for row in self._rows(query.format(table), [after, through])
        ]

    def sequence_before(self, received_at_us: int) -> int:
        """Sequence of the last decision received before a time, 0 if there is none."""
        rows = self._rows(
            "SELECT sequence FROM decisions WHERE received_at_us < ? "
            "ORDER BY sequence DESC LIMIT 1",
            [received_at_us],
        )
        return int(rows[0][0]) if rows else 0

    def find(self, transaction_id: str) -> IndexedTransaction | None:
        """A transaction by its id."""
        return self.find_many((transaction_id,)).get(transaction_id)

    def find_many(self, transaction_ids: Iterable[str]) -> dict[str, IndexedTransaction]:
        """Those of the transactions that the index holds, by id."""
        found: dict[str, IndexedTransaction] = {}
        for marks, ids in _portions(transaction_ids):
            for row in self._rows(_FIND.replace("?", marks), [*ids, *ids]):
                known = found.get(row[1])
                if known is None or row[0] < known.sequence:
                    found[row[1]] = IndexedTransaction(
                        **dict(zip(IndexedTransaction.__struct_fields__, row, strict=True))
                    )
        return found

    def decision_row(self, transaction_id: str) -> IndexedDecision | None:
        """A decision by its transaction's id, without its vector."""
        rows = self._rows(f"{_DECISIONS} WHERE transaction_id = ?", (transaction_id,))
        return _decision(rows[0]) if rows else None

    def decisions_page(
        self,
        where: DecisionFilter | None = None,
        *,
        limit: int = 100,
        before: int | None = None,
    ) -> DecisionsPage:
        """Decisions, latest first.

        Args:
            where: Which ones; default: all.
            limit: Most decisions in the page, 1 to MAX_PAGE.
            before: Only decisions with a sequence below this: the page's ``next_before``.

        Raises:
            InvalidQuery: The limit is out of range.
        """
        if not 1 <= limit <= MAX_PAGE:
            raise InvalidQuery(f"limit is {limit}; allowed is 1 to {MAX_PAGE}.")
        conditions, values = self._conditions(where or DecisionFilter())
        if before is not None:
            conditions.append("sequence < ?")
            values.append(before)
        clause = f"WHERE {' AND '.join(conditions)}" if conditions else ""
        rows = self._rows(
            f"{_DECISIONS} {clause} ORDER BY sequence DESC LIMIT ?", [*values, limit + 1]
        )
        decisions = tuple(map(_decision, rows[:limit]))
        more = len(rows) > limit
        return DecisionsPage(
            decisions=decisions, next_before=decisions[-1].sequence if more else None
        )

    def recent(self, n: int = 50) -> tuple[IndexedDecision, ...]:
        """The latest decisions, latest first; at most MAX_PAGE."""
        return self.decisions_page(limit=n).decisions

    def verdicts(self, transaction_ids: Iterable[str]) -> dict[str, Verdict]:
        """What is known now of each labelled transaction among these."""
        found: dict[str, Verdict] = {}
        for marks, ids in _portions(transaction_ids):
            query = f"SELECT transaction_id, verdict FROM labels WHERE transaction_id IN ({marks})"
            for transaction_id, verdict in self._rows(f"{query} ORDER BY sequence", ids):
                found[transaction_id] = Verdict(verdict)
        return found

    def label(self, label_id: str) -> Label | None:
        """A label by its id."""
        rows = self._rows(f"{_LABEL} WHERE label_id = ?", (label_id,))
        return _label(rows[0]) if rows else None

    def labels_of(self, transaction_id: str) -> tuple[Label, ...]:
        """All labels of a transaction, in log order: the last one holds."""
        rows = self._rows(f"{_LABEL} WHERE transaction_id = ? ORDER BY sequence", (transaction_id,))
        return tuple(map(_label, rows))

    def waiting_labels(self) -> tuple[Label, ...]:
        """Labels whose transaction is not in the log yet, in log order."""
        rows = self._rows(
            f"{_LABEL} WHERE sequence IN (SELECT sequence FROM waiting) ORDER BY sequence"
        )
        return tuple(map(_label, rows))

    def counts(self) -> Counts:
        """What the log holds. Costs the same however long the log is."""
        ((through, imported, labels, waiting, *outcomes),) = self._rows(
            "SELECT indexed_through, imported, labels, (SELECT count(*) FROM waiting), approved, "
            "to_review, declined FROM bookmark"
        )
        return Counts(
            transactions=imported + sum(outcomes),
            decisions=sum(outcomes),
            labels=labels,
            waiting_labels=waiting,
            by_outcome=dict(zip(OUTCOMES, outcomes, strict=True)),
            indexed_through=through,
        )

    def activity(self, since_us: int) -> Activity:
        """Decisions received since the beginning of a minute.

        Args:
            since_us: A time in that minute; for the last ten: ``now_us - 10 * 60_000_000``.
        """
        minute = since_us // MINUTE_US
        rows = self._rows(
            "SELECT flags, sum(decisions) FROM minutes WHERE minute >= ? GROUP BY flags", (minute,)
        )
        return _activity(minute, rows)

    def activity_by_minute(self, since_us: int) -> tuple[Activity, ...]:
        """`activity` for each minute in which anything was decided, in order."""
        rows = self._rows(
            "SELECT minute, flags, decisions FROM minutes WHERE minute >= ? ORDER BY minute",
            (since_us // MINUTE_US,),
        )
        return tuple(
            _activity(minute, [(flags, n) for _, flags, n in of_minute])
            for minute, of_minute in groupby(rows, key=lambda row: int(row[0]))
        )

    def _conditions(self, where: DecisionFilter) -> tuple[list[str], list[Any]]:
        conditions: list[str] = []
        values: list[Any] = []
        if where.outcomes:
            codes = sorted({OUTCOMES.index(outcome) for outcome in where.outcomes})
            if codes[0] > 0:
                conditions.append("flags & 3 > 0")  # lets SQLite use the index of alerts
            conditions.append(f"flags & 3 IN ({', '.join(map(str, codes))})")
        if where.is_fraud is not None:
            conditions.append(f"flags & {FLAG_IS_FRAUD} {'>' if where.is_fraud else '='} 0")
        if where.min_probability is not None:
            conditions.append("probability >= ?")
            values.append(where.min_probability)
        for bound, test in ((where.since_us, ">="), (where.until_us, "<")):
            if bound is not None:
                conditions.append(f"sequence {test} ?")
                values.append(self._sequence_at(bound))
        for column in ("customer_id", "card_id", "merchant_id"):
            value = getattr(where, column)
            if value is not None:
                conditions.append(f"{column} = ?")
                values.append(value)
        if where.label == "none":
            conditions.append(f"{_VERDICT} IS NULL")
        elif where.label is not None:
            conditions.append(f"{_VERDICT} = ?")
            values.append(where.label.value)
        return conditions, values

    def _sequence_at(self, received_at_us: int) -> int:
        """Sequence from which on decisions were received at this time or later.

        The log's order is that of receipt, so halving finds it without an index on the time.
        """
        low = 1
        ((last,),) = self._rows("SELECT max(sequence) FROM decisions")
        high = (last or 0) + 1
        while low < high:
            middle = (low + high) // 2
            ((sequence, received),) = self._rows(_NEAREST, (middle,))
            if received < received_at_us:
                low = sequence + 1
            else:
                high = middle
        return low

    def _rows(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        try:
            return self._reader.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise unavailable(error, self.path, "read the index", derived=True) from error


def _portions(ids: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    """Ids in portions that fit one statement, each with its placeholders."""
    unique = list(dict.fromkeys(ids))
    for start in range(0, len(unique), _IDS_AT_ONCE):
        portion = unique[start : start + _IDS_AT_ONCE]
        yield ", ".join("?" * len(portion)), portion


def _label(row: Sequence[Any]) -> Label:
    label_id, transaction_id, verdict, received_at_us, origin = row
    return Label(
        label_id=label_id,
        transaction_id=transaction_id,
        verdict=Verdict(verdict),
        received_at_us=received_at_us,
        origin=origin,
    )


def _decision(row: Sequence[Any]) -> IndexedDecision:
    flags, verdict = row[12], row[18]
    judged = (
        OUTCOMES[flags & 3],
        bool(flags & FLAG_IS_FRAUD),
        bool(flags & FLAG_DEGRADED),
        bool(flags & FLAG_LATE_EVENT),
        bool(flags & FLAG_EXPIRED_EVENT),
    )
    values = (*row[:12], *judged, *row[13:18], Verdict(verdict) if verdict else None)
    return IndexedDecision(**dict(zip(IndexedDecision.__struct_fields__, values, strict=True)))


def _activity(minute: int, counted: Iterable[tuple[int, int]]) -> Activity:
    by_outcome: dict[Outcome, int] = dict.fromkeys(OUTCOMES, 0)
    is_fraud = degraded = 0
    for flags, n in counted:
        by_outcome[OUTCOMES[flags & 3]] += n
        is_fraud += n if flags & FLAG_IS_FRAUD else 0
        degraded += n if flags & FLAG_DEGRADED else 0
    decisions = sum(by_outcome.values())
    return Activity(
        since_us=minute * MINUTE_US,
        decisions=decisions,
        alerts=decisions - by_outcome[Outcome.APPROVE],
        by_outcome=by_outcome,
        is_fraud=is_fraud,
        degraded=degraded,
    )
