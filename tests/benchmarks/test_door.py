"""The benchmark of the door tries what it says, and ends with 1 where a figure is missed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks import door, door_cost, door_keys


def test_keys_that_are_no_good_are_tried_and_refused(tmp_path: Path) -> None:
    found = door_keys.forged(tmp_path, 36)
    assert found == {"tried": 36, "accepted": 0, "not_401": 0, "good_key_afterwards": 200}


def test_what_keys_cost_is_measured_on_payments_that_are_answered(tmp_path: Path) -> None:
    found = door_cost.speed(tmp_path, 2)
    assert found["payments_each"] == 64
    assert found["cpu_us_without"] > 0


@pytest.mark.parametrize("wrong", [0, 1])
def test_the_status_says_whether_a_figure_is_missed(
    wrong: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def routes(_: Path) -> Mapping[str, Any]:
        return {"tried": 5, "wrong": wrong}

    monkeypatch.setattr(door_keys, "routes", routes)
    assert door.main(["--json", "--only", "routes"]) == wrong
    found = json.loads(capsys.readouterr().out)
    assert found["missed"] == ["routes.wrong"] * wrong
