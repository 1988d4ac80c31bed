"""Ids of the log: none is forgotten, and memory has a bound where there is a disk."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.state.known_ids import KnownIds, id_hash
from sentinel.state.old_ids import Hashes, OldIds, merged


def names(start: int, stop: int) -> list[str]:
    return [f"tx-{number}" for number in range(start, stop)]


@given(st.lists(st.lists(st.integers(0, 300), max_size=40), max_size=30), st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_old_ids_are_told_from_new_ones_like_recent_ones(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[int]], recent: int
) -> None:
    known = KnownIds(tmp_path_factory.getbasetemp(), recent=recent)
    seen: set[int] = set()
    for batch in batches:
        again = []
        for place, number in enumerate(batch):
            if number in seen:
                again.append(place)
            seen.add(number)
        assert known.add(map(str, batch)) == again
    assert len(known) == len(seen)
    everybody = [str(number) for number in range(310)]
    expected = [number in seen for number in range(310)]
    assert known.which(everybody).tolist() == expected
    assert [known.holds_id(name) for name in everybody] == expected
    assert sorted(np.concatenate(known.hashes()).tolist()) == sorted(
        id_hash(str(number)) for number in seen
    )


def test_threads_that_add_at_once_lose_no_id(tmp_path: Path) -> None:
    known = KnownIds(tmp_path, recent=20_000)
    with ThreadPoolExecutor(4) as threads:
        portions = [names(start, start + 200) for start in range(0, 80_000, 200)]
        assert not any(threads.map(known.add, portions))
    assert len(known) == 80_000
    assert known.which(names(0, 80_000)).all()


def test_an_old_id_takes_two_bytes_of_memory_at_most(tmp_path: Path) -> None:
    known = KnownIds(tmp_path, recent=10_000)
    for start in range(0, 400_000, 10_000):
        assert known.add(names(start, start + 10_000)) == []
    known.wait()
    in_memory = KnownIds()
    in_memory.add(names(0, 400_000))
    assert in_memory.memory_bytes / 400_000 >= 16
    table = KnownIds(recent=10_000).memory_bytes
    assert (known.memory_bytes - table) / 400_000 < 2.5
    assert list(tmp_path.iterdir()) == []  # nobody sees the files, and none is left behind
    assert known.add(["tx-0", "new", "tx-399999"]) == [0, 2]


def test_ids_of_a_snapshot_go_to_disk_at_once(tmp_path: Path) -> None:
    hashes = np.array([id_hash(name) for name in names(0, 5_000)], dtype=np.int64)
    known = KnownIds(tmp_path, recent=1_000)
    known.load(hashes)
    assert len(known) == 5_000
    assert known.memory_bytes < KnownIds().memory_bytes + 5_000 * 2.5
    assert known.which(names(4_990, 5_010)).tolist() == [True] * 10 + [False] * 10


def test_where_no_file_can_be_written_ids_stay_in_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way of a folder")
    known = KnownIds(tmp_path / "file", recent=100)
    with caplog.at_level(logging.WARNING):
        for start in range(0, 1_500, 50):
            known.add(names(start, start + 50))
        known.wait()
    assert "Ids of the log stay in memory" in caplog.text
    assert known.which(names(1_490, 1_510)).tolist() == [True] * 10 + [False] * 10


def test_sets_are_merged_in_order(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    hashes = np.unique(rng.integers(-(2**63), 2**63, 30_000, dtype=np.int64))
    rng.shuffle(hashes)
    sets = [OldIds(np.sort(part)) for part in np.array_split(hashes, 5)]
    together = OldIds.on_disk(merged(sets), tmp_path)
    assert together.hashes.tolist() == sorted(hashes.tolist())
    known = together.known(np.append(hashes[:100], [0, 1, -1]))
    assert known is not None
    assert known.tolist() == [True] * 100 + [False] * 3


def test_a_move_that_fails_forgets_no_id_and_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    on_disk = OldIds.on_disk
    failures = iter([MemoryError("no memory"), ValueError("mmap"), None])

    def fails_twice(pieces: Iterator[Hashes], folder: Path) -> OldIds:
        problem = next(failures, None)
        if problem is not None:
            raise problem
        return on_disk(pieces, folder)

    monkeypatch.setattr(OldIds, "on_disk", fails_twice)
    known = KnownIds(tmp_path, recent=100)
    for start in range(0, 600, 50):
        assert known.add(names(start, start + 50)) == []
        known.wait()
    assert "could not be moved" in caplog.text
    assert len(known) == 600
    assert known.which(names(0, 610)).tolist() == [True] * 600 + [False] * 10
    assert list(tmp_path.iterdir()) == []
    assert known.memory_bytes < KnownIds().memory_bytes + 600 * 16
