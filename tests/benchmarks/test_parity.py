"""The proof of parity itself: it passes, and it would not if there were anything to find."""

from __future__ import annotations

import json
from typing import Any

import pytest

from benchmarks.parity import ENGINES, main
from benchmarks.parity_breaks import BREAKS
from sentinel.features.plan.plan import Plan

SMALL = ["--source", "simulator", "--rows", "5000", "--oracle-rows", "300", "--json"]


def parity(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    """Exit status and result."""
    status = main([*SMALL, *arguments])
    return status, json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.mark.slow
def test_every_engine_agrees_also_over_http(capsys: pytest.CaptureFixture[str]) -> None:
    status, result = parity(capsys, "--http-payments", "400")
    assert (status, result["mismatches"]) == (0, 0)
    assert result["engines"] == ["backfill", *ENGINES]
    assert result["log_rows"] == 5_000
    assert result["rows"] == 5_400
    figures = result["by_engine"]
    assert figures["online"]["values"] == 5_000 * result["features"]
    assert figures["http"]["values"] == 400 * result["features"]
    assert result["values"] == sum(figures[name]["values"] for name in ENGINES)
    assert all(figures[name]["values_not_null"] > 0 for name in ENGINES)
    assert figures["recovered"]["state_words"] > 0
    assert figures["http"]["state_words"] > 0
    served = result["http"]
    assert served["late"] > 0
    assert served["tied"] > 0
    assert served["labels"] > 0
    assert served["commits"] < 400, "requests that come together share commits"


def test_state_in_redis_agrees(capsys: pytest.CaptureFixture[str]) -> None:
    status, result = parity(capsys, "--engines", "redis")
    assert (status, result["mismatches"]) == (0, 0)
    figures = result["by_engine"]["redis"]
    assert figures["rows"] == 5_000
    assert figures["state_words"] > 0


@pytest.mark.parametrize("broken", BREAKS)
def test_a_broken_backfill_shows(capsys: pytest.CaptureFixture[str], broken: str) -> None:
    status, result = parity(capsys, "--engines", "online", "--break", broken)
    assert status == 1
    assert result["mismatches"] > 0


def test_a_break_that_does_not_show_is_no_success(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.parity_breaks._with_shorter_hops", as_it_is)
    status, result = parity(capsys, "--engines", "online", "--break", "hop")
    assert (status, result["mismatches"]) == (2, 0)


def as_it_is(plan: Plan) -> Plan:
    return plan
