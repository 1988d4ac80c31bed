"""Draw docs/images/experiment.svg: how an experiment is judged, day by day.

Two made-up experiments of 80 frauds a day, half of the cards each: a challenger that catches more
than the champion, and one that is worth the same. What is drawn is what
`sentinel experiment status` would say after each mature day.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sentinel.experiments.judging import (
    Rules,
    Verdict,
    kinds_of,
    part_estimate,
    part_interval,
    verdicts,
)
from sentinel.models.curves import ACCENT, FAINT, INK

TARGET = Path(__file__).parents[1] / "docs" / "images" / "experiment.svg"
DAYS, FRAUDS, SHARE, SEED = 60, 80, 0.5, 4


def draw(axes: Axes, title: str, only_champion: float, only_challenger: float) -> str:
    """Draw one experiment; returns its last figures in words."""
    random = np.random.default_rng(SEED)
    parts = [only_champion, only_challenger, 1.0 - only_champion - only_challenger]
    caught = random.multinomial(FRAUDS, parts, size=DAYS)[:, :2]
    counts = random.binomial(caught, [SHARE, 1.0 - SHARE]).cumsum(axis=0)
    kinds, days = kinds_of(SHARE), np.arange(1.0, DAYS + 1)
    interval = part_interval(kinds, counts, Rules())
    estimate = part_estimate(kinds, counts)
    promoted = np.flatnonzero(verdicts(kinds, counts, days, Rules()) == Verdict.PROMOTE)
    axes.fill_between(days, interval.low, interval.high, color=ACCENT, alpha=0.18, lw=0)
    axes.plot(days, estimate, color=ACCENT, lw=1.6)
    axes.axhline(0.5, color=INK, lw=0.8, ls=(0, (4, 3)))
    if len(promoted):
        day = int(promoted[0])
        axes.axvline(day + 1, color=INK, lw=0.8)
        axes.annotate(
            f"promoted on day {day + 1}",
            (day + 1, 0.04),
            xytext=(-5, 0),
            ha="right",
            textcoords="offset points",
            fontsize=8,
            color=INK,
        )
    truth = only_challenger / (only_champion + only_challenger)
    axes.axhline(truth, color=FAINT, lw=0.8, xmin=0.93)
    axes.set_title(title, fontsize=9, loc="left", color=INK)
    axes.set_xlim(1, DAYS)
    axes.set_ylim(0, 1)
    axes.set_xlabel("days of mature payments", fontsize=8, color=INK)
    axes.tick_params(labelsize=8, colors=INK)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    champion, challenger = counts[-1]
    return (
        f"{title}: {champion} frauds that only the champion catches and {challenger} that only "
        f"the challenger catches came to light; part {estimate[-1]:.2f} "
        f"({interval.low[-1]:.2f} to {interval.high[-1]:.2f})"
    )


def main() -> None:
    """Draw both, and print the figures behind the picture."""
    with mpl.rc_context({"font.family": "sans-serif", "svg.hashsalt": "sentinel"}):
        figure = Figure(figsize=(7.2, 2.9), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        print(draw(left, "better: 7 % against 4 %", 0.04, 0.07))
        print(draw(right, "worth the same: 5.5 % each", 0.055, 0.055))
        left.set_ylabel("challenger's part of frauds\nthat only one catches", fontsize=8, color=INK)
        figure.savefig(TARGET, metadata={"Date": None})


if __name__ == "__main__":
    main()
