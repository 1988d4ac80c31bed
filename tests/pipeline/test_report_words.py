"""What a report says of itself: which model its figures are of, of what time, in what money."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from sentinel.features.plan.plan import DAY_US, Plan
from sentinel.models.artifact import CalibrationPoints, ModelManifest, RefitNote, TrainingWindow
from sentinel.models.dataset import Sample
from sentinel.models.model_card import model_card
from sentinel.models.report_facts import ReportFacts, Unknown
from sentinel.models.report_page import html_page
from sentinel.models.report_words import NONE_KNOWN, money_words
from sentinel.models.thresholds import Thresholds
from sentinel.pipeline.contestants import Contestant
from sentinel.pipeline.model_report import latest, manifest_of_figures


def learnt(rows: int, to: int) -> TrainingWindow:
    return TrainingWindow(
        start_us=0, end_us=to * DAY_US, cutoff_us=to * DAY_US, rows=rows, frauds=9
    )


TWIN = ModelManifest(
    name="m",
    version="1",
    run_id="",
    kind="lightgbm",
    plan_hash="p",
    feature_names=("a",),
    calibration=CalibrationPoints(x=(0.0, 1.0), y=(0.1, 0.9)),
    thresholds=Thresholds(fraud=0.5, review=0.3, decline=0.6),
    metrics={},
    training=learnt(1_000, to=100),
    data_hash="h",
    created_at_us=0,
    libraries={},
    files={},
)
NOTE = RefitNote(recent=2_000, alert_rate=0.01, twin_alert_rate=0.011)
REFIT = msgspec.structs.replace(TWIN, training=learnt(1_500, to=160), refit=NOTE)

FACTS = ReportFacts(
    version="1",
    against="",
    start_us=100 * DAY_US,
    end_us=130 * DAY_US,
    payments=500,
    frauds=20,
    metrics={},
    not_measured={},
    better_by={},
    at_lines={},
    segments=(),
    unknown=Unknown(500, {"were declined or wait for a verdict": 40}, 123_456),
    shap={},
    permutation={},
    history={},
    created_us=200 * DAY_US,
)


def both(facts: ReportFacts, manifest: ModelManifest) -> tuple[str, str]:
    return html_page(facts, manifest, {}), model_card(facts, manifest)


def test_a_report_on_a_refit_says_what_the_judged_twin_learnt_from(tmp_path: Path) -> None:
    plan = Plan(views=(), request=())
    manifest = manifest_of_figures(Contestant("1", REFIT, plan, tmp_path, TWIN))
    assert manifest.training.end_us <= FACTS.start_us, "it has seen none of these payments"
    for text in both(FACTS, manifest):
        assert "1,000 payments" in text
        assert "1,500" not in text
        assert "What serves is a refit on all mature payments" in text


def test_a_report_says_why_no_refit_serves() -> None:
    refused = msgspec.structs.replace(NOTE, refused="it would stop twice as many")
    for text in both(FACTS, msgspec.structs.replace(TWIN, refit=refused)):
        assert "and no refit: it would stop twice as many" in text


def test_a_report_without_known_truth_says_so() -> None:
    nothing = msgspec.structs.replace(
        FACTS, payments=0, frauds=0, unknown=Unknown(0, {"have no label that is mature": 70})
    )
    page, card = both(nothing, TWIN)
    for text in (page, card):
        assert NONE_KNOWN in text
        assert "is known, or counts as known" not in text
        assert "1970-04-11 to" not in text, "there is no period without payments"
    assert "There are 70 of them" in page
    assert "Of 70 later payments nobody knows" in card


def test_of_many_payments_the_latest_are_of_their_own_time() -> None:
    times = np.arange(10, dtype=np.int64) * DAY_US
    rows = Sample(
        rows=np.arange(2, 10),
        fraud=np.zeros(8, dtype=np.bool_),
        weight=np.ones(8),
        unclipped=np.ones(8),
        start_us=DAY_US,
        end_us=10 * DAY_US,
        cutoff_us=20 * DAY_US,
    )
    cut = latest(rows, times, most=3)
    assert cut.rows.tolist() == [7, 8, 9]
    assert (cut.start_us, cut.end_us) == (7 * DAY_US, 10 * DAY_US)
    assert latest(rows, times, most=8) is rows


@pytest.mark.parametrize(
    ("scale", "said"), [(0, "123,456"), (2, "1,234.56"), (3, "123.456")], ids=["JPY", "EUR", "KWD"]
)
def test_amounts_have_the_decimals_of_their_currency(scale: int, said: str) -> None:
    assert money_words(123_456, scale) == said
    page = html_page(msgspec.structs.replace(FACTS, money_scale=scale), TWIN, {})
    assert f"worth {said}, the truth" in page
