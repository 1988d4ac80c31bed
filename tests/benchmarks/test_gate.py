"""The worlds of the gate's benchmark are as worse as they say, and its figures add up."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import gate
from benchmarks.gate_worlds import Candidate, average_precision, payments, scores
from sentinel.models.noninferiority import PairedScores


@pytest.mark.parametrize("candidate", [Candidate.weaker(0.1), Candidate.blinded(0.1)])
def test_a_candidate_is_as_much_worse_as_its_world_says(candidate: Candidate) -> None:
    assert average_precision(candidate) == pytest.approx(0.9 * average_precision(Candidate()))
    random = np.random.default_rng(3)
    fraud, card, _ = payments(random, 4_000)
    new, old = scores(random, fraud, card, candidate, 0.8)
    found = PairedScores(fraud, new, old, card).compare()
    assert found.ratio == pytest.approx(0.9, abs=0.015)
    assert found.effective_frauds >= 4_000


def test_a_few_waits_give_every_figure() -> None:
    found = gate.measure(5)
    assert found["passes"]["worse_25"] == 0.0
    assert found["passes"]["equal_300"] > found["passes"]["worse_10"]
    assert 0.0 < found["ten_small_losses"] < found["ten_small_losses_ungated"]
    asked = found["equal_below_300"]["40"]["asked_for_frauds"]
    assert asked > 40
    assert f"it asks for {asked}" in gate.report(found)
