"""Records put in place anew: what a void does to the records that its transaction touched.

A record is windows, newest times, last and distinct values, and no payment can be subtracted from
those. So from a void's place in the log on, each record that its transaction touched is the fold of
its entity's other transactions before that place: the log is read once more up to there, the rows
of those entities are folded into an arena of their own, and the records are copied. Labels about
the transaction do nothing from there on (`sentinel.log.labels`).

What was computed before the void stays as it is: it is what was known then.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sentinel.features.arena import KEY_SEPARATOR, Arena
from sentinel.features.encode_batch import encode_batch
from sentinel.features.offline import LabelBook, OfflineFold
from sentinel.features.plan.plan import Plan
from sentinel.features.plan.program import Program
from sentinel.features.used_columns import only_used
from sentinel.log.labels import take_void
from sentinel.log.schema import (
    KIND_LABEL,
    KIND_TRANSACTION,
    KIND_VOID,
    UNTRACKED,
    UNTRACKED_SEPARATOR,
)

Batches = Callable[[], Iterable[pa.RecordBatch]]
"""Starts reading the log from its beginning."""

FindPayments = Callable[[Sequence[str]], pa.RecordBatch | None]
"""Finds transactions of the log by their ids, as a log batch; None if one is not found."""

MOST_AT_ONCE: Final = 100
"""Voids whose records share a reading of the log: each payment of their entities takes memory."""


class RecordsAnew:
    """The records that some payments touched, folded from the log without what is void.

    Take the log in with `take`, from its first entry on; call `fold` now and then, and `put_into`
    in the end.

    Args:
        program: The compiled plan.
        payments: Log batch of the payments whose records they are.
        void: Ids of all transactions that are void by then, those of ``payments`` among them.
        threads: See `OfflineFold`.

    Attributes:
        rows: Payments that were kept so far; each takes some 150 bytes.
    """

    def __init__(
        self,
        program: Program,
        payments: pa.RecordBatch,
        void: Collection[str],
        threads: int | None = None,
    ) -> None:
        self.rows = 0
        self._plan = program.plan
        self._records, self._wanted = _touched(program.plan, only_used(payments, program.plan))
        self._void = pa.array(sorted(void), pa.string())
        self._book = LabelBook(void=set(void))
        self._folding = OfflineFold(program, book=self._book, threads=threads)
        self._held: list[pa.RecordBatch] = []
        self._waiting: list[pa.RecordBatch] = []

    def take(self, batch: pa.RecordBatch) -> None:
        """Keep what matters of the log's next batch."""
        kind, ids = batch.column("kind"), batch.column("transaction_id")
        payments = pc.and_(pc.equal(kind, KIND_TRANSACTION), self._touching(batch))
        payments = pc.and_not(payments, pc.is_in(ids, value_set=self._void))
        few = batch.filter(pc.or_(payments, pc.equal(kind, KIND_LABEL)))
        if few.num_rows:
            self.rows += pc.sum(payments).as_py() or 0
            self._waiting.append(only_used(few, self._plan))

    def fold(self) -> None:
        """Fold what was taken in."""
        new, self._waiting = self._waiting, []
        self._book.scan(new)
        wanted = pa.array(sorted(self._book.wanted - self._book.encoded.keys()), pa.string())
        for held in self._held if len(wanted) else ():
            few = held.filter(pc.is_in(held.column("transaction_id"), value_set=wanted))
            if few.num_rows:
                events, _ = encode_batch(self._folding.program, self._folding.arena, few)
                ids = few.column("transaction_id").to_pylist()
                self._book.encoded.update(zip(ids, events, strict=True))
        for batch in new:
            self._folding.step(batch, vectors=False)
            self._held.append(batch.filter(pc.equal(batch.column("kind"), KIND_TRANSACTION)))

    def put_into(self, arena: Arena) -> None:
        """Put the records in place of those that an arena holds."""
        for view, key in self._records:
            offset = arena.keys[view].get(key)
            if offset is not None:
                words = self._folding.arena.record(view, key)
                arena.words[offset : offset + len(words)] = words

    def record(self, view: int, key: str) -> npt.NDArray[np.int64]:
        """The words of one of the records."""
        return self._folding.arena.record(view, key).copy()

    @property
    def records(self) -> list[tuple[int, str]]:
        """The records, by view and key."""
        return list(self._records)

    def _touching(self, batch: pa.RecordBatch) -> pa.Array:
        """Rows that may touch the records, bool (n_rows,)."""
        found = pa.array(np.zeros(batch.num_rows, dtype=np.bool_))
        for columns in self._wanted:
            here = None
            for name, values in columns.items():
                one = pc.is_in(batch.column(name), value_set=values)
                here = one if here is None else pc.and_(here, one)
            found = pc.or_(found, here)
        return found


