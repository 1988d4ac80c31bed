"""The proof for state that many scorers share: each record replayed in the order of its positions.

Scorers that share state interleave as they please, so the log's order is not the order of effects.
What is: every change of a record got a position, and the ledger holds it. Replaying each record by
position gives, for each decision, the record as that decision saw it, and so its vector.

Not every decision can be held against it. A decision whose state could not be read is degraded. And
where a position is missing, a change was made that never became durable; what was served from then
on until it was taken back, or the record put in place anew, counts as unverifiable, never as right.
So does what was served after two changes at one position. A server that took over may not know that
a record was put in place anew: what it served, until that was done again, does not count as right
either.

A payment that was declared void counts until its records were put in place anew, and not after.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sentinel.domain import Transaction, Verdict
from sentinel.features.arena import KEY_SEPARATOR
from sentinel.features.encode import EventEncoder
from sentinel.features.kernel.sweep import finish_rows, fold_view
from sentinel.features.plan.parts import View
from sentinel.features.plan.plan import Plan
from sentinel.features.plan.program import (
    EVENT_KIND,
    KIND_ADD,
    KIND_FRAUD,
    KIND_RETRACT,
    POSITION_MASK,
    Program,
    compile_program,
)
from sentinel.features.voids import LogFold
from sentinel.ledger.base import Ledger
from sentinel.ledger.log import read_log, whole_log
from sentinel.pipeline.loaded_records import LoadedRecords
from sentinel.pipeline.served_changes import Effect, LiveLog, Rebuilt, Voided
from sentinel.pipeline.verify import transactions_of
from sentinel.state.redis.layout import EPOCH_SHIFT, epoch_start

_SHOWN: Final = 10
_LONGEST_HOLE: Final = 1_000_000
Words = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ServedReplay:
    """What the replay found.

    Attributes:
        decisions: Held against the replay.
        values: Of their vectors that were compared.
        mismatches: Of them that differ.
        degraded: Decisions with a null vector, on record as such.
        unverifiable: Values served while a record held a change that never became durable.
        examples: (transaction id, feature, served, replayed) of some differences.
        not_replayed: Decisions on shared records that cannot be replayed any more: of an older
            format, or of a load before the last one.
    """

    decisions: int
    values: int
    mismatches: int
    degraded: int
    unverifiable: int
    examples: tuple[tuple[str, str, float, float], ...]
    not_replayed: int = 0


def replay_served(
    ledger: Ledger,
    plan: Plan,
    loaded_through: int,
    rebuilds: Iterable[Rebuilt] = (),
    effects: Iterable[Effect] = (),
    voids: Iterable[Voided] = (),
    *,
    epoch: int | None = None,
) -> ServedReplay:
    """Replay every record by position and compare what was served.

    Args:
        ledger: Everything that was recorded.
        plan: The plan that served.
        loaded_through: The log entry through which the shared state was first filled.
        rebuilds: Records that were replaced since.
        effects: What was changed since but by decisions.
        voids: Changes that were taken back since.
        epoch: Of the load; None if positions go on from those of the records that were loaded.
    """
    program = compile_program(plan)
    fold = LogFold(program, whole_log(ledger))
    fold.book.scan(batch for _, batch in read_log(ledger, until=loaded_through))
    for _, batch in read_log(ledger, until=loaded_through):
        fold.step(batch, vectors=False)
    live = LiveLog()
    for group in ledger.groups(loaded_through):
        live.take(group, plan.hash, len(plan.views), epoch)
    effects = list(effects)
    known = {transaction.transaction_id for transaction in live.transactions}
    others = _find(ledger, {e.transaction_id for e in effects} - known)
    start = None if epoch is None else epoch_start(epoch)
    loaded = LoadedRecords(program, ledger, loaded_through, fold, live.voids)
    return _Replay(program, loaded, live, others, list(rebuilds), effects, list(voids), start).run()


def _find(ledger: Ledger, wanted: set[str]) -> list[Transaction]:
    """Transactions of the log by their ids."""
    if not wanted:
        return []
    ids = pa.array(sorted(wanted), pa.string())
    found: list[Transaction] = []
    for _, batch in read_log(ledger):
        few = batch.filter(pc.is_in(batch.column("transaction_id"), value_set=ids))
        found += transactions_of(few)
    return found


class _Change(NamedTuple):
    """A change of a record; changes are in order by their positions.

    Attributes:
        position: Of the change; 0 where the record had been put in place with it.
        kind: KIND_ADD, KIND_FRAUD or KIND_RETRACT.
        row: Of the payment.
        entry: The place in the log from which on it counts, for a label; 0 for a payment.
    """

    position: int
    kind: int
    row: int
    entry: int = 0


class _Replay:
    """The replay at work; see `replay_served`."""

    def __init__(
        self,
        program: Program,
        loaded: LoadedRecords,
        live: LiveLog,
        others: Sequence[Transaction],
        rebuilds: Sequence[Rebuilt],
        effects: Sequence[Effect],
        voids: Sequence[Voided],
        start: int | None,
    ) -> None:
        self._program = program
        self._loaded = loaded
        self._arena = loaded.arena
        self._book = loaded.book
        self._live = live
        self._rebuilds = rebuilds
        self._effects = effects
        self._voids = voids
        self._start = start
        n = len(live.transactions)
        live.transactions += others  # rows from n on: nothing was served for them
        added = {e.transaction_id: e.sequence for e in effects if e.kind == KIND_ADD}
        live.sequences += [added.get(other.transaction_id, 0) for other in others]
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
        by_key: dict[str, list[_Change]] = {}
        positions = self._live.positions
        for row, transaction in enumerate(self._live.transactions[: len(self._out)]):
            key = _key(view, transaction)
            if key is not None:
                placed = int(positions[row][number]) & POSITION_MASK
                by_key.setdefault(key, []).append(_Change(placed, KIND_ADD, row))
        for effect in self._effects:
            row = self._rows.get(effect.transaction_id, -1)
            key = _key(view, self._live.transactions[row]) if row >= 0 else None
            if key is not None:
                # A label that came before its payment counts from the payment's place on.
                entry = max(effect.sequence, self._live.sequences[row])
                change = _Change(effect.positions[number], effect.kind, row, entry)
                by_key.setdefault(key, []).append(change)
        voids: dict[str, dict[int, int]] = {}
        for voided in self._voids:
            if voided.view == number:
                voids.setdefault(voided.key, {})[voided.at] = voided.position
        rebuilt: dict[str, list[Rebuilt]] = {}
        for rebuild in self._rebuilds:
            if rebuild.view == number:
                rebuilt.setdefault(rebuild.key, []).append(rebuild)
        straight: list[_Change] = []
        for key, changes in by_key.items():
            in_order = sorted(change for change in changes if change.position > 0)
            own = int(self._arena.record(number, key)[1])
            first = (own if self._start is None else self._start) + 1
            whole = [change.position for change in in_order]
            troubled = key in rebuilt or key in voids
            if not troubled and whole == list(range(first, first + len(whole))):
                straight += in_order
            else:
                waiting = sorted(rebuilt.get(key, ()))
                self._run_key(number, key, in_order, waiting, voids.get(key, {}), changes)
        self._apply(number, straight)

    def _apply(self, view: int, changes: Sequence[_Change], *, write: bool = True) -> None:
        """Changes of a view in an order that has each record's by rising position."""
        if not changes:
            return
        rows = np.array([change.row for change in changes], dtype=np.int64)
        kinds = np.array([change.kind for change in changes], dtype=np.int64)
        events = self._encoder.events[rows].copy()
        events[:, EVENT_KIND] = kinds
        served = (kinds == KIND_ADD) & (rows < len(self._out))
        targets = np.where(served, rows, -1) if write else np.full(len(rows), -1)
        fold_view(
            self._arena.words, self._program.code, view, 0, 1, events, self._out,
            targets.astype(np.int64),
        )  # fmt: skip

    def _run_key(
        self,
        view: int,
        key: str,
        placed: list[_Change],
        rebuilds: list[Rebuilt],
        voids: dict[int, int],
        changes: list[_Change],
    ) -> None:
        """A record with holes, voids or rebuilds."""
        offset = self._arena.locate(view, key)
        size = self._program.record_words[view]
        record = self._arena.words[offset : offset + size]
        base = record.copy()
        columns = self._columns(view)
        at = int(base[1]) if self._start is None else self._start
        holes: set[int] = set()
        lost = False  # two changes at one position, or positions that nobody can count
        taken = {*voids, *voids.values()}
        waiting = list(rebuilds)
        for change in placed:
            position = change.position
            while waiting and waiting[0].position < position:
                rebuild = waiting.pop(0)
                kept_from = rebuild.position >> EPOCH_SHIFT << EPOCH_SHIFT
                at = rebuild.position
                # What was kept on the way to the log and never reached it.
                holes = {q for q in voids.values() if kept_from < q <= at} if kept_from else set()
                kept = max(0, at - kept_from - len(holes)) if kept_from else None
                lost = not self._rebuild(offset, base, rebuild, changes, kept)
            if position <= at or position - at > _LONGEST_HOLE or position in taken:
                lost = True
            else:
                for missing in range(at + 1, position):
                    if missing in voids:
                        holes.discard(voids[missing])
                    else:
                        holes.add(missing)
            at = position
            self._apply(view, [change])
            if (holes or lost) and change.kind == KIND_ADD and change.row < len(self._out):
                self._verifiable[change.row, columns] = False

    def _rebuild(
        self,
        offset: int,
        base: Words,
        rebuild: Rebuilt,
        changes: list[_Change],
        kept: int | None,
    ) -> bool:
        """Make the record what the ledger held, and what was added to it meanwhile.

        Args:
            offset: Of the record in the arena.
            base: As it was loaded.
            rebuild: What became of it.
            changes: All changes of the record.
            kept: At most so many changes were added to it that the ledger did not hold yet; None if
                nobody counted.

        Returns:
            Whether it is known which those were. A server that takes over without the latest may
            not know of the rebuild: what it then adds has an earlier position and came later.
        """
        view, through = rebuild.view, rebuild.through_sequence
        without = self._loaded.record(view, rebuild.key, base, through)
        self._arena.words[offset : offset + len(base)] = without
        live = self._live
        void = {identifier for identifier, sequence in live.voids.items() if sequence <= through}
        changes = [c for c in changes if live.transactions[c.row].transaction_id not in void]
        # A decision that was made without the records and added to them later stands there twice.
        # What the log held is there in its order; what was on the way to it, by position.
        places: dict[int, tuple[int, int]] = {}
        under_way: dict[int, tuple[int, int]] = {}
        for position, kind, row, _ in changes:
            if kind != KIND_ADD:
                continue
            if live.sequences[row] <= through:
                places[row] = (live.sequences[row], 0)
            elif 0 < position < rebuild.position:
                under_way[row] = (through + 1, position)
        if kept is None or len(under_way) <= kept:
            places |= under_way
        else:
            # Some were added where this rebuild was lost, and others that the log held by then.
            served = [row for row in under_way if row < len(self._out)]
            self._verifiable[np.ix_(served, self._columns(view))] = False
        held = [_Change(0, KIND_ADD, row) for row in sorted(places, key=places.__getitem__)]
        by_log = {
            label.transaction_id: label.verdict == Verdict.FRAUD
            for sequence, label in live.labels
            if sequence <= through
        }
        # What labels had done to it before is gone, but for those that the ledger did not hold yet.
        by_effect = {}
        for position, kind, row, entry in sorted(c for c in changes if c.kind != KIND_ADD):
            if 0 < position < rebuild.position and entry > through and kept != 0:
                by_effect[live.transactions[row].transaction_id] = kind == KIND_FRAUD
        older = {change.row for change in changes if not live.sequences[change.row]}
        for row in sorted(places.keys() | older):
            identifier = live.transactions[row].transaction_id
            was = row in older and identifier in self._book.fraud
            told = by_log.get(identifier, was) if live.sequences[row] <= through else was
            now = by_effect.get(identifier, told)
            if now != was:
                held.append(_Change(0, KIND_FRAUD if now else KIND_RETRACT, row))
        self._apply(view, held, write=False)
        self._arena.words[offset + 1] = rebuild.position
        return kept is None or kept == 0 or len(under_way) <= kept

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
    if transaction.untracked and not view.untracked_as.isdisjoint(transaction.untracked):
        return None
    parts = [getattr(transaction, name) for name in view.keys]
    return None if None in parts else KEY_SEPARATOR.join(parts)
