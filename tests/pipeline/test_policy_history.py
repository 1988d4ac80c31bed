"""Before anything was decided, the champion says of the history what a policy would do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sentinel.domain import Label, NoModel, Transaction, Verdict
from sentinel.features.plan.plan import DAY_US, HOUR_US
from sentinel.ledger.log import append_import
from sentinel.ledger.sqlite import SqliteLedger
from sentinel.models.evaluation import HeldOut
from sentinel.models.thresholds import Thresholds
from sentinel.pipeline.at_lines import cross_fitted_figures, held_out_figures
from sentinel.pipeline.dataset_folder import Rows
from sentinel.pipeline.policies import apply, preview, refresh
from sentinel.policy.economics import Costs, Segment
from sentinel.policy.versions import Exploring, Terms
from sentinel.settings import Settings
from testkit.scratch import make_workspace
from tests.features.logs import batch_of
from tests.features.plans import every_function

COSTS = Costs(fee_minor=1_500, false_decline_minor=2_500, review_minor=300)
START_US = 1_700_000_000_000_000
PAYMENTS = 1_200


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A champion and sixty days of history of which nothing was decided by it."""
    plan = every_function((HOUR_US, DAY_US))
    settings = make_workspace(tmp_path_factory.mktemp("w"), plan=plan, trees=3, leaves=4)
    random = np.random.default_rng(7)
    entries: list[Transaction | Label] = []
    for n in range(PAYMENTS):
        at_us = START_US + n * 60 * DAY_US // PAYMENTS
        entries.append(
            Transaction(
                transaction_id=f"t{n}",
                event_time_us=at_us,
                received_at_us=at_us,
                amount_minor=int(random.integers(100, 500_000)),
                customer_id=f"c{n % 97}",
                merchant_id=f"m{n % 11}",
                attributes={"channel": "app" if n % 5 == 0 else "pos"},
            )
        )
        if n % 20 == 0:
            entries.append(
                Label(
                    label_id=f"l{n}",
                    transaction_id=f"t{n}",
                    verdict=Verdict.FRAUD,
                    received_at_us=at_us,
                )
            )
    with SqliteLedger.open_writer(settings.ledger_path) as ledger:
        append_import(ledger, batch_of(entries))
    return settings


def test_history_is_scored_where_nothing_was_decided(imported: Settings) -> None:
    segment = Segment(name="app", field="attributes.channel", values=("app",), costs=COSTS)
    terms = Terms(costs=COSTS, segments=(segment,), reviews_per_day=1)
    found = preview(imported, terms)
    assert found.known.source == "history"
    assert found.workings.payments == pytest.approx(PAYMENTS * 28 / 60, rel=0.02)
    assert found.known.frauds > 0
    assert {line.segment for line in found.lines} == {"", "app"}
    assert found.workings.reviews_a_day <= 1
    made, _ = apply(
        imported,
        Terms(exploring=Exploring(budget_minor=10**9)),
        by="ann",
        why="bands of the model, and a control group",
    )
    assert made.share == pytest.approx(refresh(imported).workings.share)


def test_without_a_model_nothing_can_be_said(tmp_path: Path) -> None:
    settings = Settings(workspace=tmp_path)
    with SqliteLedger.open_writer(settings.ledger_path):
        pass
    with pytest.raises(NoModel, match="no decision and no champion yet"):
        refresh(settings)


def test_a_model_is_measured_at_its_lines(imported: Settings, tmp_path: Path) -> None:
    settings = imported.model_copy(update={"workspace": tmp_path})
    random = np.random.default_rng(3)
    n = 6_000
    p = random.beta(0.2, 1.0, n)
    fraud = random.random(n) < p
    card = random.integers(0, 3_000, n)
    amount = random.integers(100, 90_000, n)
    held_out = HeldOut(
        fraud=fraud,
        score=p,
        probability=p,
        card=card,
        event_time_us=np.zeros(n, dtype=np.int64),
        amount_minor=amount,
    )
    bands = Thresholds(fraud=0.5, review=0.3, decline=0.6)
    found = held_out_figures(settings, held_out, bands)
    assert found["precision_of_declines"].value == pytest.approx(fraud[p >= 0.6].mean())
    assert "cost_per_1000_minor" not in found  # nobody has said what anything costs
    few = Rows(
        X=np.zeros((n, 1), np.float32),
        fraud=fraud,
        card=card,
        event_time_us=held_out.event_time_us,
        amount_minor=amount,
    )
    fitted = cross_fitted_figures(settings, np.log(p / (1 - p)), few)
    budget = settings.training.alert_budget_per_1000 / 1_000
    assert fitted["review_rate"].value == pytest.approx(budget, rel=0.5)
    true = p[p >= settings.training.decline_precision].mean()
    assert fitted["precision_of_declines"].low <= true <= fitted["precision_of_declines"].high
