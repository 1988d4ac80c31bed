"""A snapshot as a file: a header, sections of bytes, and a hash over all of it.

    <state>/<plan hash>/00000000000000000017.snapshot   the state after entry 17
    <state>/<plan hash>/spare.partial                   an old one, to be written over

A snapshot names the log that it was made of (see `sentinel.ledger.timeline`), from format 2 on, and
ends with the transactions that are void, from format 3 on. One that is torn, of another format or
of another log is passed over, never trusted.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt
import xxhash

from sentinel.features.jit import kernel
from sentinel.features.pages import Pages
from sentinel.spare_time import Between, go_on
from sentinel.state.direct_file import PIECE_BYTES, DirectFile, write_directly

SNAPSHOT_FORMAT: Final = 3
FORMAT_WITHOUT_VOIDS: Final = 2
"""What a snapshot is written in where nothing is void, so that older versions read it."""
_OLDER_FORMATS: Final = (1, 2)
_MAGIC: Final = b"SNTLSNAP"
_SNAPSHOTS_KEPT: Final = 2
_SPARE: Final = "spare.partial"
_LEFT_BEHIND_SECONDS: Final = 3_600
"""A file that nobody has written for so long is of a process that was ended meanwhile."""
_LONGEST_HEADER: Final = 1 << 20
_READ_AT_ONCE: Final = 1 << 20
_DIGEST_BYTES: Final = 16
_LEAST_WORDS: Final = 1 << 16
_EMPTY: Final = b"\x90"
"""An array of nothing in MessagePack."""
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
        pages: The memory of ``words``, with room for more, where it was made for them; the state
            that goes on with it makes no copy.
    """

    header: Header
    words: Words
    known: Sequence[Words]
    keys: list[list[str]]
    offsets: list[Words]
    fraud: list[str]
    void: Sequence[str] = ()
    pages: Pages | None = None

    def write(self, folder: Path, *, leisurely: bool = False) -> Path:
        """Write the snapshot durably into its plan's folder and drop old ones.

        Those that were written last are kept, whatever entries they end at: one that holds later
        entries may be of a log that is no more, and this one is of the log of today. One that is
        dropped stays as a spare file for the next to be written over it: deleting gigabytes would
        hold up the syncs of the log.

        Args:
            folder: Of all snapshots.
            leisurely: Let the disk rest for half of the time.

        Returns:
            The file, named by its sequence.
        """
        folder = folder / self.header.plan_hash
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / f"{self.header.sequence:020d}.snapshot"
        partial = target.with_suffix(f".{os.getpid()}.partial")
        spare = folder / _SPARE
        _take_spare(folder, partial)
        try:
            with write_directly(partial, leisurely=leisurely) as file:
                self._write(file)
        except BaseException:
            with suppress(OSError):
                partial.replace(spare)
            raise
        partial.replace(target)
        for old in _written_before(folder, target)[_SNAPSHOTS_KEPT - 1 :]:
            with suppress(FileNotFoundError):  # another process drops old ones, too
                old.replace(spare)
        return target

    def _write(self, file: DirectFile) -> None:
        digest = xxhash.xxh3_128()
        file.write(_MAGIC)
        for section in self._sections():
            size = sum(map(len, section)).to_bytes(8, "little")
            for piece in (size, *section):
                for start in range(0, len(piece), PIECE_BYTES):
                    part = memoryview(piece)[start : start + PIECE_BYTES]
                    digest.update(part)
                    file.write(part)
        file.write(digest.digest())

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


def drop_snapshots(folder: Path, plan_hash: str) -> None:
    """Delete the snapshots of a plan that serves no more."""
    shutil.rmtree(folder / plan_hash, ignore_errors=True)


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


def read_snapshot(path: Path, between: Between = go_on) -> FrozenState | None:
    """The contents of a snapshot; None if it is torn or cannot be read.

    Args:
        path: The file.
        between: Called between two pieces of the work, of at most some milliseconds each.
    """
    try:
        with path.open("rb", buffering=0) as file:
            return _Reader(file, between).read()
    except (OSError, _Torn):
        return None


