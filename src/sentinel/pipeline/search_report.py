"""A search in MLflow: one run with a table of its trials, a curve, and two pictures.

One run, since a hundred runs would take longer to write than the trials of a small log take.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from sentinel.models.curves import FAINT, INK
from sentinel.models.families.installed import trainer_of
from sentinel.models.families.trainer import Between
from sentinel.pipeline.found_parameters import FoundParameters
from sentinel.pipeline.tracking import tracked_run
from sentinel.settings import Settings

_DPI: Final = 110

Row = Mapping[str, object]


def track_search(
    settings: Settings,
    found: FoundParameters,
    trials: Sequence[Row],
    importances: Mapping[str, float],
) -> str:
    """Log a search.

    Args:
        settings: Give the server and the experiment.
        found: What it found.
        trials: A row for each trial, in their order.
        importances: Of the parameters, as far as they can be told.

    Returns:
        The run's id.
    """
    name = f"search {found.trainer} {datetime.now(UTC):%Y-%m-%d %H:%M:%S}"
    tags = {"plan_hash": found.plan_hash, "trainer": found.trainer, "search": str(found.trials)}
    with tracked_run(settings, name, tags=tags) as run:
        run.parameters({f"best.{key}": value for key, value in found.parameters.items()})
        run.parameters({"trials": found.trials, "folds": found.folds, "rows": found.rows})
        run.metrics(
            {
                "search/average_precision": found.average_precision,
                "search/usual": found.usual,
                "search/seconds": found.seconds,
                "search/pruned": float(found.pruned),
            }
        )
        if found.better_by is not None:
            run.metrics({"search/better_by": found.better_by})
        run.series(
            "trial/average_precision",
            [_number(row["average_precision"]) for row in trials],
        )
        columns = list(trials[0]) if trials else []
        run.document(
            "trials.json", {"columns": columns, "data": [list(row.values()) for row in trials]}
        )
        run.document("found.json", msgspec.to_builtins(found))
        with tempfile.TemporaryDirectory(prefix="sentinel-search-") as place:
            draw_search(
                trials, importances, trainer_of(found.trainer).space, Path(place), found.trainer
            )
            run.files(Path(place), below="pictures")
        return run.run_id


def draw_search(
    trials: Sequence[Row],
    importances: Mapping[str, float],
    space: Mapping[str, Between],
    directory: Path,
    title: str,
) -> list[Path]:
    """Draw what a search tried and what mattered.

    Args:
        trials: See `track_search`.
        importances: By parameter; that picture is left out if there are none.
        space: What was tried, for the axes.
        directory: Where the pictures go.
        title: Of the family.

    Returns:
        The files written.
    """
    written = []
    whole = [row for row in trials if not math.isnan(_number(row["average_precision"]))]
    if len(whole) > 1 and space:
        written.append(_parallel(whole, space, directory / "parallel_coordinates.png", title))
    if importances:
        figure = Figure(figsize=(6.4, 0.6 + 0.4 * len(importances)), dpi=_DPI, layout="constrained")
        ax = figure.subplots()
        ax.spines[["top", "right"]].set_visible(False)
        ranked = sorted(importances.items(), key=lambda item: item[1])
        ax.barh([name for name, _ in ranked], [100.0 * share for _, share in ranked], color=INK)
        ax.set(xlabel="share of the differences between trials that it explains, %")
        ax.set_title(f"Parameters of {title} that mattered", loc="left")
        figure.savefig(directory / "parameter_importances.png")
        written.append(directory / "parameter_importances.png")
    return written


def _parallel(rows: Sequence[Row], space: Mapping[str, Between], path: Path, title: str) -> Path:
    """A line for each trial through its values; dark lines did well."""
    figure = Figure(figsize=(1.8 + 1.15 * len(space), 4.6), dpi=_DPI, layout="constrained")
    ax = figure.subplots()
    value = np.array([_number(row["average_precision"]) for row in rows])
    low, high = float(value.min()), float(value.max())
    shade = (value - low) / max(high - low, 1e-12)
    colours = colormaps["viridis_r"]
    for index in np.argsort(value):
        row = rows[int(index)]
        heights = [_share(_number(row[name]), one) for name, one in space.items()]
        best = value[index] == high
        ax.plot(
            range(len(space)),
            heights,
            color=colours(float(shade[index])),
            linewidth=2.6 if best else 1.0,
            alpha=1.0 if best else 0.65,
        )
    for place, one in enumerate(space.values()):
        ax.axvline(place, color=FAINT, linewidth=0.8, zorder=0)
        ax.text(place, -0.03, f"{one.low:g}", ha="center", va="top", fontsize=7)
        ax.text(place, 1.03, f"{one.high:g}", ha="center", va="bottom", fontsize=7)
        ax.plot([place], [_share(one.usual, one)], marker="_", color="black", markersize=12)
    ax.set_xticks(range(len(space)), list(space), rotation=20, ha="right", fontsize=8)
    ax.tick_params(axis="x", pad=14, length=0)
    ax.set_yticks([])
    ax.set_ylim(-0.02, 1.02)
    ax.spines[:].set_visible(False)
    ax.set_title(
        f"{len(rows)} trials of {title}: average precision {low:.3f} (light) to {high:.3f} (dark, "
        "thick)\nbars: the family's own settings",
        loc="left",
        fontsize=9,
        pad=20,
    )
    figure.savefig(path)
    return path


def _share(value: float, one: Between) -> float:
    """Where a value lies between the ends."""
    if one.log:
        return math.log(value / one.low) / math.log(one.high / one.low)
    return (value - one.low) / (one.high - one.low)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan
