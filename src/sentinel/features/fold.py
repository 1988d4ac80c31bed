"""The offline fold: a whole log, batch by batch, in bounded memory and on all cores.

Transactions give a vector each; labels change the state that later vectors are read from. A
label that stands in the log before its transaction waits and takes effect right after it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sentinel.domain import Verdict
from sentinel.features.arena import Arena
from sentinel.features.encode_batch import Events, encode_batch
from sentinel.features.program import EVENT_KIND, KIND_FRAUD, KIND_RETRACT, Program
from sentinel.features.sweep import finish_rows, fold_view, order_of
from sentinel.schema import KIND_LABEL, KIND_TRANSACTION

Resolve = Callable[[list[str]], dict[str, pa.RecordBatch]]
"""Finds earlier transactions by id: a log batch of one row for each that is known."""


@dataclass
class LabelBook:
    """What is known of labels while the log is read in order.

    Attributes:
        wanted: Ids of transactions whose features the labels of the log may change.
        encoded: The encoded event of each wanted transaction that has been passed.
        fraud: Transactions whose latest verdict is fraud.
    """

    wanted: set[str] = field(default_factory=set)
    encoded: dict[str, npt.NDArray[np.int64]] = field(default_factory=dict)
    fraud: set[str] = field(default_factory=set)

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

    def change(self, transaction_id: str, verdict: str) -> int:
        """Kind of event that a verdict causes: KIND_FRAUD, KIND_RETRACT, or -1 for none."""
        was = transaction_id in self.fraud
        now = verdict == Verdict.FRAUD
        if was == now:
            return -1
        if now:
            self.fraud.add(transaction_id)
            return KIND_FRAUD
        self.fraud.discard(transaction_id)
        return KIND_RETRACT


class OfflineFold:
    """Runs a plan over a log.

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

    def step(self, batch: pa.RecordBatch, *, vectors: bool = True) -> npt.NDArray[np.float32]:
        """Fold one log batch; see `run`."""
        kinds = batch.column("kind").to_numpy(zero_copy_only=False)
        is_label = kinds != KIND_TRANSACTION
        has_labels = bool(is_label.any())
        transactions = batch.filter(pa.array(~is_label)) if has_labels else batch
        events, given = encode_batch(self.program, self.arena, transactions)
        n = len(events)
        rows = np.arange(n, dtype=np.int64) if vectors else np.full(n, -1, dtype=np.int64)
        out = np.empty((n if vectors else 0, self.program.n_features), dtype=np.float32)
        merged, merged_rows = self._merge_labels(batch, is_label, events, rows)
        self._run_views(merged, out, merged_rows)
        if vectors:
            finish_rows(self.program.code, events, given, out, rows)
        return out

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
        before = np.cumsum(~is_label)  # transactions up to and including each entry
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
        few = batch.take(pa.array(entries))
        ids = few.column("transaction_id").to_pylist()
        verdicts = few.column("verdict").to_pylist()
        for entry, transaction_id, verdict in zip(entries, ids, verdicts, strict=True):
            place = int(before[entry])
            if not is_label[entry]:
                book.encoded[transaction_id] = events[place - 1]
                if transaction_id in book.fraud:
                    cause(place, transaction_id, KIND_FRAUD)
            else:
                kind = book.change(transaction_id, verdict)
                if kind >= 0 and transaction_id in book.encoded:
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
        views = range(len(self.program.plan.views))
        words = self.program.record_words
        if self._pool is None or len(events) < 1024:
            for view in views:
                order = order_of(events, view, words[view], 0, 1)
                fold_view(arena, code, view, events, order, out, rows)
            return

        def share(view: int, part: int) -> None:
            order = order_of(events, view, words[view], part, self.threads)
            fold_view(arena, code, view, events, order, out, rows)

        tasks = [
            self._pool.submit(share, view, part) for view in views for part in range(self.threads)
        ]
        for task in tasks:
            task.result()
