"""State in the scoring process: an arena, and snapshots of it as plain files.

A snapshot is the state after the log entry with a certain sequence. Recovery is the newest
snapshot of the running plan plus a replay of the log behind it. A snapshot that is torn or of
another format is passed over, never trusted.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
import xxhash

from sentinel.domain import Label, Transaction
from sentinel.features.arena import Arena
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
from sentinel.log.entries import FLAG_EXPIRED_EVENT, FLAG_LATE_EVENT
from sentinel.log.labels import changes_of
from sentinel.state.base import Reading, SnapshotWritten, Vectors
from sentinel.state.forked_snapshot import write_beside
from sentinel.state.known_ids import KnownIds, id_hash
from sentinel.state.without_state import WithoutState

if TYPE_CHECKING:
    from sentinel.ledger.base import Appended

SNAPSHOT_FORMAT: Final = 1
_MAGIC: Final = b"SNTLSNAP"
_SNAPSHOTS_KEPT: Final = 2


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
    """

    program: Program
    arena: Arena
    sequence: int = 0
    known: KnownIds = field(default_factory=KnownIds)
    fraud: set[str] = field(default_factory=set)

    @classmethod
    def empty(cls, program: Program) -> EmbeddedState:
        """The state before the first log entry."""
        return cls(program=program, arena=Arena(program))

    @property
    def entities(self) -> int:
        """Number of records."""
        return self.arena.entities

    @property
    def used_bytes(self) -> int:
        """Size of the records."""
        return self.arena.used_bytes

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

    def add(self, transactions: Sequence[Transaction]) -> Reading:
        online = self._online
        if self.fraud and any(t.transaction_id in self.fraud for t in transactions):
            return self._add_with_waiting_labels(transactions)
        vectors = online.run(transactions, KIND_ADD)
        return Reading(vectors, _flags_of(online.event_flags(len(transactions)), len(transactions)))

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
            self.sequence = appended.first_sequence + len(transactions) - 1

    def apply_labels(
        self,
        labels: Sequence[Label],
        appended: Appended,
        transactions: Mapping[str, Transaction],
    ) -> None:
        for change in changes_of(labels, appended.first_sequence, self.fraud):
            transaction = transactions.get(change.transaction_id)
            if transaction is not None:
                self._online.run([transaction], change.kind)
        self.sequence = appended.first_sequence + len(labels) - 1

    def look_after(self) -> None:
        """Nobody else changes it."""

    def begin_snapshot(self, folder: Path) -> SnapshotWritten:
        return write_beside(lambda: self.freeze(copy=False).write(folder))

    def close(self) -> None:
        """Nothing is held."""

    @cached_property
    def _online(self) -> OnlineFold:
        return OnlineFold(self.program, self.arena)

    @cached_property
    def _without(self) -> WithoutState:
        return WithoutState(self.program)

    def _add_with_waiting_labels(self, transactions: Sequence[Transaction]) -> Reading:
        """One at a time: a label that came before its transaction takes effect right after it."""
        online = self._online
        vectors = np.empty((len(transactions), self.program.n_features), dtype=np.float32)
        event_flags: list[int] = []
        for row, transaction in enumerate(transactions):
            vectors[row] = online.run([transaction], KIND_ADD)[0]
            event_flags += online.event_flags(1) or [0]
            if transaction.transaction_id in self.fraud:
                online.run([transaction], KIND_FRAUD)
        return Reading(vectors, _flags_of(event_flags, len(transactions)))

    def freeze(self, *, copy: bool = True) -> FrozenState:
        """The contents of a snapshot.

        Args:
            copy: Whether scoring may go on before they are written.
        """
        arena = self.arena
        return FrozenState(
            header=_Header(
                format=SNAPSHOT_FORMAT,
                record_format=RECORD_FORMAT,
                plan_hash=self.program.plan.hash,
                sequence=self.sequence,
                record_words=self.program.record_words,
                used=arena.used,
                known=len(self.known),
                entities=tuple(len(keys) for keys in arena.keys),
            ),
            words=arena.words[: arena.used].copy() if copy else arena.words[: arena.used],
            known=self.known.hashes(),
            keys=[list(keys) for keys in arena.keys],
            offsets=[
                np.fromiter(keys.values(), dtype=np.int64, count=len(keys)) for keys in arena.keys
            ],
            fraud=list(self.fraud),
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


class _Header(msgspec.Struct, frozen=True):
    format: int
    record_format: int
    plan_hash: str
    sequence: int
    record_words: tuple[int, ...]
    used: int
    known: int
    entities: tuple[int, ...]


@dataclass(frozen=True)
class FrozenState:
    """The contents of a snapshot file."""

    header: _Header
    words: np.ndarray[tuple[int], np.dtype[np.int64]]
    known: np.ndarray[tuple[int], np.dtype[np.int64]]
    keys: list[list[str]]
    offsets: list[np.ndarray[tuple[int], np.dtype[np.int64]]]
    fraud: list[str]

    def write(self, folder: Path) -> Path:
        """Write the snapshot durably into its plan's folder and drop old ones.

        Returns:
            The file, named by its sequence.
        """
        folder = folder / self.header.plan_hash
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / f"{self.header.sequence:020d}.snapshot"
        partial = target.with_suffix(f".{os.getpid()}.partial")
        digest = xxhash.xxh3_128()
        with partial.open("wb") as file:
            file.write(_MAGIC)
            sections: list[bytes | memoryview] = [msgspec.msgpack.encode(self.header)]
            sections += [self.words.data.cast("B"), self.known.data.cast("B")]
            for keys, offsets in zip(self.keys, self.offsets, strict=True):
                sections += [msgspec.msgpack.encode(keys), offsets.data.cast("B")]
            sections.append(msgspec.msgpack.encode(self.fraud))
            for section in sections:
                size = len(section).to_bytes(8, "little")
                for piece in (size, section):
                    digest.update(piece)
                    file.write(piece)
            file.write(digest.digest())
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
        for old in sorted(folder.glob("*.snapshot"))[:-_SNAPSHOTS_KEPT]:
            old.unlink(missing_ok=True)
        return target


def restore(program: Program, folder: Path, *, until: int | None = None) -> EmbeddedState:
    """The state of the newest sound snapshot of a plan, or the empty state.

    Args:
        program: The compiled plan; snapshots of other plans are not looked at.
        folder: Where snapshots are written.
        until: Pass over snapshots of later sequences (those ahead of a restored ledger).
    """
    for path in sorted((folder / program.plan.hash).glob("*.snapshot"), reverse=True):
        if until is not None and int(path.stem) > until:
            continue
        state = _read(program, path)
        if state is not None:
            return state
    return EmbeddedState.empty(program)


def _read(program: Program, path: Path) -> EmbeddedState | None:
    try:
        content = memoryview(path.read_bytes())
    except OSError:
        return None
    if len(content) < 32 or bytes(content[:8]) != _MAGIC:
        return None
    if xxhash.xxh3_128_digest(content[8:-16]) != content[-16:]:
        return None
    sections: list[memoryview] = []
    at = 8
    while at < len(content) - 16:
        size = int.from_bytes(content[at : at + 8], "little")
        sections.append(content[at + 8 : at + 8 + size])
        at += 8 + size
    try:
        header = msgspec.msgpack.decode(sections[0], type=_Header)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None
    if (
        header.format != SNAPSHOT_FORMAT
        or header.record_format != RECORD_FORMAT
        or header.plan_hash != program.plan.hash
        or header.record_words != program.record_words
        or len(sections[1]) != 8 * header.used
    ):
        return None
    arena = Arena(program, capacity_words=max(1 << 16, header.used + header.used // 4))
    arena.words[: header.used] = np.frombuffer(sections[1], dtype=np.int64)
    arena.used = header.used
    known = KnownIds()
    known.add_hashes(np.frombuffer(sections[2], dtype=np.int64).copy())
    for view, keys in enumerate(arena.keys):
        names = msgspec.msgpack.decode(sections[3 + 2 * view], type=list[str])
        offsets = np.frombuffer(sections[4 + 2 * view], dtype=np.int64)
        keys.update(zip(names, offsets.tolist(), strict=True))
    fraud = msgspec.msgpack.decode(sections[-1], type=list[str])
    return EmbeddedState(program, arena, header.sequence, known, set(fraud))
