"""A deployment whose log holds seven weeks of an experiment with a better challenger."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from sentinel.experiments.lineup import Experiment
from sentinel.settings import Settings
from testkit.experiment_worlds import DAY_US, World, days_of, fill_log
from testkit.experiments import install_version, run_experiments
from testkit.scratch import default_plan, make_workspace

DAYS: Final = 50
NAME: Final = "better-trees"
SHADOW: Final = "night"
MATURITY: Final = {"SENTINEL_LABELS__MATURITY_DAYS": "20"}
"""Variables of whatever judges it."""


def make_judged_workspace(folder: Path, *, only_challenger: float = 0.2) -> Settings:
    """Version 1 serves, version 2 is a challenger on half of the cards, version 3 a shadow.

    Args:
        folder: Of the workspace.
        only_challenger: Part of the frauds that the challenger catches alone; the champion catches
            .08 alone.
    """
    settings = make_workspace(folder, trees=3, leaves=4)
    for version in ("2", "3"):
        install_version(settings, default_plan(), version)
    today = time.time_ns() // 1_000 // DAY_US
    world = World(
        name=NAME,
        days=DAYS,
        payments_a_day=200,
        only_challenger=only_challenger,
        start_us=(today - DAYS) * DAY_US,
    )
    fill_log(settings, list(days_of(world)))
    challenger = Experiment(
        name=NAME,
        kind="challenger",
        version="2",
        share=world.share,
        started_at_us=world.start_us,
        by="ann",
        why="new features",
    )
    shadow = Experiment(name=SHADOW, kind="shadow", version="3", started_at_us=world.start_us)
    run_experiments(settings, challenger, shadow)
    return settings
