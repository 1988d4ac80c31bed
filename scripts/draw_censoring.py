"""Draw docs/images/censoring.svg: what a model learns from what its own declines leave.

A world of independent payments, of which one in a hundred is fraud. A model declines the riskiest
one percent of each month, a declined fraud brings no chargeback, and the next model is fitted on
what is left, with the project's own samples, weights and trainer.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from sentinel.features.plan.plan import DAY_US
from sentinel.models.curves import ACCENT, FAINT, INK
from sentinel.models.dataset import LabelLog, PaymentLog, sample
from sentinel.models.decided import APPROVE, DECLINE, SENTINEL, Decided
from sentinel.models.evaluation import average_precision
from sentinel.models.fitted import FittedModel
from sentinel.models.trainers import train

TARGET = Path(__file__).parents[1] / "docs" / "images" / "censoring.svg"
MONTH_US = 30 * DAY_US
ROWS, FEATURES, ROUNDS, SEEDS = 15_000, 6, 4, 10
SHARE = 0.05

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Month:
    """Payments of a month. Attributes: X (n, f), fraud (n,), time_us (n,)."""

    X: NDArray[np.float32]
    fraud: Bools
    time_us: NDArray[np.int64]

    @classmethod
    def draw(cls, random: np.random.Generator) -> Month:
        fraud = random.random(ROWS) < 0.01
        X = random.normal(0.0, 1.0, (ROWS, FEATURES)).astype(np.float32)
        X[:, 0] += 3.0 * fraud
        return cls(X, fraud, np.sort(random.integers(0, MONTH_US, ROWS)))


TRUTH, SILENCE, LEFT_OUT, CONTROL_GROUP = (
    "nothing is declined: the whole truth",
    "silence counts as legitimate",
    "declines are left out",
    "left out, and 1 in 20 let through",
)
COLOURS = {TRUTH: "black", SILENCE: ACCENT, LEFT_OUT: FAINT, CONTROL_GROUP: INK}


def decided(arm: str, base: Bools, explored: Bools) -> Decided | None:
    """What training is told of decisions.

    Args:
        arm: Which world.
        base: bool (n,), what the model would decline.
        explored: bool (n,), what of it the control group lets through.
    """
    if arm in (TRUTH, SILENCE):
        return None
    chance = np.where(explored, SHARE, np.where(base, 1.0 - SHARE, 1.0))
    return Decided(
        outcome=np.where(base & ~explored, DECLINE, APPROVE).astype(np.int8),
        base_outcome=np.where(base, DECLINE, APPROVE).astype(np.int8),
        eligible=base & (arm == CONTROL_GROUP),
        propensity=np.where(arm == CONTROL_GROUP, chance, 1.0).astype(np.float32),
        source=np.full(len(base), SENTINEL, dtype=np.int8),
    )


def rounds_of(arm: str, seed: int) -> list[float]:
    """Average precision on fresh truth after each training."""
    random = np.random.default_rng(seed)
    model: FittedModel | None = None
    line, found = 0.0, []
    for _ in range(ROUNDS):
        month = Month.draw(random)
        base = np.zeros(ROWS, dtype=np.bool_)
        if model is not None:
            base = model.raw_score(month.X) >= line
        draw = random.random(ROWS) < SHARE
        explored = base & draw & (arm == CONTROL_GROUP)
        hidden = base & ~explored & (arm != TRUTH)
        reported = np.flatnonzero(month.fraud & ~hidden)
        payments = PaymentLog(
            event_time_us=month.time_us,
            received_at_us=month.time_us,
            amount_minor=np.ones(ROWS, dtype=np.int64),
            card=np.arange(ROWS),
            decided=decided(arm, base, explored),
        )
        labels = LabelLog(
            row=reported,
            fraud=np.ones(len(reported), dtype=np.bool_),
            received_at_us=month.time_us[reported] + 10 * DAY_US,
        )
        known = sample(
            payments,
            labels,
            start_us=0,
            end_us=MONTH_US,
            cutoff_us=2 * MONTH_US,
            maturity_us=MONTH_US,
        )
        model = train(
            "lightgbm",
            month.X[known.rows],
            known.fraud,
            feature_names=[f"f{i}" for i in range(FEATURES)],
            weight=known.weight,
            parameters={"rounds": 60},
            threads=1,
        )
        line = float(np.quantile(model.raw_score(month.X), 0.99))
        fresh = Month.draw(np.random.default_rng(1_000 + seed))
        found.append(average_precision(fresh.fraud, model.raw_score(fresh.X)))
    return found


def draw() -> dict[str, list[float]]:
    """Write the picture; gives the means that it shows, by arm."""
    means = {
        arm: np.mean([rounds_of(arm, seed) for seed in range(SEEDS)], axis=0).tolist()
        for arm in COLOURS
    }
    mpl.rcParams["svg.hashsalt"] = "sentinel"
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    ax: Axes = figure.subplots()
    ax.spines[["top", "right"]].set_visible(False)
    for arm, values in means.items():
        style = ":" if arm == TRUTH else "-"
        ax.plot(range(ROUNDS), values, style, marker="o", color=COLOURS[arm], label=arm)
    ax.set_xticks(range(ROUNDS), ["first model", *(f"retrained {i}x" for i in range(1, ROUNDS))])
    ax.set(ylim=(0, 0.95), ylabel="average precision on fresh truth")
    ax.set_title("What a model learns from what its declines leave", loc="left")
    ax.legend(frameon=False, loc="upper left")
    figure.savefig(TARGET, metadata={"Date": None})
    return means


if __name__ == "__main__":
    for arm, values in draw().items():
        print(f"{arm:40}" + " ".join(f"{value:.3f}" for value in values))
