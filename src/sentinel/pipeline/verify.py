"""The proof that what was backfilled is what serving computes, bit for bit, on every row.

The log is replayed the way serving sees it: one transaction after another, encoded singly, in
micro-batches of varying size, each label when it arrives. What the ledger recorded when it
answered is held against the same vectors.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sentinel.domain import ENTITY_COLUMNS, Transaction, WorkspaceError
from sentinel.features.arena import Arena
from sentinel.features.offline import LabelBook
from sentinel.features.online import OnlineFold
from sentinel.features.plan.plan import Plan
from sentinel.features.plan.program import Program, compile_program
from sentinel.features.voids import Batches, LogFold
from sentinel.ledger.base import Ledger
from sentinel.ledger.log import read_log, whole_log
from sentinel.log.entries import (
    FLAG_DEGRADED,
    GroupKind,
    decode_decisions,
    partly_tracked,
)
from sentinel.log.labels import take_arrival, take_label
from sentinel.log.schema import (
    ATTRIBUTE_PREFIX,
    KIND_TRANSACTION,
    KIND_VOID,
    UNTRACKED,
    UNTRACKED_SEPARATOR,
    attribute_columns,
)
from sentinel.pipeline.feature_parts import FeatureParts
from sentinel.pipeline.fold_memory import check_memory, free_memory
from sentinel.pipeline.served_columns import ServedColumns
from sentinel.pipeline.workspace import ledger_reader
from sentinel.settings import Settings
from sentinel.sources.progress import ProgressCallback, no_progress

Vectors = npt.NDArray[np.float32]

_SHOWN: Final = 10
_MICRO_BATCHES: Final = (1, 7, 1, 32, 3, 64)


@dataclass(frozen=True)
class Mismatch:
    """A value that differs.

    Attributes:
        sequence, transaction_id: Whose.
        feature: Which.
        offline, online: Its two values.
        engine: ``replay``, or ``recorded`` where the online value is the one that was served.
    """

    sequence: int
    transaction_id: str
    feature: str
    offline: float
    online: float
    engine: str


@dataclass(frozen=True)
class Verified:
    """How the two ways compare.

    Attributes:
        plan_hash: The plan.
        rows: Transactions that were replayed.
        features: Values of each.
        mismatches: Values of the replay that differ.
        recorded: Decisions whose recorded vectors were compared too.
        recorded_mismatches: Values of them that differ.
        examples: Some of the differences.
        seconds: How long it took.
        until: The last log entry that was backfilled, and so compared.
        newer: Log entries after it: `sentinel features backfill` brings them in.
    """

    plan_hash: str
    rows: int
    features: int
    mismatches: int
    recorded: int
    recorded_mismatches: int
    examples: tuple[Mismatch, ...]
    seconds: float
    until: int
    newer: int

    @property
    def values(self) -> int:
        """How many values of the replay were compared."""
        return self.rows * self.features

    @property
    def agree(self) -> bool:
        """Whether every value is the same."""
        return not self.mismatches and not self.recorded_mismatches


def verify(
    settings: Settings,
    *,
    plan: Plan | None = None,
    progress: ProgressCallback = no_progress,
) -> Verified:
    """Compare every backfilled value with the online path.

    Args:
        settings: The deployment.
        plan: The plan; default: the one that was applied last.
        progress: Told of the stages "labels" and "replay", in log entries.

    Raises:
        DefinitionError: No plan was applied yet.
        WorkspaceError: Nothing was backfilled yet.
    """
    started = time.monotonic()
    plan = Plan.load(settings.plan_path) if plan is None else plan
    parts = FeatureParts.open(settings, plan.hash)
    until = parts.manifest.sequence
    if until == 0:
        raise WorkspaceError(
            f"There are no vectors of plan {plan.hash}. Run `sentinel features backfill` first."
        )
    tally = _Tally(plan)
    with ledger_reader(settings) as ledger:
        offline = _Offline(parts, plan)
        wanted = _wanted(ledger, until, progress)
        replay = _Replay(compile_program(plan), wanted, whole_log(ledger))
        for first, batch in read_log(ledger, until=until):
            sequences, ids, online = replay.run(first, batch)
            tally.compare(sequences, ids, offline.take(sequences), online, "replay")
            progress("replay", first + batch.num_rows - 1, until)
        offline = _Offline(parts, plan)
        columns = ServedColumns(settings, plan)
        for sequences, ids, served in _recorded(ledger, columns, until):
            tally.compare(sequences, ids, offline.take(sequences), served, "recorded")
        newer = ledger.last_sequence() - until
    return Verified(
        plan.hash,
        tally.rows["replay"],
        len(plan.feature_names),
        tally.mismatches["replay"],
        tally.rows["recorded"],
        tally.mismatches["recorded"],
        tuple(tally.examples),
        time.monotonic() - started,
        until,
        newer,
    )


def _wanted(ledger: Ledger, until: int, progress: ProgressCallback) -> set[str]:
    """Transactions that are called fraud somewhere: only their labels change state."""
    book = LabelBook()
    for first, batch in read_log(ledger, until=until):
        book.scan([batch])
        progress("labels", first + batch.num_rows - 1, until)
    return book.wanted


class _Replay:
    """The online path over log batches."""

    def __init__(self, program: Program, wanted: set[str], history: Batches) -> None:
        self._program = program
        self._arena = Arena(program)
        self._fold = OnlineFold(program, self._arena, max(_MICRO_BATCHES))
        self._wanted = wanted
        self._book = LabelBook()
        self._voids = LogFold(program, history, self._arena, self._book)
        self._passed: dict[str, Transaction] = {}
        self._sizes = itertools.cycle(_MICRO_BATCHES)

    def run(
        self, first_sequence: int, batch: pa.RecordBatch
    ) -> tuple[npt.NDArray[np.int64], list[str], Vectors]:
        """Sequences, ids and vectors of a batch's transactions."""
        check_memory(self._arena, batch, free_memory())
        kinds = batch.column("kind").to_numpy(zero_copy_only=False)
        places = np.flatnonzero(kinds == KIND_TRANSACTION)
        vectors = np.empty((len(places), self._program.n_features), dtype=np.float32)
        ids = batch.column("transaction_id").to_pylist()
        verdicts = batch.column("verdict").to_pylist()
        transactions = transactions_of(batch)
        pending: list[Transaction] = []
        voids: list[str] = []
        done, size = 0, next(self._sizes)

        def flush() -> None:
            nonlocal done, size
            if pending:
                vectors[done : done + len(pending)] = self._fold.run(pending)
                done += len(pending)
                pending.clear()
            size = next(self._sizes)

        def put_anew(before: int) -> None:
            if voids:
                self._voids.entries = first_sequence - 1 + before - len(voids)
                self._voids.void(voids)
                voids.clear()

        fraud, void = self._book.fraud, self._book.void
        rows = zip(kinds.tolist(), ids, verdicts, strict=True)
        for row, (kind, transaction_id, verdict) in enumerate(rows):
            if kind == KIND_VOID:
                flush()
                voids.append(transaction_id)
                continue
            put_anew(row)
            if kind == KIND_TRANSACTION:
                transaction = next(transactions)
                pending.append(transaction)
                if transaction_id in self._wanted:
                    self._passed[transaction_id] = transaction
                    flush()
                    self._change(transaction_id, take_arrival(fraud, transaction_id))
                elif len(pending) >= size:
                    flush()
            else:
                change = take_label(fraud, transaction_id, verdict, void)
                if change is not None:
                    flush()
                    self._change(transaction_id, change)
        flush()
        put_anew(len(ids))
        return first_sequence + places, [ids[i] for i in places.tolist()], vectors

    def _change(self, transaction_id: str, kind: int | None) -> None:
        """Let a label take effect, if it has one and its transaction is there."""
        transaction = self._passed.get(transaction_id)
        if kind is not None and transaction is not None:
            self._fold.run([transaction], kind)


