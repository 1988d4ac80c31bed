"""An experiment is judged from the log of a deployment, with the shares that held at the time."""

from __future__ import annotations

import io
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from sentinel.cli.experiment_reports import picture, settled_report, status_report
from sentinel.domain import ConfigurationError, NotFound
from sentinel.experiments.judgement import Look
from sentinel.experiments.lineup import Canary, Experiment, LineUp
from sentinel.experiments.store import change_line_up
from sentinel.models.serving import CHAMPION_ROLE, ServedModel, Serving, write_serving
from sentinel.pipeline.experiment_judging import (
    end_experiment,
    promote_experiment,
    settle,
    shares,
    status,
)
from sentinel.settings import Settings
from testkit.experiment_worlds import DAY_US, World, days_of, fill_log

BETTER = World(days=60)


def _experiment(world: World, **changed: object) -> Experiment:
    made = Experiment(
        name=world.name,
        kind="challenger",
        version="2",
        share=world.share,
        started_at_us=world.start_us,
    )
    return msgspec.structs.replace(made, **changed)


def _start(settings: Settings, *experiments: Experiment) -> None:
    def change(_: LineUp) -> LineUp:
        return LineUp(experiments=experiments)

    at_us = experiments[0].started_at_us if experiments else 9
    change_line_up(settings, change, by="ann", why="tried", at_us=at_us)


