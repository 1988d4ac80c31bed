"""Every disturbance of `stalls` happens and is measured; how long one takes is not tested here."""

from __future__ import annotations

import json

import pytest

from benchmarks import stalls
from benchmarks.stalls import SCENARIOS, verdicts


@pytest.mark.slow
def test_every_disturbance_happens_and_no_payment_fails(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert stalls.main(["--quick", "--json"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert max(map(len, printed[:-1])) <= 80
    result = json.loads(printed[-1])
    assert result["scenarios"].keys() == SCENARIOS.keys()
    apart = {"quiet": result["quiet"], "machine": result["machine"]["memory_given_back"]}
    for name, seen in {**apart, **result["scenarios"]}.items():
        assert 0 < seen["p50_ms"] <= seen["p99_ms"] <= seen["max_ms"], name
        assert seen["errors"] == 0, name
        assert "failed" not in seen, name


def test_a_payment_that_failed_or_was_held_up_is_a_miss() -> None:
    quiet = {"p50_ms": 1.0, "p99_ms": 4.0, "max_ms": 20.0, "errors": 0}
    good = {"p50_ms": 9.0, "p99_ms": 12.0, "max_ms": 120.0, "errors": 0}
    assert verdicts(quiet, {"labels": good}) == []
    for change, said in (
        ({"errors": 1}, "labels: 1 payments failed"),
        ({"p99_ms": 12.1}, "labels: p99 12.1 ms, allowed are 12.0"),
        ({"max_ms": 120.1}, "labels: longest 120.1 ms, allowed are 120.0"),
        ({"failed": "no snapshot was written"}, "labels: no snapshot was written"),
    ):
        assert verdicts(quiet, {"labels": {**good, **change}}) == [said]
    assert verdicts({**quiet, "errors": 2}, {}) == ["quiet: 2 payments failed"]
