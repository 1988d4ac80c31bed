"""State in the scoring process: an arena, and snapshots of it as plain files.

A snapshot is the state after the log entry with a certain sequence. Recovery is the newest
snapshot of the running plan plus a replay of the log behind it. A snapshot that is torn or of
another format is passed over, never trusted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from sentinel.domain import Label, Transaction
from sentinel.features.arena import Arena
from sentinel.features.encode import unknown_entities
from sentinel.features.online import OnlineFold
from sentinel.features.plan.program import (
    FLAG_EXPIRED,
    FLAG_LATE,
    KIND_ADD,
    KIND_FRAUD,
    KIND_PEEK,
    RECORD_FORMAT,
    Program,
)
from sentinel.features.voids import RecordsAnew
from sentinel.log.entries import (
    FLAG_DEGRADED,
    FLAG_EXPIRED_EVENT,
    FLAG_LATE_EVENT,
    Group,
    fingerprint,
    partly_tracked,
)
from sentinel.log.labels import LabelChange, changes_of, take_void
from sentinel.spare_time import Between, go_on
from sentinel.state.base import Reading, SnapshotWritten, Vectors
from sentinel.state.forked_snapshot import write_beside
from sentinel.state.known_ids import KnownIds, id_hash
from sentinel.state.snapshot_file import (
    FORMAT_WITHOUT_VOIDS,
    SNAPSHOT_FORMAT,
    FrozenState,
    Header,
    read_header,
    read_snapshot,
    sequence_of,
    snapshots_of,
)
from sentinel.state.without_state import WithoutState

if TYPE_CHECKING:
    import pyarrow as pa

    from sentinel.ledger.base import Appended

__all__ = ["EmbeddedState", "FrozenState", "Origin", "restore", "sound_snapshot"]

log = logging.getLogger(__name__)

_KEYS_AT_ONCE: Final = 4096
"""Python's dictionaries and decoders hold the interpreter: so many keys at a time."""
KEY_BYTES: Final = 200
"""Memory of an entity's key beside its record: text, number, and a place in a dictionary."""


