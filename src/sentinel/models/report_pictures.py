"""Pictures of a model report, as SVG text that a page holds itself."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sentinel.features.plan.plan import DAY_US
from sentinel.models.evaluation import HeldOut, average_precision
from sentinel.models.intervals import Estimate, cluster_codes, resamples
from sentinel.models.ranking import CardDays, Ranking

Floats = npt.NDArray[np.float64]
Models = Mapping[str, HeldOut]
"""Models on the same rows, by what they are called; the one that the report is about is first."""

COLOURS: Final = ("#1f5fa8", "#c8553d", "#7a8694", "#3c8d5a", "#8a5ca8")
_QUIET: Final = "#9aa5b1"
_POINTS: Final = 500
_ROUNDS: Final = 200
_BINS: Final = 12
_STYLE: Final[Any] = {
    "font.family": "sans-serif",
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#b4bcc6",
    "axes.labelcolor": "#3d4753",
    "xtick.color": "#3d4753",
    "ytick.color": "#3d4753",
    "axes.grid": True,
    "grid.color": "#e8ecf0",
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "sentinel",
}


def svg(draw: Callable[[Axes], None], size: tuple[float, float] = (5.4, 3.5)) -> str:
    """A picture as an SVG element; the same picture is the same text.

    Args:
        draw: Draws on axes.
        size: Inches.
    """
    with rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.subplots())
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    text = out.getvalue()
    # Names inside are of one picture; a page has several.
    mark = f"p{abs(hash_of(text)) % 10**8}-"
    text = re.sub(r'(id="|url\(#|href="#)', lambda found: found.group(1) + mark, text)
    return text[text.index("<svg") :]


def hash_of(text: str) -> int:
    """A number that names a text, the same in every process."""
    value = 0
    for byte in text.encode():
        value = (value * 131 + byte) & 0xFFFFFFFF
    return value


def precision_recall(models: Models) -> str:
    """Precision against recall."""

    def draw(ax: Axes) -> None:
        for (name, rows), colour in zip(models.items(), COLOURS, strict=False):
            caught, false = _steps(rows)
            recall, precision = caught / caught[-1], caught / (caught + false)
            keep = _thin(len(recall))
            ax.step(recall[keep], precision[keep], where="post", color=colour, label=name)
        base = float(next(iter(models.values())).fraud.mean())
        ax.axhline(base, color=_QUIET, linestyle=":", label="no model")
        ax.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="share of frauds caught")
        ax.set(ylabel="share of alerts that are fraud")
        ax.legend()

    return svg(draw)


def roc(models: Models) -> str:
    """Frauds caught against good payments alerted, which are on a log scale."""

    def draw(ax: Axes) -> None:
        least = 1.0
        for (name, rows), colour in zip(models.items(), COLOURS, strict=False):
            caught, false = _steps(rows)
            least = min(least, 1.0 / false[-1])
            keep = _thin(len(false))
            rate = np.maximum(false / false[-1], 1.0 / false[-1])
            ax.step(rate[keep], (caught / caught[-1])[keep], where="post", color=colour, label=name)
        for rate in (0.001, 0.01, 0.05):
            ax.axvline(rate, color=_QUIET, linewidth=0.8, linestyle=":")
        ax.set_xscale("log")
        ax.set(xlim=(least, 1), ylim=(0, 1.02), xlabel="share of good payments alerted (log scale)")
        ax.set(ylabel="share of frauds caught")
        ax.legend(loc="lower right")

    return svg(draw)


def money(models: Models, budget: float) -> str:
    """Stolen money among the alerts, by how many alerts there are."""

    def draw(ax: Axes) -> None:
        for (name, rows), colour in zip(models.items(), COLOURS, strict=False):
            order = np.argsort(-rows.score, kind="stable")
            stolen = np.where(rows.fraud, rows.amount_minor, 0)[order]
            alerts = 1000.0 * (np.arange(len(order)) + 1) / len(order)
            keep = _thin(len(order), logarithmic=True)
            ax.plot(
                alerts[keep],
                (np.cumsum(stolen) / max(int(stolen.sum()), 1))[keep],
                color=colour,
                label=name,
            )
        ax.axvline(budget, color=_QUIET, linestyle=":", label=f"budget: {budget:g} per 1,000")
        ax.set_xscale("log")
        ax.set(ylim=(0, 1.02), xlabel="alerts per 1,000 payments (log scale)")
        ax.set(ylabel="share of the stolen money")
        ax.legend(loc="lower right")

    return svg(draw)


def calibration(models: Models) -> str:
    """What a probability says against what happened, in bins of equal expected fraud."""

    def draw(ax: Axes) -> None:
        floor = 1.0
        for (name, rows), colour in zip(list(models.items())[:2], COLOURS, strict=False):
            order = np.argsort(rows.probability, kind="stable")
            expected = np.cumsum(rows.probability[order])
            edges = np.linspace(0, expected[-1], _BINS + 1)[1:-1]
            parts = [p for p in np.split(order, np.searchsorted(expected, edges)) if len(p)]
            mean = np.array([rows.probability[part].mean() for part in parts])
            share = np.array([rows.fraud[part].mean() for part in parts])
            spread = np.sqrt(share * (1 - share) / np.array([len(part) for part in parts]))
            floor = min(floor, float(mean.min()), float(share[share > 0].min(initial=1.0)))
            ax.errorbar(
                mean,
                np.maximum(share, floor),
                yerr=np.minimum(1.96 * spread, np.maximum(share - floor, 0)),
                color=colour,
                marker="o",
                markersize=4,
                capsize=2,
                linewidth=1.4,
                label=name,
            )
        grid = np.geomspace(floor, 1.0, 50)
        ax.plot(grid, grid, color=_QUIET, linestyle=":", label="as it says")
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set(xlabel="probability that the model gives", ylabel="share that was fraud")
        ax.legend(loc="upper left")

    return svg(draw)


def card_precision_by_day(models: Models, cards: int) -> str:
    """Of the most suspicious cards of each day, the share that was compromised."""

    def draw(ax: Axes) -> None:
        for (name, rows), colour in zip(list(models.items())[:2], COLOURS, strict=False):
            cluster, n_clusters = cluster_codes(rows.card)
            days = rows.event_time_us // DAY_US
            one = np.ones((1, n_clusters), dtype=np.int32)
            whole = float(CardDays(rows.fraud, rows.score, cluster, days).precision(one, cards)[0])
            values = []
            for day in np.unique(days):
                inside = days == day
                by_card = CardDays(
                    rows.fraud[inside], rows.score[inside], cluster[inside], days[inside]
                )
                values.append(float(by_card.precision(one, cards)[0]))
            at = (np.unique(days) * DAY_US).astype("datetime64[us]")
            ax.plot(at, values, color=colour, marker=".", linewidth=1.2, label=name)
            ax.axhline(whole, color=colour, linewidth=0.9, linestyle="--")
        ax.set(ylim=(0, None), ylabel=f"share of the day's top {cards} cards")
        ax.tick_params(axis="x", rotation=25)
        ax.legend()

    return svg(draw)


def over_time(models: Models, spans: int = 8) -> str:
    """Average precision in equal spans of time, with intervals from resampled cards."""

    def draw(ax: Axes) -> None:
        first = next(iter(models.values()))
        times = first.event_time_us
        edges = np.linspace(int(times.min()), int(times.max()) + 1, spans + 1)
        part = np.searchsorted(edges, times, side="right") - 1
        shift = (edges[1] - edges[0]) * 0.08
        for number, ((name, rows), colour) in enumerate(
            zip(list(models.items())[:3], COLOURS, strict=False)
        ):
            at, value, low, high = [], [], [], []
            for one in range(spans):
                inside = part == one
                if not 5 <= int(rows.fraud[inside].sum()) < int(inside.sum()):
                    continue
                figure = segment_precision(rows, inside)
                at.append((edges[one] + edges[one + 1]) / 2 + number * shift)
                value.append(figure.value)
                low.append(figure.value - figure.low)
                high.append(figure.high - figure.value)
            ax.errorbar(
                np.array(at).astype("int64").astype("datetime64[us]"),
                value,
                yerr=np.maximum([low, high], 0),
                color=colour,
                marker="o",
                markersize=4,
                capsize=2,
                linewidth=1.4,
                label=name,
            )
        ax.set(ylim=(0, None), ylabel="average precision")
        ax.tick_params(axis="x", rotation=25)
        ax.legend()

    return svg(draw)


def importance(shap: Mapping[str, float], permutation: Mapping[str, float]) -> str:
    """What moves the score, and what average precision loses without a feature.

    Args:
        shap: Share of the whole movement, by feature, the largest first.
        permutation: Loss of average precision where the feature is shuffled.
    """

    def draw(ax: Axes) -> None:
        names = list(shap)[::-1]
        place = np.arange(len(names))
        ax.barh(
            place + 0.2,
            [100 * shap[n] for n in names],
            0.38,
            color=COLOURS[0],
            label="share of what moves the score, %",
        )
        ax.barh(
            place - 0.2,
            [100 * permutation.get(n, 0.0) for n in names],
            0.38,
            color=COLOURS[1],
            label="average precision lost when shuffled, points",
        )
        ax.set_yticks(place, names, fontsize=8)
        ax.grid(axis="y", visible=False)
        ax.legend(loc="lower left", bbox_to_anchor=(-0.1, 1.0), fontsize=8, ncols=1)

    return svg(draw, (5.4, 5.2))


def followed(shares: Mapping[str, Mapping[str, float]], names: Sequence[str]) -> str:
    """How much features move the score, over versions.

    Args:
        shares: By version, the oldest first, the share of each feature.
        names: Features to show, at most as many as there are colours.
    """

    def draw(ax: Axes) -> None:
        versions = list(shares)
        for name, colour in zip(names, COLOURS, strict=False):
            values = [100 * shares[version].get(name, 0.0) for version in versions]
            ax.plot(
                range(len(versions)), values, color=colour, marker="o", markersize=4, label=name
            )
        ax.set_xticks(range(len(versions)), [f"v{version}" for version in versions])
        ax.set(ylim=(0, None), ylabel="share of what moves the score, %")
        ax.legend(fontsize=8)

    return svg(draw, (5.4, 3.2))


def segment_precision(rows: HeldOut, inside: npt.NDArray[np.bool_]) -> Estimate:
    """Average precision of some of the rows, with an interval from resampled cards."""
    fraud, score = rows.fraud[inside], rows.score[inside]
    cluster, n_clusters = cluster_codes(rows.card[inside])
    ranking = Ranking(fraud, score)
    drawn = [
        ranking.totals(counts[:, cluster[ranking.order]]).average_precision()
        for counts in resamples(n_clusters, _ROUNDS, 7, n_rows=len(fraud))
    ]
    return Estimate.of(average_precision(fraud, score), np.concatenate(drawn))


def _steps(rows: HeldOut) -> tuple[Floats, Floats]:
    """Frauds and good payments at or above each distinct score, from the highest down."""
    order = np.argsort(-rows.score, kind="stable")
    ranked = rows.score[order]
    last = np.append(ranked[1:] != ranked[:-1], True)
    caught = np.cumsum(rows.fraud[order])[last].astype(np.float64)
    alerted = (np.flatnonzero(last) + 1).astype(np.float64)
    return caught, alerted - caught


def _thin(count: int, *, logarithmic: bool = False) -> npt.NDArray[np.int64]:
    """Places that are enough to draw a curve of so many points, first and last among them."""
    if count <= _POINTS:
        return np.arange(count)
    even = np.linspace(0, count - 1, _POINTS // 2)
    dense = np.geomspace(1, count, _POINTS) - 1
    return np.unique(np.concatenate([dense] if logarithmic else [even, dense]).astype(np.int64))