class LogFold(OfflineFold):
    """The offline fold over a log with voids.

    Args:
        program: The compiled plan.
        history: Reads the log once more where a void asks for it.
        arena, book, threads: See `OfflineFold`.
        after: The log entry that the arena is folded through; 0: the fold begins with the first.
    """

    def __init__(
        self,
        program: Program,
        history: Batches,
        arena: Arena | None = None,
        book: LabelBook | None = None,
        threads: int | None = None,
        *,
        after: int = 0,
    ) -> None:
        super().__init__(program, arena, book, threads)
        self._history = history
        self.entries = after

    def step(
        self,
        batch: pa.RecordBatch,
        *,
        vectors: bool = True,
        out: npt.NDArray[np.float32] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Fold the log's next batch; see `OfflineFold.step`."""
        stretches = list(between_voids(batch))
        if len(stretches) == 1:
            self.entries += batch.num_rows
            return super().step(batch, vectors=vectors, out=out)
        if out is None:
            payments = pc.sum(pc.equal(batch.column("kind"), KIND_TRANSACTION)).as_py()
            shape = (payments if vectors else 0, self.program.n_features)
            out = np.empty(shape, dtype=np.float32)
        done = 0
        for start, stop in stretches:
            if start == stop:
                continue
            done += len(self._stretch(batch.slice(start, stop - start), vectors, out[done:]))
        return out[:done]

    def _stretch(
        self, batch: pa.RecordBatch, vectors: bool, out: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float32]:
        """Fold a part of a batch that is all voids, or has none."""
        if batch.column("kind")[0].as_py() == KIND_VOID:
            self.void(batch.column("transaction_id").to_pylist())
            return out[:0]
        self.entries += batch.num_rows
        return super().step(batch, vectors=vectors, out=out)

    def void(self, transaction_ids: Collection[str]) -> None:
        """Take in consecutive voids of the log."""
        book = self.book
        new = [one for one in transaction_ids if take_void(book.fraud, book.void, one)]
        if new and self.entries:
            self._put_anew(payments_of(self._before(), new, self.program.plan))
        self.entries += len(transaction_ids)

    def _put_anew(self, payments: pa.RecordBatch) -> None:
        """Put the records that void payments touched in place, as of where the fold is."""
        anew = RecordsAnew(self.program, payments, self.book.void, self.threads)
        for batch in self._before():
            anew.take(batch)
        anew.fold()
        anew.put_into(self.arena)

    def _before(self) -> Iterator[pa.RecordBatch]:
        """The log up to where the fold is."""
        left = self.entries
        for batch in self._history() if left else ():
            yield batch.slice(0, min(left, batch.num_rows))
            left -= batch.num_rows
            if left <= 0:
                return


class StateFold(LogFold):
    """The fold of a log with voids for its state alone.

    A record that a void touches is the fold of its entity's other transactions wherever one looks,
    so it is put in place once, when the log has been taken in: after a last `step` comes `finish`.
    Until then these records, and all vectors, mean nothing.

    Args:
        program, history, arena, book, threads, after: See `LogFold`.
        find: Finds payments that are void; what it does not find, or without it all, is looked for
            in the log.
    """

    def __init__(
        self,
        program: Program,
        history: Batches,
        arena: Arena | None = None,
        book: LabelBook | None = None,
        threads: int | None = None,
        *,
        after: int = 0,
        find: FindPayments | None = None,
    ) -> None:
        super().__init__(program, history, arena, book, threads, after=after)
        self._find = find
        self._voided: list[str] = []

    def void(self, transaction_ids: Collection[str]) -> None:
        """Take in consecutive voids of the log."""
        book = self.book
        new = [one for one in transaction_ids if take_void(book.fraud, book.void, one)]
        if self.entries:
            self._voided += new
        self.entries += len(transaction_ids)

    def finish(self) -> None:
        """Put the records that voids touched in place."""
        voided, self._voided = self._voided, []
        for start in range(0, len(voided), MOST_AT_ONCE):
            ids = voided[start : start + MOST_AT_ONCE]
            payments = self._find(ids) if self._find is not None else None
            if payments is None:
                payments = payments_of(self._before(), ids, self.program.plan)
            self._put_anew(payments)


def between_voids(batch: pa.RecordBatch) -> Iterator[tuple[int, int]]:
    """A batch in stretches (first row, end) that are all voids, or have none."""
    is_void = batch.column("kind").to_numpy(zero_copy_only=False) == KIND_VOID
    edges = np.flatnonzero(is_void[1:] != is_void[:-1]) + 1
    if not is_void.any():
        yield 0, batch.num_rows
        return
    if not len(edges):
        yield 0, 0  # more than one stretch, so that a batch of voids does not look like any other
    yield from pairwise([0, *edges.tolist(), batch.num_rows])


def payments_of(
    batches: Iterable[pa.RecordBatch], transaction_ids: Collection[str], plan: Plan
) -> pa.RecordBatch:
    """The transactions of a log with certain ids, with the columns that a plan reads."""
    wanted = pa.array(sorted(transaction_ids), pa.string())
    found = []
    for batch in batches:
        here = pc.is_in(batch.column("transaction_id"), value_set=wanted)
        few = batch.filter(pc.and_(here, pc.equal(batch.column("kind"), KIND_TRANSACTION)))
        found.append(only_used(few, plan))
    return pa.concat_batches(found)


def _touched(
    plan: Plan, payments: pa.RecordBatch
) -> tuple[list[tuple[int, str]], list[dict[str, pa.Array]]]:
    """The records of payments, and what the rows of their entities have in which columns."""
    records: dict[tuple[int, str], None] = {}
    values: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    for row in payments.to_pylist():
        untracked = (row[UNTRACKED] or "").split(UNTRACKED_SEPARATOR)
        for number, view in enumerate(plan.views):
            entity = tuple(row[key] for key in view.keys)
            if None not in entity and view.untracked_as.isdisjoint(untracked):
                records[number, KEY_SEPARATOR.join(entity)] = None
                values.setdefault(view.keys, set()).add(entity)
    wanted = [
        {
            name: pa.array(sorted({entity[place] for entity in entities}), pa.string())
            for place, name in enumerate(keys)
        }
        for keys, entities in values.items()
    ]
    return list(records), wanted
