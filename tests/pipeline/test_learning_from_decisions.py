"""From a log with declines and a control group to a model: what was hidden is never taught."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from sentinel.cli.reports import dataset_report
from sentinel.domain import Label, LabelsStopped, Verdict
from sentinel.features.plan.plan import DAY_US
from sentinel.log.entries import LABEL_FORMAT, GroupKind, LabelGroup, encode_group
from sentinel.models.evaluation import WEIGHTED
from sentinel.pipeline.baselines import sampled
from sentinel.pipeline.contestants import held_out
from sentinel.pipeline.dataset_folder import load_dataset
from sentinel.pipeline.datasets import build_dataset
from sentinel.pipeline.fitting import fit, fit_and_measure
from sentinel.pipeline.label_watch import check_label_feed, watch_labels
from sentinel.pipeline.labelled_payments import labelled_payments
from sentinel.pipeline.workspace import ledger_writer
from tests.pipeline.decided_log import PLAN, SHARE, START_US, DecidedLog, decided_log


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> DecidedLog:
    return decided_log(tmp_path_factory.mktemp("decided"))


def test_weights_go_with_the_payments_into_every_part_and_back(log: DecidedLog) -> None:
    built = build_dataset(log.settings)
    data = load_dataset(built.folder)
    about = built.manifest
    for name, period in (("fit", about.fit), ("tail", about.tail), ("test", about.test)):
        rows, read = getattr(built.dataset, name), getattr(data, name)
        np.testing.assert_array_equal(read.weight, rows.weight)
        heavy = rows.weight > 1.0
        np.testing.assert_allclose(rows.weight[heavy], 1.0 / SHARE, rtol=1e-6)
        assert heavy.any()
        assert period.effective_frauds is not None
        assert period.effective_frauds < period.frauds
    assert about.left_out > 0


def test_no_declined_payment_is_in_any_part_nor_before_the_gate(log: DecidedLog) -> None:
    known = labelled_payments(log.settings)
    decided = known.payments.decided
    assert decided is not None
    np.testing.assert_array_equal(decided.explored, log.explored)
    np.testing.assert_array_equal(decided.withheld, log.declined)
    judged = held_out(log.settings, known, start_us=0)
    assert not log.declined[judged.rows].any()
    np.testing.assert_array_equal(judged.fraud, log.fraud[judged.rows])
    assert judged.weight[log.explored[judged.rows]].min() > 9.9


def test_the_weighted_share_of_fraud_is_the_true_one(log: DecidedLog) -> None:
    """Most frauds are declined; what is left of them has a share that is far too low."""
    known = labelled_payments(log.settings)
    rows = held_out(log.settings, known, start_us=0)
    truth = float(log.fraud.mean())
    weighted = float((rows.weight * rows.fraud).sum() / rows.weight.sum())
    assert abs(weighted - truth) < 0.02
    assert float(rows.fraud.mean()) < 0.6 * truth


def test_figures_come_with_and_without_weights(log: DecidedLog) -> None:
    data = build_dataset(log.settings).dataset
    found = fit_and_measure(log.settings, "lightgbm", data, threads=1).figures
    names = set(found.metrics) | set(found.not_measured)
    assert {"average_precision", WEIGHTED + "average_precision"} <= names


def test_a_few_payments_of_the_control_group_do_not_say_when_a_fit_stops(log: DecidedLog) -> None:
    """Good payments that look like frauds, and stand for fifty each."""
    data = build_dataset(log.settings).dataset
    tail = data.tail
    X, weight = tail.X.copy(), np.ones(len(tail.fraud))
    good = np.flatnonzero(~tail.fraud)[:6]
    X[good] = tail.X[tail.fraud][:6]
    weight[good] = 50.0
    heavy, light = (
        fit(
            log.settings,
            "lightgbm",
            replace(data, tail=replace(tail, X=X, weight=of)),
            threads=1,
        )
        for of in (weight, None)
    )
    assert heavy.native() == light.native()


def test_a_baseline_keeps_the_control_group(log: DecidedLog) -> None:
    data = build_dataset(log.settings).dataset
    rows = data.fit
    assert rows.weight is not None
    few = sampled(rows, len(rows.fraud) // 2, seed=1)
    assert few.weight is not None
    assert few.weight.sum() == pytest.approx(rows.weight.sum())
    assert (few.weight > 9.0).sum() == (rows.weight > 9.0).sum()


# A feed of labels that stopped


def test_training_stops_where_labels_stopped_instead_of_learning_that_fraud_ended(
    tmp_path: Path,
) -> None:
    silent = decided_log(tmp_path, per_day=30, labels_until=60)
    with pytest.raises(LabelsStopped, match=r"stopped arriving.*39\.\d days.*max_silence_days"):
        build_dataset(silent.settings)
    with pytest.raises(LabelsStopped):
        watch_labels(silent.settings)
    assert not (silent.settings.offline_dir / "datasets").exists()
    then = build_dataset(silent.settings, now_us=START_US + 61 * DAY_US)
    assert then.manifest.test.frauds > 0
    labels = silent.settings.labels.model_copy(update={"max_silence_days": 60.0})
    anyway = silent.settings.model_copy(update={"labels": labels})
    assert build_dataset(anyway).manifest.fit.rows > 0
    assert "60.0 days are accepted" in watch_labels(anyway)


def test_a_feed_that_goes_on_is_told_with_its_rhythm(log: DecidedLog) -> None:
    assert "pauses are usually up to" in watch_labels(log.settings)
    check_label_feed(log.settings, labelled_payments(log.settings))


def test_verdicts_on_reviews_do_not_stand_in_for_a_feed_that_stopped(tmp_path: Path) -> None:
    silent = decided_log(tmp_path, per_day=30, labels_until=60)
    with ledger_writer(silent.settings) as ledger:
        row = int(np.flatnonzero(silent.declined)[-1])
        end = ledger.last_received_at_us()
        verdict = Label(
            label_id="v",
            transaction_id=f"p{row}",
            verdict=Verdict.LEGITIMATE,
            received_at_us=end,
            origin="analyst",
        )
        payload = encode_group(LabelGroup(LABEL_FORMAT, [verdict]))
        ledger.append(GroupKind.LABELS, 1, end, payload)
    with pytest.raises(LabelsStopped, match="1 label that came since is about a payment"):
        build_dataset(silent.settings)


# What was served is learnt from


def test_datasets_hold_what_was_served_degraded_decisions_included(tmp_path: Path) -> None:
    served = decided_log(tmp_path, per_day=30, served_by=PLAN.hash)
    built = build_dataset(served.settings)
    data, about = built.dataset, built.manifest
    rows = sum(len(part.fraud) for part in (data.fit, data.tail, data.test))
    unknown = sum(int(np.isnan(part.X[:, 1]).sum()) for part in (data.fit, data.tail, data.test))
    assert about.served == rows
    assert about.degraded == unknown > rows // 20
    assert any("of degraded decisions" in note for note in about.notes)
    known = labelled_payments(served.settings)
    computed = known.vectors(np.arange(len(known.payments)))
    assert not np.isnan(computed).any(), "feature parts hold what is computed"


def test_what_another_plan_served_is_computed_anew(log: DecidedLog) -> None:
    built = build_dataset(log.settings)
    assert (built.manifest.served, built.manifest.degraded) == (0, 0)
    assert not np.isnan(built.dataset.fit.X).any()


def test_what_is_unknown_and_what_weights_come_to_is_printed(log: DecidedLog) -> None:
    built = build_dataset(log.settings)
    unknown = built.manifest.unknown
    fitted, tested = built.manifest.fit, built.manifest.test
    days = (tested.end_us - fitted.start_us) / DAY_US
    parts = (fitted, built.manifest.tail, tested)
    assert sum(unknown.values()) + sum(part.rows for part in parts) == pytest.approx(
        60 * days, abs=60
    )
    assert unknown["declined"] == built.manifest.left_out > 0
    assert unknown["not mature, or in a gap"] > 0
    missing = sum(unknown.values()) + sum(built.manifest.outside.values())
    assert built.manifest.outside["in the gap after the test"] > 0
    assert missing + sum(part.rows for part in parts) == len(log.fraud)
    page = io.StringIO()
    dataset_report(Console(file=page, width=80), built)
    lines = page.getvalue().splitlines()
    assert max(len(line) for line in lines if not line.startswith("Written")) <= 80
    assert any("declined" in line and f"{unknown['declined']:,}" in line for line in lines)
    assert any("effective frauds" in line for line in lines)
    assert any("in no part or in one" in line and f"{len(log.fraud):,}" in line for line in lines)
