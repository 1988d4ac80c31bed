"""State after a start: the newest snapshot, then the log behind it, through the same fold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from sentinel.domain import Transaction
from sentinel.features.encode import EventEncoder
from sentinel.features.offline import LabelBook
from sentinel.features.plan.program import Program
from sentinel.features.voids import StateFold
from sentinel.ledger.base import Ledger
from sentinel.ledger.columns import payments_batch
from sentinel.ledger.log import read_log, whole_log
from sentinel.ledger.timeline import LogOf, timeline_at
from sentinel.log.schema import KIND_TRANSACTION
from sentinel.spare_time import Between, go_on
from sentinel.state.embedded import EmbeddedState, restore


class FindTransaction(Protocol):
    """Finds a transaction of the log by id."""

    def __call__(self, transaction_id: str) -> Transaction | None: ...


def recover(
    program: Program,
    ledger: Ledger,
    snapshots: Path,
    find: FindTransaction,
    *,
    progress: Callable[[int, int], None] | None = None,
    between: Between = go_on,
    threads: int | None = None,
) -> EmbeddedState:
    """The state after the ledger's last entry.

    Args:
        program: The compiled plan.
        ledger: The source of truth.
        snapshots: Folder of state snapshots.
        find: Looks up transactions before the snapshot that later labels are about.
        progress: Told (entries done, entries in all) as the log is replayed.
        between: Called between two pieces of the work, so that others have their turn.
        threads: Threads that share the work; default: the cores of this machine.
    """
    state = restore(program, snapshots, origin=LogOf(ledger), between=between)
    catch_up(state, ledger, find, progress=progress, threads=threads)
    if not state.timeline:  # of an older version's snapshot, and nothing came after it
        state.timeline = timeline_at(ledger, state.sequence)
    return state


def catch_up(
    state: EmbeddedState,
    ledger: Ledger,
    find: FindTransaction,
    *,
    progress: Callable[[int, int], None] | None = None,
    threads: int | None = None,
) -> None:
    """Fold what the ledger holds beyond ``state.sequence`` into the state."""
    until = ledger.last_sequence()
    if until <= state.sequence:
        return
    start = state.sequence
    book = LabelBook(fraud=state.fraud, void=state.void)
    book.scan(batch for _, batch in read_log(ledger, after=start, until=until))
    encoder = EventEncoder(state.program, state.arena)
    for transaction_id in book.wanted:
        transaction = find(transaction_id)
        if transaction is not None and state.known.holds_id(transaction_id):
            encoder.put(0, transaction)
            book.encoded[transaction_id] = encoder.events[0].copy()

    def payments(transaction_ids: Sequence[str]) -> pa.RecordBatch | None:
        found = [one for one in map(find, transaction_ids) if one is not None]
        return payments_batch(found) if len(found) == len(transaction_ids) else None

    log = whole_log(ledger)
    folding = StateFold(state.program, log, state.arena, book, threads, after=start, find=payments)
    for first_sequence, batch in read_log(ledger, after=start, until=until):
        folding.step(batch, vectors=False)
        ids = batch.column("transaction_id").to_pylist()
        kinds = batch.column("kind").to_pylist()
        state.known.add(i for i, kind in zip(ids, kinds, strict=True) if kind == KIND_TRANSACTION)
        state.sequence = first_sequence + batch.num_rows - 1
        if progress is not None:
            progress(state.sequence - start, until - start)
    folding.finish()
    state.arena.release_tables()
    state.timeline, state.tail = timeline_at(ledger, state.sequence), None
