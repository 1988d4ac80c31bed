"""A snapshot as a file: a header, sections of bytes, and a hash over all of it.

    <state>/<plan hash>/00000000000000000017.snapshot   the state after entry 17

A snapshot names the log that it was made of (see `sentinel.ledger.timeline`), from format 2 on, and
ends with the transactions that are void, from format 3 on. One that is torn, of another format or
of another log is passed over, never trusted.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt
import xxhash

from sentinel.features.jit import kernel
from sentinel.state.direct_file import write_directly

SNAPSHOT_FORMAT: Final = 3
FORMAT_WITHOUT_VOIDS: Final = 2
"""What a snapshot is written in where nothing is void, so that older versions read it."""
_OLDER_FORMATS: Final = (1, 2)
_MAGIC: Final = b"SNTLSNAP"
_SNAPSHOTS_KEPT: Final = 2
_LONGEST_HEADER: Final = 1 << 20
_HASHED_AT_ONCE: Final = 4 << 20
_KEYS_AT_ONCE: Final = 4096

Words = npt.NDArray[np.int64]


class Header(msgspec.Struct, frozen=True):
    """What a snapshot says of itself.

    Attributes:
        format: SNAPSHOT_FORMAT, or an older one.
        record_format: Of the records' words.
        plan_hash: The plan that the records are of.
        sequence: The last log entry that the state contains.
        record_words: Words of a record, by view.
        used: Words of all records.
        known: Ids of transactions.
        entities: Records by view.
        timeline: The log that it was made of; empty in format 1.
    """

    format: int
    record_format: int
    plan_hash: str
    sequence: int
    record_words: tuple[int, ...]
    used: int
    known: int
    entities: tuple[int, ...]
    timeline: str = ""


@dataclass(frozen=True)
class FrozenState:
    """The contents of a snapshot file.

    Attributes:
        header: What it says of itself.
        words: int64 (used,), the records.
        known: int64 arrays of ``known`` hashes of the ids of transactions together.
        keys, offsets: By view: the keys of the records, and where each begins in ``words``.
        fraud: Transactions whose newest verdict is fraud.
        void: Transactions that are void; empty before format 3.
    """

    header: Header
    words: Words
    known: Sequence[Words]
    keys: list[list[str]]
    offsets: list[Words]
    fraud: list[str]
    void: Sequence[str] = ()

    def write(self, folder: Path) -> Path:
        """Write the snapshot durably into its plan's folder and drop old ones.

        Those that were written last are kept, whatever entries they end at: one that holds later
        entries may be of a log that is no more, and this one is of the log of today.

        Returns:
            The file, named by its sequence.
        """
        folder = folder / self.header.plan_hash
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / f"{self.header.sequence:020d}.snapshot"
        partial = target.with_suffix(f".{os.getpid()}.partial")
        digest = xxhash.xxh3_128()
        with write_directly(partial) as file:
            file.write(_MAGIC)
            for section in self._sections():
                size = sum(map(len, section)).to_bytes(8, "little")
                for piece in (size, *section):
                    digest.update(piece)
                    file.write(piece)
            file.write(digest.digest())
        partial.replace(target)
        for old in _written_before(folder, target)[_SNAPSHOTS_KEPT - 1 :]:
            old.unlink(missing_ok=True)
        return target

    def _sections(self) -> Iterator[list[bytes | memoryview]]:
        """The sections, each in pieces."""
        yield [msgspec.msgpack.encode(self.header)]
        yield [self.words.data.cast("B")]
        yield [piece.data.cast("B") for piece in self.known]
        for keys, offsets in zip(self.keys, self.offsets, strict=True):
            yield [msgspec.msgpack.encode(keys)]
            yield [offsets.data.cast("B")]
        yield [msgspec.msgpack.encode(self.fraud)]
        if self.header.format > FORMAT_WITHOUT_VOIDS:
            yield [msgspec.msgpack.encode(self.void)]


def snapshots_of(folder: Path, plan_hash: str) -> list[Path]:
    """The snapshots of a plan, the one of the latest entry first."""
    return sorted((folder / plan_hash).glob("*.snapshot"), reverse=True)


def sequence_of(path: Path) -> int:
    """The last log entry that a snapshot contains, by its name."""
    return int(path.stem)


def read_header(path: Path) -> Header | None:
    """What a snapshot says of itself, unverified; None if it cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(len(_MAGIC) + 8)
            size = int.from_bytes(head[len(_MAGIC) :], "little")
            if head[: len(_MAGIC)] != _MAGIC or size > _LONGEST_HEADER:
                return None
            return _header(file.read(size))
    except OSError:
        return None


