"""What a candidate is compared with on paper: simpler models on the same data.

Each has its family's own settings, or what a search found for it. They are measured once the
candidate is registered, so that nobody waits for them, and on a sample of the fitted rows where
there are many; their figures go to the candidate's run.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Final

from sentinel.models.curves import draw_curves
from sentinel.models.evaluation import Figures
from sentinel.models.families.installed import spelled
from sentinel.models.sampling import thinned
from sentinel.models.trainers import TrainerName
from sentinel.pipeline.dataset_folder import Dataset, Rows
from sentinel.pipeline.fitting import fit_and_measure
from sentinel.pipeline.found_parameters import remembered_parameters
from sentinel.pipeline.tracking import run_of
from sentinel.settings import Settings
from sentinel.sources.progress import ProgressCallback, no_progress

BASELINES: Final[tuple[TrainerName, ...]] = ("random_forest", "logistic_regression")

MOST_ROWS: Final = 100_000
"""Rows that a baseline is fitted on; see `sentinel.models.sampling`."""


def measure_baselines(
    settings: Settings,
    run_id: str,
    data: Dataset,
    *,
    threads: int | None = None,
    progress: ProgressCallback = no_progress,
) -> dict[str, Figures]:
    """Fit and measure the baselines of a candidate, and log them to its run.

    Args:
        settings: The deployment.
        run_id: The candidate's run.
        data: What it was trained and measured on.
        threads: Default: the cores of this machine.
        progress: Told of the stage "baselines".

    Returns:
        Their figures, by name.
    """
    names = [name for name in BASELINES if name != spelled(settings.training.trainer)]
    run = run_of(settings, run_id)
    rows = sampled(data.fit, MOST_ROWS, seed=settings.training.seed)
    if len(rows.fraud) < len(data.fit.fraud):
        run.parameters({"baselines.rows": len(rows.fraud)})
    few = replace(data, fit=rows)
    found: dict[str, Figures] = {}
    for number, name in enumerate(names):
        progress("baselines", number, len(names))
        held = remembered_parameters(settings, name)
        changes = {} if held is None else held.parameters
        result = fit_and_measure(settings, name, few, parameters=changes, threads=threads)
        found[name] = result.figures
        run.metrics(result.figures.metrics, prefix=f"baselines/{name}/")
        if result.held_out is not None:
            with tempfile.TemporaryDirectory(prefix="sentinel-baselines-") as place:
                draw_curves(
                    result.held_out,
                    Path(place, name),
                    feature_names=data.plan.feature_names,
                    fraud_threshold=result.thresholds.fraud,
                )
                run.files(Path(place), below="pictures")
    progress("baselines", len(names), len(names))
    return found


def sampled(rows: Rows, most: int, *, seed: int) -> Rows:
    """Rows thinned out to so many: frauds stay, good payments stand for several.

    Args:
        rows: Any rows.
        most: How many to keep. Where frauds alone are more than half of that, they are thinned,
            too.
        seed: The same seed keeps the same rows.
    """
    if len(rows.fraud) <= most:
        return rows
    keep, weight = thinned(rows.fraud, most, seed=seed, weight=rows.weight)
    return Rows(
        X=rows.X[keep],
        fraud=rows.fraud[keep],
        card=rows.card[keep],
        event_time_us=rows.event_time_us[keep],
        amount_minor=rows.amount_minor[keep],
        weight=weight,
    )
