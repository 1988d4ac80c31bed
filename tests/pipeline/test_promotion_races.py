"""What others do while a promotion or a rollback goes on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sentinel.domain import GateWaits
from sentinel.experiments.lineup import Experiment, LineUp
from sentinel.experiments.store import change_line_up
from sentinel.models.champion import champion_of
from sentinel.models.registry import Registry
from sentinel.pipeline import promotion
from sentinel.pipeline.experiment_judging import promote_experiment
from sentinel.pipeline.registry_fetch import fetch_version
from sentinel.pipeline.registry_sync import sync_champion
from sentinel.settings import MlflowSettings, Settings
from testkit.ports import free_port
from testkit.signed_models import let_through
from testkit.small_models import register_small_model


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Version 2 serves, 1 did before, 3 is a candidate. The workspace keeps MLflow."""
    folder = tmp_path_factory.mktemp("registered")
    settings = Settings(
        workspace=folder / "workspace",
        mlflow=MlflowSettings(port=free_port(), model_name="promoted"),
    )
    for seed in range(3):
        register_small_model(settings, folder / str(seed), seed=seed)
    for version in ("1", "2"):
        let_through(settings, version)
    fetch_version(settings, "1", to_serve=True)
    Registry.of(settings).crown(["1", "2"])
    assert sync_champion(settings) == "2"
    return settings


@pytest.fixture
def serving(registered: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A copy of that workspace, with a history of no payments."""
    shutil.copytree(registered.workspace, tmp_path / "workspace")
    monkeypatch.setattr(promotion, "score_history", lambda *_, **__: 0)
    return registered.model_copy(update={"workspace": tmp_path / "workspace"})


def served(settings: Settings) -> str:
    champion = champion_of(settings)
    assert champion is not None
    return champion.version


def line_up_is(settings: Settings, *experiments: Experiment, by: str, why: str) -> None:
    def change(_: LineUp) -> LineUp:
        return LineUp(experiments=experiments)

    change_line_up(settings, change, by=by, why=why, at_us=9)


@pytest.mark.parametrize("anew", [False, True], ids=["stopped", "stopped and started anew"])
def test_an_experiment_that_is_stopped_while_the_history_is_scored_makes_no_champion(
    serving: Settings, monkeypatch: pytest.MonkeyPatch, anew: bool
) -> None:
    let_through(serving, "3")
    challenger = Experiment(name="ab", kind="challenger", version="3", share=0.1, started_at_us=1)
    line_up_is(serving, challenger, by="ann", why="a test")

    def stopped_meanwhile(*_: object, **__: object) -> int:
        line_up_is(serving, by="guardrails", why="it declines 40 % of the payments")
        if anew:
            again = Experiment(
                name="ab", kind="challenger", version="3", share=0.1, started_at_us=2
            )
            line_up_is(serving, again, by="bob", why="once more")
        return 0

    monkeypatch.setattr(promotion, "score_history", stopped_meanwhile)
    with pytest.raises(GateWaits) as refused:
        promote_experiment(serving, "ab", by="the nightly run", why="it is better")
    said = str(refused.value)
    assert "'ab' was stopped by guardrails while version 3 was being promoted" in said
    assert "it declines 40 % of the payments. The champion stays." in said
    assert "`sentinel promote 3`" in said
    assert (Registry.of(serving).champions(), served(serving)) == (["1", "2"], "2")
