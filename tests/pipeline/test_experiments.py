"""Experiments from the command line: fetched, judged where they are to decide, and started."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from sentinel.cli.main import app
from sentinel.domain import ConfigurationError, NoModel, SentinelError
from sentinel.experiments.lineup import Experiment
from sentinel.models.registry import Registry
from sentinel.pipeline.experiments import history, line_up_of, share, start, stop
from sentinel.pipeline.registry_sync import sync_champion
from sentinel.settings import Settings
from testkit.signed_models import let_through
from testkit.small_models import register_small_model

AB = Experiment(name="ab", kind="challenger", version="2", share=0.2)
NIGHT = Experiment(name="night", kind="shadow", version="2")
WHO: dict[str, Any] = {"by": "ann", "why": "a test"}


@pytest.fixture
def served(settings: Settings, tmp_path: Path) -> Settings:
    """Version 1 is the champion, version 2 a candidate."""
    for seed in range(2):
        register_small_model(settings, tmp_path / str(seed), seed=seed)
    let_through(settings, "1")
    Registry.of(settings).crown(["1"])
    sync_champion(settings)
    return settings


def test_an_experiment_starts_changes_and_stops_and_each_step_is_kept(served: Settings) -> None:
    let_through(served, "2")
    made = start(served, AB, **WHO)
    assert made.gate is None  # its signature says that a gate has judged it
    (running,) = line_up_of(served).experiments
    assert (running.by, running.why, running.started_at_us > 0) == ("ann", "a test", True)
    share(served, "ab", 0.4, by="bob", why="it does no harm")
    stop(served, "ab", by="ann", why="enough")
    versions = history(served, 9)
    assert [(v.version, v.by, v.why) for v in versions] == [
        (3, "ann", "enough"),
        (2, "bob", "it does no harm"),
        (1, "ann", "a test"),
    ]
    assert [[e.share for e in v.experiments] for v in versions] == [[], [0.4], [0.2]]


def test_a_candidate_may_look_on_and_decides_only_if_the_gate_lets_it(served: Settings) -> None:
    start(served, NIGHT, **WHO)
    with pytest.raises(SentinelError):  # there is no history that a gate could judge it by
        start(served, AB, **WHO)
    assert [one.name for one in line_up_of(served).experiments] == ["night"]


def test_what_cannot_be_is_said_before_any_work(served: Settings) -> None:
    start(served, NIGHT, **WHO)
    with pytest.raises(ConfigurationError, match="runs already, with version 2"):
        start(served, NIGHT, **WHO)
    with pytest.raises(NoModel, match="77"):
        start(served, msgspec.structs.replace(NIGHT, name="other", version="77"), **WHO)


def test_without_a_champion_there_is_nothing_to_run_beside(
    settings: Settings, tmp_path: Path
) -> None:
    register_small_model(settings, tmp_path / "a")
    with pytest.raises(NoModel, match="An experiment runs beside a champion"):
        start(settings, msgspec.structs.replace(NIGHT, version="1"), **WHO)


def test_the_command_says_what_runs_in_80_columns(
    served: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_through(served, "2")
    monkeypatch.setenv("SENTINEL_WORKSPACE", str(served.workspace))
    monkeypatch.setenv("SENTINEL_MLFLOW__MODEL_NAME", served.mlflow.model_name)
    monkeypatch.setenv("SENTINEL_MLFLOW__TRACKING_URI", served.tracking_uri)
    monkeypatch.setenv("COLUMNS", "80")
    run = CliRunner().invoke
    none = run(app, ["experiment", "list"])
    assert none.exit_code == 0, none.output
    assert "No experiment runs" in none.output
    arguments = ["experiment", "start", "ab", "--version", "2", "--why", "a test"]
    refused = run(app, arguments)
    assert refused.exit_code == 1
    assert "Say which role it has" in refused.output
    done = run(app, [*arguments, "--share", "0.5", "--canary"])
    assert done.exit_code == 0, done.output
    assert "1 % of cards" in done.output
    assert "grows to 50 %" in done.output
    assert max(map(len, done.output.splitlines())) <= 80
    said = run(app, ["experiment", "list", "--json"])
    assert json.loads(said.output)["experiments"][0]["canary"]["first_share"] == 0.01
    missing = run(app, ["experiment", "stop", "other", "--why", "x"])
    assert missing.exit_code == 1
    assert "No experiment 'other' runs. Running: ab." in missing.output
    assert run(app, ["experiment", "stop", "ab", "--why", "enough"]).exit_code == 0
    listed = run(app, ["experiment", "history"])
    assert "enough" in listed.output
    assert max(map(len, listed.output.splitlines())) <= 80
