"""The benchmark of data sets walks the whole way, and its verdicts can fail."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from benchmarks import datasets
from benchmarks.datasets_trial import is_right

GOOD: dict[str, Any] = {
    "error": "",
    "proposed": True,
    "renamed": {"proposed": True, "flags": ["--time-unit h"], "read": 100, "accepted": 100},
    "read": 100,
    "accepted": 100,
    "leaks_missed": [],
    "innocents_accused": [],
    "ap_share": 0.9,
    "windowless": 0.3,
    "served": True,
    "mismatches": 0,
    "compared": 50,
}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_set_goes_from_a_proposal_to_served_scores(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--json", "--sets", "banksim", "--rows", "5000", "--seeds", "1"]
    datasets.main(arguments)
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    found = result["sets"]["banksim"]
    assert not found["error"]
    assert found["proposed"]
    assert found["served"]
    assert (found["read"], found["mismatches"]) == (found["accepted"], 0)
    assert found["compared"] == found["fresh"]
    assert found["renamed"]["flags"] == ["--time-unit d"]
    assert 0 < found["ap"] < 1


@pytest.mark.parametrize(
    ("path", "bad"),
    [
        ("error", "it broke"),
        ("proposed", False),
        ("served", False),
        ("accepted", 98),
        ("ap_share", 0.84),
        ("leaks_missed", ["balance_after"]),
        ("innocents_accused", ["age", "city"]),
        ("mismatches", 1),
        ("compared", 0),
        ("windowless", 0.71),
        ("renamed.flags", ["--id a", "--time b", "--amount c"]),
        ("renamed.proposed", False),
        ("renamed.accepted", 90),
    ],
)
def test_a_must_that_is_not_met_is_printed_as_such(path: str, bad: Any) -> None:
    assert all(datasets.musts({"good": GOOD}).values())
    worse = copy.deepcopy(GOOD)
    *above, key = path.split(".")
    (worse[above[0]] if above else worse)[key] = bad
    assert not all(datasets.musts({"good": GOOD, "worse": worse}).values())


def test_a_question_is_answered_by_the_truth_alone() -> None:
    truth = {"--time": "step", "--time-unit": "h"}
    assert is_right("--time step --time-unit h", truth)
    assert not is_right("--time step --time-unit d", truth)
    assert not is_right("--amount step", truth)
