"""A long benchmark that was cut goes on with what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import drift
from benchmarks.drift_pieces import find_pieces

WORKED: list[tuple[str, int]] = []
PIECES = [("squares", 2), ("squares", 3), ("cubes", 2)]


def work(kind: str, seed: int) -> int:
    WORKED.append((kind, seed))
    return seed**2 if kind == "squares" else seed**3


@pytest.fixture(autouse=True)
def nothing_worked() -> None:
    WORKED.clear()


def found_with(resume: Path | None, **procedures: int) -> dict[tuple[str, int], int]:
    numbers = {"squares": 1, "cubes": 1} | procedures
    return find_pieces(work, PIECES, procedures=numbers, processes=1, resume=resume)


def test_a_run_that_was_cut_works_out_what_is_missing(tmp_path: Path) -> None:
    file = tmp_path / "kept.jsonl"
    whole = found_with(file)
    assert whole == {("squares", 2): 4, ("squares", 3): 9, ("cubes", 2): 8}
    lines = file.read_text().splitlines()
    file.write_text(lines[0] + "\n" + lines[1][:-4])  # a kill amidst a line
    WORKED.clear()
    assert found_with(file) == whole
    assert PIECES[1:] == WORKED
    WORKED.clear()
    assert found_with(file) == whole
    assert WORKED == []


def test_results_of_another_procedure_are_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "kept.jsonl"
    found_with(file)
    WORKED.clear()
    found_with(file, cubes=2)
    assert WORKED == [("cubes", 2)]


def test_a_deployment_of_the_benchmark_of_drift_is_drawn_again_from_its_seed() -> None:
    world, drawing, reference = drift.begin(7)
    again = drift.begin(7)
    assert reference.digest == again[2].digest
    assert (drawing.next_day()[1] == again[1].next_day()[1]).all()
    assert world.bins.names == again[0].bins.names
