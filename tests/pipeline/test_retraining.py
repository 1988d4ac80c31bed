"""Whether a retraining is due, and what the last one bought."""

from __future__ import annotations

import dataclasses
import getpass
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from sentinel.cli.main import app
from sentinel.features.plan.plan import DAY_US
from sentinel.models.artifact import load_manifest
from sentinel.models.decided import Decided
from sentinel.models.registry import Registry
from sentinel.models.registry_place import mlflow_place
from sentinel.models.signing_keys import SigningKey
from sentinel.pipeline.approvals import request_of
from sentinel.pipeline.datasets import dataset_of, split_of
from sentinel.pipeline.fitting import fit_and_measure
from sentinel.pipeline.labelled_payments import labelled_payments
from sentinel.pipeline.last_training import (
    LastTraining,
    RetrainingRequest,
    keep_training,
    last_answer,
    last_training,
    request_retraining,
    requests_of,
)
from sentinel.pipeline.procedures import procedure_of
from sentinel.pipeline.registry_fetch import fetch_version
from sentinel.pipeline.retraining import decide, matured_frauds, retraining_due
from sentinel.pipeline.retraining_gain import (
    GAIN_TAG,
    RetrainingGain,
    gain_between,
    least_represented,
    retraining_gain,
)
from sentinel.pipeline.scored_payments import BulkScorer
from sentinel.pipeline.training import train
from sentinel.pipeline.workspace import only_one
from sentinel.settings import MlflowSettings, RetrainingSettings, Settings
from testkit.ports import free_port
from tests.pipeline.decided_log import LABEL_DELAY_DAYS, PLAN, START_US, DecidedLog, decided_log
from tests.pipeline.test_refitting import RISK, SETTINGS, log_of
from tests.pipeline.test_without_a_server import imported

DAY = START_US // DAY_US
LAST = LastTraining(version="7", known_until_us=START_US, at_us=10, why="schedule")


def policy(**given: object) -> RetrainingSettings:
    return RetrainingSettings.model_validate({"every_days": 0, **given})


def test_a_model_is_trained_where_no_training_is_known_of() -> None:
    answer = decide(policy(), None, [], now_us=START_US)
    assert [one.kind for one in answer.reasons] == ["first"]


def test_the_schedule_counts_days_since_the_last_training() -> None:
    weekly = policy(every_days=7)
    early = decide(weekly, LAST, [], now_us=START_US + 7 * DAY_US - 1)
    assert not early.due
    assert early.words == (
        "No retraining is due. It will be by schedule on 2026-01-08, or as soon as drift is "
        "reported."
    )
    late = decide(weekly, LAST, [], now_us=START_US + 7 * DAY_US)
    assert late.why == "schedule: 7 days since version 7, every 7 is set"
    assert decide(policy(every_days=1), LAST, [], now_us=START_US).due, "every run is a night"


def test_enough_matured_frauds_make_one_due_and_before_that_the_pace_says_when() -> None:
    fifty = policy(matured_frauds=50, on_drift=False)
    early = decide(fifty, LAST, [], now_us=START_US, frauds=20, frauds_a_day=4.0)
    assert early.words == (
        "No retraining is due. It will be by labels once 30 more frauds have matured, at the pace "
        "of 28 days about 2026-01-09."
    )
    assert "nobody can say" in decide(fifty, LAST, [], now_us=START_US).words
    rare = decide(policy(matured_frauds=10**9), LAST, [], now_us=START_US, frauds_a_day=1 / 28)
    assert "at the pace of 28 days in more than ten years" in rare.words
    due = decide(fifty, LAST, [], now_us=START_US, frauds=50)
    assert due.why == "labels: 50 frauds have matured since version 7, 50 are enough"
    assert "never by itself" in decide(policy(on_drift=False), LAST, [], now_us=START_US).words


