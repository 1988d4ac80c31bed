"""Brings everything of the log into shared state that no scorer put there when it decided.

Imports, labels, and decisions that were made without this plan's records: by another plan, by a
version with records of another format, or while Redis did not answer. The follower reads the log
from a watermark that stands in Redis beside the records. Each record remembers the last step that
it took, so a follower may go back, and two may work at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

import numpy as np

from sentinel.domain import Label, LedgerUnavailable, Transaction, Verdict
from sentinel.features.plan.program import KIND_ADD, KIND_FRAUD
from sentinel.ledger.base import LabelEffect, Ledger, SharedLedger
from sentinel.ledger.imports import imported_entries
from sentinel.log.entries import (
    Group,
    GroupKind,
    decode_decisions,
    entries_of,
)
from sentinel.log.labels import take_label
from sentinel.log.placed import placed_decisions
from sentinel.state.redis.effects import Change, Effects, step_of
from sentinel.state.redis.layout import same_load, state_name
from sentinel.state.redis.records import Loaded

FindTransaction = Callable[[str], Transaction | None]

_GROUPS_AT_ONCE: Final = 64
_ENTRIES_AT_ONCE: Final = 2_000


class LogFollower:
    """Follows the log for one plan. For one thread.

    Args:
        effects: The plan's records.
        ledger: Where positions of effects are noted, so that what was served can be replayed.
        reader: The log.
        find: Finds a transaction of the log by its id.
    """

    def __init__(
        self, effects: Effects, ledger: SharedLedger, reader: Ledger, find: FindTransaction
    ) -> None:
        self._effects = effects
        self._records = effects.records
        self._ledger = ledger
        self._reader = reader
        self._find = find
        self.through = 0

    def step(self, loaded: Loaded) -> bool:
        """Take some groups in.

        Args:
            loaded: How the records were loaded.

        Returns:
            Whether there were any.

        Raises:
            StateUnavailable, LedgerUnavailable: They are taken in with the next call.
        """
        self.through = begun = self._records.followed()
        waiting: dict[str, int] | None = None
        found = False
        for group in islice(self._reader.groups(self.through), _GROUPS_AT_ONCE):
            if waiting is None:
                waiting = self._records.waiting()
            self._take(group, loaded, waiting)
            self.through = group.first_sequence + group.entries - 1
            found = True
        # Whoever looks at a restarted server may have moved the watermark back meanwhile.
        if found and self._records.followed() == begun:
            self._records.set_followed(self.through)
        return found

    def _take(self, group: Group, loaded: Loaded, waiting: dict[str, int]) -> None:
        if group.kind == GroupKind.DECISIONS:
            changes = self._of_decisions(group, loaded, waiting)
        else:
            changes = self._of_entries(group, waiting)
        for part in _parts(changes):
            self._apply(part)

    def _of_decisions(
        self, group: Group, loaded: Loaded, waiting: dict[str, int]
    ) -> Iterator[tuple[Change, int]]:
        held = np.zeros(group.entries, dtype=np.bool_)
        placed = placed_decisions(group.payload, group.entries)
        if placed.plan_hash == self._records.program.plan.hash and placed.positions is not None:
            # One that made no records is degraded, too, and stands in those that there were.
            held = same_load(placed.positions.max(axis=1), loaded.epoch)
        if held.all() and not waiting:
            return
        for row, transaction in enumerate(decode_decisions(group.payload).transactions):
            sequence = group.first_sequence + row
            if not held[row]:
                yield Change(transaction, KIND_ADD, step_of(sequence)), sequence
            yield from self._arrival(transaction, sequence, waiting)

    def _of_entries(self, group: Group, waiting: dict[str, int]) -> Iterator[tuple[Change, int]]:
        entries: Iterable[Transaction | Label]
        entries = imported_entries(group) if group.kind == GroupKind.IMPORT else entries_of(group)
        for start, part in _numbered_parts(entries, group.first_sequence):
            yield from self._of_part(part, start, waiting)

    def _of_part(
        self, entries: Sequence[Transaction | Label], first: int, waiting: dict[str, int]
    ) -> Iterator[tuple[Change, int]]:
        about = {entry.transaction_id for entry in entries if isinstance(entry, Label)}
        before = self._ledger.verdicts(sorted(about), before=first)
        fraud = {i for i, standing in before.items() if standing.verdict == Verdict.FRAUD}
        arrived = {i for i, standing in before.items() if standing.sequence}
        here: dict[str, Transaction] = {}
        for sequence, entry in enumerate(entries, first):
            identifier = entry.transaction_id
            if isinstance(entry, Transaction):
                here[identifier] = entry
                arrived.add(identifier)
                yield Change(entry, KIND_ADD, step_of(sequence)), sequence
                yield from self._arrival(entry, sequence, waiting)
                continue
            kind = take_label(fraud, identifier, entry.verdict)
            if kind is None:
                continue
            if identifier not in arrived:
                self._records.wait(identifier, sequence if kind == KIND_FRAUD else None)
                if kind == KIND_FRAUD:
                    waiting[identifier] = sequence
                else:
                    waiting.pop(identifier, None)
                continue
            transaction = here.get(identifier) or self._find(identifier)
            if transaction is None:
                raise LedgerUnavailable(
                    f"Transaction {identifier!r} is in the log, and the queryable tables do not "
                    "hold it yet. Its label is counted as soon as they do."
                )
            yield Change(transaction, kind, step_of(sequence)), sequence

    def _arrival(
        self, transaction: Transaction, sequence: int, waiting: dict[str, int]
    ) -> Iterator[tuple[Change, int]]:
        """What a label that came before its transaction does now.

        It stays among those that wait until the group is followed: it may be taken in again.
        """
        label_sequence = waiting.get(transaction.transaction_id)
        if label_sequence is not None and label_sequence < sequence:
            change = Change(transaction, KIND_FRAUD, step_of(sequence, label=True))
            yield change, label_sequence

    def _apply(self, part: Sequence[tuple[Change, int]]) -> None:
        name = state_name(self._records.program.plan.hash)
        positions = self._effects.apply([change for change, _ in part])
        self._ledger.record_label_effects(
            [
                LabelEffect(
                    name,
                    change.transaction.transaction_id,
                    sequence,
                    change.kind,
                    tuple(placed),
                )
                for (change, sequence), placed in zip(part, positions.tolist(), strict=True)
            ]
        )


def _parts(changes: Iterator[tuple[Change, int]]) -> Iterator[list[tuple[Change, int]]]:
    while part := list(islice(changes, _ENTRIES_AT_ONCE)):
        yield part


def _numbered_parts(
    entries: Iterable[Transaction | Label], first: int
) -> Iterator[tuple[int, list[Transaction | Label]]]:
    all_entries = iter(entries)
    while part := list(islice(all_entries, _ENTRIES_AT_ONCE)):
        yield first, part
        first += len(part)
