"""A snapshot is written over one that is no longer needed: deleting it would hold up the log."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from sentinel.features.plan.program import Program, compile_program
from sentinel.state.direct_file import DirectFile
from sentinel.state.embedded import EmbeddedState, restore
from sentinel.state.snapshot_file import read_snapshot, snapshots_of
from testkit.scratch import default_plan


@pytest.fixture(scope="module")
def program() -> Program:
    return compile_program(default_plan())


def written(program: Program, folder: Path, sequence: int) -> Path:
    state = EmbeddedState.empty(program)
    for n in range(sequence):
        state.arena.locate(0, f"customer-{n}")
    state.sequence = sequence
    return state.freeze().write(folder, leisurely=sequence % 2 == 0)


def test_two_snapshots_are_kept_and_the_next_one_takes_the_place_of_an_older_one(
    program: Program, tmp_path: Path
) -> None:
    places = [written(program, tmp_path, sequence).stat().st_ino for sequence in (1, 2, 3)]
    for sequence in (4, 3, 5, 6):
        places.append(written(program, tmp_path, sequence).stat().st_ino)
        names = [path.name for path in snapshots_of(tmp_path, program.plan.hash)]
        assert len(names) == 2
        assert f"{sequence:020d}.snapshot" in names
        assert restore(program, tmp_path).arena.entities == int(names[0][:20])
    assert places[3] == places[0]
    assert len(set(places)) == 3
    assert len(list(tmp_path.rglob("*.*"))) == 3  # two snapshots and the spare file


def test_a_snapshot_that_cannot_be_written_leaves_the_others_and_the_spare_file(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for sequence in (1, 2, 3):
        written(program, tmp_path, sequence)
    before = {path.name: path.stat().st_ino for path in tmp_path.rglob("*.*")}

    def fail(_file: DirectFile) -> None:
        raise OSError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(DirectFile, "finish", fail)
        with pytest.raises(OSError, match="the disk is full"):
            written(program, tmp_path, 4)
    assert {path.name: path.stat().st_ino for path in tmp_path.rglob("*.*")} == before
    assert restore(program, tmp_path).sequence == 3


def test_what_an_ended_process_left_behind_is_written_over_and_not_what_is_being_written(
    program: Program, tmp_path: Path
) -> None:
    folder = written(program, tmp_path, 1).parent
    left, fresh = folder / "2.77.partial", folder / "2.78.partial"
    left.write_bytes(bytes(1 << 20))
    fresh.write_bytes(b"being written")
    hours_ago = time.time() - 7_200
    os.utime(left, (hours_ago, hours_ago))
    place = left.stat().st_ino
    assert written(program, tmp_path, 2).stat().st_ino == place
    assert not left.exists()
    written(program, tmp_path, 3)
    assert fresh.read_bytes() == b"being written"


@pytest.mark.parametrize("lost", [1, 16, 17, 1_000])
def test_a_snapshot_that_ends_early_is_torn(program: Program, tmp_path: Path, lost: int) -> None:
    path = written(program, tmp_path, 9)
    whole = path.read_bytes()
    path.write_bytes(whole[:-lost])
    assert read_snapshot(path) is None
    path.write_bytes(whole)
    frozen = read_snapshot(path)
    assert frozen is not None
    assert frozen.keys[0] == [f"customer-{n}" for n in range(9)]


def test_any_changed_byte_of_a_snapshot_is_noticed(program: Program, tmp_path: Path) -> None:
    path = written(program, tmp_path, 3)
    whole = path.read_bytes()
    for place in range(0, len(whole), max(1, len(whole) // 97)):
        changed = bytearray(whole)
        changed[place] ^= 0x55
        path.write_bytes(changed)
        assert read_snapshot(path) is None, place