def test_a_candidate_that_waits_at_the_gate_is_followed_by_another_the_next_night() -> None:
    """Its wait is counted in nights, and each looks at a model of the night."""
    monthly = policy(every_days=30)
    assert not decide(monthly, LAST, [], now_us=START_US).due
    answer = decide(monthly, LAST, [], now_us=START_US, waits=True)
    assert answer.why.startswith("gate: version 7 waits at the gate")


def test_reported_drift_is_a_reason_until_a_training_has_begun_after_it(tmp_path: Path) -> None:
    settings = Settings(workspace=tmp_path)
    for at_us, seen in ((5, "amounts doubled"), (20, "night payments tripled")):
        request_retraining(settings, RetrainingRequest(kind="drift", why=seen, at_us=at_us))
    (asked,) = requests_of(settings)
    answer = decide(policy(), LAST, [asked], now_us=START_US)
    assert answer.why == "drift: night payments tripled"
    assert not decide(policy(on_drift=False), LAST, [asked], now_us=START_US).due
    keep_training(settings, LAST)  # it began before the drift was seen
    assert requests_of(settings) == [asked]
    keep_training(settings, LastTraining(version="8", known_until_us=0, at_us=21, why=answer.why))
    assert requests_of(settings) == []
    assert last_training(settings) is not None


def test_a_request_that_comes_while_a_training_drops_an_earlier_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(workspace=tmp_path)
    earlier, later = (
        RetrainingRequest(kind="drift", why=seen, at_us=at_us)
        for at_us, seen in ((5, "amounts doubled"), (20, "night payments tripled"))
    )
    request_retraining(settings, earlier)
    unlink, coming = Path.unlink, [later]

    def just_before(path: Path, missing_ok: bool = False) -> None:
        if coming and path.parent.name == "retraining_requests":
            request_retraining(settings, coming.pop())
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", just_before)
    keep_training(settings, LastTraining(version="8", known_until_us=0, at_us=10, why="by hand"))
    assert not coming
    assert requests_of(settings) == [later]
    keep_training(settings, LastTraining(version="9", known_until_us=0, at_us=21, why="drift"))
    assert requests_of(settings) == []
    assert not list((tmp_path / "retraining_requests").iterdir())


def test_matured_frauds_are_those_that_a_training_may_learn_from(tmp_path: Path) -> None:
    """What was declined is censored, whatever it was; what is young is not mature."""
    log = decided_log(tmp_path, days=60)
    known = labelled_payments(log.settings)
    now_us = START_US + 60 * DAY_US
    mature = np.arange(len(log.fraud)) < 40 * 60
    expected = int((log.fraud & ~log.declined & mature).sum())
    assert matured_frauds(log.settings, known, now_us) == pytest.approx(expected, abs=1)
    ten_before = int((log.fraud & ~log.declined & (np.arange(len(log.fraud)) < 30 * 60)).sum())
    before = matured_frauds(log.settings, known, now_us - 10 * DAY_US)
    assert before == pytest.approx(ten_before, abs=1)


