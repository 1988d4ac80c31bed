"""A workspace whose log holds decisions with a control group, and what came of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from sentinel.domain import Label, Transaction, Verdict
from sentinel.features.plan.parts import RequestFeature
from sentinel.features.plan.plan import DAY_US, Plan
from sentinel.log.columns import DecisionColumns
from sentinel.log.entries import (
    FLAG_DEGRADED,
    LABEL_FORMAT,
    GroupKind,
    LabelGroup,
    encode_group,
)
from sentinel.models.decided import APPROVE, DECLINE
from sentinel.pipeline.workspace import ledger_writer
from sentinel.settings import LabelSettings, MlflowSettings, Settings, TrainingSettings
from testkit.ports import free_port
from tests.ledger.material import decision_group

START_US = 1_767_225_600_000_000  # 2026-01-01
SHARE = 0.1
LABEL_DELAY_DAYS = 10

PLAN = Plan(
    views=(),
    request=(
        RequestFeature(name="amount", kind="amount"),
        RequestFeature(name="risk", kind="number", column="risk"),
    ),
)


@dataclass(frozen=True)
class DecidedLog:
    """What was written, by payment in log order.

    Attributes:
        settings: The workspace.
        fraud, declined, explored: bool (n,).
    """

    settings: Settings
    fraud: NDArray[np.bool_]
    declined: NDArray[np.bool_]
    explored: NDArray[np.bool_]


def decided_log(
    folder: Path,
    *,
    days: int = 100,
    per_day: int = 60,
    share: float = SHARE,
    labels_until: int = 0,
    served_by: str = "another plan",
) -> DecidedLog:
    """Days of payments, each declined where its risk is high but for a share that is let through.

    Args:
        folder: Where the workspace goes.
        days, per_day: How many.
        share: Of what would be declined, let through at random.
        labels_until: The day after which labels no longer come; 0: they always do.
        served_by: Hash of the plan that the decisions name. Every tenth one is degraded, and its
            vector holds no risk.
    """
    random = np.random.default_rng(17)
    settings = Settings(
        workspace=folder / "workspace",
        mlflow=MlflowSettings(port=free_port(), model_name=f"model-{folder.name}"),
        labels=LabelSettings(maturity_days=20),
        training=TrainingSettings(bootstrap_rounds=50, window_days=365),
    )
    n = days * per_day
    fraud = random.random(n) < 0.08
    risk = random.normal(2.5 * fraud, 1.0)
    high = risk > 2.2
    explored = high & (random.random(n) < share)
    log = DecidedLog(settings, fraud, high & ~explored, explored)
    with ledger_writer(settings) as ledger:
        for day in range(days):
            rows = np.arange(day * per_day, (day + 1) * per_day)
            times = START_US + day * DAY_US + np.sort(random.integers(0, DAY_US, per_day))
            payments = [
                Transaction(
                    transaction_id=f"p{row}",
                    event_time_us=int(time),
                    received_at_us=int(time),
                    amount_minor=int(random.integers(100, 9_000)),
                    card_id=f"k{row % 900}",
                    attributes={"risk": float(risk[row])},
                )
                for row, time in zip(rows.tolist(), times.tolist(), strict=True)
            ]
            outcome = np.where(log.declined[rows], DECLINE, APPROVE).astype("<u4")
            propensity = np.where(explored[rows], share, np.where(high[rows], 1.0 - share, 1.0))
            vectors = np.empty((per_day, 2), dtype="<f4")
            vectors[:, 0] = [payment.amount_minor for payment in payments]
            vectors[:, 1] = np.where(rows % 10 == 0, np.nan, risk[rows])
            flags = outcome | np.where(rows % 10 == 0, FLAG_DEGRADED, 0).astype("<u4")
            group = msgspec.structs.replace(
                decision_group(payments),
                plan_hash=served_by,
                vectors=vectors.tobytes(),
                flags=flags.tobytes(),
                columns=DecisionColumns(
                    base_outcomes=np.where(high[rows], DECLINE, APPROVE).astype(np.uint8).tobytes(),
                    eligible=high[rows].astype(np.uint8).tobytes(),
                    propensities=propensity.astype("<f4").tobytes(),
                ),
            )
            end = int(times[-1])
            ledger.append(GroupKind.DECISIONS, per_day, end, encode_group(group))
            reported = rows - LABEL_DELAY_DAYS * per_day
            reported = reported[reported >= 0]
            reported = reported[fraud[reported] & ~log.declined[reported]]
            if len(reported) and not 0 < labels_until < day:
                labels = [
                    Label(
                        label_id=f"l{row}",
                        transaction_id=f"p{row}",
                        verdict=Verdict.FRAUD,
                        received_at_us=end,
                    )
                    for row in reported.tolist()
                ]
                payload = encode_group(LabelGroup(LABEL_FORMAT, labels))
                ledger.append(GroupKind.LABELS, len(labels), end, payload)
    PLAN.save(settings.plan_path)
    return log
