"""What an evaluation looks like: curves as PNG pictures, for the tracker and for people."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sentinel.models.evaluation import HeldOut, average_precision, roc_auc

Floats = npt.NDArray[np.float64]

INK: Final = "#1f3a5f"
ACCENT: Final = "#c8553d"
FAINT: Final = "#9aa5b1"
_SIZE: Final = (6.4, 4.4)
_DPI: Final = 110
_TOP_FEATURES: Final = 20
_CALIBRATION_BINS: Final = 12


def draw_curves(
    rows: HeldOut,
    directory: Path,
    *,
    feature_names: Sequence[str] = (),
    importance: npt.ArrayLike = (),
    fraud_threshold: float | None = None,
) -> list[Path]:
    """Draw all pictures of an evaluation.

    Args:
        rows: Held-out rows with scores and probabilities.
        directory: Where the files go; made if missing.
        feature_names: In vector order, for the picture of importance.
        importance: (n_features,), shares; without it that picture is left out.
        fraud_threshold: Probability to mark in the score distribution.

    Returns:
        The files written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    pictures: list[tuple[str, Callable[[Axes], None]]] = [
        ("precision_recall.png", lambda ax: _precision_recall(ax, rows)),
        ("roc.png", lambda ax: _roc(ax, rows)),
        ("calibration.png", lambda ax: _calibration(ax, rows)),
        ("scores.png", lambda ax: _scores(ax, rows, fraud_threshold)),
    ]
    shares = np.asarray(importance, dtype=np.float64)
    if len(shares):
        pictures.append(
            ("feature_importance.png", lambda ax: _importance(ax, feature_names, shares))
        )
    written = []
    for name, draw in pictures:
        # A Figure of its own, not pyplot's: it needs no screen and no global state.
        figure = Figure(figsize=_SIZE, dpi=_DPI, layout="constrained")
        ax = figure.subplots()
        ax.spines[["top", "right"]].set_visible(False)
        draw(ax)
        figure.savefig(directory / name)
        written.append(directory / name)
    return written


def _steps(rows: HeldOut) -> tuple[Floats, Floats]:
    """Frauds and legitimate rows at or above each distinct score, from the highest down."""
    order = np.argsort(-rows.score, kind="stable")
    ranked = rows.score[order]
    last = np.append(ranked[1:] != ranked[:-1], True)
    caught = np.cumsum(rows.fraud[order])[last].astype(np.float64)
    alerted = (np.flatnonzero(last) + 1).astype(np.float64)
    return caught, alerted - caught


def _precision_recall(ax: Axes, rows: HeldOut) -> None:
    caught, false = _steps(rows)
    ax.step(caught / caught[-1], caught / (caught + false), where="post", color=INK)
    base = float(rows.fraud.mean())
    ax.axhline(base, color=FAINT, linestyle=":", label=f"without a model: {base:.4f}")
    ax.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="share of frauds caught (recall)")
    ax.set(ylabel="share of alerts that are fraud (precision)")
    ax.set_title(f"Average precision {average_precision(rows.fraud, rows.score):.3f}", loc="left")
    ax.legend(frameon=False)


def _roc(ax: Axes, rows: HeldOut) -> None:
    caught, false = _steps(rows)
    rate = false / false[-1]
    least = 1.0 / false[-1]
    ax.step(np.maximum(rate, least), caught / caught[-1], where="post", color=INK)
    grid = np.geomspace(least, 1.0, 200)
    ax.plot(grid, grid, color=FAINT, linestyle=":", label="without a model")
    ax.set_xscale("log")
    ax.set(xlim=(least, 1), ylim=(0, 1.02), xlabel="share of good payments alerted (log scale)")
    ax.set(ylabel="share of frauds caught")
    ax.set_title(f"ROC, area {roc_auc(rows.fraud, rows.score):.3f}", loc="left")
    ax.legend(frameon=False, loc="upper left")


def _calibration(ax: Axes, rows: HeldOut) -> None:
    order = np.argsort(rows.probability, kind="stable")
    expected = np.cumsum(rows.probability[order])
    edges = np.linspace(0, expected[-1], _CALIBRATION_BINS + 1)[1:-1]
    parts = np.split(order, np.searchsorted(expected, edges))
    mean = np.array([rows.probability[part].mean() for part in parts if len(part)])
    share = np.array([rows.fraud[part].mean() for part in parts if len(part)])
    floor = float(min(mean.min(), share[share > 0].min(initial=1.0)))
    grid = np.geomspace(floor, 1.0, 50)
    ax.plot(grid, grid, color=FAINT, linestyle=":", label="what it says is what happens")
    ax.plot(mean, np.maximum(share, floor), marker="o", color=INK)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set(xlabel="predicted probability (log scale)", ylabel="share that was fraud (log scale)")
    ax.set_title("Calibration, bins of equal expected fraud", loc="left")
    ax.legend(frameon=False)


def _scores(ax: Axes, rows: HeldOut, threshold: float | None) -> None:
    low = max(float(rows.probability.min()), 1e-6)
    bins = np.geomspace(low, 1.0, 60).tolist()
    probability = np.clip(rows.probability, low, 1.0)
    for truth, colour, label in ((False, INK, "legitimate"), (True, ACCENT, "fraud")):
        ax.hist(probability[rows.fraud == truth], bins=bins, color=colour, alpha=0.7, label=label)
    if threshold is not None:
        ax.axvline(threshold, color="black", linewidth=1, label=f"threshold {threshold:.3f}")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set(xlabel="predicted probability (log scale)", ylabel="payments (log scale)")
    ax.set_title("Scores by truth", loc="left")
    ax.legend(frameon=False)


def _importance(ax: Axes, names: Sequence[str], shares: Floats) -> None:
    top = np.argsort(-shares)[:_TOP_FEATURES][::-1]
    ax.barh([names[i] for i in top], 100.0 * shares[top], color=INK)
    ax.tick_params(axis="y", labelsize=7)
    ax.set(xlabel="share of all gain, %")
    ax.set_title(f"The {len(top)} features used most", loc="left")
