"""Files written around the page cache hold the same bytes as any others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sentinel.state.direct_file import PIECE_BYTES, DirectFile, write_directly

SIZES = (0, 1, 4095, 4096, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 4097)


@pytest.mark.parametrize("size", SIZES)
def test_a_file_has_the_size_and_the_bytes_that_were_written(tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    with write_directly(tmp_path / "file") as file:
        for start in range(0, size, 1_000_003):  # pieces that fit no block
            file.write(memoryview(content)[start : start + 1_000_003])
        file.write(b"")
    assert (tmp_path / "file").read_bytes() == content
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600


def test_a_file_system_without_direct_writing_is_written_the_ordinary_way(tmp_path: Path) -> None:
    content = os.urandom(PIECE_BYTES + 17)
    descriptor = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT, 0o600)
    file = DirectFile(descriptor, direct=False)
    file.write(content)
    file.finish()
    file.close()
    assert (tmp_path / "file").read_bytes() == content


def test_pieces_that_the_disk_refuses_to_take_directly_are_written_all_the_same(
    tmp_path: Path,
) -> None:
    """A descriptor that takes no unaligned piece, as after a short write."""
    content = os.urandom(10_001)
    try:
        descriptor = os.open(
            tmp_path / "file", os.O_WRONLY | os.O_CREAT | getattr(os, "O_DIRECT", 0), 0o600
        )
    except OSError as error:
        pytest.skip(f"needs a file system with direct writing: {error}")
    os.lseek(descriptor, 512 + 1, os.SEEK_SET)  # no block begins here
    file = DirectFile(descriptor, direct=True)
    file.write(content)
    file._put(len(content))
    file.close()
    assert (tmp_path / "file").read_bytes()[513:] == content


@pytest.mark.parametrize("leisurely", [False, True])
@pytest.mark.parametrize("size", [0, 4097, 5 * PIECE_BYTES])
def test_a_longer_file_is_written_over_and_ends_where_the_new_bytes_do(
    tmp_path: Path, size: int, leisurely: bool
) -> None:
    path, content = tmp_path / "file", os.urandom(size)
    path.write_bytes(os.urandom(7 * PIECE_BYTES + 1))
    before = path.stat().st_ino
    with write_directly(path, leisurely=leisurely) as file:
        file.write(content)
    assert path.read_bytes() == content
    assert path.stat().st_ino == before