@dataclass
class EmbeddedState:
    """Everything that scoring keeps in memory about the log: a `FeatureState` for one writer.

    Attributes:
        program: The compiled plan.
        arena: Feature records.
        sequence: The last log entry the state contains.
        known: Ids of the transactions in the log.
        fraud: Ids of the transactions whose latest verdict is fraud, also of those that the
            log does not hold yet.
        void: Ids of the transactions that are void.
        timeline: The log that it is made of, see `sentinel.ledger.timeline`; empty if unknown.
        tail: The group that the state ends with, if it came after ``timeline`` was looked up.
        budget_bytes, waiting_labels: See `FeatureState`.
    """

    program: Program
    arena: Arena
    sequence: int = 0
    known: KnownIds = field(default_factory=KnownIds)
    fraud: set[str] = field(default_factory=set)
    void: set[str] = field(default_factory=set)
    timeline: str = ""
    tail: Group | None = None
    budget_bytes: int = 0
    waiting_labels: int = 0

    @classmethod
    def of(
        cls,
        program: Program,
        frozen: FrozenState,
        folder: Path | None = None,
        between: Between = go_on,
    ) -> EmbeddedState:
        """The state that a snapshot holds; older ids go to disk in ``folder``, if there is one.

        Args:
            program: The compiled plan.
            frozen: The snapshot, which gives its memory away.
            folder: On whose disk older ids are; None keeps them in memory.
            between: Called between two pieces of the work.
        """
        used = frozen.header.used
        arena = Arena(program, max(1 << 16, used + used // 4), frozen.pages)
        if frozen.pages is None:
            arena.words[:used] = frozen.words
        arena.used = used
        known = KnownIds(folder)
        for piece in frozen.known:
            known.load(piece)
        for keys, names, offsets in zip(arena.keys, frozen.keys, frozen.offsets, strict=True):
            for first in range(0, len(names), _KEYS_AT_ONCE):
                several = slice(first, first + _KEYS_AT_ONCE)
                keys.update(zip(names[several], offsets[several].tolist(), strict=True))
                between()
        header = frozen.header
        fraud, void = set(frozen.fraud), set(frozen.void)
        return cls(program, arena, header.sequence, known, fraud, void, header.timeline)

    @classmethod
    def empty(cls, program: Program, folder: Path | None = None) -> EmbeddedState:
        """The state before the first log entry; see `of`."""
        return cls(program=program, arena=Arena(program), known=KnownIds(folder))

    @property
    def entities(self) -> int:
        """Number of records."""
        return self.arena.entities

    @property
    def entities_by_view(self) -> dict[str, int]:
        """See `FeatureState`."""
        return self.arena.entities_by_view

    @property
    def used_bytes(self) -> int:
        """Size of the records."""
        return self.arena.used_bytes

    @property
    def held_bytes(self) -> int:
        """Records and keys."""
        return self.arena.used_bytes + KEY_BYTES * self.arena.entities

    @property
    def entity_bytes(self) -> int:
        """A record of the mean size, and its key."""
        words = self.program.record_words
        return KEY_BYTES + 8 * sum(words) // max(len(words), 1)

    @property
    def waits(self) -> bool:
        """See `FeatureState`."""
        return False

    @property
    def parallel(self) -> int:
        """One: what a group reads holds the groups before it, which must not fail afterwards."""
        return 1

    @property
    def problem(self) -> str | None:
        """Nothing can be wrong with memory."""
        return None

    # See `FeatureState` for all of these.

    def warm(self) -> None:
        probe = Transaction(
            transaction_id="warm-up", event_time_us=0, received_at_us=0, amount_minor=1
        )
        self._online.run([probe], KIND_PEEK)
        self._online.read([{}], 0)
        self._without.reading([probe], "warm-up")
        self.known.holds(id_hash("warm-up"))

    def new_entities(self, transactions: Iterable[Transaction]) -> int:
        return unknown_entities(self.program.plan, self.arena.keys, transactions)

    def add(self, transactions: Sequence[Transaction], known_only: Collection[int] = ()) -> Reading:
        online = self._online
        if self.fraud and any(t.transaction_id in self.fraud for t in transactions):
            return self._add_with_waiting_labels(transactions, known_only)
        vectors = online.run(transactions, KIND_ADD, known_only)
        flags = _flags_of(online.event_flags(len(transactions)), len(transactions))
        new = online.new_records
        if not known_only:
            return Reading(vectors, flags, new_records=new)
        untracked = online.left_out
        flags[list(untracked)] |= FLAG_DEGRADED
        return Reading(vectors, flags, new_records=new, untracked=untracked)

    def begin_add(self, *_: object, **__: object) -> bool:
        """No: nothing is waited for."""
        return False

    def add_without_state(self, transactions: Sequence[Transaction]) -> Reading:
        return self._without.reading(transactions, "State was left out on purpose.")

    def peek(self, transactions: Sequence[Transaction]) -> Reading:
        vectors = self._online.run(transactions, KIND_PEEK)
        return Reading(vectors, np.zeros(len(transactions), dtype=np.uint8))

    def read(self, keys: Sequence[Mapping[str, str]], now_us: int) -> Vectors:
        return self._online.read(keys, now_us)

    def settle(
        self,
        ticket: bytes,
        transactions: Sequence[Transaction],
        appended: Appended | None,
        doubtful: Sequence[Transaction] = (),
    ) -> None:
        if appended is not None:
            self._through(appended, len(transactions))

    def apply_labels(
        self,
        labels: Sequence[Label],
        appended: Appended,
        transactions: Mapping[str, Transaction],
    ) -> None:
        changes: list[LabelChange] = []
        for change in changes_of(labels, appended.first_sequence, self.fraud, self.void):
            if change.transaction_id in transactions:
                changes.append(change)
            else:
                self.waiting_labels += 1 if change.kind == KIND_FRAUD else -1
        # In the log's order; neighbours of one kind share a call of the kernel.
        for kind, alike in groupby(changes, key=attrgetter("kind")):
            self._online.run([transactions[change.transaction_id] for change in alike], kind)
        self._through(appended, len(labels))

    def records_anew(self, payments: pa.RecordBatch, transaction_ids: Sequence[str]) -> RecordsAnew:
        return RecordsAnew(self.program, payments, self.void.union(transaction_ids))

    def apply_voids(
        self, transaction_ids: Sequence[str], appended: Appended, anew: RecordsAnew | None
    ) -> None:
        assert anew is not None
        for transaction_id in transaction_ids:
            take_void(self.fraud, self.void, transaction_id)
        anew.put_into(self.arena)
        self._through(appended, len(transaction_ids))

    def _through(self, appended: Appended, entries: int) -> None:
        """The state contains a group now."""
        self.sequence = appended.first_sequence + entries - 1
        self.tail, self.timeline = appended.group, ""

    def look_after(self) -> None:
        """Nobody else changes it."""

    def begin_snapshot(self, folder: Path, *, leisurely: bool = False) -> SnapshotWritten:
        return write_beside(lambda: self.freeze(copy=False).write(folder, leisurely=leisurely))

    def close(self) -> None:
        """Give back the records' memory; takes long where there are many."""
        self.arena.close()

    @cached_property
    def _online(self) -> OnlineFold:
        return OnlineFold(self.program, self.arena)

    @cached_property
    def _without(self) -> WithoutState:
        return WithoutState(self.program)

    def _add_with_waiting_labels(
        self, transactions: Sequence[Transaction], known_only: Collection[int]
    ) -> Reading:
        """One at a time: a label that came before its transaction takes effect right after it."""
        online = self._online
        vectors = np.empty((len(transactions), self.program.n_features), dtype=np.float32)
        event_flags: list[int] = []
        new: list[int] = []
        untracked: dict[int, tuple[str, ...]] = {}
        for row, transaction in enumerate(transactions):
            vectors[row] = online.run([transaction], KIND_ADD, (0,) if row in known_only else ())[0]
            event_flags += online.event_flags(1) or [0]
            new += [row] * len(online.new_records)
            if views := online.left_out.get(0):
                untracked[row] = views
                transaction = partly_tracked(transaction, views)
            if transaction.transaction_id in self.fraud:
                online.run([transaction], KIND_FRAUD)
                self.waiting_labels -= 1
        flags = _flags_of(event_flags, len(transactions))
        flags[list(untracked)] |= FLAG_DEGRADED
        return Reading(vectors, flags, new_records=new, untracked=untracked)

    def count_waiting(self, between: Between = go_on) -> None:
        """Count `waiting_labels` anew; takes about a second for a million labelled payments."""
        fraud, waiting = list(self.fraud), 0
        for first in range(0, len(fraud), _KEYS_AT_ONCE):
            several = fraud[first : first + _KEYS_AT_ONCE]
            waiting += len(several) - int(self.known.which(several).sum())
            between()
        self.waiting_labels = waiting

    def freeze(self, *, copy: bool = True) -> FrozenState:
        """The contents of a snapshot.

        Args:
            copy: Whether scoring may go on before they are written.
        """
        arena = self.arena
        return FrozenState(
            header=Header(
                format=SNAPSHOT_FORMAT if self.void else FORMAT_WITHOUT_VOIDS,
                record_format=RECORD_FORMAT,
                plan_hash=self.program.plan.hash,
                sequence=self.sequence,
                record_words=self.program.record_words,
                used=arena.used,
                known=len(self.known),
                entities=tuple(len(keys) for keys in arena.keys),
                timeline=self.timeline if self.tail is None else fingerprint(self.tail),
            ),
            words=arena.words[: arena.used].copy() if copy else arena.words[: arena.used],
            known=self.known.hashes(),
            keys=[list(keys) for keys in arena.keys],
            offsets=[
                np.fromiter(keys.values(), dtype=np.int64, count=len(keys)) for keys in arena.keys
            ],
            fraud=list(self.fraud),
            void=sorted(self.void),
        )


def _flags_of(event_flags: Sequence[int], rows: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """The log's flags, uint8 (rows,), of what the kernel reports of events; empty: of none."""
    flags = np.zeros(rows, dtype=np.uint8)
    for row, found in enumerate(event_flags):
        if found & FLAG_LATE:
            flags[row] |= FLAG_LATE_EVENT
        if found & FLAG_EXPIRED:
            flags[row] |= FLAG_EXPIRED_EVENT
    return flags


class Origin(Protocol):
    """Tells whether something was made of the log at hand; see `sentinel.ledger.timeline`."""

    def refusal(self, sequence: int, timeline: str, knows: Callable[[str], bool]) -> str:
        """Why it was not; empty if it was.

        Args:
            sequence: The last entry that it was made of.
            timeline: What it kept of the log; empty if an older version made it.
            knows: Whether it was made of a transaction, by id.
        """
        ...


def restore(
    program: Program,
    folder: Path,
    *,
    origin: Origin | None = None,
    between: Between = go_on,
) -> EmbeddedState:
    """The state of the newest sound snapshot of a plan, or the empty state.

    Args:
        program: The compiled plan; snapshots of other plans are not looked at.
        folder: Where snapshots are written.
        origin: The log; snapshots that were made of another one are passed over, with a line in
            the process's log that says why. None takes any.
        between: Called between two pieces of the work.
    """
    for path in snapshots_of(folder, program.plan.hash):
        state = _read(program, path, origin, between)
        if state is not None:
            return state
    return EmbeddedState.empty(program, folder)


def sound_snapshot(program: Program, folder: Path, origin: Origin, *, least: int) -> Path | None:
    """The newest snapshot made of the log at hand, None if there is none from entry ``least`` on.

    Whether its file is whole is left to `restore`, except for those of format 1, which have to be
    read to say what they were made of.
    """
    for path in snapshots_of(folder, program.plan.hash):
        if sequence_of(path) < least:
            return None
        header = _fitting(program, path, origin)
        if header is not None and (header.timeline or _read(program, path, origin) is not None):
            return path
    return None


def _fitting(program: Program, path: Path, origin: Origin | None) -> Header | None:
    """The header of a snapshot; None if it is of another layout or, by its header, another log."""
    header = read_header(path)
    if (
        header is None
        or header.record_format != RECORD_FORMAT
        or header.plan_hash != program.plan.hash
        or header.record_words != program.record_words
    ):
        return None
    if origin is None or (header.sequence and not header.timeline):
        return header
    return None if _refused(path, header, origin, lambda _: True) else header


def _refused(path: Path, header: Header, origin: Origin, knows: Callable[[str], bool]) -> bool:
    why = origin.refusal(header.sequence, header.timeline, knows)
    if why:
        log.warning("The snapshot %s is not used: %s.", path, why)
    return bool(why)


def _read(
    program: Program, path: Path, origin: Origin | None, between: Between = go_on
) -> EmbeddedState | None:
    # The header comes first: the whole file takes long where there are many entities.
    header = _fitting(program, path, origin)
    frozen = None if header is None else read_snapshot(path, between)
    if header is None or frozen is None:
        if header is not None:
            log.warning("The snapshot %s is not used: it is torn.", path)
        return None
    state = EmbeddedState.of(program, frozen, path.parent.parent, between)
    if origin is not None and not header.timeline:
        return None if _refused(path, header, origin, state.known.holds_id) else state
    return state