def read_snapshot(path: Path) -> FrozenState | None:
    """The contents of a snapshot; None if it is torn or cannot be read."""
    try:
        content = memoryview(path.read_bytes())
    except OSError:
        return None
    if len(content) < 32 or bytes(content[:8]) != _MAGIC:
        return None
    digest = xxhash.xxh3_128()
    for start in range(8, len(content) - 16, _HASHED_AT_ONCE):
        digest.update(content[start : min(start + _HASHED_AT_ONCE, len(content) - 16)])
    if digest.digest() != content[-16:]:
        return None
    sections = list(_sections(content))
    header = _header(sections[0])
    if header is None or len(sections[1]) != 8 * header.used:
        return None
    void: list[str] = []
    if header.format > FORMAT_WITHOUT_VOIDS:
        void = msgspec.msgpack.decode(sections.pop(), type=list[str])
    keyed = sections[3:-1]
    return FrozenState(
        header=header,
        words=np.frombuffer(sections[1], dtype=np.int64),
        known=[np.frombuffer(sections[2], dtype=np.int64)],
        keys=[list(_decoded_keys(names)) for names in keyed[::2]],
        offsets=[np.frombuffer(offsets, dtype=np.int64) for offsets in keyed[1::2]],
        fraud=msgspec.msgpack.decode(sections[-1], type=list[str]),
        void=void,
    )


def _sections(content: memoryview) -> Iterator[memoryview]:
    at = 8
    while at < len(content) - 16:
        size = int.from_bytes(content[at : at + 8], "little")
        yield content[at + 8 : at + 8 + size]
        at += 8 + size


def _decoded_keys(section: memoryview) -> Iterator[str]:
    """The strings of a MessagePack array, decoded piece by piece.

    A decoder holds the interpreter until it is done, which for millions of keys payments that are
    decided meanwhile would notice.
    """
    data = np.frombuffer(section, dtype=np.uint8)
    count, start = _array_head(data)
    for first in range(0, count, _KEYS_AT_ONCE):
        number = min(_KEYS_AT_ONCE, count - first)
        end = _after_strings(data, start, number)
        head = b"\xdc" + number.to_bytes(2, "big")
        yield from msgspec.msgpack.decode(head + bytes(section[start:end]), type=list[str])
        start = end


def _array_head(data: npt.NDArray[np.uint8]) -> tuple[int, int]:
    """Elements of the MessagePack array that the bytes are, and where the first one begins."""
    first = int(data[0])
    if first < 0xDC:
        return first & 0x0F, 1
    size = 2 if first == 0xDC else 4
    return int.from_bytes(data[1 : 1 + size].tobytes(), "big"), 1 + size


@kernel
def _after_strings(data: npt.NDArray[np.uint8], start: int, number: int) -> int:
    """Where the bytes go on after so many MessagePack strings."""
    at = start
    for _ in range(number):
        first = int(data[at])
        if first < 0xC0:  # 101xxxxx: up to 31 bytes
            at += 1 + (first & 0x1F)
        elif first == 0xD9:
            at += 2 + int(data[at + 1])
        elif first == 0xDA:
            at += 3 + (int(data[at + 1]) << 8 | int(data[at + 2]))
        else:
            at += 5 + (
                int(data[at + 1]) << 24
                | int(data[at + 2]) << 16
                | int(data[at + 3]) << 8
                | int(data[at + 4])
            )
    return at


def _header(section: bytes | memoryview) -> Header | None:
    try:
        header = msgspec.msgpack.decode(section, type=Header)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None
    return header if header.format in (SNAPSHOT_FORMAT, *_OLDER_FORMATS) else None


def _written_before(folder: Path, newest: Path) -> list[Path]:
    """The other snapshots of a folder, the one that was written last first."""
    found = []
    for path in folder.glob("*.snapshot"):
        if path != newest:
            try:
                found.append((path.stat().st_mtime_ns, path))
            except FileNotFoundError:  # another process drops old ones, too
                continue
    return [path for _, path in sorted(found, reverse=True)]
