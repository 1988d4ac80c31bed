"""Brings everything of the log into shared state that no scorer put there when it decided.

Imports, labels, and decisions that were made without this plan's records: by another plan, by a
version with records of another format, or while Redis did not answer. The follower reads the log
from a watermark that stands in Redis beside the records. Each record remembers the last step that
it took, so a follower may go back, and two may work at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sentinel.domain import Label, LedgerUnavailable, StateUnavailable, Transaction, Verdict
from sentinel.features.plan.program import KIND_ADD, KIND_FRAUD
from sentinel.ledger.base import LabelEffect, Ledger, PieceEffect, SharedLedger
from sentinel.ledger.imports import batch_entries, read_import
from sentinel.log.entries import (
    Group,
    GroupKind,
    decode_decisions,
    decode_voids,
    entries_of,
)
from sentinel.log.labels import take_label
from sentinel.log.placed import placed_decisions
from sentinel.log.schema import KIND_LABEL
from sentinel.state.redis.bulk import MOST_ENTRIES, append_piece
from sentinel.state.redis.effects import Change, Effects, step_of
from sentinel.state.redis.group_fold import COMPACT_FROM
from sentinel.state.redis.layout import (
    EPOCH_SHIFT,
    EPOCHS_OF_A_LOAD,
    Record,
    same_load,
    state_name,
)
from sentinel.state.redis.records import Loaded

FindTransaction = Callable[[str], Transaction | None]
FindTransactions = Callable[[Iterable[str]], Mapping[str, Transaction]]
FindVoids = Callable[[Iterable[str]], Mapping[str, int]]
"""The sequences of the voids of transactions that are void, by id."""

_GROUPS_AT_ONCE: Final = 64
_ENTRIES_AT_ONCE: Final = 2_000
_NOT_YET: Final = (
    "Transaction {identifier!r} is in the log, and the queryable tables do not hold it yet. Its "
    "{what} takes effect as soon as they do."
)


class LogFollower:
    """Follows the log for one plan. For one thread.

    Args:
        effects: The plan's records.
        ledger: Where positions of effects are noted, so that what was served can be replayed.
        reader: The log.
        find: Finds a transaction of the log by its id.
        find_many: Finds several at once; default: one by one.
        find_voids: Finds voids; default: the log has none.

    Attributes:
        through: The last entry that was taken in.
        changes: Rises with all that is taken in, but for decisions that stand in the records.
    """

    def __init__(
        self,
        effects: Effects,
        ledger: SharedLedger,
        reader: Ledger,
        find: FindTransaction,
        find_many: FindTransactions | None = None,
        find_voids: FindVoids | None = None,
    ) -> None:
        self._effects = effects
        self._records = effects.records
        self._ledger = ledger
        self._reader = reader
        self._find_many = find_many or _one_by_one(find)
        self._find_voids = find_voids or (lambda _: {})
        self._name = state_name(effects.records.program.plan.hash)
        self._done_waiting: dict[str, int] = {}
        self.through = 0
        self.changes = 0

    def step(self, loaded: Loaded) -> bool:
        """Take some groups in.

        Args:
            loaded: How the records were loaded.

        Returns:
            Whether there were any.

        Raises:
            StateUnavailable, LedgerUnavailable: They are taken in with the next call.
        """
        self.through = self._records.followed()
        waiting: dict[str, int] | None = None
        self._done_waiting.clear()
        found = False
        begun = self.through
        for group in islice(self._reader.groups(self.through), _GROUPS_AT_ONCE):
            if waiting is None:
                waiting = self._records.notes.waiting()
            if group.kind == GroupKind.IMPORT:
                # By itself: what it takes is as much as thousands of other groups do.
                return (found and self._reach(begun)) or self._take_import(group, waiting)
            self._take(group, loaded, waiting)
            self.through = group.first_sequence + group.entries - 1
            found = True
        if found:
            self._reach(begun)
        return found

    def _reach(self, begun: int) -> bool:
        """Move the watermark on; False if whoever looks at a restarted server moved it back."""
        if not self._records.advance_followed(begun, self.through):
            return False
        if self._done_waiting:
            self._records.notes.stop_waiting(self._done_waiting)
            self._done_waiting.clear()
        return True

    def _take(self, group: Group, loaded: Loaded, waiting: dict[str, int]) -> None:
        self.changes += group.kind != GroupKind.DECISIONS
        if group.kind == GroupKind.VOIDS:
            self._take_voids(group)
            return
        if group.kind == GroupKind.DECISIONS:
            changes = self._of_decisions(group, loaded, waiting)
        else:
            changes = self._of_labels(group, waiting)
        for part in _parts(changes):
            self._apply(part)
            self.changes += 1

    def _take_voids(self, group: Group) -> None:
        """Have the records that voids touch put in place anew, from the log as it is by then."""
        ids = {void.transaction_id for void in decode_voids(group.payload).voids}
        found = self._find_many(sorted(ids))
        missing = ids - found.keys()
        if missing:
            raise LedgerUnavailable(_NOT_YET.format(identifier=min(missing), what="void"))
        touched = self._effects.touched_by(list(found.values()))
        self._records.notes.doubt([(view, key) for view, key, _ in touched])

    # Imports.

    def _take_import(self, group: Group, waiting: dict[str, int]) -> bool:
        """Take an import in, a large piece at a time, from the watermark on."""
        begun = self.through
        done = max(0, begun + 1 - group.first_sequence)
        batch = read_import(group)
        piece = batch.slice(done, MOST_ENTRIES)
        grown = self._take_piece(piece, group.first_sequence + done, waiting)
        self.through = group.first_sequence + done + piece.num_rows - 1
        if self._reach(begun):
            # What is followed may be folded: scorers read short tails again.
            self._effects.compact(grown, self.through)
        return True

    def _take_piece(
        self, batch: pa.RecordBatch, first: int, waiting: dict[str, int]
    ) -> list[Record]:
        self.changes += 1
        is_label = batch.column("kind").to_numpy(zero_copy_only=False) == KIND_LABEL
        changes = list(self._changes_of_piece(batch, is_label, first, waiting))
        placed = append_piece(
            self._records, batch, is_label, first, [change for change, _ in changes], COMPACT_FROM
        )
        self._ledger.record_piece_effect(
            PieceEffect(self._name, first, placed.entries.ravel().tolist())
        )
        self._note(changes, placed.changes.tolist())
        return placed.grown

    def _changes_of_piece(
        self,
        batch: pa.RecordBatch,
        is_label: npt.NDArray[np.bool_],
        first: int,
        waiting: dict[str, int],
    ) -> Iterator[tuple[Change, int]]:
        """What the labels of a piece do, and labels that waited for its transactions."""
        ids = batch.column("transaction_id")
        about = set(ids.filter(pa.array(is_label)).to_pylist()) | waiting.keys()
        matter = is_label
        if about:
            wanted = pa.array(list(about), pa.string())
            matter = is_label | pc.is_in(ids, value_set=wanted).to_numpy(zero_copy_only=False)
        rows = np.flatnonzero(matter)
        few = batch.take(pa.array(rows))
        entries = zip((first + rows).tolist(), batch_entries(few), strict=True)
        yield from self._of_entries(list(entries), first, waiting, add=False)

    def _of_decisions(
        self, group: Group, loaded: Loaded, waiting: dict[str, int]
    ) -> Iterator[tuple[Change, int]]:
        held = np.zeros(group.entries, dtype=np.bool_)
        placed = placed_decisions(group.payload, group.entries)
        if placed.plan_hash == self._records.program.plan.hash and placed.positions is not None:
            # One that made no records is degraded, too, and stands in those that there were.
            positions = placed.positions.max(axis=1)
            held = same_load(positions, loaded.epoch)
            if (positions >> EPOCH_SHIFT).max(initial=0) >= loaded.epoch + EPOCHS_OF_A_LOAD:
                raise StateUnavailable("The records have been loaded anew; what follows is theirs.")
        if held.all() and not waiting:
            return
        for row, transaction in enumerate(decode_decisions(group.payload).transactions):
            sequence = group.first_sequence + row
            if not held[row]:
                yield Change(transaction, KIND_ADD, step_of(sequence)), sequence
            yield from self._arrival(transaction, sequence, waiting)

    def _of_labels(self, group: Group, waiting: dict[str, int]) -> Iterator[tuple[Change, int]]:
        numbered = enumerate(entries_of(group), group.first_sequence)
        entries = ((sequence, entry) for sequence, entry in numbered if isinstance(entry, Label))
        while part := list(islice(entries, _ENTRIES_AT_ONCE)):
            yield from self._of_entries(part, part[0][0], waiting, add=True)

    def _of_entries(
        self,
        entries: Sequence[tuple[int, Transaction | Label]],
        first: int,
        waiting: dict[str, int],
        *,
        add: bool,
    ) -> Iterator[tuple[Change, int]]:
        """What entries of the log do, in order.

        Args:
            entries: With their sequences: all labels from ``first`` on, and the transactions that
                they or those that wait are about.
            first: What the log says before this entry is asked of the ledger.
            waiting: Changed.
            add: Whether transactions are added, too.
        """
        about = {entry.transaction_id for _, entry in entries if isinstance(entry, Label)}
        before = self._ledger.verdicts(sorted(about), before=first)
        fraud = {i for i, standing in before.items() if standing.verdict == Verdict.FRAUD}
        arrived = {i for i, standing in before.items() if standing.sequence}
        here = dict(self._find_many(sorted(arrived))) if arrived else {}
        voids = self._find_voids(sorted(about)) if about else {}
        for sequence, entry in entries:
            identifier = entry.transaction_id
            if isinstance(entry, Transaction):
                here[identifier] = entry
                arrived.add(identifier)
                if add:
                    yield Change(entry, KIND_ADD, step_of(sequence)), sequence
                yield from self._arrival(entry, sequence, waiting)
                continue
            if voids.get(identifier, sequence) < sequence:
                continue
            kind = take_label(fraud, identifier, entry.verdict)
            if kind is None:
                continue
            if identifier not in arrived:
                self._records.notes.wait(identifier, sequence, taken_back=kind != KIND_FRAUD)
                if kind == KIND_FRAUD:
                    waiting[identifier] = sequence
                    self._done_waiting.pop(identifier, None)
                else:
                    waiting.pop(identifier, None)
                    self._done_waiting[identifier] = -sequence
                continue
            transaction = here.get(identifier)
            if transaction is None:
                raise LedgerUnavailable(_NOT_YET.format(identifier=identifier, what="label"))
            yield Change(transaction, kind, step_of(sequence)), sequence

    def _arrival(
        self, transaction: Transaction, sequence: int, waiting: dict[str, int]
    ) -> Iterator[tuple[Change, int]]:
        """What a label that came before its transaction does now.

        It stays among those that wait until the group is followed: it may be taken in again.
        """
        label_sequence = waiting.get(transaction.transaction_id)
        if label_sequence is not None:
            self._done_waiting[transaction.transaction_id] = label_sequence
        if label_sequence is not None and label_sequence < sequence:
            change = Change(transaction, KIND_FRAUD, step_of(sequence, label=True))
            yield change, label_sequence

    def _apply(self, part: Sequence[tuple[Change, int]]) -> None:
        positions = self._effects.apply([change for change, _ in part])
        self._note(part, positions.tolist())

    def _note(
        self, changes: Sequence[tuple[Change, int]], positions: Sequence[Sequence[int]]
    ) -> None:
        self._ledger.record_label_effects(
            [
                LabelEffect(
                    self._name,
                    change.transaction.transaction_id,
                    sequence,
                    change.kind,
                    tuple(placed),
                )
                for (change, sequence), placed in zip(changes, positions, strict=True)
            ]
        )


def _parts(changes: Iterator[tuple[Change, int]]) -> Iterator[list[tuple[Change, int]]]:
    while part := list(islice(changes, _ENTRIES_AT_ONCE)):
        yield part


def _one_by_one(find: FindTransaction) -> FindTransactions:
    def find_many(identifiers: Iterable[str]) -> dict[str, Transaction]:
        found = ((identifier, find(identifier)) for identifier in identifiers)
        return {identifier: one for identifier, one in found if one is not None}

    return find_many
