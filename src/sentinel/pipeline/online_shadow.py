"""The refitted trees of a day as a version of the registry that scores in the shadow.

The version is no candidate: `sentinel promote` does not take it by itself. It is an ordinary model
folder, so it may be started as a challenger like any other version, and only what experiments
find of it can put it in charge.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from sentinel.experiments.lineup import Experiment, started, stopped
from sentinel.features.plan.plan import DAY_US
from sentinel.models.artifact import TrainingWindow, load_manifest, load_plan, save_artifact
from sentinel.models.families.leaf_refit import tree_scores
from sentinel.models.procedure import Procedure
from sentinel.pipeline import experiments
from sentinel.pipeline.labelled_payments import labelled_payments, served_over
from sentinel.pipeline.online_figures import known_at
from sentinel.pipeline.online_learning import MODEL_TEXT, Learnt
from sentinel.pipeline.refitting import FEWEST_RECENT, equated
from sentinel.pipeline.registry_fetch import fetch_version
from sentinel.pipeline.tracking import register_candidate, tracked_run
from sentinel.settings import Settings
from sentinel.sources.progress import ProgressCallback, no_progress

SHADOW: Final = "online"
"""Name of the experiment."""
MOST_EQUATED: Final = 20_000
"""Payments, the latest that were scored, that equate the trees with their base."""


def publish(settings: Settings, learnt: Learnt, *, progress: ProgressCallback = no_progress) -> str:
    """Register the present trees, and have them score in the shadow in place of those before.

    Args:
        settings: The deployment.
        learnt: Where the learners are, and how they did.
        progress: Told of the stages "labels" and "backfill".

    Returns:
        What was done, in a sentence.

    Raises:
        ConfigurationError: As many experiments run as may.
        NoModel: Nothing serves.
        PlanMismatch: The trees take features that cannot be computed beside the champion's.
        Unavailable: The registry does not answer.
    """
    state, place = learnt.state, learnt.place
    line_up = experiments.line_up_of(settings)
    running = line_up.find(SHADOW)
    if running is not None and running.kind != "shadow":
        return (
            f"Experiment {SHADOW} is a {running.kind} of version {running.version}, which stays as "
            "it is; today's trees were not registered."
        )
    trees, _ = place.learners(state)
    data_hash = hashlib.sha256(trees.encode()).hexdigest()[:32]
    if running is not None:
        if load_manifest(fetch_version(settings, running.version)).data_hash == data_hash:
            return (
                f"Version {running.version} goes on as shadow {SHADOW}: the trees have not changed "
                "since it was registered."
            )
        line_up = stopped(line_up, SHADOW)
    # Says what cannot be before another version is registered.
    started(line_up, Experiment(name=SHADOW, kind="shadow", version=state.base))
    folder_of_base = place.base(state)
    experiments.require_plan_beside(settings, state.base, folder_of_base)
    days = state.next_day - state.first_day
    base = load_manifest(folder_of_base)
    plan = load_plan(folder_of_base, base)
    known = labelled_payments(settings, plan=plan, progress=progress)
    scored = [one["rows"] for _, one in place.scores(state)[-60:]]
    rows = np.unique(np.concatenate(scored))[-MOST_EQUATED:] if scored else np.empty(0, np.int64)
    if len(rows) < FEWEST_RECENT:
        return (
            f"{len(rows):,} payments were scored so far, {FEWEST_RECENT:,} are needed to calibrate "
            "the trees; they were not registered."
        )
    X, _ = served_over(settings, known, rows)
    was = tree_scores((folder_of_base / MODEL_TEXT).read_text(), X)
    window = known_at(known, state.next_day, state.gap_us, settings.online.window_days)
    with (
        tracked_run(
            settings,
            f"online refit of version {state.base}",
            tags={"plan_hash": plan.hash, "online": state.base},
        ) as run,
        tempfile.TemporaryDirectory(prefix="sentinel-online-") as folder,
    ):
        run.document("online.json", msgspec.to_builtins(learnt.figures))
        manifest = save_artifact(
            Path(folder),
            name=settings.mlflow.model_name,
            plan=plan,
            model=trees,
            calibration=equated(tree_scores(trees, X), was, base.calibrator()),
            thresholds=base.thresholds,
            metrics={},
            training=TrainingWindow(
                start_us=base.training.start_us,
                end_us=state.next_day * DAY_US - state.gap_us,
                cutoff_us=state.next_day * DAY_US,
                rows=len(window),
                frauds=window.frauds,
                gap_us=state.gap_us,
            ),
            data_hash=data_hash,
            created_at_us=time.time_ns() // 1000,
            run_id=run.run_id,
            notes=(f"The leaves of version {state.base}, refitted on {days} days.",),
            procedure=_procedure(settings, base.procedure),
        )
        logged = run.model(Path(folder), manifest, categorical=plan.categorical)
        version = register_candidate(settings, run, logged, manifest, newest=False).version
    by, why = "sentinel learn", f"trees of {days} days"
    if running is not None:
        experiments.stop(settings, SHADOW, by=by, why="newer trees take its place")
    wanted = Experiment(name=SHADOW, kind="shadow", version=version, share=0.0)
    experiments.start(settings, wanted, by=by, why=why, progress=progress)
    return f"Version {version} scores every payment as shadow {SHADOW}."


def _procedure(settings: Settings, base: Procedure | None) -> Procedure | None:
    """That of the base, and how its leaves move: another procedure, which no gate has approved."""
    if base is None:
        return None
    moves: dict[str, str | float | int | bool] = {
        "online_keep": settings.online.keep,
        "online_window_days": settings.online.window_days,
    }
    return msgspec.structs.replace(base, parameters={**base.parameters, **moves})
