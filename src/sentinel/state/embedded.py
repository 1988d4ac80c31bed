"""State in the scoring process: an arena, and snapshots of it as plain files.

A snapshot is the state after the log entry with a certain sequence. Recovery is the newest
snapshot of the running plan plus a replay of the log behind it. A snapshot that is torn or of
another format is passed over, never trusted.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import xxhash

from sentinel.features.arena import Arena
from sentinel.features.plan.program import RECORD_FORMAT, Program
from sentinel.state.known_ids import KnownIds

SNAPSHOT_FORMAT: Final = 1
_MAGIC: Final = b"SNTLSNAP"
_SNAPSHOTS_KEPT: Final = 2


@dataclass
class EmbeddedState:
    """Everything that scoring keeps in memory about the log.

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
    def bytes(self) -> int:
        """Size of the records."""
        return self.arena.used_bytes

    def freeze(self) -> FrozenState:
        """A copy that a background thread can write while scoring goes on."""
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
            words=arena.words[: arena.used].copy(),
            known=self.known.hashes(),
            keys=[list(keys) for keys in arena.keys],
            offsets=[
                np.fromiter(keys.values(), dtype=np.int64, count=len(keys)) for keys in arena.keys
            ],
            fraud=list(self.fraud),
        )


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
        partial = target.with_suffix(".partial")
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
