"""The proof for state that many scorers share: each record replayed in the order of its positions.

Scorers that share state interleave as they please, so the log's order is not the order of effects.
What is: every change of a record got a position, and the ledger holds it. Replaying each record by
position gives, for each decision, the record as that decision saw it, and so its vector.

Not every decision can be held against it. A decision whose state could not be read is degraded: its
vector is null. And where a position is missing, a change was made that never became durable; what
was served from then on until the record was rebuilt counts as unverifiable, never as right.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sentinel.domain import Label, Transaction, Verdict
from sentinel.features.arena import KEY_SEPARATOR
from sentinel.features.encode import EventEncoder
from sentinel.features.kernel.sweep import finish_rows, fold_view
from sentinel.features.offline import LabelBook, OfflineFold
from sentinel.features.plan.plan import Plan, View
from sentinel.features.plan.program import (
    EVENT_KIND,
    KIND_ADD,
    KIND_FRAUD,
    KIND_RETRACT,
    POSITION_MASK,
    Program,
    compile_program,
)
from sentinel.ledger.base import Ledger
from sentinel.ledger.log import read_log
from sentinel.log.entries import FLAG_DEGRADED, Group, GroupKind, decode_decisions, decode_labels
from sentinel.pipeline.verify import transactions_of

_SHOWN: Final = 10
Words = npt.NDArray[np.int64]


class Rebuilt(NamedTuple):
    """A record that was replaced by what the ledger said.

    Attributes:
        view, key: Which record.
        position: Its position from then on.
        through_sequence: The last log entry that the ledger was read through.
    """

    view: int
    key: str
    position: int
    through_sequence: int


class Effect(NamedTuple):
    """A label's change of the records of its transaction.

    Attributes:
        transaction_id: Whose records.
        kind: KIND_FRAUD or KIND_RETRACT.
        positions: Of the change, by view; 0 where the transaction names no entity.
        sequence: The label's place in the log.
    """

    transaction_id: str
    kind: int
    positions: tuple[int, ...]
    sequence: int


@dataclass(frozen=True)
class ServedReplay:
    """What the replay found.

    Attributes:
        decisions: Held against the replay.
        values: Of their vectors that were compared.
        mismatches: Of them that differ.
        degraded: Decisions with a null vector, on record as such.
        unverifiable: Values served between a change that never became durable and the rebuild.
        examples: (transaction id, feature, served, replayed) of some differences.
    """

    decisions: int
    values: int
    mismatches: int
    degraded: int
    unverifiable: int
    examples: tuple[tuple[str, str, float, float], ...]


@dataclass
class _Live:
    """The live part of the log, by row."""

    transactions: list[Transaction] = field(default_factory=list)
    sequences: list[int] = field(default_factory=list)
    positions: list[npt.NDArray[np.int64]] = field(default_factory=list)
    vectors: list[npt.NDArray[np.float32]] = field(default_factory=list)
    degraded: list[bool] = field(default_factory=list)
    labels: list[tuple[int, Label]] = field(default_factory=list)

    def take(self, group: Group, plan_hash: str, views: int) -> None:
        if group.kind == GroupKind.LABELS:
            labels = decode_labels(group.payload).labels
            self.labels += list(enumerate(labels, group.first_sequence))
        elif group.kind == GroupKind.DECISIONS:
            decided = decode_decisions(group.payload)
            n = len(decided.transactions)
            self.transactions += decided.transactions
            self.sequences += range(group.first_sequence, group.first_sequence + n)
            ours = decided.plan_hash == plan_hash
            placed = ours and bool(decided.positions)
            self.positions += list(
                np.frombuffer(decided.positions, "<i8").reshape(n, views)
                if placed
                else np.zeros((n, views), dtype=np.int64)
            )
            self.vectors += list(decided.vector_array())
            flags = decided.flag_array()
            self.degraded += ((flags & FLAG_DEGRADED) != 0).tolist() if placed else [True] * n


def replay_served(
    ledger: Ledger,
    plan: Plan,
    loaded_through: int,
    rebuilds: Iterable[Rebuilt] = (),
    effects: Iterable[Effect] = (),
) -> ServedReplay:
    """Replay every record by position and compare what was served.

    Args:
        ledger: Everything that was recorded.
        plan: The plan that served.
        loaded_through: The log entry through which the shared state was first filled.
        rebuilds: Records that were replaced since.
        effects: What labels changed since.
    """
    program = compile_program(plan)
    fold = OfflineFold(program)
    fold.book.scan(batch for _, batch in read_log(ledger, until=loaded_through))
    for _, batch in read_log(ledger, until=loaded_through):
        fold.step(batch, vectors=False)
    live = _Live()
    for group in ledger.groups(loaded_through):
        live.take(group, plan.hash, len(plan.views))
    effects = list(effects)
    known = {transaction.transaction_id for transaction in live.transactions}
    older = _find(ledger, loaded_through, {e.transaction_id for e in effects} - known)
    return _Replay(program, fold, live, older, list(rebuilds), effects).run()


def _find(ledger: Ledger, until: int, wanted: set[str]) -> list[Transaction]:
    """Transactions of the log by their ids."""
    if not wanted:
        return []
    ids = pa.array(sorted(wanted), pa.string())
    found: list[Transaction] = []
    for _, batch in read_log(ledger, until=until):
        few = batch.filter(pc.is_in(batch.column("transaction_id"), value_set=ids))
        found += transactions_of(few)
    return found


class _Replay:
    """The replay at work; see `replay_served`."""

    def __init__(
        self,
        program: Program,
        fold: OfflineFold,
        live: _Live,
        older: Sequence[Transaction],
        rebuilds: Sequence[Rebuilt],
        effects: Sequence[Effect],
    ) -> None:
        self._program = program
        self._arena = fold.arena
        self._book: LabelBook = fold.book
        self._live = live
        self._rebuilds = rebuilds
        self._effects = effects
        n = len(live.transactions)
        live.transactions += older  # rows from n on: nothing of them but labels is replayed
        live.sequences += [0] * len(older)
        self._rows = {t.transaction_id: row for row, t in enumerate(live.transactions)}
        self._encoder = EventEncoder(program, self._arena, max(len(live.transactions), 1))
        for row, transaction in enumerate(live.transactions):
            self._encoder.put(row, transaction)
        self._out = np.full((n, program.n_features), np.nan, dtype=np.float32)
        self._verifiable = np.ones((n, program.n_features), dtype=np.bool_)

    def run(self) -> ServedReplay:
        for number, view in enumerate(self._program.plan.views):
            self._run_view(number, view)
        n = len(self._out)
        rows = np.arange(n, dtype=np.int64)
        events, given = self._encoder.events[:n], self._encoder.given[:n]
        finish_rows(self._program.code, events, given, self._out, rows)
        return self._compare()

    def _run_view(self, number: int, view: View) -> None:
        """All records of a view: those with a straight history at once, the others one by one."""
        by_key: dict[str, list[tuple[int, int, int]]] = {}  # key -> (position, kind, row)
        positions = self._live.positions
        for row, transaction in enumerate(self._live.transactions[: len(self._out)]):
            key = _key(view, transaction)
            if key is not None:
                placed = int(positions[row][number]) & POSITION_MASK
                by_key.setdefault(key, []).append((placed, KIND_ADD, row))
        for effect in self._effects:
            row = self._rows.get(effect.transaction_id, -1)
            if row >= 0 and effect.positions[number] > 0:
                key = _key(view, self._live.transactions[row])
                assert key is not None
                change = (effect.positions[number], effect.kind, row)
                by_key.setdefault(key, []).append(change)
        rebuilt: dict[str, list[Rebuilt]] = {}
        for rebuild in self._rebuilds:
            if rebuild.view == number:
                rebuilt.setdefault(rebuild.key, []).append(rebuild)
        straight: list[tuple[int, int, int]] = []
        for key, changes in by_key.items():
            in_order = sorted(change for change in changes if change[0] > 0)
            first = int(self._arena.record(number, key)[1]) + 1
            whole = [position for position, _, _ in in_order]
            if key not in rebuilt and whole == list(range(first, first + len(whole))):
                straight += in_order
            else:
                self._run_key(number, key, in_order, sorted(rebuilt.get(key, ())), changes)
        self._apply(number, straight)

    def _apply(
        self, view: int, changes: Sequence[tuple[int, int, int]], *, write: bool = True
    ) -> None:
        """Changes of a view in an order that has each record's by rising position."""
        if not changes:
            return
        rows = np.array([row for _, _, row in changes], dtype=np.int64)
        kinds = np.array([kind for _, kind, _ in changes], dtype=np.int64)
        events = self._encoder.events[rows].copy()
        events[:, EVENT_KIND] = kinds
        targets = np.where(kinds == KIND_ADD, rows, -1) if write else np.full(len(rows), -1)
        fold_view(
            self._arena.words, self._program.code, view, 0, 1, events, self._out,
            targets.astype(np.int64),
        )  # fmt: skip

    def _run_key(
        self,
        view: int,
        key: str,
        placed: list[tuple[int, int, int]],
        rebuilds: list[Rebuilt],
        changes: list[tuple[int, int, int]],
    ) -> None:
        """A record with holes or rebuilds."""
        offset = self._arena.locate(view, key)
        size = self._program.record_words[view]
        record = self._arena.words[offset : offset + size]
        base = record.copy()
        columns = self._columns(view)
        sound = True
        at = int(base[1])
        waiting = list(rebuilds)
        for change in placed:
            while waiting and waiting[0].position < change[0]:
                rebuild = waiting.pop(0)
                self._rebuild(view, offset, base, rebuild, changes)
                at, sound = rebuild.position, True
            if change[0] != at + 1:
                sound = False
            at = change[0]
            self._apply(view, [change])
            if not sound and change[1] == KIND_ADD:
                self._verifiable[change[2], columns] = False

    def _rebuild(
        self,
        view: int,
        offset: int,
        base: Words,
        rebuild: Rebuilt,
        changes: list[tuple[int, int, int]],
    ) -> None:
        """Make the record what the ledger held, and what was added to it meanwhile."""
        size = self._program.record_words[view]
        self._arena.words[offset : offset + size] = base
        live = self._live
        held = [
            (position, kind, row)
            for position, kind, row in changes
            if kind == KIND_ADD
            and (live.sequences[row] <= rebuild.through_sequence or 0 < position < rebuild.position)
        ]
        frauds = {
            label.transaction_id: label.verdict == Verdict.FRAUD
            for sequence, label in live.labels
            if sequence <= rebuild.through_sequence
        }
        for position, kind, row in sorted(c for c in changes if c[1] != KIND_ADD):
            if position < rebuild.position:
                frauds[live.transactions[row].transaction_id] = kind == KIND_FRAUD
        held.sort(key=lambda change: live.sequences[change[2]])
        older = {row for _, _, row in changes if row >= len(self._out)}
        for row in {row for _, _, row in held} | older:
            identifier = live.transactions[row].transaction_id
            was = row in older and identifier in self._book.fraud
            now = frauds.get(identifier, was)
            if now != was:
                held.append((0, KIND_FRAUD if now else KIND_RETRACT, row))
        self._apply(view, held, write=False)
        self._arena.words[offset + 1] = rebuild.position

    def _columns(self, view: int) -> list[int]:
        """Features that depend on a view: its own, and ratios of them."""
        plan = self._program.plan
        first = sum(len(v.aggregates) for v in plan.views[:view])
        own = range(first, first + len(plan.views[view].aggregates))
        names = set(plan.feature_names[first : own.stop])
        ratios = len(plan.feature_names) - len(plan.ratios)
        return [
            *own,
            *(
                ratios + i
                for i, ratio in enumerate(plan.ratios)
                if {ratio.numerator, ratio.denominator} & names
            ),
        ]

    def _compare(self) -> ServedReplay:
        live, names = self._live, self._program.plan.feature_names
        degraded = np.array(live.degraded, dtype=np.bool_)
        rows = np.flatnonzero(~degraded)
        if not len(rows):
            return ServedReplay(0, 0, 0, int(degraded.sum()), 0, ())
        served = np.stack([live.vectors[row] for row in rows])
        replayed, sure = self._out[rows], self._verifiable[rows]
        differ = served.view(np.uint32) != replayed.view(np.uint32)
        differ &= ~(np.isnan(served) & np.isnan(replayed)) & sure
        examples = tuple(
            (
                live.transactions[rows[i]].transaction_id,
                names[j],
                float(served[i, j]),
                float(replayed[i, j]),
            )
            for i, j in np.argwhere(differ)[:_SHOWN]
        )
        return ServedReplay(
            decisions=len(rows),
            values=int(sure.sum()),
            mismatches=int(differ.sum()),
            degraded=int(degraded.sum()),
            unverifiable=int((~sure).sum()),
            examples=examples,
        )


def _key(view: View, transaction: Transaction) -> str | None:
    parts = [getattr(transaction, name) for name in view.keys]
    return None if None in parts else KEY_SEPARATOR.join(parts)
