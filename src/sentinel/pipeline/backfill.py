"""The log into vectors, and the state that serving starts from."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from sentinel.features.encode_batch import encode_batch
from sentinel.features.offline import LabelBook, batch_rows
from sentinel.features.plan.plan import Plan
from sentinel.features.plan.program import compile_program
from sentinel.features.voids import LogFold
from sentinel.ledger.base import Ledger
from sentinel.ledger.log import DEFAULT_MAX_ROWS, LogBatch, read_log, whole_log
from sentinel.ledger.timeline import LogOf, timeline_at
from sentinel.log.schema import KIND_TRANSACTION
from sentinel.pipeline.feature_parts import FeatureParts, Part, PartsManifest, PartWriter
from sentinel.pipeline.fold_memory import check_memory, free_memory
from sentinel.pipeline.workspace import ledger_reader, only_one
from sentinel.settings import Settings
from sentinel.sources.progress import ProgressCallback, no_progress
from sentinel.state.embedded import EmbeddedState, restore, sound_snapshot

log = logging.getLogger(__name__)

PART_ROWS: Final = 250_000
"""Transactions of a part."""

_CHEAP_CHECKPOINT_SECONDS: Final = 1.0
_WORK_PER_CHECKPOINT: Final = 9
"""Seconds of work for each second of checkpoints that are not cheap."""


@dataclass(frozen=True)
class Backfilled:
    """The vectors after a backfill.

    Attributes:
        parts: Where they are.
        new_rows: How many of them are new.
        sequence: The last log entry that they cover.
        snapshot: The state after it, that serving starts from.
        seconds: How long it took.
    """

    parts: FeatureParts
    new_rows: int
    sequence: int
    snapshot: Path
    seconds: float


def backfill(
    settings: Settings,
    *,
    plan: Plan | None = None,
    rebuild: bool = False,
    part_rows: int = PART_ROWS,
    wait_seconds: float = 0.0,
    progress: ProgressCallback = no_progress,
) -> Backfilled:
    """Bring the vectors and the state of a plan up to the end of the log.

    Goes on where the last backfill of the same plan ended, or was interrupted: the state is kept
    as a checkpoint after each part, or after several once it is so large that this takes long.

    Args:
        settings: The deployment.
        plan: The plan; default: the one that was applied last.
        rebuild: Forget what there is and begin with the first entry.
        part_rows: Transactions of a Parquet file.
        wait_seconds: How long another backfill of the plan is waited for.
        progress: Told of the stages "labels" and "backfill", in log entries.

    Raises:
        DefinitionError: No plan was applied yet, or its records need more memory than there is.
        WorkspaceError: There is no ledger, or another process backfills the same plan.
    """
    started = time.monotonic()
    plan = Plan.load(settings.plan_path) if plan is None else plan
    folder = settings.offline_dir / "features" / plan.hash
    with (
        only_one(
            folder / "backfill.lock", f"a backfill of plan {plan.hash}", wait_seconds=wait_seconds
        ),
        ledger_reader(settings) as ledger,
    ):
        run = _Backfill(settings, ledger, plan, rebuild=rebuild)
        before = run.parts.manifest.rows
        run.fold(part_rows, progress)
        parts = run.parts
        snapshot = run.snapshot(settings.state_dir)
    seconds = time.monotonic() - started
    return Backfilled(
        parts, parts.manifest.rows - before, parts.manifest.sequence, snapshot, seconds
    )


class _Backfill:
    """A backfill on its way: the state and the parts belong together at every commit."""

    def __init__(self, settings: Settings, ledger: Ledger, plan: Plan, *, rebuild: bool) -> None:
        self._ledger = ledger
        self._plan = plan
        self._until = ledger.last_sequence()
        self._program = compile_program(plan)
        parts = FeatureParts.open(settings, plan.hash)
        self._checkpoints = parts.folder / "checkpoint"
        self._written: list[Part] = []  # parts that the manifest does not name yet
        self._commit_at = time.monotonic()
        self.parts = parts
        self._origin = LogOf(ledger)
        self._head = timeline_at(ledger, 1)
        manifest = parts.manifest
        why = ""
        if manifest.parts and manifest.ledger != self._head:
            why = "they are of another log"
            shutil.rmtree(settings.state_dir / plan.hash, ignore_errors=True)  # as is the state
        elif manifest.parts and (manifest.timeline or manifest.sequence > self._until):
            why = self._origin.refusal(manifest.sequence, manifest.timeline, lambda _: True)
        if why:
            log.warning("The vectors in %s are computed anew: %s.", parts.folder, why)
        if why or rebuild or not self._checkpoint(manifest.sequence).exists():
            self._begin_anew()
        elif not manifest.timeline and self._state.sequence:  # of an older version, and sound
            timeline = timeline_at(ledger, manifest.sequence)
            self.parts = parts.commit(msgspec.structs.replace(manifest, timeline=timeline))

    def _begin_anew(self) -> None:
        shutil.rmtree(self._checkpoints, ignore_errors=True)
        manifest = PartsManifest(plan_hash=self._plan.hash, ledger=self._head)
        self.parts = replace(self.parts, manifest=manifest)

    @cached_property
    def _state(self) -> EmbeddedState:
        """The state after the parts; where the checkpoint is torn, all begins anew."""
        sequence = self.parts.manifest.sequence
        if sequence:
            state = restore(self._program, self._checkpoints, origin=self._origin)
            if state.sequence == sequence:
                return state
            self._begin_anew()
        return EmbeddedState.empty(self._program, self._checkpoints)

    def _checkpoint(self, sequence: int) -> Path:
        return self._checkpoints / self._plan.hash / f"{sequence:020d}.snapshot"

    def snapshot(self, folder: Path) -> Path:
        """Make sure that serving finds a state that is no older than the parts."""
        least = self.parts.manifest.sequence
        newest = sound_snapshot(self._program, folder, self._origin, least=least)
        return self._state.freeze().write(folder) if newest is None else newest

    def fold(self, part_rows: int, progress: ProgressCallback) -> None:
        until = self._until
        if until <= self.parts.manifest.sequence:
            return
        state = self._state
        plan, folder = self._plan, self.parts.folder
        plan.save(folder / "plan.json")
        folding = LogFold(
            state.program,
            whole_log(self._ledger),
            state.arena,
            self._book(progress),
            after=state.sequence,
        )
        writer = PartWriter(folder, plan, state.sequence + 1)
        rows = min(part_rows, batch_rows(state.program))
        entries = read_log(self._ledger, state.sequence, until, min(rows, DEFAULT_MAX_ROWS))
        for first, batch in _joined(entries, rows):
            check_memory(state.arena, batch, free_memory())
            writer.add(first, batch, folding.step(batch))
            is_payment = pc.equal(batch.column("kind"), KIND_TRANSACTION)
            state.known.add(batch.column("transaction_id").filter(is_payment).to_pylist())
            state.sequence = first + batch.num_rows - 1
            if writer.rows >= part_rows:
                self._written.append(writer.write())
                writer = PartWriter(folder, plan, state.sequence + 1)
                if time.monotonic() >= self._commit_at:
                    self._commit()
            progress("backfill", state.sequence, until)
        if state.sequence > self.parts.manifest.sequence:
            if not self._written or state.sequence > self._written[-1].last_sequence:
                self._written.append(writer.write())
            self._commit()

    def _commit(self) -> None:
        """After the parts the state, then the manifest, which makes all of them count.

        A checkpoint holds all entities, so one after each part would make a long backfill's time
        grow with the square of its rows. Once it takes long, they stay a tenth of the time.
        """
        began = time.monotonic()
        state = self._state
        state.timeline, state.tail = timeline_at(self._ledger, state.sequence), None
        state.freeze().write(self._checkpoints)
        manifest = self.parts.manifest
        self.parts = self.parts.commit(
            msgspec.structs.replace(
                manifest, parts=(*manifest.parts, *self._written), timeline=state.timeline
            )
        )
        self._written = []
        now = time.monotonic()
        cost = now - began
        wait = 0.0 if cost < _CHEAP_CHECKPOINT_SECONDS else cost * _WORK_PER_CHECKPOINT
        self._commit_at = now + wait

    def _book(self, progress: ProgressCallback) -> LabelBook:
        """What must be known of labels to go on: frauds so far, and what later labels are about."""
        state, until = self._state, self._until
        book = LabelBook(fraud=state.fraud, void=state.void)
        for first, batch in read_log(self._ledger, after=state.sequence, until=until):
            book.scan([batch])
            progress("labels", first + batch.num_rows - 1, until)
        if state.sequence and book.wanted:
            wanted = pa.array(sorted(book.wanted), pa.string())
            for _, batch in read_log(self._ledger, until=state.sequence):
                self._remember(book, batch, wanted)
        return book

    def _remember(self, book: LabelBook, batch: pa.RecordBatch, wanted: pa.Array) -> None:
        """Encode the transactions of an earlier batch that later labels are about."""
        found = pc.and_(
            pc.equal(batch.column("kind"), KIND_TRANSACTION),
            pc.is_in(batch.column("transaction_id"), value_set=wanted),
        )
        few = batch.filter(found)
        if few.num_rows:
            events, _ = encode_batch(self._state.program, self._state.arena, few)
            ids = few.column("transaction_id").to_pylist()
            book.encoded.update(zip(ids, events, strict=True))


def _joined(entries: Iterable[LogBatch], rows: int) -> Iterator[LogBatch]:
    """Neighbouring batches of the same columns as one, of ``rows`` rows or a batch more."""
    first, together = 0, list[pa.RecordBatch]()

    def join() -> LogBatch:
        if len(together) == 1:
            return LogBatch(first, together[0])
        return LogBatch(first, pa.concat_batches(together))

    for sequence, batch in entries:
        enough = sum(held.num_rows for held in together) >= rows
        if together and (enough or not batch.schema.equals(together[0].schema)):
            yield join()
            together = []
        if not together:
            first = sequence
        together.append(batch)
    if together:
        yield join()
