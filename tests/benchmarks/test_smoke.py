"""The benchmarks run, and what they count adds up; how fast anything is, is not tested."""

from __future__ import annotations

import json
import shutil
from typing import Any

import numpy as np
import pytest

from benchmarks import backfill, card_scan, kernel_rivals, kernels, materialize, serving

pytestmark = pytest.mark.slow


def result_of(printed: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return result


@pytest.mark.skipif(shutil.which("wrk") is None, reason="needs wrk")
def test_serving_loses_nothing_and_every_stack_answers(capsys: pytest.CaptureFixture[str]) -> None:
    peers = ["strong"] if shutil.which("redis-server") else []
    stacks = ",".join(["empty_asgi", "empty_fastapi", "sentinel_200x31", *peers])
    assert serving.main(["--quick", "--json", "--stacks", stacks]) == 0
    result = result_of(capsys.readouterr().out)
    assert set(result["checks"].values()) == {0}
    expected = {
        "cpu_reasons_200x31_vs_empty_asgi",
        "rps_vs_empty_fastapi",
        "p99_half_load_vs_empty",
        "durable_added_p50_ms",
        "batch_vs_single",
        "batch_vs_single_8_connections",
        "batch_vs_single_1_connection",
    } | {f"rps_vs_{peer}" for peer in peers}
    assert set(result["ratios"]) == expected
    assert all(figures["payments_per_second"] > 0 for figures in result["raw"].values())


@pytest.mark.skipif(
    shutil.which("wrk") is None or shutil.which("redis-server") is None,
    reason="needs wrk and redis-server",
)
def test_the_textbook_stack_answers(capsys: pytest.CaptureFixture[str]) -> None:
    assert serving.main(["--quick", "--json", "--stacks", "textbook"]) == 0
    assert result_of(capsys.readouterr().out)["raw"]["textbook, 8 connections"]["cpu_us"] > 0


def test_the_backfill_equals_duckdb(capsys: pytest.CaptureFixture[str]) -> None:
    assert backfill.main(["--rows", "4000", "--rounds", "1", "--json"]) == 0
    result = result_of(capsys.readouterr().out)
    assert result["checks"] == {"values_compared": 2 * 44_000 * 16, "mismatches": 0}
    expected = {"card_vs_duckdb", "merchant_vs_duckdb", "growth_10x"}
    expected |= {"card_vs_duckdb_large", "merchant_vs_duckdb_large"}
    assert set(result["ratios"]) == set(result["ratios_cpu"]) == expected


@pytest.mark.timeout(900)
def test_a_materialization_writes_what_is_new(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--customers", "40", "--days", "20", "--added", "100", "--json"]
    assert materialize.main(arguments) == 0
    result = result_of(capsys.readouterr().out)
    assert result["first"]["rows"] > result["payments"] > 500
    assert result["added"] < result["increment"]["rows"] < result["first"]["rows"]
    assert result["nothing_new"]["rows"] == 0
    assert result["full"]["rows"] == result["first"]["rows"] + result["added"]


@pytest.mark.filterwarnings("ignore:LightGBM binary classifier:UserWarning")
def test_others_score_and_explain_the_models_of_the_kernels() -> None:
    booster = kernels.train(20, 31, 2_000)
    X = kernels.make_rows(np.random.default_rng(0), 500)
    boosters = kernel_rivals.beside_boosters(booster, X, 3)
    forest = kernel_rivals.beside_a_forest(X, np.nan_to_num(X[:, 10]) > 0.5, 3)
    assert boosters["score, sentinel"]["max_abs_error"] == 0
    assert forest["score, sentinel"]["max_abs_error"] == 0
    assert boosters["reasons, sentinel"]["max_abs_error"] < 1e-5
    assert boosters["reasons, shap, its own code"]["max_abs_error"] < 1e-5
    assert all(raw["one_us"] > 0 for figures in (boosters, forest) for raw in figures.values())


def test_no_disguise_comes_in_and_no_honest_row_is_lost(
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["--disguises", "300", "--numbers", "3000", "--rows", "500"]
    arguments += ["--payments", "200", "--rounds", "2", "--json"]
    assert card_scan.main(arguments) == 0
    result = result_of(capsys.readouterr().out)
    assert result["missed"] == result["import"]["rejected"] == 0
    refused = {kind: counts["refused"] for kind, counts in result["false_alarms"].items()}
    for kind in ("epochs in us", "UUIDs", "phones with +"):
        assert refused[kind] == 0
    assert 0 < refused["16-digit ids"] < 300
