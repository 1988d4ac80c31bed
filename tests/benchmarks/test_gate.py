"""The worlds of the gate's benchmark are as worse as they say, and its figures add up."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import gate
from benchmarks.gate_waits import World, draw_worlds
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


def test_a_run_that_was_cut_goes_on_with_the_same_waits(tmp_path: Path) -> None:
    worlds = [World(Candidate(), 40), World(Candidate.weaker(0.1), 40)]
    whole = draw_worlds(worlds, draws=3, seed=11)
    kept = tmp_path / "gate.jsonl"
    draw_worlds(worlds[:1], draws=3, seed=11, resume=kept)
    kept.write_text(kept.read_text() + '{"draws": 3, "se')  # cut while it was written
    again = draw_worlds(worlds, draws=3, seed=11, resume=kept)
    assert [again[world].waits for world in worlds] == [whole[world].waits for world in worlds]
    once_more = draw_worlds(worlds, draws=3, seed=11, resume=kept)
    assert once_more == again  # with what drawing took: nothing was drawn anew


def test_waits_of_another_test_are_not_mixed_in(tmp_path: Path) -> None:
    world, kept = World(Candidate(), 40), tmp_path / "gate.jsonl"
    draw_worlds([world], draws=2, seed=11, resume=kept)
    line = json.loads(kept.read_text())
    line["procedure"]["MARGIN"] = 0.2
    line["waits"][0]["night"] = -1
    kept.write_text(json.dumps(line) + "\n")
    assert draw_worlds([world], draws=2, seed=11, resume=kept)[world].waits[0].night >= 0