def test_the_reason_is_in_the_tracked_run_and_a_night_without_one_is_a_success(
    tmp_path: Path,
) -> None:
    mlflow = MlflowSettings(port=free_port())
    settings = imported(tmp_path, rows=1_500, frauds=90, mlflow=mlflow)
    labels = RetrainingSettings(every_days=0, matured_frauds=5)
    settings = settings.model_copy(update={"retraining": labels})
    first = retraining_due(settings)
    assert last_answer(settings) == first
    trained = train(
        settings, threads=1, baselines=False, refitted=False, why=first.why, counts=False
    )
    run = mlflow_place(settings).client().get_run(trained.run_id)
    assert run.data.tags["retraining"] == ("first: no training is known of")
    assert retraining_due(settings).why == first.why, "a dry run is no training"
    known_until_us = first.asked_at_us
    keep_training(
        settings, LastTraining(version="1", known_until_us=known_until_us, at_us=1, why=first.why)
    )
    assert last_answer(settings) is None, "what was due has been done"
    assert not retraining_due(settings).due

    given = {
        "SENTINEL_WORKSPACE": str(settings.workspace),
        "SENTINEL_MLFLOW__PORT": str(mlflow.port),
        "SENTINEL_RETRAINING__EVERY_DAYS": "0",
    }
    for verb in (["retrain"], ["status"]):
        ran = CliRunner().invoke(app, verb, env=given)
        assert ran.exit_code == 0, ran.output
        assert "No retraining is due." in " ".join(ran.output.split()), ran.output
    assert [one.version for one in Registry.of(settings).versions()] == ["1"]

    given |= {
        "SENTINEL_SIGNING__APPROVERS": SigningKey(bytes(range(32))).public,
        "SENTINEL_TRAINING__WINDOW_DAYS": "365",
        "SENTINEL_TRAINING__BOOTSTRAP_ROUNDS": "50",
    }
    ran = CliRunner().invoke(app, ["retrain", "--anyway"], env=given)
    assert ran.exit_code == 0, ran.output
    assert "It waits. Version 2 awaits approval" in ran.output
    asked = request_of(Registry.of(settings).version("2").tags)
    assert asked is not None
    assert asked.by == getpass.getuser(), "who asked for a promotion may not approve it"
    last = last_training(settings)
    assert last is not None
    assert last.version == "2"


@pytest.fixture(scope="module")
def replaced(tmp_path_factory: pytest.TempPathFactory) -> tuple[DecidedLog, RetrainingGain]:
    """Version 1 knows amounts and little else; version 2 was trained on day 50."""
    log = decided_log(tmp_path_factory.mktemp("replaced"))
    settings = log.settings
    for parameters in ({"rounds": 1, "num_leaves": 2, "learning_rate": 0.01}, {}):
        train(
            settings,
            now_us=START_US + 50 * DAY_US,
            threads=1,
            baselines=False,
            refitted=False,
            parameters=parameters,
        )
    registry = Registry.of(settings)
    registry.crown(["1"])
    assert retraining_gain(settings) is None, "nothing was replaced yet"
    registry.crown(["1", "2"])
    gain = retraining_gain(settings)
    assert gain is not None
    return log, gain


def test_what_a_retraining_bought_is_the_weighted_truth_of_what_the_two_stop(
    replaced: tuple[DecidedLog, RetrainingGain],
) -> None:
    """The same sum from the world's truth: known rows, one over the share where it was drawn."""
    log, gain = replaced
    known = labelled_payments(log.settings)
    times = known.payments.event_time_us
    learnt = load_manifest(fetch_version(log.settings, "2")).training.cutoff_us
    assert gain.start_us >= learnt
    rows = np.flatnonzero((times >= learnt) & (times < gain.end_us))
    assert gain.payments == len(rows)
    assert gain.end_us < known.end_us - LABEL_DELAY_DAYS * DAY_US, "all frauds are reported by now"
    stops = []
    for version in ("2", "1"):
        folder = fetch_version(log.settings, version)
        probability, _ = BulkScorer(folder).score(known.vectors(rows))
        stops.append(probability >= load_manifest(folder).thresholds.review)
    weight = np.where(log.explored[rows], 10.0, 1.0) * ~log.declined[rows]
    lost = weight * known.payments.amount_minor[rows] * log.fraud[rows]
    saved = float((lost * (stops[0].astype(float) - stops[1])).sum() / weight.sum() * 1000)
    assert gain.saved_per_1000_minor is not None
    assert gain.saved_per_1000_minor.value == pytest.approx(saved, rel=0.1)
    assert gain.saved_per_1000_minor.low < saved < gain.saved_per_1000_minor.high
    said = Registry.of(log.settings).version("2").tags[GAIN_TAG]
    assert said == gain.words(2, "EUR")
    assert "no costs are set" in said


