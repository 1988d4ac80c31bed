"""Questions to the index. They cost the log's writer nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from sentinel.domain import InvalidQuery, Label, LookupTooSlow, SentinelError, Verdict
from sentinel.ledger.index_pages import CORE, ONE_DECISION, page_queries
from sentinel.ledger.index_schema import first_beyond_runs
from sentinel.ledger.index_values import (
    DecisionFilter,
    DecisionsPage,
    IndexedDecision,
    IndexedTransaction,
)
from sentinel.ledger.sqlite_errors import primary_code, unavailable
from sentinel.log.entries import (
    FLAG_DEGRADED,
    FLAG_EXPIRED_EVENT,
    FLAG_IS_FRAUD,
    FLAG_LATE_EVENT,
    outcome_of,
)
from sentinel.spare_time import Between, go_on

MAX_PAGE: Final = 1000
"""Most decisions in one page."""

_IDS_AT_ONCE: Final = 500
_ROWS_AT_ONCE: Final = 64
_FIND: Final = f"""
SELECT {CORE}, 'imported' FROM imported WHERE transaction_id IN (?) UNION ALL
SELECT {CORE}, 'live' FROM decisions WHERE transaction_id IN (?)"""
_NO_END: Final = 2**63 - 1
_LABEL: Final = "SELECT label_id, transaction_id, verdict, received_at_us, origin FROM labels"
_LATEST: Final = " WHERE transaction_id = ? ORDER BY sequence DESC LIMIT ?"
_NEAREST: Final = """
SELECT sequence, received_at_us FROM decisions WHERE sequence >= ? ORDER BY sequence LIMIT 1"""


class IndexQueries:
    """Questions to an index, from any thread, while it is being filled.

    All raise LedgerUnavailable where the index cannot be read right now, and LookupTooSlow where a
    time limit on the connection ends them.
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

    def find(self, transaction_id: str) -> IndexedTransaction | None:
        """A transaction by its id."""
        return self.find_many((transaction_id,)).get(transaction_id)

    def find_many(
        self, transaction_ids: Iterable[str], between: Between = go_on
    ) -> dict[str, IndexedTransaction]:
        """Those of the transactions that the index holds, by id.

        Args:
            transaction_ids: What to find.
            between: Called between two pieces of the work.
        """
        found: dict[str, IndexedTransaction] = {}
        for marks, ids in _portions(transaction_ids):
            for row in self._rows(_FIND.replace("?", marks), [*ids, *ids]):
                known = found.get(row[1])
                if known is None or row[0] < known.sequence:
                    found[row[1]] = IndexedTransaction(
                        **dict(zip(IndexedTransaction.__struct_fields__, row, strict=True))
                    )
            between()
        return found

    def decision_row(self, transaction_id: str) -> IndexedDecision | None:
        """A decision by its transaction's id, without its vector."""
        rows = self._rows(ONE_DECISION, (transaction_id,))
        return _decision(rows[0]) if rows else None

    def decisions_page(
        self,
        where: DecisionFilter | None = None,
        *,
        limit: int = 100,
        before: int | None = None,
        between: Between = go_on,
    ) -> DecisionsPage:
        """Decisions, latest first.

        Args:
            where: Which ones; default: all.
            limit: Most decisions in the page, 1 to MAX_PAGE.
            before: Only decisions with a sequence below this: the page's ``next_before``.
            between: Called between two pieces of the work.

        Raises:
            InvalidQuery: The limit is out of range.
            LookupTooSlow: The time for a look-up ended before any decision was found.
        """
        if not 1 <= limit <= MAX_PAGE:
            raise InvalidQuery(f"limit is {limit}; allowed is 1 to {MAX_PAGE}.")
        where = where or DecisionFilter()
        since = 0 if where.since_us is None else self._sequence_at(where.since_us)
        until = _NO_END if where.until_us is None else self._sequence_at(where.until_us)
        if before is not None:
            until = min(until, before)
        beyond = first_beyond_runs(self.indexed_through)
        found: list[Any] = []
        complete = True
        for query, values in page_queries(where, since, until, beyond):
            try:
                for row in self._cursor(query, [*values, limit + 1 - len(found)]):
                    found.append(row)  # those before an error count
                    if len(found) % _ROWS_AT_ONCE == 0:
                        between()
            except sqlite3.Error as error:
                if primary_code(error) != sqlite3.SQLITE_INTERRUPT or not found:
                    raise self._error(error) from error
                complete = False
            if not complete or len(found) > limit:
                break
        decisions: list[IndexedDecision] = []
        for first in range(0, min(len(found), limit), _ROWS_AT_ONCE):
            between()
            decisions += map(_decision, found[first : min(first + _ROWS_AT_ONCE, limit)])
        more = len(found) > limit or not complete
        return DecisionsPage(
            decisions=tuple(decisions),
            next_before=decisions[-1].sequence if more else None,
            complete=complete,
        )

    def labels(self, label_ids: Iterable[str], between: Between = go_on) -> dict[str, Label]:
        """Those of the labels that the index holds, by id; see `find_many`."""
        found: dict[str, Label] = {}
        for marks, ids in _portions(label_ids):
            for row in self._rows(f"{_LABEL} WHERE label_id IN ({marks})", ids):
                found[row[0]] = _label(row)
            between()
        return found

    def labels_of(self, transaction_id: str, *, most: int) -> list[tuple[int, Label]]:
        """The latest labels of a transaction and their sequences, in log order."""
        query = _LABEL.replace("SELECT", "SELECT sequence,") + _LATEST
        rows = self._rows(query, (transaction_id, most))
        return [(row[0], _label(row[1:])) for row in reversed(rows)]

    def voids_of(self, transaction_ids: Iterable[str]) -> dict[str, int]:
        """Those of the transactions that are void, by id, and the sequence of the void of each."""
        found: dict[str, int] = {}
        for marks, ids in _portions(transaction_ids):
            query = f"SELECT transaction_id, sequence FROM voids WHERE transaction_id IN ({marks})"
            found.update(self._rows(query, ids))
        return found

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
            return self._cursor(query, values).fetchall()
        except sqlite3.Error as error:
            raise self._error(error) from error

    def _cursor(self, query: str, values: Sequence[Any]) -> sqlite3.Cursor:
        return self._reader.execute(query, values)

    def _error(self, error: sqlite3.Error) -> SentinelError:
        if primary_code(error) == sqlite3.SQLITE_INTERRUPT:
            return LookupTooSlow(
                "The look-up was ended because it took too long. Ask for less at once: name a "
                "customer, a card or a merchant, or a shorter time with since_us and until_us."
            )
        return unavailable(error, self.path, "read the index", derived=True)


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
        outcome_of(flags),
        bool(flags & FLAG_IS_FRAUD),
        bool(flags & FLAG_DEGRADED),
        bool(flags & FLAG_LATE_EVENT),
        bool(flags & FLAG_EXPIRED_EVENT),
    )
    values = (*row[:12], *judged, *row[13:18], Verdict(verdict) if verdict else None)
    return IndexedDecision(**dict(zip(IndexedDecision.__struct_fields__, values, strict=True)))
