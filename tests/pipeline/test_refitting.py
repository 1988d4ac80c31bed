"""What serves is fitted on all mature payments, unless it would stop others than its twin."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from sentinel.domain import ModelNotSigned
from sentinel.features.plan.parts import RequestFeature
from sentinel.features.plan.plan import DAY_US, Plan
from sentinel.models.artifact import JUDGED, judged_folder, load_manifest
from sentinel.models.calibration import Calibration
from sentinel.models.dataset import LabelLog, PaymentLog
from sentinel.models.signature import check_folder
from sentinel.models.signing_keys import trusted_keys_of
from sentinel.pipeline.dataset_folder import Dataset
from sentinel.pipeline.datasets import dataset_of, split_of
from sentinel.pipeline.fitting import Result, fit_and_measure
from sentinel.pipeline.gate import GateReport, report_path
from sentinel.pipeline.promotion import promote
from sentinel.pipeline.refitting import Refit, differs, equated, refit
from sentinel.pipeline.training import train
from sentinel.settings import LabelSettings, MlflowSettings, Settings, TrainingSettings
from testkit.ports import free_port
from tests.pipeline.test_without_a_server import imported

PLAN = Plan(
    views=(),
    request=(
        RequestFeature(name="amount", kind="amount"),
        RequestFeature(name="risk", kind="number", column="risk"),
        RequestFeature(name="other", kind="number", column="other"),
    ),
)
DAYS, MATURE, TEST = 200, 20, 40
SETTINGS = Settings(
    labels=LabelSettings(maturity_days=MATURE),
    training=TrainingSettings(test_days=TEST, window_days=3650, bootstrap_rounds=50),
)
ROWS = 12_000
RISK, OTHER = 1, 2


@dataclass(frozen=True, eq=False)
class Log:
    """Payments of 200 days in memory, every one of which gets its truth after five days."""

    plan: Plan
    payments: PaymentLog
    labels: LabelLog
    end_us: int
    X: npt.NDArray[np.float32]

    def vectors(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        return np.ascontiguousarray(self.X[rows])


def log_of(*, turns: bool) -> Log:
    """A log whose frauds have a high ``risk``; if it turns, later ones have a high ``other``."""
    random = np.random.default_rng(3)
    times = np.arange(ROWS, dtype=np.int64) * (DAYS * DAY_US // ROWS)
    fraud = random.random(ROWS) < 0.03
    late = times >= (DAYS - MATURE - TEST) * DAY_US
    if turns:
        fraud |= late & (random.random(ROWS) < 0.10)
    X = random.normal(size=(ROWS, 3)).astype(np.float32)
    X[fraud, OTHER if turns else RISK] += 4.0
    if turns:
        X[fraud & ~late] = X[fraud & ~late][:, [0, OTHER, RISK]]
    known = np.flatnonzero(fraud & (times + 5 * DAY_US < DAYS * DAY_US))
    return Log(
        plan=PLAN,
        payments=PaymentLog(
            event_time_us=times,
            received_at_us=times,
            amount_minor=np.full(ROWS, 1_000, np.int64),
            card=random.integers(0, 3_000, ROWS),
        ),
        labels=LabelLog(
            row=known,
            fraud=np.ones(len(known), np.bool_),
            received_at_us=times[known] + 5 * DAY_US,
        ),
        end_us=DAYS * DAY_US,
        X=X,
    )


@cache
def trained(turns: bool) -> tuple[Dataset, Result, Refit]:
    log = log_of(turns=turns)
    data = dataset_of(SETTINGS, log, split_of(SETTINGS, log, None), log_through=0)
    twin = fit_and_measure(SETTINGS, "lightgbm", data, threads=1)
    again = refit(SETTINGS, "lightgbm", data, twin, log, threads=1)
    assert again is not None
    return data, twin, again


def test_a_refit_learns_from_the_test_and_the_gap_too() -> None:
    data, twin, again = trained(turns=False)
    about = data.manifest
    mature = ROWS * (DAYS - MATURE) // DAYS
    assert about.fit.rows + about.tail.rows == ROWS * (DAYS - 2 * MATURE - TEST) // DAYS
    assert again.training.rows == pytest.approx(mature, abs=2)
    assert again.training.end_us == about.test.end_us > about.tail.end_us
    assert again.training.cutoff_us == DAYS * DAY_US
    assert again.model.parameters["rounds"] == twin.model.parameters["rounds"]
    assert again.note.refused == ""
    assert again.note.recent == pytest.approx(ROWS * MATURE / DAYS / 2, abs=2)
    assert again.calibration.x[0] != twin.calibration.x[0]
    assert again.thresholds == twin.thresholds
    assert "the figures are of its twin" in again.note.words


def test_its_calibration_comes_from_payments_that_the_scorer_had_not_seen() -> None:
    """Its own scores of what it learnt from say .999 where the truth of later ones is lower."""
    log = log_of(turns=False)
    data, _, again = trained(turns=False)
    later = log.payments.event_time_us >= data.manifest.test.end_us
    probability = again.calibration.apply(again.model.raw_score(log.X[later]))
    truth = log.X[later, RISK] > 2.0  # a good payment is above in one of 44, a fraud all but always
    assert probability.sum() == pytest.approx(0.03 * later.sum(), rel=0.35)
    assert probability[truth].mean() > 20 * probability[~truth].mean()


def test_both_stop_as_many_whatever_the_line() -> None:
    log = log_of(turns=True)
    data, twin, again = trained(turns=True)
    later = log.payments.event_time_us >= data.manifest.test.end_us
    probability = again.calibration.apply(again.model.raw_score(log.X[later]))
    theirs = twin.calibration.apply(twin.model.raw_score(log.X[later]))
    for line in np.quantile(theirs, [0.5, 0.8, 0.95]):
        equating = [np.count_nonzero(p[::2] >= line) for p in (probability, theirs)]
        assert equating[0] == pytest.approx(equating[1], rel=0.1, abs=2)
        assert differs(probability[1::2] >= line, theirs[1::2] >= line) == ""
    # The twin has not seen what frauds look like by now.
    fraud = log.X[later, OTHER] > 3.0
    worst = np.argsort(-probability)[: fraud.sum()], np.argsort(-theirs)[: fraud.sum()]
    assert fraud[worst[0]].mean() > 2 * fraud[worst[1]].mean()


def test_a_refit_that_cannot_be_equated_does_not_serve() -> None:
    log = log_of(turns=False)
    data, twin, _ = trained(turns=False)
    few = replace(log, payments=replace(log.payments, event_time_us=log.payments.event_time_us * 2))
    again = refit(SETTINGS, "lightgbm", data, twin, few, threads=1)
    assert again is not None
    assert "0 payments are younger than known truth, 1,000 are needed" in again.note.refused
    assert again.note.words.startswith("The model that was measured serves, and no refit: ")


def test_the_twin_stays_in_the_folder_of_what_serves_and_is_what_gates_judge(
    tmp_path: Path,
) -> None:
    mlflow = MlflowSettings(port=free_port())
    settings = imported(tmp_path, rows=6_000, frauds=300, mlflow=mlflow, delay_days=6)
    now_us = 1_767_225_600_000_000 + 30 * DAY_US  # labels of the last days come after it
    trained = train(settings, now_us=now_us, threads=1, baselines=False)
    assert trained.manifest.refit is not None
    assert trained.manifest.figures_of == "twin", trained.manifest.refit
    promoted = promote(settings, now_us=now_us)
    assert promoted.gate is not None
    serves, twin = load_manifest(promoted.folder), load_manifest(judged_folder(promoted.folder))
    assert serves == msgspec.structs.replace(trained.manifest, version="1", run_id=serves.run_id)
    assert serves.metrics == twin.metrics != {}
    assert serves.training.rows > twin.training.rows
    assert serves.training.end_us > twin.training.end_us
    assert promoted.gate.start_us == twin.training.end_us, "the refit has seen what judges it"

    again = train(settings, now_us=now_us, threads=1, baselines=False, parameters={"seed": 8})
    assert promote(settings, again.version, now_us=now_us).replaced == "1"
    report = GateReport.load(report_path(settings, "2"))
    assert report.refit
    assert report.frauds > 10, "the twins are compared, on payments that neither has seen"

    model = promoted.folder / JUDGED / "model.txt"
    model.write_text(model.read_text().replace("leaf_value=", "leaf_value=0", 1))
    with pytest.raises(ModelNotSigned, match=r"judged/model\.txt was changed after signing"):
        check_folder(promoted.folder, trusted_keys_of(settings), version="1", to_serve=True)


def test_equal_ranks_get_equal_probabilities() -> None:
    twin_raw = np.random.default_rng(1).normal(size=4_000)
    calibration = Calibration(np.array([-9.0, 0.0, 1.0, 9.0]), np.array([0.001, 0.01, 0.2, 0.9]))
    curve = equated(3.0 * twin_raw + 1.0, twin_raw, calibration)
    inside = np.linspace(-1.5, 3.0, 50)
    np.testing.assert_allclose(curve.apply(3.0 * inside + 1.0), calibration.apply(inside), rtol=0.1)
    constant = equated(np.zeros(4_000), twin_raw, calibration)  # a model that learnt nothing
    assert np.isfinite(constant.apply([-1.0, 0.0, 1.0])).all()


def test_shares_differ_by_more_than_a_fifth_and_more_than_chance() -> None:
    def pair(both: int, mine: int, theirs: int) -> tuple[npt.NDArray[np.bool_], ...]:
        one, other = np.zeros(10_000, np.bool_), np.zeros(10_000, np.bool_)
        one[: both + mine] = True
        other[:both] = True
        other[both + mine : both + mine + theirs] = True
        return one, other

    assert differs(*pair(100, 20, 0)) == ""
    assert "121 of the last 10,000 payments instead of 100" in differs(*pair(100, 21, 0))
    assert "79 of the last 10,000" in differs(*pair(79, 0, 21))
    assert differs(*pair(2, 3, 0)) == "", "three payments are chance"
    assert differs(*pair(40, 50, 40)) == "", "two models disagree, and stop the same share"
    assert differs(*pair(0, 0, 0)) == ""
