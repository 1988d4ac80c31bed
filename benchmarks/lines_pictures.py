"""The pictures of docs/policy.md: lines by amount, and what a control group tells by month."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console

from benchmarks.lines import TERMS
from sentinel.policy.exploration import MOST_SHARE
from sentinel.policy.figures import widest_half_width

INK, ACCENT, FAINT = "#1f3a5f", "#c8553d", "#9aa5b1"
DECLINES_A_MONTH = (300, 600, 1_200)
EXPLORED_A_MONTH = 60


def main(argv: Sequence[str]) -> int:
    """Draw both; returns the exit status."""
    parser = argparse.ArgumentParser(prog="benchmarks lines_pictures", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("docs/images"))
    options = parser.parse_args(argv)
    mpl.rcParams["svg.hashsalt"] = "sentinel"  # the same picture has the same bytes
    for name, draw in (("policy-lines", _lines), ("policy-known", _known)):
        path = options.folder / f"{name}.svg"
        _draw(path, draw)
        Console().print(f"Drew {path}", markup=False)
    return 0


def _draw(path: Path, draw: Callable[[Axes], None]) -> None:
    figure = Figure(figsize=(6.4, 3.6))
    axes = figure.add_subplot()
    draw(axes)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    text = path.read_text(encoding="utf-8")
    path.write_text("\n".join(line.rstrip() for line in text.splitlines()) + "\n")


def _lines(axes: Axes) -> None:
    """Review and decline lines of the benchmark's costs, with and without a price of reviews."""
    amounts = np.geomspace(1_000, 1_000_000, 60)
    for price, style, words in (
        (0.0, "-", "time for all"),
        (600.0, "--", "a review costs 6.00 of time"),
    ):
        economics = TERMS.economics(price)
        for outcome, colour, name in ((1, INK, "review"), (2, ACCENT, "decline")):
            line = [economics.line(outcome, amount) for amount in amounts]
            axes.plot(amounts / 100, line, style, color=colour, label=f"{name} from, {words}")
    axes.set(xscale="log", xlabel="amount", ylabel="probability of fraud", ylim=(0, 1))


def _known(axes: Axes) -> None:
    """Half-width of the share of fraud among declines, by months of a control group."""
    months = np.arange(1, 13)
    for declines, colour in zip(DECLINES_A_MONTH, (ACCENT, FAINT, INK), strict=True):
        a_month = min(MOST_SHARE * declines, EXPLORED_A_MONTH)
        half = [widest_half_width(a_month * month) for month in months]
        more = " or more" if MOST_SHARE * declines >= EXPLORED_A_MONTH else ""
        label = f"{declines:,}{more} declines a month: {a_month:.0f} let through"
        axes.plot(months, half, marker="o", color=colour, label=label)
    axes.set(xlabel="months of a control group", ylabel="known to within", ylim=(0, 0.3))
