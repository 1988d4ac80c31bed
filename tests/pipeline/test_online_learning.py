"""Online learners: killed and resumed without loss, and taught by what training may know."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import pytest
from rich.console import Console

from sentinel.cli.online_report import online_report
from sentinel.domain import ConfigurationError, WorkspaceError
from sentinel.features.plan.plan import DAY_US
from sentinel.models.decided import Decided
from sentinel.models.families.leaf_refit import refitted_leaves, tree_scores
from sentinel.models.river_learner import RiverLearner
from sentinel.models.trainers import train
from sentinel.pipeline.candidate_folder import save_candidate
from sentinel.pipeline.dataset_folder import Dataset
from sentinel.pipeline.datasets import dataset_of, split_of
from sentinel.pipeline.fitting import Result, fit_and_measure
from sentinel.pipeline.online_figures import figures_of, known_at
from sentinel.pipeline.online_learning import Learnt, begin, go_on, learn, newly_known
from sentinel.pipeline.online_state import OnlinePlace, OnlineState
from sentinel.settings import OnlineSettings, Settings
from tests.pipeline.test_refitting import DAYS, MATURE, ROWS, SETTINGS, Log, log_of

BASE_DAYS = 130


@cache
def base() -> tuple[Dataset, Result]:
    """A model of before day 130, when another feature shows frauds."""
    log = log_of(turns=True)
    data = dataset_of(SETTINGS, log, split_of(SETTINGS, log, BASE_DAYS * DAY_US), log_through=0)
    return data, fit_and_measure(SETTINGS, "lightgbm", data, threads=1)


def place_of(folder: Path) -> tuple[Settings, OnlinePlace]:
    quick = OnlineSettings(window_days=14)
    settings = SETTINGS.model_copy(update={"workspace": folder, "online": quick})
    place = OnlinePlace(settings)
    if not (place.folder / "base").exists():
        data, found = base()
        save_candidate(place.folder / "base", data, found, None, name="fraud")
    return settings, place


def but_for_the_base(state: OnlineState) -> OnlineState:
    """A state without the hash of its base, whose manifest says when it was made."""
    return msgspec.structs.replace(state, base_sha256="")


def learnt(folder: Path, log: Log, days: int | None = None) -> tuple[OnlinePlace, OnlineState]:
    """Learners from their beginning on, or from where the folder has them."""
    settings, place = place_of(folder)
    state = place.state() or begin(settings, place, log, log.plan, log.vectors)
    return place, go_on(settings, place, state, log, log.plan, log.vectors, most_days=days)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[OnlinePlace, OnlineState]:
    return learnt(tmp_path_factory.mktemp("whole"), log_of(turns=True))


def test_the_same_log_gives_the_same_learners_in_one_go_or_day_by_day(
    whole: tuple[OnlinePlace, OnlineState], tmp_path: Path
) -> None:
    place, state = whole
    assert state.next_day == DAYS
    assert state.trees_rows > 0
    other, again = learnt(tmp_path, log_of(turns=True), days=7)
    while again.next_day < DAYS:
        other, again = learnt(tmp_path, log_of(turns=True), days=25)
    assert but_for_the_base(again) == but_for_the_base(state)
    assert other.learners(again) == place.learners(state)
    for (day, scores), (same_day, same) in zip(
        place.scores(state), other.scores(again), strict=True
    ):
        assert day == same_day
        assert {name: one.tobytes() for name, one in scores.items()} == {
            name: one.tobytes() for name, one in same.items()
        }


def test_a_killed_learner_goes_on_with_the_same_weights(
    whole: tuple[OnlinePlace, OnlineState], tmp_path: Path
) -> None:
    """Killed by SIGKILL twice, whatever it is doing."""
    place, state = whole
    program = (
        "import sys; from pathlib import Path; from tests.pipeline.test_online_learning import *;"
        "learnt(Path(sys.argv[1]), log_of(turns=True))"
    )
    folder, kills = OnlinePlace(SETTINGS.model_copy(update={"workspace": tmp_path})).folder, 0
    reached = -1
    while kills < 2:
        process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)])
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            done = max((int(path.stem) for path in folder.glob("scores/*.npz")), default=-1)
            if done > reached + 3:  # a few days further than at the last kill
                reached = done
                break
            time.sleep(0.002)
        assert process.poll() is None, "it came to its end before it could be killed"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        kills += 1
    assert reached < DAYS - 1
    resumed, again = learnt(tmp_path, log_of(turns=True))
    assert but_for_the_base(again) == but_for_the_base(state)
    assert resumed.learners(again) == place.learners(state)


def test_the_beginning_and_the_days_are_told_as_they_go_by(
    whole: tuple[OnlinePlace, OnlineState], tmp_path: Path
) -> None:
    log, told = log_of(turns=True), list[tuple[str, int, int | None]]()

    def note(stage: str, done: int, total: int | None) -> None:
        told.append((stage, done, total))

    settings, place = place_of(tmp_path)
    state = begin(settings, place, log, log.plan, log.vectors, progress=note)
    begun = [done for stage, done, _ in told if stage == "begin"]
    assert begun[0] == 0
    assert begun == sorted(begun)
    assert told[-1] == ("begin", begun[-1], begun[-1])
    go_on(settings, place, state, log, log.plan, log.vectors, most_days=2, progress=note)
    assert [one for one in told if one[0] == "days"] == [("days", n, 2) for n in range(3)]


def test_learners_adapt_where_frauds_change_and_the_base_does_not(
    whole: tuple[OnlinePlace, OnlineState], tmp_path: Path
) -> None:
    """From day 140 on, another feature shows frauds; their truth comes 20 days later."""
    place, state = whole
    log = log_of(turns=True)
    settings = SETTINGS.model_copy(update={"workspace": tmp_path})
    figures = figures_of(settings, place, state, log)
    days = DAYS - state.gap_us / DAY_US - state.first_day  # labels show how long they take
    assert figures.payments == pytest.approx(ROWS * days / DAYS, rel=0.02)
    assert set(figures.average_precision) == {"base", "refit", "river"}
    assert figures.better_by["river - base"].low > 0
    assert figures.days[0].day == state.first_day < BASE_DAYS, "the base was measured on a test"


def test_what_is_censored_has_no_effect_on_what_is_learnt(tmp_path: Path) -> None:
    """Labels on declined payments, and the truth of what is not mature, are turned around."""
    log = log_of(turns=True)
    random = np.random.default_rng(5)
    declined = random.random(len(log.payments)) < 0.2
    decided = Decided.plain(np.where(declined, 2, 0))
    until = (BASE_DAYS + 30) * DAY_US
    payments = replace(log.payments, decided=decided)
    rows = np.flatnonzero(declined)
    more = replace(
        log.labels,
        row=np.concatenate([log.labels.row, rows]),
        fraud=np.concatenate([log.labels.fraud, np.ones(len(rows), np.bool_)]),
        received_at_us=np.concatenate(
            [log.labels.received_at_us, payments.event_time_us[rows] + DAY_US]
        ),
    )
    censored = replace(log, payments=payments, labels=log.labels, end_us=until)
    told = replace(log, payments=payments, labels=more, end_us=until)
    late = replace(
        censored,
        labels=replace(
            log.labels, fraud=np.where(log.labels.received_at_us < until, log.labels.fraud, False)
        ),
    )
    given = [
        place.learners(state)
        for place, state in (
            learnt(tmp_path / name, one)
            for name, one in (("censored", censored), ("told", told), ("late", late))
        )
    ]
    assert given[0] == given[1], "a label on a declined payment was learnt from"
    assert given[0] == given[2], "a label of later was learnt from"
    seen = known_at(told, BASE_DAYS + 30, MATURE * DAY_US)
    assert not declined[seen.rows].any()


def test_each_payment_is_learnt_once_when_training_could() -> None:
    log = log_of(turns=False)
    gap = MATURE * DAY_US
    parts = [newly_known(log, day, gap).rows for day in range(60, 65)]
    assert len(np.unique(np.concatenate(parts))) == sum(len(one) for one in parts)
    times = log.payments.event_time_us[parts[0]]
    assert times.min() >= 40 * DAY_US
    assert times.max() < 41 * DAY_US


def test_a_corrected_label_is_learnt_again_as_what_it_is_now() -> None:
    log, gap, day = log_of(turns=False), MATURE * DAY_US, 100
    before = known_at(log, day, gap)
    row = int(before.rows[before.fraud][0])
    labels = log.labels
    corrected = replace(
        labels,
        row=np.append(labels.row, row),
        fraud=np.append(labels.fraud, False),
        received_at_us=np.append(labels.received_at_us, day * DAY_US + 5),
    )
    order = np.argsort(corrected.received_at_us, kind="stable")
    told = replace(
        log,
        labels=replace(
            corrected,
            row=corrected.row[order],
            fraud=corrected.fraud[order],
            received_at_us=corrected.received_at_us[order],
        ),
    )
    new = newly_known(told, day, gap)
    assert new.fraud[new.rows == row].tolist() == [False]
    assert row not in newly_known(log, day, gap).rows
    assert row not in newly_known(told, day + 1, gap).rows, "it is learnt once"


def test_a_refit_on_what_trees_were_fitted_on_changes_nothing() -> None:
    """The base rate in the first tree, and the length of its steps, are taken for what they are."""
    random = np.random.default_rng(1)
    X = random.normal(size=(3_000, 3)).astype(np.float32)
    fraud = random.random(3_000) < 1.0 / (1.0 + np.exp(3.0 - 2.0 * X[:, 0]))
    every_row = {"rounds": 40, "bagging_fraction": 1.0, "feature_fraction": 1.0}
    model = train("lightgbm", X, fraud, feature_names=["a", "b", "c"], parameters=every_row)
    trees, share = str(model.native()), fraud.mean()
    again = refitted_leaves(
        trees,
        X,
        fraud,
        weight=None,
        keep=0.0,
        base=float(np.log(share / (1.0 - share))),
        restraint=20.0,
    )
    assert tree_scores(again, X) == pytest.approx(tree_scores(trees, X), abs=1e-9)


def test_a_refit_on_other_rows_moves_leaves_and_leaves_splits() -> None:
    data, found = base()
    trees = str(found.model.native())
    X, fraud = data.test.X, data.test.fraud
    moved = refitted_leaves(trees, X, fraud, weight=None, keep=0.5, base=-3.5, restraint=20.0)
    for line in ("feature_names=", "split_feature=", "threshold=", "decision_type=", "shrinkage="):
        assert _lines(moved, line) == _lines(trees, line)
    assert np.abs(tree_scores(moved, X) - tree_scores(trees, X)).max() > 1e-3
    kept = refitted_leaves(trees, X, fraud, weight=None, keep=1.0, base=-3.5, restraint=20.0)
    assert tree_scores(kept, X) == pytest.approx(tree_scores(trees, X), abs=1e-9)


def _lines(text: str, start: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(start)]


def test_a_learner_of_river_that_is_saved_and_loaded_goes_on_bit_for_bit() -> None:
    log = log_of(turns=False)
    fraud = np.zeros(len(log.X), np.bool_)
    fraud[log.labels.row] = True
    X = log.X.copy()
    X[::7, 1] = np.nan
    X[:, 2] = np.arange(len(X)) % 40
    names = log.plan.feature_names
    one = RiverLearner(names, names[2:], intercept=-3.0)
    one.learn(X[:500], fraud[:500])
    other = RiverLearner(names, names[2:])
    other.restore(one.state())
    for learner in (one, other):
        learner.learn(X[500:900], fraud[500:900], np.full(400, 3.0))
    assert one.state() == other.state()
    assert one.score(X[900:950]).tobytes() == other.score(X[900:950]).tobytes()


def test_a_day_without_payments_is_passed_over(tmp_path: Path) -> None:
    log = log_of(turns=False)
    times = log.payments.event_time_us.copy()
    closed = DAYS - MATURE - 10
    times[times // DAY_US == closed] += DAY_US
    log = replace(log, payments=replace(log.payments, event_time_us=times))
    place, state = learnt(tmp_path, log)
    assert state.next_day == DAYS
    scored = [day for day, _ in place.scores(state)]
    assert scored == [day for day in range(state.first_day, DAYS) if day != closed]
    assert figures_of(place_of(tmp_path)[0], place, state, log).payments > 0


def test_learners_that_go_on_take_no_other_base_without_being_told_to_begin_anew(
    tmp_path: Path,
) -> None:
    settings, _ = place_of(tmp_path)
    learnt(tmp_path, log_of(turns=False), days=1)
    with pytest.raises(ConfigurationError, match=r"sentinel learn --restart --base 7"):
        learn(settings, base="7")


def test_what_has_matured_without_a_fraud_is_not_said_to_be_immature(tmp_path: Path) -> None:
    log = log_of(turns=False)
    log = replace(log, labels=replace(log.labels, fraud=np.zeros_like(log.labels.fraud)))
    place, state = learnt(tmp_path, log)
    settings = SETTINGS.model_copy(update={"workspace": tmp_path})
    figures = figures_of(settings, place, state, log)
    assert (figures.payments > 0, figures.frauds) == (True, 0)
    shown = io.StringIO()
    online_report(Console(width=80, file=shown), Learnt(state, figures, place))
    said = " ".join(shown.getvalue().split())
    assert "No figures: no fraud is known among what was scored" in said


def test_learners_that_were_changed_on_disk_do_not_go_on(tmp_path: Path) -> None:
    place, state = learnt(tmp_path, log_of(turns=False), days=1)
    path = place.folder / "learners" / f"{state.next_day}.txt"
    path.write_text(path.read_text() + "\n")
    with pytest.raises(WorkspaceError, match=r"not what they were.*sentinel learn --restart"):
        learnt(tmp_path, log_of(turns=False), days=1)


def test_a_base_that_was_changed_on_disk_is_neither_refitted_nor_served(tmp_path: Path) -> None:
    settings, place = place_of(tmp_path)
    log = log_of(turns=False)
    place, state = learnt(tmp_path, log, days=1)
    path = place.base(state) / "manifest.json"
    path.write_text(path.read_text() + " ")
    with pytest.raises(WorkspaceError, match="began with is not what it was"):
        go_on(settings, place, state, log, log.plan, log.vectors, most_days=1)
    with pytest.raises(WorkspaceError, match="began with is not what it was"):
        learn(settings)
