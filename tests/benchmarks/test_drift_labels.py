"""The benchmark of estimates and of label drift counts what it says that it counts."""

from __future__ import annotations

import numpy as np

from benchmarks.drift_labels import SHIFTS, run, truth
from sentinel.drift.score_table import KnownPayments


def test_a_world_of_each_kind_is_held_against_its_labels() -> None:
    result = run(worlds=1, label_worlds=1)
    assert result["estimate_worlds"] == result["label_worlds"] == 1
    names = {f"{shift} {size:+g}" for shift, size in SHIFTS}
    assert set(result["coverage"]) | {n for n in names if result["not_estimated"][n]} == names
    figures = [one for by_shift in result["coverage"].values() for one in by_shift.values()]
    assert set(figures) <= {0.0, 1.0}
    assert np.mean(figures) > 0.8
    assert result["label_free_coverage"] == min(figures)
    assert set(result["label_drift"]["delay_days"]) == {
        "frauds doubled",
        "frauds halved",
        "labels twice as slow",
    }


def test_the_truth_is_read_off_labels() -> None:
    rows = KnownPayments(
        probability=np.array([0.9, 0.6, 0.2, 0.1]),
        fraud=np.array([True, False, True, False]),
        day=np.zeros(4, np.int64),
        weight=np.ones(4),
    )
    found = truth(rows, {"review": 0.5})
    assert found["fraud share"] == found["precision, review"] == found["alert rate, review"] == 0.5
    assert found["average precision"] == (1.0 + 2.0 / 3.0) / 2.0
