"""The offline fold: a whole log, batch by batch, in bounded memory and on all cores.

Transactions give a vector each; labels change the state that later vectors are read from. A
label that stands in the log before its transaction waits and takes effect right after it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sentinel.domain import Verdict
from sentinel.features.arena import Arena
from sentinel.features.encode_batch import Events, encode_batch
from sentinel.features.kernel.sweep import (
    Order,
    finish_rows,
    fold_in_order,
    fold_view,
    order_of,
    record_end,
)
from sentinel.features.plan.program import EVENT_KIND, Program
from sentinel.log.labels import take_arrival, take_label
from sentinel.log.schema import KIND_LABEL, KIND_TRANSACTION

BATCH_BYTES: Final = 400 << 20
"""Memory that `batch_rows` plans with; the state of all entities comes on top."""

LOG_ROW_BYTES: Final = 100
"""What a row of a log takes in memory, about: a payment with ids, keys and a few attributes."""

_MOST_ROWS: Final = 1 << 22
_WORTH_SHARING: Final = 1024
_PIECES_PER_THREAD: Final = 8


@dataclass
class LabelBook:
    """What is known of labels while the log is read in order.

    Attributes:
        wanted: Ids of transactions whose features the labels of the log may change.
        encoded: The encoded event of each wanted transaction that has been passed.
        fraud: Transactions whose latest verdict is fraud.
        void: Transactions that are void: labels about them do nothing.
    """

    wanted: set[str] = field(default_factory=set)
    encoded: dict[str, npt.NDArray[np.int64]] = field(default_factory=dict)
    fraud: set[str] = field(default_factory=set)
    void: set[str] = field(default_factory=set)

    def scan(self, batches: Iterable[pa.RecordBatch]) -> None:
        """Note which transactions the labels of a log may change the features of.

        Those called fraud in it, and those called fraud before it that it corrects; that a
        transaction is legitimate changes nothing by itself.
        """
        for batch in batches:
            labels = batch.filter(pc.equal(batch.column("kind"), KIND_LABEL))
            is_fraud = pc.equal(labels.column("verdict"), Verdict.FRAUD.value)
            self.wanted.update(labels.filter(is_fraud).column("transaction_id").to_pylist())
            others = labels.filter(pc.invert(is_fraud)).column("transaction_id").to_pylist()
            self.wanted.update(self.fraud.intersection(others))


class OfflineFold:
    """Runs a plan over a log without voids; `sentinel.features.voids.LogFold` takes those, too.

    Args:
        program: The compiled plan.
        arena: State to start from, changed in place; empty for a backfill.
        book: Label knowledge to start from. Its ``wanted`` must cover the log's labels.
        threads: Threads that share the work by entity; default: the cores of this machine.
    """

    def __init__(
        self,
        program: Program,
        arena: Arena | None = None,
        book: LabelBook | None = None,
        threads: int | None = None,
    ) -> None:
        self.program = program
        self.arena = arena if arena is not None else Arena(program)
        self.book = book if book is not None else LabelBook()
        self.threads = threads or os.cpu_count() or 1
        self._room = np.empty(0, dtype=np.int64)
        self._pool = ThreadPoolExecutor(self.threads) if self.threads > 1 else None

    def run(
        self, batches: Iterable[pa.RecordBatch], *, vectors: bool = True
    ) -> Iterator[npt.NDArray[np.float32]]:
        """Fold batches in log order; yields the vectors of each batch's transactions.

        Args:
            batches: Log batches.
            vectors: False only moves the state (recovery); empty arrays are yielded.

        Yields:
            float32 (n_transactions, n_features) per batch, NaN = unknown.
        """
        for batch in batches:
            yield self.step(batch, vectors=vectors)

    def step(
        self,
        batch: pa.RecordBatch,
        *,
        vectors: bool = True,
        out: npt.NDArray[np.float32] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Fold one log batch; see `run`.

        Args:
            batch: Log batch.
            vectors: As in `run`.
            out: Where the vectors go, float32 (n_transactions or more, n_features), for callers
                that are done with one batch's before they ask for the next; default: new memory.
        """
        kinds = batch.column("kind").to_numpy(zero_copy_only=False)
        is_label = kinds != KIND_TRANSACTION
        if (kinds > KIND_LABEL).any():
            raise ValueError(
                "A batch with voids is folded by LogFold, which can read the log again."
            )
        has_labels = bool(is_label.any())
        transactions = batch.filter(pa.array(~is_label)) if has_labels else batch
        n = transactions.num_rows
        events, given = encode_batch(
            self.program, self.arena, transactions, events=self._room_for(n)
        )
        rows = np.arange(n, dtype=np.int64) if vectors else np.full(n, -1, dtype=np.int64)
        shape = (n if vectors else 0, self.program.n_features)
        if out is None:
            out = np.empty(shape, dtype=np.float32)
        out = out[: shape[0]]
        if out.shape != shape or out.dtype != np.float32 or not out.flags.c_contiguous:
            raise ValueError(f"Vectors of this batch need room for float32 {shape}, contiguous.")
        merged, merged_rows = self._merge_labels(batch, is_label, events, rows)
        self._run_views(merged, out, merged_rows)
        if vectors:
            self._finish(events, given, out, rows)
        return out

    def _room_for(self, n: int) -> Events:
        """Memory for a batch's events, the same for one batch after the other."""
        words = n * self.program.event_width
        if len(self._room) < words:
            self._room = np.empty(words, dtype=np.int64)
        return self._room[:words].reshape(n, self.program.event_width)

    def _merge_labels(
        self,
        batch: pa.RecordBatch,
        is_label: npt.NDArray[np.bool_],
        events: Events,
        rows: npt.NDArray[np.int64],
    ) -> tuple[Events, npt.NDArray[np.int64]]:
        """Events with those that labels cause put in their places of the log."""
        book = self.book
        extra: list[npt.NDArray[np.int64]] = []
        places: list[int] = []

        def cause(place: int, transaction_id: str, kind: int) -> None:
            event = book.encoded[transaction_id].copy()
            event[EVENT_KIND] = kind
            extra.append(event)
            places.append(place)

        # Walk the few entries that matter in log order: labels, and transactions with labels.
        interesting = is_label.copy()
        # (`fraud` is not all in `wanted`: a label may have come before this log began and its
        # transaction comes only now.)
        labelled = book.wanted | book.fraud
        if labelled:
            interesting |= pc.is_in(
                batch.column("transaction_id"), value_set=pa.array(list(labelled), pa.string())
            ).to_numpy(zero_copy_only=False)
        entries = np.flatnonzero(interesting)
        if len(entries) == 0:
            return events, rows
        before = np.cumsum(~is_label)  # transactions up to and including each entry
        few = batch.take(pa.array(entries))
        ids = few.column("transaction_id").to_pylist()
        verdicts = few.column("verdict").to_pylist()
        for entry, transaction_id, verdict in zip(entries, ids, verdicts, strict=True):
            place = int(before[entry])
            if not is_label[entry]:
                book.encoded[transaction_id] = events[place - 1]
                kind = take_arrival(book.fraud, transaction_id)
            else:
                kind = take_label(book.fraud, transaction_id, verdict, book.void)
            if kind is not None and transaction_id in book.encoded:
                cause(place, transaction_id, kind)
        for transaction_id in ids:
            if transaction_id in book.encoded:
                book.encoded[transaction_id] = book.encoded[transaction_id].copy()
        if not extra:
            return events, rows
        at = np.array(places)
        return np.insert(events, at, np.array(extra), axis=0), np.insert(rows, at, -1)

    def _run_views(
        self, events: Events, out: npt.NDArray[np.float32], rows: npt.NDArray[np.int64]
    ) -> None:
        arena, code = self.arena.words, self.program.code
        words = self.program.record_words
        views = range(len(words))
        if self._pool is None or len(events) < _WORTH_SHARING:
            for view in views:
                fold_view(arena, code, view, 0, 1, events, out, rows)
            return
        ordering = [
            (view, self._pool.submit(order_of, events, view, words[view], part, self.threads))
            for view in views
            for part in range(self.threads)
        ]
        # Entities are as unequal as a day's work: cut small, and the longest piece goes first.
        most = max(len(events) // (self.threads * _PIECES_PER_THREAD), 1)
        pieces = [
            (view, piece)
            for view, ordered in ordering
            for piece in _pieces(events, view, ordered.result(), most)
        ]
        pieces.sort(key=lambda task: len(task[1]), reverse=True)
        self._wait_for(
            self._pool.submit(fold_in_order, arena, code, view, events, piece, out, rows)
            for view, piece in pieces
        )

    def _finish(
        self,
        events: Events,
        given: npt.NDArray[np.float32],
        out: npt.NDArray[np.float32],
        rows: npt.NDArray[np.int64],
    ) -> None:
        """`finish_rows`, by all threads."""
        code = self.program.code
        if self._pool is None or len(events) < _WORTH_SHARING:
            finish_rows(code, events, given, out, rows)
            return
        share = -(-len(events) // self.threads)
        parts = [slice(start, start + share) for start in range(0, len(events), share)]
        self._wait_for(
            self._pool.submit(finish_rows, code, events[part], given[part], out, rows[part])
            for part in parts
        )

    @staticmethod
    def _wait_for(tasks: Iterable[Future[None]]) -> None:
        for task in list(tasks):
            task.result()


def _pieces(events: Events, view: int, order: Order, most: int) -> list[Order]:
    """An order of `order_of` in pieces of about ``most`` rows, each record's in one of them."""
    pieces = []
    start = 0
    while start < len(order):
        end = record_end(events, view, order, min(start + most, len(order)))
        pieces.append(order[start:end])
        start = end
    return pieces


def batch_rows(
    program: Program, budget_bytes: int = BATCH_BYTES, log_row_bytes: int = LOG_ROW_BYTES
) -> int:
    """Rows of a batch that a fold has room for, however long the log is.

    More rows of an entity in one batch are less work: its record is read and written once for
    all of them.

    Args:
        program: The compiled plan.
        budget_bytes: What a batch's rows, events and vectors may take in memory.
        log_row_bytes: What a row of the log takes in memory.
    """
    views = len(program.record_words)
    per_row = 2 * log_row_bytes  # as it is read, and in one batch
    per_row += 2 * 8 * program.event_width  # once more where labels are merged into them
    per_row += 8 + 4 * views + 3 * 4  # rows and orders, of which one is being sorted
    per_row += 4 * (program.n_features + program.n_given)
    return max(_WORTH_SHARING, min(budget_bytes // per_row, _MOST_ROWS))