@pytest.fixture(scope="module")
def better(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    settings = Settings(workspace=tmp_path_factory.mktemp("better"))
    settings.labels.maturity_days = 20.0
    fill_log(settings, list(days_of(BETTER)))
    return settings


def _shown(settings: Settings, name: str) -> str:
    console = Console(width=80, record=True, color_system=None, file=io.StringIO())
    status_report(console, status(settings, name), settings.money)
    return console.export_text()


def test_a_better_challenger_is_to_be_promoted_and_the_report_says_why(better: Settings) -> None:
    _start(better, _experiment(BETTER))
    found = status(better, BETTER.name)
    assert found.running
    assert found.judgement is not None
    assert found.judgement.verdict == "promote"
    assert settle(better, dry_run=True)[0].action == "promoted"
    text = _shown(better, BETTER.name)
    assert "PROMOTE" in text
    assert "more than half" in text
    assert "●" in text
    assert "Estimates before labels; they decide nothing" in text
    assert max(map(len, text.splitlines()), default=0) <= 80


def test_a_model_that_scores_nothing_is_said_not_to_be_served(better: Settings) -> None:
    canary = _experiment(BETTER, name="missing", canary=Canary(grew_at_us=()))
    _start(better, _experiment(BETTER), canary)
    assert status(better, BETTER.name).not_served == ""
    said = status(better, "missing").not_served
    assert f"Version {canary.version} is not served" in said
    assert "share does not grow" in said
    assert "is not served" in _shown(better, "missing")


def test_an_ended_experiment_keeps_its_figures_and_says_who_ended_it(better: Settings) -> None:
    one = _experiment(BETTER)
    _start(better, one)
    end_experiment(better, one, by="ann", why="enough")
    found = status(better, BETTER.name)
    assert (found.running, found.ended_by, found.ended_why) == (False, "ann", "enough")
    assert found.judgement is not None
    assert found.judgement.verdict == "promote"
    assert settle(better) == []
    with pytest.raises(NotFound, match="never was an experiment"):
        status(better, "nobody")


def test_an_experiment_that_began_later_counts_what_came_since(better: Settings) -> None:
    later = BETTER.start_us + 30 * DAY_US
    _start(better, _experiment(BETTER, started_at_us=later))
    said = status(better, BETTER.name).judgement
    assert said is not None
    assert said.days == pytest.approx(10, abs=2)
    assert said.payments == pytest.approx(30 * BETTER.payments_a_day, rel=0.05)


def test_what_is_worse_is_ended_by_itself_unless_the_setting_says_no(tmp_path: Path) -> None:
    world = World(days=60, only_champion=0.2, only_challenger=0.05)
    settings = Settings(workspace=tmp_path)
    settings.labels.maturity_days = 20.0
    fill_log(settings, list(days_of(world)))
    _start(settings, _experiment(world))
    settings.experiments.stop = False
    assert settle(settings)[0].action == "none"
    settings.experiments.stop = True
    settled = settle(settings)
    assert (settled[0].verdict, settled[0].action) == ("keep", "stopped")
    found = status(settings, world.name)
    assert not found.running
    assert "less than half" in found.ended_why
    console = Console(width=80, record=True, color_system=None, file=io.StringIO())
    settled_report(console, settled)
    assert "stopped" in console.export_text()


def test_shares_are_those_that_held_and_what_later_experiments_left() -> None:
    canary = _experiment(BETTER, share=0.5, canary=Canary(), started_at_us=1_000)
    second = _experiment(BETTER, name="second", share=0.2, started_at_us=2_000)
    hour = 3_600_000_000
    history = [
        LineUp(version=2, experiments=(canary, second), at_us=10 * hour),
        LineUp(version=1, experiments=(canary,), at_us=1_000),
    ]
    share_at = shares(history, canary)
    assert share_at(2_000, {canary.name}) == pytest.approx(0.01)
    assert share_at(5 * hour, {canary.name}) == pytest.approx(0.5)
    # Of two cards of the canary's and two others, the second takes a fifth of the others.
    both = {canary.name, "second"}
    assert share_at(11 * hour, both) == pytest.approx(0.5 / (0.5 + 0.5 * 0.8))
    assert shares(history, second)(11 * hour, both) == pytest.approx(0.2)
    # Where the second one does not run, it takes nothing.
    assert share_at(11 * hour, {canary.name}) == pytest.approx(0.5)


def test_a_shadow_is_not_judged_and_not_promoted(better: Settings) -> None:
    shadow = Experiment(name="night", kind="shadow", version="3", started_at_us=5)
    _start(better, shadow)
    assert status(better, "night").judgement is None
    assert "shares no payments with the champion" in _shown(better, "night").replace("\n", " ")
    with pytest.raises(ConfigurationError, match="shares no payments"):
        promote_experiment(better, "night", by="ann", why="")


def test_a_picture_has_the_interval_of_each_day_around_one_half() -> None:
    looks = [
        Look(day=day, champion=day, challenger=2 * day, part=0.6, low=0.2, high=0.9)
        for day in range(1, 31)
    ]
    lines = picture(looks)
    assert len(lines) <= 9
    assert "50 %" in lines[0]
    assert lines[-1].startswith("day   30")
    assert lines[-1].endswith("30 : 60")
    assert all(len(line) <= 80 for line in lines)


def test_where_nothing_ever_ran_there_is_nothing_to_settle(tmp_path: Path) -> None:
    assert settle(Settings(workspace=tmp_path)) == []


def test_nothing_is_known_against_a_champion_that_has_decided_nothing(better: Settings) -> None:
    _start(better, _experiment(BETTER))
    _serve(better, "9")
    said = status(better, BETTER.name).judgement
    assert said is not None
    assert (said.verdict, said.payments) == ("wait", 0)
    _serve(better, "1")
    said = status(better, BETTER.name).judgement
    assert said is not None
    assert said.verdict == "promote"


def test_the_experiment_of_a_version_that_became_champion_otherwise_ends(better: Settings) -> None:
    _start(better, _experiment(BETTER))
    _serve(better, "2")
    (settled,) = settle(better)
    assert (settled.action, settled.why) == ("stopped", "Version 2 is the champion.")
    assert not status(better, BETTER.name).running
    _serve(better, "1")


def test_a_challenger_whose_model_scores_nothing_for_a_week_is_ended(better: Settings) -> None:
    """Else a candidate of the nightly run would wait for it for ever."""
    ghost = _experiment(BETTER, name="ghost")
    _start(better, ghost)
    (settled,) = settle(better, dry_run=True)
    assert (settled.verdict, settled.action) == ("stop", "stopped")
    assert "has scored no payment in the last 7 days of the log" in settled.why
    said = status(better, "ghost").judgement
    assert said is not None
    assert said.why == settled.why
    last_week = BETTER.start_us + (BETTER.days - 6) * DAY_US
    _start(better, _experiment(BETTER, name="ghost", started_at_us=last_week))
    assert settle(better, dry_run=True)[0].action == "none", "its files may be on their way"


def test_what_a_promoted_challenger_was_promoted_for_stays_known(better: Settings) -> None:
    one = _experiment(BETTER)
    _start(better, one)
    _serve(better, "2")
    end_experiment(better, one, by="ann", why="it is better")
    found = status(better, BETTER.name)
    assert not found.running
    assert found.judgement is not None
    assert found.judgement.verdict == "promote"
    _serve(better, "1")


def _serve(settings: Settings, version: str) -> None:
    settings.models_dir.mkdir(exist_ok=True)
    champion = ServedModel(version=version, folder=f"sentinel-fraud-{version}")
    write_serving(settings, Serving(roles={CHAMPION_ROLE: champion}))