def test_without_a_control_group_nobody_knows_what_was_bought(
    replaced: tuple[DecidedLog, RetrainingGain],
) -> None:
    log, with_it = replaced
    known = labelled_payments(log.settings)
    decided = known.payments.decided
    assert decided is not None
    nothing_random = Decided.plain(decided.base_outcome)
    payments = dataclasses.replace(known.payments, decided=nothing_random)
    known = dataclasses.replace(known, payments=payments)
    gain = gain_between(log.settings, known, ["1", "2"])
    assert gain.differ == with_it.differ > 0
    assert gain.saved_minor is None
    assert gain.represented < 0.5 < with_it.represented
    assert "a control group makes more of them known" in gain.words(2, "EUR")


def test_what_only_the_older_model_stopped_does_not_speak_for_what_the_newer_one_hides() -> None:
    """Without a control group, what the newer one declines is unknown, and the rest is known."""
    new, old = np.array([2, 2, 1, 0, 0, 0, 2, 0]), np.array([0, 0, 0, 1, 2, 2, 2, 0])
    known_where_passed = (new == 0).astype(np.float64)
    assert least_represented(new, old, known_where_passed) == 0.0
    explored = np.array([3.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 1.0])
    assert least_represented(new, old, explored) == 1.0
    assert least_represented(new, new, known_where_passed) == 1.0


@pytest.mark.parametrize(
    ("fraud_weight", "max_rows"), [(1.0, 1_500), (25.0, 400_000), (25.0, 1_500)]
)
def test_class_weights_and_thinned_good_payments_leave_probabilities_what_they_are(
    fraud_weight: float, max_rows: int
) -> None:
    log = log_of(turns=False)
    training = SETTINGS.training.model_copy(
        update={"fraud_weight": fraud_weight, "max_rows": max_rows}
    )
    settings = SETTINGS.model_copy(update={"training": training})
    data = dataset_of(settings, log, split_of(settings, log, None), log_through=0)
    assert len(data.fit.fraud) == min(max_rows, data.manifest.fit.rows)
    found = fit_and_measure(settings, "lightgbm", data, threads=1)
    assert found.held_out is not None
    raw = 1.0 / (1.0 + np.exp(-found.held_out.score))
    truth, said = float(found.held_out.fraud.sum()), found.held_out.probability
    assert said.sum() == pytest.approx(truth, rel=0.2)
    risky = data.test.X[:, RISK] > 3.0
    assert said[risky].sum() == pytest.approx(float(data.test.fraud[risky].sum()), rel=0.2)
    if fraud_weight > 1:
        assert raw.sum() > 1.2 * truth, "what the fit says by itself counts frauds many times"
    else:
        assert raw.sum() == pytest.approx(truth, rel=0.25)


def test_a_class_weight_is_part_of_the_procedure_and_none_leaves_it_as_it_was() -> None:
    log = log_of(turns=False)
    about = dataset_of(SETTINGS, log, split_of(SETTINGS, log, None), log_through=0).manifest
    heavy = SETTINGS.model_copy(
        update={"training": SETTINGS.training.model_copy(update={"fraud_weight": 3.0})}
    )
    usual, other = procedure_of(SETTINGS, about), procedure_of(heavy, about)
    assert "fraud_weight" not in usual.parameters
    assert other.parameters["fraud_weight"] == 3.0
    assert not usual.is_that_of(other)
    assert not other.is_that_of(usual)


def test_two_jobs_of_a_night_may_look_at_the_log_together(tmp_path: Path) -> None:
    """While one brings vectors up to date, the other waits for it."""
    log = decided_log(tmp_path, days=3)
    lock = log.settings.offline_dir / "features" / PLAN.hash / "backfill.lock"
    held, times = threading.Event(), []

    def hold() -> None:
        with only_one(lock, "a backfill"):
            held.set()
            time.sleep(0.3)
            times.append(time.monotonic())

    other = threading.Thread(target=hold)
    other.start()
    held.wait()
    assert len(labelled_payments(log.settings).payments) == 180
    assert times, "it did not wait"
    other.join()
