"""The embedded online path over log entries, as serving runs it."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sentinel.domain import Label, Transaction, Verdict
from sentinel.features.arena import Arena
from sentinel.features.encode import EventEncoder
from sentinel.features.kernel.fold import fold
from sentinel.features.offline import LabelBook
from sentinel.features.plan.program import (
    EVENT_KIND,
    EVENT_VIEWS,
    FLAG_SHIFT,
    POSITION_MASK,
    Program,
)
from sentinel.log.labels import take_arrival, take_label
from sentinel.log.schema import KIND_TRANSACTION
from sentinel.pipeline.verify import transactions_of

Entry = Transaction | Label
Vectors = npt.NDArray[np.float32]


class EntryFold:
    """Entries are encoded one by one into a micro-batch, which is folded at once.

    ``positions`` and ``flags`` are those of the last run, by transaction and view.

    Args:
        program: The compiled plan.
        arena: State to start from, changed in place.
        capacity: Most events of a micro-batch.
        book: Labels known so far, and the events of the transactions they may be about.
        labelled: Transactions whose events are kept for labels to come; None: all.
    """

    def __init__(
        self,
        program: Program,
        arena: Arena | None = None,
        capacity: int = 1,
        book: LabelBook | None = None,
        labelled: Container[str] | None = None,
    ) -> None:
        self.program = program
        self.arena = arena if arena is not None else Arena(program)
        self.encoder = EventEncoder(program, self.arena, capacity)
        self.book = book if book is not None else LabelBook()
        self.labelled = labelled
        self.positions: list[list[int]] = []
        self.flags: list[list[int]] = []
        self._out: Vectors = np.zeros((capacity, program.n_features), dtype=np.float32)

    def run(self, entries: Iterable[Entry]) -> Vectors:
        """Apply log entries; float32 (n_transactions, n_features)."""
        self.positions, self.flags = [], []
        found = [np.empty((0, self.program.n_features), dtype=np.float32)]
        rows: list[bool] = []
        for entry in entries:
            if len(rows) == self.encoder.capacity:
                found.append(self._fold(rows))
                rows = []
            if isinstance(entry, Transaction):
                self.encoder.put(len(rows), entry)
                if self.labelled is None or entry.transaction_id in self.labelled:
                    event = self.encoder.events[len(rows)].copy()
                    self.book.encoded[entry.transaction_id] = event
                rows.append(True)
                kind = take_arrival(self.book.fraud, entry.transaction_id)
            else:
                kind = take_label(self.book.fraud, entry.transaction_id, entry.verdict)
            if kind is not None and entry.transaction_id in self.book.encoded:
                if len(rows) == self.encoder.capacity:
                    found.append(self._fold(rows))
                    rows = []
                self.encoder.events[len(rows)] = self.book.encoded[entry.transaction_id]
                self.encoder.events[len(rows), EVENT_KIND] = kind
                rows.append(False)
        if rows:
            found.append(self._fold(rows))
        return np.concatenate(found)

    def _fold(self, rows: list[bool]) -> Vectors:
        events = self.encoder.events
        n = len(rows)
        fold(self.arena.words, self.program.code, events, self.encoder.given, self._out, n)
        of_transactions = np.array(rows)
        views = len(self.program.plan.views)
        words = events[:n][of_transactions, EVENT_VIEWS + views : EVENT_VIEWS + 2 * views]
        self.positions += (words & POSITION_MASK).tolist()
        self.flags += (words >> FLAG_SHIFT).tolist()
        vectors: Vectors = self._out[:n][of_transactions]
        return vectors


def entries_of(batch: pa.RecordBatch) -> Iterator[Entry]:
    """The entries of a log batch as the values that serving handles."""
    transactions = transactions_of(batch)
    kinds, ids, verdicts, received = (
        batch.column(name).to_pylist()
        for name in ("kind", "transaction_id", "verdict", "received_at_us")
    )
    for kind, transaction_id, verdict, at in zip(kinds, ids, verdicts, received, strict=True):
        if kind == KIND_TRANSACTION:
            yield next(transactions)
        else:
            yield Label(
                label_id="",
                transaction_id=transaction_id,
                verdict=Verdict(verdict),
                received_at_us=at,
            )


def labelled_in(log: Iterable[pa.RecordBatch]) -> set[str]:
    """Transactions that are called fraud somewhere in a log."""
    book = LabelBook()
    book.scan(log)
    return book.wanted