class _Torn(Exception):
    """The file does not hold what it should."""


class _Reader:
    """Reads a snapshot: the records straight into the memory that they stay in.

    Args:
        file: Unbuffered.
        between: See `read_snapshot`.
    """

    def __init__(self, file: FileIO, between: Between) -> None:
        self._file = file
        self._between = between
        self._left = os.fstat(file.fileno()).st_size - len(_MAGIC) - _DIGEST_BYTES
        self._digest = xxhash.xxh3_128()

    def read(self) -> FrozenState:
        """The contents.

        Raises:
            OSError: It cannot be read.
            _Torn: It is torn.
        """
        if self._left < 0 or self._file.read(len(_MAGIC)) != _MAGIC:
            raise _Torn
        header = _header(self._section())
        size = self._size()
        if header is None or size != 8 * header.used:
            raise _Torn
        pages = Pages(max(_LEAST_WORDS, header.used + header.used // 4))
        words = pages.words()[: header.used]
        if header.used:
            self._fill(words.data.cast("B"))
        known = self._section()
        keyed = [(self._section(), self._section()) for _ in header.entities]
        fraud = self._section()
        void = self._section() if header.format > FORMAT_WITHOUT_VOIDS else bytearray(_EMPTY)
        if self._left or self._file.read(_DIGEST_BYTES) != self._digest.digest():
            raise _Torn
        return FrozenState(
            header=header,
            words=words,
            known=[np.frombuffer(known, dtype=np.int64)],
            keys=[list(self._keys(names)) for names, _ in keyed],
            offsets=[np.frombuffer(offsets, dtype=np.int64) for _, offsets in keyed],
            fraud=list(self._keys(fraud)),
            void=list(self._keys(void)),
            pages=pages,
        )

    def _size(self) -> int:
        """Bytes of the next section."""
        head = bytearray(8)
        self._fill(memoryview(head))
        size = int.from_bytes(head, "little")
        if size > self._left:
            raise _Torn
        return size

    def _section(self) -> bytearray:
        """The next section."""
        section = bytearray(self._size())
        self._fill(memoryview(section))
        return section

    def _fill(self, room: memoryview) -> None:
        if len(room) > self._left:
            raise _Torn
        self._left -= len(room)
        while len(room):
            got = self._file.readinto(room[:_READ_AT_ONCE])
            if not got:
                raise _Torn
            self._digest.update(room[:got])
            room = room[got:]
            self._between()

    def _keys(self, section: bytearray) -> Iterator[str]:
        for keys in _decoded_keys(section):
            yield from keys
            self._between()


def _decoded_keys(section: bytes | bytearray | memoryview) -> Iterator[list[str]]:
    """The strings of a MessagePack array in pieces, each decoded by itself.

    A decoder holds the interpreter until it is done, which for millions of keys payments that are
    decided meanwhile would notice.
    """
    data = np.frombuffer(section, dtype=np.uint8)
    count, start = _array_head(data)
    for first in range(0, count, _KEYS_AT_ONCE):
        number = min(_KEYS_AT_ONCE, count - first)
        end = _after_strings(data, start, number)
        head = b"\xdc" + number.to_bytes(2, "big")
        yield msgspec.msgpack.decode(head + bytes(section[start:end]), type=list[str])
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


def _header(section: bytes | bytearray) -> Header | None:
    try:
        header = msgspec.msgpack.decode(section, type=Header)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None
    return header if header.format in (SNAPSHOT_FORMAT, *_OLDER_FORMATS) else None


def _take_spare(folder: Path, partial: Path) -> None:
    """Let a new snapshot be written over the spare file, or over what an ended process left."""
    left_before = time.time() - _LEFT_BEHIND_SECONDS
    for path in (folder / _SPARE, *folder.glob("*.partial")):
        with suppress(FileNotFoundError):  # another process takes it
            if path.name == _SPARE or path.stat().st_mtime < left_before:
                path.rename(partial)
                return


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