def transactions_of(batch: pa.RecordBatch) -> Iterator[Transaction]:
    """The transactions of a log batch, as the online path takes them."""
    few = batch.filter(pa.array(batch.column("kind").to_numpy(zero_copy_only=False) == 0))
    attributes = [
        (name, few.column(ATTRIBUTE_PREFIX + name).to_pylist())
        for name in attribute_columns(batch.schema)
    ]
    columns = ["transaction_id", "event_time_us", "received_at_us", "amount_minor"]
    columns += ENTITY_COLUMNS
    values = zip(*(few.column(name).to_pylist() for name in columns), strict=True)
    untracked = few.column(UNTRACKED).to_pylist() if UNTRACKED in few.schema.names else []
    for row, fields in enumerate(values):
        given = {name: column[row] for name, column in attributes if column[row] is not None}
        transaction = Transaction(**dict(zip(columns, fields, strict=True)), attributes=given)
        views = untracked[row] if untracked else None
        yield (
            partly_tracked(transaction, views.split(UNTRACKED_SEPARATOR)) if views else transaction
        )


class _Offline:
    """Backfilled vectors by rising sequence, a part in memory at a time."""

    def __init__(self, parts: FeatureParts, plan: Plan) -> None:
        self._tables = parts.tables(["sequence", *plan.feature_names])
        self._sequence: npt.NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._vectors: Vectors = np.empty((0, len(plan.feature_names)), dtype=np.float32)

    def take(self, sequences: npt.NDArray[np.int64]) -> Vectors:
        """The vectors of these sequences, infinite where there is none."""
        while len(sequences) and (not len(self._sequence) or self._sequence[-1] < sequences[-1]):
            table = next(self._tables, None)
            if table is None:
                break
            more = np.column_stack([c.to_numpy() for c in table.columns[1:]])
            kept = self._sequence >= sequences[0]
            self._sequence = np.concatenate([self._sequence[kept], table.column(0).to_numpy()])
            self._vectors = np.concatenate([self._vectors[kept], more])
        at = np.searchsorted(self._sequence, sequences)
        found = at < len(self._sequence)
        found[found] = self._sequence[at[found]] == sequences[found]
        out = np.full((len(sequences), self._vectors.shape[1]), np.inf, dtype=np.float32)
        out[found] = self._vectors[at[found]]
        return out


