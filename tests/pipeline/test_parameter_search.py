"""A search for parameters: honest folds, what it keeps, and a kill that changes nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import filelock
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from sentinel.features.plan.parts import RequestFeature
from sentinel.features.plan.plan import DAY_US, Plan
from sentinel.models.dataset import LabelLog, PaymentLog
from sentinel.models.families.installed import trainer_of
from sentinel.models.intervals import Estimate
from sentinel.models.splitting import Split, SplitRequest, split_by_time
from sentinel.pipeline import found_parameters, parameter_search
from sentinel.pipeline.dataset_folder import DatasetManifest, Period
from sentinel.pipeline.found_parameters import (
    FoundParameters,
    keep_found,
    remember_parameters,
    remembered_parameters,
)
from sentinel.pipeline.parameter_search import better_than_now, search_over, search_parameters
from sentinel.pipeline.procedures import procedure_of
from sentinel.pipeline.search_report import draw_search
from sentinel.pipeline.search_study import MOST_JOURNALS, open_study
from sentinel.pipeline.training import held_parameters
from sentinel.pipeline.trials import Trial, Trials
from sentinel.pipeline.validation_folds import Material
from sentinel.settings import Settings, TrainingSettings

DAYS = 300
TRIALS = 9
PLAN = Plan(
    views=(),
    request=tuple(RequestFeature(name=name, kind="number", column=name) for name in "abcd"),
)


def settings(workspace: Path, trainer: str = "lightgbm") -> Settings:
    options = TrainingSettings(trainer=trainer, bootstrap_rounds=60)
    return Settings(workspace=workspace, training=options)


def world(rows: int = 5_000, first_after_days: float = 0.0) -> tuple[Material, Split]:
    """Frauds are told by two numbers together, among two that say nothing.

    Nothing but the very first payment comes in the first days, if there are to be such.
    """
    random = np.random.default_rng(3)
    times = np.sort(random.random(rows) * DAYS * DAY_US).astype(np.int64)
    times[1:] += round(first_after_days * DAY_US)
    X = random.normal(size=(rows, 4)).astype(np.float32)
    margin = -4.5 + 1.5 * X[:, 0] + X[:, 1] * X[:, 0]
    fraud = np.flatnonzero(random.random(rows) < 1.0 / (1.0 + np.exp(-margin)))
    payments = PaymentLog(
        event_time_us=times,
        received_at_us=times,
        amount_minor=np.full(rows, 100),
        card=random.integers(0, rows // 10, rows),
    )
    labels = LabelLog(
        row=fraud, fraud=np.ones(len(fraud), dtype=np.bool_), received_at_us=times[fraud]
    )

    def vectors(places: NDArray[np.int64]) -> NDArray[np.float32]:
        latest = int(times[places].max())
        assert latest < split.test.start_us - 5 * DAY_US, "no search looks at test rows"
        return X[places]

    now_us = round((DAYS + first_after_days) * DAY_US)
    asked = SplitRequest(now_us=now_us, window_us=None, test_us=20 * DAY_US, maturity_us=5 * DAY_US)
    split = split_by_time(payments, labels, asked)
    return Material(PLAN, payments, labels, vectors), split


def searched(folder: Path, trials: int, held: dict | None = None) -> FoundParameters:
    return search_over(
        settings(folder), *world(), trials, folder, "one", held=held, tracked=False, threads=1
    )


def tried(folder: Path) -> list[tuple[dict, float | None, str]]:
    """Values, figure and state of every trial that ended."""
    with open_study(folder, "one", trainer_of("lightgbm").space, seed=7) as study:
        return [(one.params, one.value, one.state.name) for one in study.ended]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FoundParameters]:
    folder = tmp_path_factory.mktemp("search")
    return folder, searched(folder, TRIALS)


def test_the_familys_own_settings_come_first_and_are_what_is_compared_with(
    uninterrupted: tuple[Path, FoundParameters],
) -> None:
    folder, found = uninterrupted
    trials = tried(folder)
    space = trainer_of("lightgbm").space
    assert trials[0][0] == {name: one.usual for name, one in space.items()}
    assert (found.trials, found.folds) == (TRIALS, 3)
    values = [value for _, value, state in trials if state == "COMPLETE" and value is not None]
    if found.parameters:
        assert max(values) > values[0]
        assert isinstance(found.better_by, Estimate)
        assert found.better_by.value == pytest.approx(found.average_precision - found.usual)
        assert "looks better than it is" in found.words
    else:
        assert found.better_by is None
    for name, value in found.parameters.items():
        assert space[name].low <= value <= space[name].high


def test_a_search_of_one_trial_finds_nothing(tmp_path: Path) -> None:
    found = searched(tmp_path, 1)
    assert (found.parameters, found.better_by) == ({}, None)
    assert "that stays" in found.words


def test_one_payment_of_long_ago_does_not_end_a_search(tmp_path: Path) -> None:
    material, split = world(first_after_days=1_500)
    own = settings(tmp_path)
    found = search_over(
        own, material, split, 1, tmp_path, "one", held=None, tracked=False, threads=1
    )
    assert found.trials == 1


def test_a_baseline_can_be_searched_too(tmp_path: Path) -> None:
    own = settings(tmp_path, "logistic")
    found = search_over(own, *world(), 4, tmp_path, "one", tracked=False, threads=1)
    assert (found.trainer, found.trials, found.folds) == ("logistic_regression", 4, 3)
    assert set(found.parameters) <= {"C"}
    keep_found(own, msgspec.structs.replace(found, better_by=Estimate(0.1, 0.0, 0.2)))
    held = remembered_parameters(settings(tmp_path), "logistic")
    assert held is not None
    assert held.parameters == found.parameters


def test_only_the_latest_journals_are_kept(tmp_path: Path) -> None:
    space = trainer_of("lightgbm").space
    for number in range(MOST_JOURNALS + 3):
        journal = tmp_path / f"old-{number}.journal"
        journal.write_bytes(b"")
        os.utime(journal, (number, number))
        (tmp_path / f"old-{number}.in-use").write_bytes(b"")
    busy = filelock.FileLock(tmp_path / "old-0.in-use")
    with busy, open_study(tmp_path, "new", space, seed=7):
        left = {path.stem for path in tmp_path.glob("*.journal")}
    assert left == {"new", "old-0", *(f"old-{n}" for n in range(4, MOST_JOURNALS + 3))}
    assert not (tmp_path / "old-1.in-use").exists()


CHILD = """
import sys
from pathlib import Path
from tests.pipeline.test_parameter_search import TRIALS, searched
searched(Path(sys.argv[1]), TRIALS)
"""


def test_a_search_that_was_killed_goes_on_and_finds_the_same(
    tmp_path: Path, uninterrupted: tuple[Path, FoundParameters]
) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path)],
        cwd=Path(__file__).resolve().parents[2],
        env=os.environ | {"PYTHONPATH": "."},
    )
    try:
        journal = tmp_path / "one.journal"
        deadline = time.monotonic() + 240
        # Operation 6 sets the state of a trial: its fourth says that some have ended.
        while not journal.exists() or journal.read_bytes().count(b'"op_code":6') < 4:
            assert time.monotonic() < deadline
            assert child.poll() is None, "it should be killed while it runs"
            time.sleep(0.02)
        child.send_signal(signal.SIGKILL)
    finally:
        child.kill()
        child.wait()
    with journal.open("ab") as file:
        file.write(b'{"op_code": 5, "worker')  # and it was just writing
    before = len(tried(tmp_path))
    assert 3 <= before < TRIALS
    found = searched(tmp_path, TRIALS)
    folder, whole = uninterrupted
    assert tried(tmp_path) == tried(folder)
    assert msgspec.structs.replace(found, seconds=whole.seconds) == whole


@dataclass
class Searches:
    """Searches of a workspace whose folds are played, by the names of their journals."""

    at: list[str] = field(default_factory=list)
    end_us: int = 100
    meanwhile: Callable[[], object] | None = None

    def search(self, *about: Any, **_: Any) -> FoundParameters:
        folder, name = about[4:6]
        (folder / f"{name}.journal").touch()
        self.at.append(name)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return FoundParameters(trainer=about[0].training.trainer, parameters={})

    def killed(self) -> None:
        raise KeyboardInterrupt


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> Searches:
    made = Searches()
    log = SimpleNamespace(plan=PLAN)
    monkeypatch.setattr(
        parameter_search, "labelled_payments", lambda *_, **__: SimpleNamespace(end_us=made.end_us)
    )
    monkeypatch.setattr(Material, "of", lambda _: log)
    monkeypatch.setattr(parameter_search, "split_of", lambda *_: None)
    monkeypatch.setattr(parameter_search, "search_over", made.search)
    return made


def test_a_search_that_was_interrupted_goes_on_whichever_was_begun_after_it(
    tmp_path: Path, searches: Searches
) -> None:
    for family in ("lightgbm", "xgboost"):
        searches.meanwhile = searches.killed
        with pytest.raises(KeyboardInterrupt):
            search_parameters(settings(tmp_path, family), 5)
    searches.end_us = 200  # the log has grown
    for family in ("lightgbm", "xgboost"):
        search_parameters(settings(tmp_path, family), 5)
    assert searches.at[2:] == searches.at[:2]
    search_parameters(settings(tmp_path), 5)
    assert searches.at[4] != searches.at[0], "it ended, so that the next one has what is new"
    assert not list(tmp_path.glob("searches/*.unfinished"))


def test_a_search_that_ends_takes_nothing_from_one_that_goes_on(
    tmp_path: Path, searches: Searches
) -> None:
    def another() -> None:
        search_parameters(settings(tmp_path, "xgboost"), 5)
        searches.killed()

    searches.meanwhile = another
    with pytest.raises(KeyboardInterrupt):
        search_parameters(settings(tmp_path), 5)
    searches.end_us = 200
    search_parameters(settings(tmp_path), 5)
    assert searches.at[2] == searches.at[0]


def test_what_two_searches_find_at_once_is_both_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, others, reads = found_parameters._read, [], []

    def slowly(own: Settings) -> dict[str, FoundParameters]:
        known = read(own)
        reads.append(own)
        if len(reads) == 2:  # from here on it writes what it has read
            other = msgspec.structs.replace(found({"max_leaves": 9}), trainer="xgboost")
            others.append(thread.submit(keep_found, settings(tmp_path, "xgboost"), other))
            wait(others, 0.5)
        return known

    monkeypatch.setattr(found_parameters, "_read", slowly)
    with ThreadPoolExecutor(1) as thread:
        keep_found(settings(tmp_path), found({"num_leaves": 15}))
    others[0].result()
    assert read(settings(tmp_path)).keys() == {"lightgbm", "xgboost"}


def test_a_longer_search_goes_on_from_a_shorter_one(tmp_path: Path) -> None:
    searched(tmp_path, 2)
    first = tried(tmp_path)
    searched(tmp_path, 3)
    assert tried(tmp_path)[:2] == first
    assert len(tried(tmp_path)) == 3


def found(parameters: dict, before: dict | None = None) -> FoundParameters:
    return FoundParameters(
        trainer="lightgbm",
        parameters=parameters,
        before=before or {},
        folds=3,
        better_by=Estimate(0.1, 0.05, 0.15),
    )


def test_what_is_found_must_be_better_than_what_trainings_take_now(tmp_path: Path) -> None:
    held = {"num_leaves": 15}
    result = searched(tmp_path, 2, held)
    (first, usual, _), (second, value, _) = tried(tmp_path)
    assert second == first | held
    assert usual is not None
    assert value is not None
    assert "the parameters that held" in result.words
    if result.better_by is not None:
        assert usual > value, "the family's own settings are better"
        assert result.held is not None
        assert result.better_by.value == pytest.approx(result.usual - result.held)
    assert result.parameters == {}


@pytest.mark.parametrize(("difference", "kept"), [(-0.001, {}), (0.001, {"num_leaves": 15})])
def test_the_best_by_fold_is_kept_only_if_it_is_better_on_all_payments_together(
    difference: float, kept: dict
) -> None:
    usual, best = (
        SimpleNamespace(number=number, params={"num_leaves": leaves})
        for number, leaves in ((0, trainer_of("lightgbm").space["num_leaves"].usual), (7, 15))
    )
    together = Estimate(difference, difference - 0.01, difference + 0.01)
    compared = {0: (0.5, None), 7: (0.5 + difference, together)}
    space = trainer_of("lightgbm").space
    result = better_than_now(found({}), compared, usual, usual, best, space)
    assert result.parameters == kept


@pytest.mark.parametrize("folds", [0, 3])
def test_a_search_that_found_nothing_takes_nothing_away(tmp_path: Path, folds: int) -> None:
    own = settings(tmp_path)
    keep_found(own, found({"num_leaves": 15}))
    keep_found(own, FoundParameters(trainer="lightgbm", parameters={}, folds=folds))
    assert held_parameters(own, ABOUT) == {"num_leaves": 15}


def test_each_family_keeps_what_was_found_for_it(tmp_path: Path) -> None:
    remember_parameters(settings(tmp_path), found({"num_leaves": 15}))
    held = remembered_parameters(settings(tmp_path))
    assert held is not None
    assert held.parameters == {"num_leaves": 15}
    assert remembered_parameters(settings(tmp_path, "xgboost")) is None


ABOUT = DatasetManifest(
    name="d",
    plan_hash=PLAN.hash,
    data_hash="h",
    log_through=9,
    fit=Period(rows=9, frauds=1, start_us=0, end_us=1, cutoff_us=DAY_US),
    tail=Period(rows=0, frauds=0, start_us=1, end_us=1, cutoff_us=DAY_US),
    test=Period(rows=9, frauds=1, start_us=1, end_us=2, cutoff_us=DAY_US),
)


def test_what_the_gate_refused_is_not_trained_again(tmp_path: Path) -> None:
    own = settings(tmp_path)
    remember_parameters(own, found({"num_leaves": 15}, before={"num_leaves": 20}))
    assert held_parameters(own, ABOUT) == {"num_leaves": 15}
    refuse(own, {"num_leaves": 15})
    assert held_parameters(own, ABOUT) == {"num_leaves": 20}
    assert held_parameters(own, ABOUT) == {"num_leaves": 20}, "and it stays so"


def test_what_was_found_twice_goes_when_the_gate_refuses_it(tmp_path: Path) -> None:
    own = settings(tmp_path)
    keep_found(own, found({"num_leaves": 15}))
    keep_found(own, found({"num_leaves": 15}))
    refuse(own, {"num_leaves": 15})
    assert held_parameters(own, ABOUT) is None


def test_a_file_that_says_parameters_held_before_themselves_is_understood(tmp_path: Path) -> None:
    own = settings(tmp_path)
    remember_parameters(own, found({"num_leaves": 15}, before={"num_leaves": 15}))
    refuse(own, {"num_leaves": 15})
    assert held_parameters(own, ABOUT) is None


def test_one_search_after_another_is_refused(tmp_path: Path) -> None:
    own = settings(tmp_path)
    keep_found(own, found({"num_leaves": 15}))
    keep_found(own, found({"num_leaves": 20}))
    refuse(own, {"num_leaves": 20})
    assert held_parameters(own, ABOUT) == {"num_leaves": 15}
    refuse(own, {"num_leaves": 15})
    assert held_parameters(own, ABOUT) is None


def refuse(own: Settings, parameters: dict) -> None:
    """Let the gate have refused a procedure with some parameters."""
    refused = Trial(
        version="2",
        procedure=procedure_of(own, ABOUT, parameters),
        reference="1",
        opened_us=0,
        start_us=0,
        gap_us=None,
        refused="20 % more alerts",
    )
    folder = own.workspace / "trials" / f"{parameters['num_leaves']}-1-0"
    folder.mkdir(parents=True)
    Trials(own).keep(folder, refused)


def test_what_the_gate_waits_for_is_trained_again(tmp_path: Path) -> None:
    own = settings(tmp_path)
    remember_parameters(own, found({"num_leaves": 15}))
    waits = Trial(
        version="2",
        procedure=procedure_of(own, ABOUT, {"num_leaves": 15}),
        reference="1",
        opened_us=0,
        start_us=0,
        gap_us=None,
        looks=(),
    )
    (tmp_path / "trials" / "2-1-0").mkdir(parents=True)
    Trials(own).keep(tmp_path / "trials" / "2-1-0", waits)
    assert held_parameters(own, ABOUT) == {"num_leaves": 15}


def test_pictures_show_what_was_tried_and_what_mattered(tmp_path: Path) -> None:
    space = trainer_of("lightgbm").space
    random = np.random.default_rng(0)
    rows = [
        {
            "trial": number,
            "average_precision": 0.5 + 0.01 * number,
            **{
                name: one.low + random.random() * (one.high - one.low)
                for name, one in space.items()
            },
        }
        for number in range(5)
    ]
    importances = dict.fromkeys(space, 1.0 / len(space))
    written = draw_search(rows, importances, space, tmp_path, "LightGBM")
    assert [path.name for path in written] == [
        "parallel_coordinates.png",
        "parameter_importances.png",
    ]
    assert all(path.stat().st_size > 5_000 for path in written)
