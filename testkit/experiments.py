"""Experiments of throw-away deployments: versions beside the champion, and line-ups of them."""

from __future__ import annotations

import time

import numpy as np

from sentinel.experiments.lineup import Experiment, LineUp
from sentinel.experiments.store import change_line_up
from sentinel.features.plan.plan import Plan
from sentinel.models.artifact import TrainingWindow, save_artifact
from sentinel.models.calibration import Calibration
from sentinel.models.serving import model_folder
from sentinel.models.signature import SignedVerdict
from sentinel.models.thresholds import Thresholds
from sentinel.settings import Settings
from testkit.scratch import synthetic_booster
from testkit.signed_models import sign_folder

LINES = Thresholds(fraud=0.5, review=0.4, decline=0.8)


def install_version(
    settings: Settings,
    plan: Plan,
    version: str,
    *,
    trees: int = 3,
    leaves: int = 4,
    lines: Thresholds = LINES,
    verdict: SignedVerdict | None = "passed",
) -> None:
    """Put a version where scorers look for those of the line-up, as a follower does.

    Args:
        settings: The deployment.
        plan: Of its vectors.
        version: Other versions are other models.
        trees, leaves: How large it is.
        lines: Its own.
        verdict: What its signature says; None if nobody signed it.
    """
    folder = model_folder(settings, version)
    seed = 100 + int(version)
    save_artifact(
        folder,
        name=settings.mlflow.model_name,
        plan=plan,
        model=synthetic_booster(plan, trees=trees, leaves=leaves, seed=seed),
        calibration=Calibration(x=np.array([-6.0, 6.0]), y=np.array([0.002, 0.998])),
        thresholds=lines,
        metrics={},
        training=TrainingWindow(start_us=0, end_us=1, cutoff_us=1, rows=1, frauds=0),
        data_hash="scratch",
        created_at_us=1,
        version=version,
    )
    if verdict is not None:
        sign_folder(settings, folder, verdict=verdict)


def run_experiments(settings: Settings, *experiments: Experiment) -> LineUp:
    """Make these the experiments that run."""
    now_us = time.time_ns() // 1000

    def change(_: LineUp) -> LineUp:
        made = LineUp(experiments=experiments)
        made.check()
        return made

    return change_line_up(settings, change, by="ann", why="a test", at_us=now_us)