def _recorded(
    ledger: Ledger, columns: ServedColumns, until: int
) -> Iterator[tuple[npt.NDArray[np.int64], list[str], Vectors]]:
    """What was served of the plan's features, state at hand, in the log's order.

    See `verify_shared` for what was served with shared state.
    """
    for group in ledger.groups():
        if group.first_sequence > until:
            return
        if group.kind != GroupKind.DECISIONS:
            continue
        decisions = decode_decisions(group.payload)
        found = None if decisions.positions else columns.take(decisions)
        if found is None:
            continue
        sound = decisions.flag_array() & FLAG_DEGRADED == 0
        sequences = group.first_sequence + np.arange(group.entries, dtype=np.int64)
        sound &= sequences <= until
        ids = [t.transaction_id for t in decisions.transactions]
        rows = np.flatnonzero(sound)
        yield sequences[rows], [ids[row] for row in rows.tolist()], found[rows]


class _Tally:
    """Counts what differs, and keeps some examples."""

    def __init__(self, plan: Plan) -> None:
        self._names = plan.feature_names
        self.rows = {"replay": 0, "recorded": 0}
        self.mismatches = {"replay": 0, "recorded": 0}
        self.examples: list[Mismatch] = []

    def compare(
        self,
        sequences: npt.NDArray[np.int64],
        ids: list[str],
        offline: Vectors,
        online: Vectors,
        engine: str,
    ) -> None:
        same = offline.view(np.uint32) == online.view(np.uint32)
        same |= np.isnan(offline) & np.isnan(online)
        self.rows[engine] += len(sequences)
        self.mismatches[engine] += int(same.size - np.count_nonzero(same))
        for row, feature in np.argwhere(~same)[: _SHOWN - len(self.examples)].tolist():
            self.examples.append(
                Mismatch(
                    int(sequences[row]),
                    ids[row],
                    self._names[feature],
                    float(offline[row, feature]),
                    float(online[row, feature]),
                    engine,
                )
            )
