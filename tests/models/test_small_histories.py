"""Whatever history there is gives a model, a provisional model, or one clear line."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sentinel.domain import InvalidQuery, ModelError
from sentinel.features.plan.parts import RequestFeature
from sentinel.features.plan.plan import DAY_US, Plan
from sentinel.models import splitting
from sentinel.models.artifact import TrainingWindow, load_manifest, load_trees, save_artifact
from sentinel.models.dataset import MIN_FRAUDS, LabelLog, PaymentLog, Sample
from sentinel.models.decided import Decided
from sentinel.models.evaluation import NOT_ENOUGH_FRAUDS
from sentinel.models.label_delays import maturity_of
from sentinel.models.splitting import Split, SplitRequest, split_by_time
from sentinel.models.tree_kernel import Scorer
from sentinel.pipeline.dataset_folder import Dataset, DatasetManifest, Period, Rows
from sentinel.pipeline.fitting import Result, fit_and_measure
from sentinel.settings import Settings, TrainingSettings

ALL = ["lightgbm", "xgboost", "random_forest", "lightgbm_forest", "logistic_regression"]
DEFAULTS = Settings(training=TrainingSettings(bootstrap_rounds=50))


@dataclass(frozen=True)
class Log:
    """A history with its labels, in days."""

    payments: PaymentLog
    labels: LabelLog
    days: float

    def split(self, **changes: Any) -> Split:
        spans = {
            "now_us": round(self.days * DAY_US) + 1,
            "window_us": None,
            "test_us": 14 * DAY_US,
            "maturity_us": 30 * DAY_US,
            "maturity_is_default": True,
        }
        return split_by_time(self.payments, self.labels, SplitRequest(**(spans | changes)))


def log_of(
    rows: int,
    days: float,
    frauds: int,
    delay_days: float = 0.0,
    *,
    seed: int = 1,
    until: float = 1.0,
) -> Log:
    """Payments at random times, frauds among them, each labelled after the same delay.

    Args:
        until: Share of the days within which the frauds happen.
    """
    random = np.random.default_rng(seed)
    times = np.sort((random.random(rows) * days * DAY_US).astype(np.int64))
    early = np.flatnonzero(times <= until * days * DAY_US)
    chosen = np.sort(random.choice(early, size=min(frauds, len(early)), replace=False))
    arrival = times[chosen] + round(delay_days * DAY_US)
    order = np.argsort(arrival, kind="stable")
    payments = PaymentLog(
        event_time_us=times,
        received_at_us=times,
        amount_minor=random.integers(1, 10_000, rows),
        card=random.integers(-1, max(rows // 5, 1), rows),
    )
    labels = LabelLog(
        row=chosen[order],
        fraud=np.ones(len(chosen), dtype=np.bool_),
        received_at_us=arrival[order],
    )
    return Log(payments, labels, days)


def dataset_of(
    log: Log, split: Split, columns: NDArray[np.float32], categories: int = 0
) -> Dataset:
    """What `build_dataset` would make of a split, the last columns being categories."""
    names = [f"feature {n}" for n in range(columns.shape[1])]
    kinds = ["number"] * (len(names) - categories) + ["category"] * categories
    plan = Plan(
        views=(),
        request=tuple(
            RequestFeature(name=name, kind=kind, column=name, categories=("a", "b"))  # type: ignore[arg-type]
            if kind == "category"
            else RequestFeature(name=name, kind=kind, column=name)  # type: ignore[arg-type]
            for name, kind in zip(names, kinds, strict=True)
        ),
    )

    def rows(part: Sample) -> Rows:
        at = part.rows
        return Rows(
            X=np.ascontiguousarray(columns[at]),
            fraud=part.fraud,
            card=log.payments.card[at],
            event_time_us=log.payments.event_time_us[at],
            amount_minor=log.payments.amount_minor[at],
        )

    def span(part: Sample) -> Period:
        return Period(
            rows=len(part),
            frauds=part.frauds,
            start_us=part.start_us,
            end_us=part.end_us,
            cutoff_us=part.cutoff_us,
        )

    manifest = DatasetManifest(
        name="",
        plan_hash=plan.hash,
        data_hash="",
        log_through=1,
        fit=span(split.fit),
        tail=span(split.tail),
        test=span(split.test),
        provisional=split.provisional,
    )
    return Dataset(manifest, plan, rows(split.fit), rows(split.tail), rows(split.test))


def columns_of(log: Log, number: int = 3, *, seed: int = 2) -> NDArray[np.float32]:
    """Features of which the first tells frauds."""
    random = np.random.default_rng(seed)
    columns = random.normal(size=(len(log.payments), number)).astype(np.float32)
    if number:
        columns[log.labels.row[log.labels.row >= 0], 0] += 3.0
    return columns


def fitted(data: Dataset, name: Any = "lightgbm") -> Result:
    return fit_and_measure(DEFAULTS, name, data, threads=1)


# What the split does


def test_a_long_history_is_split_as_the_settings_say() -> None:
    split = log_of(20_000, 400, 400, delay_days=29).split()
    (note,) = split.notes
    assert note == (
        "Labels came within 29 days here, so the gaps are that long instead of 30 days "
        "(labels.maturity_days)."
    )
    assert (split.test.end_us - split.test.start_us) == 14 * DAY_US
    assert split.fit.start_us < DAY_US
    assert (
        split.test.start_us - split.tail.end_us == split.gap_us == pytest.approx(29 * DAY_US, abs=2)
    )
    assert not split.provisional


def test_a_maturity_that_was_set_is_kept_where_it_fits() -> None:
    split = log_of(20_000, 400, 400).split(maturity_is_default=False)
    assert split.gap_us == 30 * DAY_US
    assert split.notes == ()


@pytest.mark.parametrize("days", [2.0, 30.0, 60.0, 3650.0])
def test_gaps_and_test_follow_the_length_of_the_history(days: float) -> None:
    split = log_of(5_000, days, 200).split()
    assert split.provisional == ""
    assert len(split.fit) > 2 * len(split.test) > 0
    assert split.tail.end_us <= split.test.start_us
    if days < 60:
        assert any("training.test_days" in note for note in split.notes)


def test_slow_labels_in_a_young_log_leave_the_payments_whose_truth_is_known() -> None:
    split = log_of(3_000, 40, 300, delay_days=15).split()
    assert any("labels that came after its beginning are used" in note for note in split.notes)
    assert split.test.end_us == pytest.approx(25 * DAY_US, abs=2)
    assert split.tail.end_us == split.test.start_us
    assert split.provisional == ""


def test_labels_slower_than_half_of_the_log_are_said_to_be_cut_off() -> None:
    split = log_of(3_000, 40, 300, delay_days=25).split()
    assert any("some labels may take longer" in note for note in split.notes)
    assert split.gap_us == pytest.approx(20 * DAY_US, rel=0.01)


def test_a_short_delay_in_a_young_log_proves_nothing() -> None:
    """Of labels that take weeks, a log of ten days has seen the quick ones only."""
    log = log_of(2_000, 10, 100, delay_days=3)
    now = 10 * DAY_US
    assert maturity_of(log.payments, log.labels, now_us=now, maturity_us=30 * DAY_US)[1] == ""
    longer = log_of(2_000, 20, 100, delay_days=3)
    found = maturity_of(longer.payments, longer.labels, now_us=20 * DAY_US, maturity_us=30 * DAY_US)
    assert found[0] == pytest.approx(3 * DAY_US, abs=2)


def test_frauds_that_are_reported_after_their_payment_counts_as_good_are_told() -> None:
    log = log_of(20_000, 400, 400, delay_days=20)
    labels = log.labels
    slow = np.arange(len(labels.row)) % 4 == 0
    later = labels.received_at_us + np.where(slow, 25 * DAY_US, 0)
    log = replace(log, labels=replace(labels, received_at_us=later))
    (note,) = [n for n in log.split().notes if "later than" in n]
    assert note.startswith("Of the frauds that were reported, 25% were reported later than 30 days")
    assert "a tenth later than 45 days" in note
    # A few that stray are no matter for a person.
    few = labels.received_at_us + np.where(np.arange(len(slow)) % 20 == 0, 25 * DAY_US, 0)
    log = replace(log, labels=replace(labels, received_at_us=few))
    assert not [n for n in log.split().notes if "later than" in n]


def test_rare_frauds_lengthen_the_test() -> None:
    split = log_of(20_000, 700, 200).split()
    assert split.test.frauds >= MIN_FRAUDS
    assert any("to hold" in note for note in split.notes)


def test_frauds_of_the_first_half_alone_are_still_tested_on() -> None:
    split = log_of(5_000, 400, 100, until=0.4).split()
    assert split.test.frauds == 25
    assert any("counting frauds" in note for note in split.notes)


def test_more_payments_than_memory_should_hold_shorten_test_and_tail(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(splitting, "MOST_TESTED", 500)
    monkeypatch.setattr(splitting, "MOST_TAIL", 300)
    split = log_of(20_000, 400, 2_000).split()
    assert (len(split.test), len(split.tail)) == (500, 300)
    assert any("so long hold 500 payments" in note for note in split.notes)
    assert split.fit.end_us == split.tail.start_us


def test_what_nobody_let_pass_is_left_out_and_counted() -> None:
    log = log_of(2_000, 100, 100)
    withheld = np.zeros(2_000, dtype=np.bool_)
    withheld[::10] = True
    payments = PaymentLog(
        event_time_us=log.payments.event_time_us,
        received_at_us=log.payments.received_at_us,
        amount_minor=log.payments.amount_minor,
        card=log.payments.card,
        decided=Decided.plain(np.where(withheld, 2, 0)),
    )
    split = Log(payments, log.labels, 100).split()
    for part in (split.fit, split.tail, split.test):
        assert not withheld[part.rows].any()
    assert split.left_out == int(withheld.sum())
    assert any("declined or held" in note for note in split.notes)


def with_a_stray(log: Log, *years: float, void: bool = False) -> Log:
    """A history before which payments lie by some years; its own rows move up."""
    far = -np.sort(np.array([round(n * 365 * DAY_US) for n in years], np.int64))[::-1]
    n = len(years)

    def before(values: Any, first: Any) -> Any:
        return np.concatenate([np.asarray(first, values.dtype), values])

    is_void = np.zeros(len(log.payments) + n, dtype=np.bool_)
    is_void[:n] = void
    payments = PaymentLog(
        event_time_us=before(log.payments.event_time_us, far),
        received_at_us=before(log.payments.received_at_us, far),
        amount_minor=before(log.payments.amount_minor, [100] * n),
        card=before(log.payments.card, [-1] * n),
        void=is_void,
    )
    return Log(payments, replace(log.labels, row=log.labels.row + n), log.days)


@pytest.mark.parametrize("rows", [300, 5_000])
@pytest.mark.parametrize("days", [20.0, 400.0])
def test_one_payment_of_long_ago_changes_no_part(rows: int, days: float) -> None:
    log = log_of(rows, days, rows // 5)
    usual = log.split()
    split = with_a_stray(log, 27.0).split()
    for part, alone in zip(
        (split.fit, split.tail, split.test), (usual.fit, usual.tail, usual.test), strict=True
    ):
        np.testing.assert_array_equal(part.rows, alone.rows + 1)
        assert (part.start_us, part.end_us) == (alone.start_us, alone.end_us)
    (note,) = [note for note in split.notes if note not in usual.notes]
    assert note.startswith("One payment lies long before all others, on 1943-01-08: nothing is")
    assert "`sentinel void`" in note


def test_few_payments_of_long_ago_are_counted() -> None:
    log = log_of(5_000, 100, 500)
    split = with_a_stray(log, 27.0, 3.0).split()
    assert split.fit.start_us == log.split().fit.start_us
    assert any("2 payments lie long before" in note and "1943" in note for note in split.notes)


@pytest.mark.parametrize("window_days", [None, 60])
@pytest.mark.parametrize(("days", "delay"), [(2.0, 0.0), (40.0, 15.0), (400.0, 29.0)])
def test_parts_and_what_is_in_none_are_all_payments(
    days: float, delay: float, window_days: int | None
) -> None:
    """Those in the gap after the test were in no line."""
    log = with_a_stray(log_of(5_000, days, 500, delay), 27.0)
    window = None if window_days is None else window_days * DAY_US
    split = log.split(window_us=window)
    parts = sum(len(part) for part in (split.fit, split.tail, split.test))
    assert split.outside["long before all others"] == 1
    assert (split.outside.get("in the gap after the test", 0) > 0) == (delay > 0)
    assert ("older than the window" in split.outside) == (days == 400 and window is not None)
    assert parts + sum(split.unknown.values()) + sum(split.outside.values()) == 5_001


@pytest.mark.parametrize("rows", [300, 5_000])
def test_a_payment_of_long_ago_that_is_void_stretches_nothing(rows: int) -> None:
    log = log_of(rows, 100, rows // 5)
    split = with_a_stray(log, 27.0, void=True).split()
    assert split.notes == log.split().notes
    assert split.fit.start_us == log.split().fit.start_us


def test_payments_that_begin_slowly_are_all_fitted_on() -> None:
    """A few weeks of few payments are the beginning of a history, and no strays."""
    log = log_of(5_000, 400, 500)
    split = with_a_stray(log, 30 / 365, 10 / 365).split()
    assert split.fit.start_us == -30 * DAY_US
    assert not any("long before" in note for note in split.notes)


# What cannot be learnt from at all


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (log_of(0, 1, 0), "holds no payment"),
        (log_of(100, 10, 0), r"knows of no fraud: it has no labels.*import-labels"),
        (log_of(50, 10, 50), "All 50 payments"),
    ],
)
def test_without_both_classes_one_line_says_what_to_do(log: Log, said: str) -> None:
    with pytest.raises(InvalidQuery, match=said):
        log.split()


def test_labels_of_other_payments_are_told_from_none() -> None:
    log = log_of(100, 10, 5)
    strangers = LabelLog(
        row=np.full(5, -1), fraud=log.labels.fraud, received_at_us=log.labels.received_at_us
    )
    with pytest.raises(InvalidQuery, match="none of its 5 labels is about a payment"):
        Log(log.payments, strangers, 10).split()


def test_a_plan_without_features_is_named() -> None:
    log = log_of(500, 10, 50)
    with pytest.raises(ModelError, match="no feature"):
        fitted(dataset_of(log, log.split(), columns_of(log, 0)))


# What is fitted on it


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(("rows", "frauds"), [(100, 1), (100, 3), (100, 40), (3_000, 30)])
def test_every_trainer_takes_whatever_there_is(name: str, rows: int, frauds: int) -> None:
    log = log_of(rows, 2.0, frauds)
    result = fitted(dataset_of(log, log.split(), columns_of(log)), name)
    scores = result.model.raw_score(columns_of(log))
    assert np.isfinite(scores).all()
    probability = result.calibration.apply(scores)
    assert ((probability > 0) & (probability < 1)).all()
    assert 0 < result.thresholds.review <= result.thresholds.decline


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("categories", [0, 1, 3])
def test_any_mixture_of_empty_and_constant_columns_is_taken(name: str, categories: int) -> None:
    log = log_of(600, 5.0, 60)
    columns = columns_of(log, 3)
    columns[:, 1] = np.nan
    columns[:, 2] = 1.0
    if categories:
        columns[:, 3 - categories :] = np.where(
            np.isnan(columns[:, 3 - categories :]), np.nan, 1.0
        ).astype(np.float32)
    result = fitted(dataset_of(log, log.split(), columns, categories), name)
    assert np.isfinite(result.model.raw_score(columns)).all()
    assert result.model.importance().shape == (3,)


@pytest.mark.parametrize("value", [np.nan, 0.0])
def test_columns_that_tell_nothing_give_a_model_that_says_the_base_rate(
    value: float, tmp_path: Any
) -> None:
    log = log_of(600, 5.0, 60)
    columns = np.full((600, 2), value, dtype=np.float32)
    data = dataset_of(log, log.split(), columns)
    result = fitted(data)
    manifest = save_artifact(
        tmp_path,
        name="m",
        plan=data.plan,
        model=result.model.native(),
        calibration=result.calibration,
        thresholds=result.thresholds,
        metrics={},
        training=TrainingWindow(start_us=0, end_us=1, cutoff_us=1, rows=1, frauds=1),
        data_hash="",
        created_at_us=1,
        provisional="few",
        not_measured=result.figures.not_measured,
    )
    assert load_manifest(tmp_path).provisional == "few"
    served = Scorer(load_trees(tmp_path, manifest)).raw_many(columns)
    probability = result.calibration.apply(served)
    assert probability[0] == pytest.approx(0.1, abs=0.07)


def test_a_signal_is_found_in_a_hundred_payments() -> None:
    """The restraints for large data would leave no split at all."""
    log = log_of(120, 2.0, 20)
    result = fitted(dataset_of(log, log.split(), columns_of(log)))
    assert np.unique(result.model.raw_score(columns_of(log))).size > 3


def test_figures_that_cannot_be_had_say_so() -> None:
    log = log_of(100, 2.0, 4)
    split = log.split()
    assert split.provisional == "there are 1 known frauds to test on, 10 are needed"
    figures = fitted(dataset_of(log, split, columns_of(log))).figures
    assert figures.metrics == {}
    assert set(figures.not_measured.values()) == {NOT_ENOUGH_FRAUDS}


def test_figures_that_need_many_payments_are_told_from_those_that_do_not() -> None:
    log = log_of(2_000, 20.0, 400)
    figures = fitted(dataset_of(log, log.split(), columns_of(log))).figures
    assert figures.metrics["average_precision"].value > 0.5
    assert figures.not_measured["recall_at_fpr_0.1pct"] == "too few good payments"
    assert figures.not_measured["card_precision_at_100"] == "under 100 cards a day"
    assert not set(figures.metrics) & set(figures.not_measured)


def check(split: Split) -> str:
    """That a split is whole; returns what it says."""
    assert 0 < split.fit.frauds < len(split.fit)
    for one, other in itertools.combinations((split.fit, split.tail, split.test), 2):
        assert not set(one.rows) & set(other.rows)
    assert bool(split.provisional) == (
        split.test.frauds < MIN_FRAUDS or len(split.test) - split.test.frauds < MIN_FRAUDS
    )
    assert all(len(note.splitlines()) == 1 for note in split.notes)
    return " ".join(split.notes) or "nothing"


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 300),
    days=st.sampled_from([0.0, 0.01, 2.0, 30.0, 400.0]),
    frauds=st.integers(0, 40),
    delay=st.sampled_from([0.0, 0.5, 20.0, 60.0]),
    until=st.sampled_from([0.1, 1.0]),
    maturity=st.sampled_from([0.0, 1.0, 30.0]),
    window=st.sampled_from([None, 5.0]),
    seed=st.integers(0, 5),
)
def test_every_small_log_gives_a_whole_split_or_one_clear_line(
    rows: int,
    days: float,
    frauds: int,
    delay: float,
    until: float,
    maturity: float,
    window: float | None,
    seed: int,
) -> None:
    log = log_of(rows, days, frauds, delay, seed=seed, until=until)
    asked = {
        "maturity_us": round(maturity * DAY_US),
        "window_us": None if window is None else round(window * DAY_US),
        "maturity_is_default": seed % 2 == 0,
    }
    arrived = log.labels.received_at_us <= round(days * DAY_US)
    if np.count_nonzero(arrived) in (0, rows):
        with pytest.raises(InvalidQuery, match=r"^[^\n]*$"):
            log.split(**asked)
        return
    try:
        split = log.split(**asked)
    except InvalidQuery as error:
        # Whatever else was imported has no truth yet.
        event("no truth yet")
        said = str(error)
    else:
        said = check(split)
    assert len(said.splitlines()) == 1
