"""First runs at other times: what `sentinel up` would show if it were started then.

The simulated world ends at the clock, so the model, its lines and the traffic of the first minute
depend on the hour of the start. Each start is tried without waiting for it: the stages of
`sentinel up` with another clock, then the traffic of a minute, then the README's payments at hours
of a whole week, through the scorer that serves. Starts are 50 days and some hours apart.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from sentinel.api.routes.payment_bodies import ReadingRules
from sentinel.api.routes.payment_reading import read_payment
from sentinel.cli.first_run import WORLD_CUSTOMERS, WORLD_DAYS, FirstRun
from sentinel.cli.traffic import Pace, world_before
from sentinel.domain import Outcome, Transaction
from sentinel.ledger.base import Appended
from sentinel.ledger.index import LedgerIndex
from sentinel.ledger.open import open_reader
from sentinel.log.entries import outcome_of
from sentinel.models.serving import serving_of
from sentinel.scoring.embedded_states import EmbeddedStates
from sentinel.scoring.panel import Panel
from sentinel.scoring.scorer import Scorer
from sentinel.scoring.serving_model import ServingModel
from sentinel.settings import Settings
from sentinel.sources.simulator import SimulatorConfig, SimulatorSource
from testkit.readme import Promise, readme_promises
from testkit.scratch import REPOSITORY

STEP_US: Final = (50 * 24 * 60 + 7 * 60 + 23) * 60_000_000
"""Between two starts: 50 days, 7 hours and 23 minutes, so that hours and weekdays differ, too."""

SCENE_SECONDS: Final = 60.0
LEAST_ALERTS: Final = 3
"""Of each kind within the first minute, or a reader may see none."""

_HOUR_US: Final = 3_600_000_000
README_HOURS: Final = range(0, 7 * 24, 5)
_APART_US: Final = 50_000
"""Between two payments of a loop in a shell."""


def starts(first_us: int, count: int) -> list[int]:
    """Moments to start at, microseconds UTC."""
    return [first_us + number * STEP_US for number in range(count)]


def run_worlds(first_us: int, count: int, told: Callable[[str], None]) -> list[dict[str, Any]]:
    """Each world in a process of its own, one after the other.

    Args:
        first_us: The first start, microseconds UTC.
        count: How many.
        told: Gets a line about each.
    """
    found = []
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SENTINEL_")}
    for moment in starts(first_us, count):
        command = [sys.executable, "-m", "benchmarks.firstrun_worlds", str(moment)]
        ended = subprocess.run(
            command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, text=True, check=True
        )
        world = json.loads(ended.stdout.splitlines()[-1])
        told(f"{world['start']}: {summary(world)}")
        found.append(world)
    return found


def summary(world: dict[str, Any]) -> str:
    """A world in a line."""
    scene = world["scene"]
    readme = ", ".join(
        f"{one['decision']} {one['low']:.3f} to {one['high']:.3f} ({one['other']} other)"
        for one in world["readme"]
    )
    return (
        f"lines {world['review_line']:.3f} and {world['decline_line']:.3f}; README {readme}; in "
        f"the first minute {scene['review']} reviews, {scene['decline']} declines, "
        f"{scene['labels']} labels"
    )


def is_as_promised(world: dict[str, Any]) -> bool:
    """Whether README and first minute are as they should be."""
    scene = world["scene"]
    lively = min(scene["review"], scene["decline"], scene["labels"]) >= LEAST_ALERTS
    return lively and not any(one["other"] for one in world["readme"])


def first_run(folder: Path, now_us: int, customers: int, days: float) -> World:
    """A workspace as the first run of `sentinel up` leaves it at a moment, and its scorer.

    Args:
        folder: Of the workspace.
        now_us: The moment, microseconds UTC.
        customers, days: Size of the world.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings = Settings(workspace=folder, feature_store=REPOSITORY / "feature_store")
    first = FirstRun(settings, None, customers, days, now_us)
    first.prepare()
    first.train()
    return World(settings, world_before(now_us, customers=customers, days=days), now_us)


class World:
    """A workspace and the scorer that would serve it.

    Args:
        settings: The workspace, with a champion.
        config: Its simulated world.
        now_us: The moment of the start, microseconds UTC.
    """

    def __init__(self, settings: Settings, config: SimulatorConfig, now_us: int) -> None:
        self._config, self.now_us = config, now_us
        serving = serving_of(settings)
        assert serving is not None
        model = ServingModel.load(
            settings.models_dir / serving.champion.folder, settings.money, reasons=False
        )
        self.lines = model.manifest.thresholds
        self._reader = open_reader(settings)
        self._index = LedgerIndex(settings.index_path, self._reader)
        states = EmbeddedStates(settings)
        states.attach(self._reader, self._index)
        self._scorer = Scorer(states.open(model.plan), Panel(model))
        self._rules = ReadingRules(model.plan.number_columns, model.plan.category_columns)

    def close(self) -> None:
        """Release files."""
        self._index.close()
        self._reader.close()

    def scene(self) -> dict[str, Any]:
        """What live traffic shows within the first minute: counts, and seconds until the first."""
        pace = Pace(self._config.end_us)
        seconds = np.arange(0.0, SCENE_SECONDS, 0.1)
        due = [pace.due_us(second, self.now_us + round(second * 1e6)) for second in seconds]
        counts = {"payments": 0, "review": 0, "decline": 0, "labels": 0}
        first: dict[str, float] = {}
        seen: dict[str, Transaction] = {}
        for event in SimulatorSource(self._config).stream_from(self._config.end_us):
            if event.due_us > due[-1]:
                break
            name = "labels"
            if isinstance(event.entry, Transaction):
                seen[event.entry.transaction_id] = event.entry
                name = self._decide([event.entry])[0][1].value
                counts["payments"] += 1
            else:
                about = event.entry.transaction_id
                known = seen.get(about) or self._index.transaction(about)
                if known is not None:
                    appended = Appended(self._scorer.state.sequence + 1, event.due_us)
                    self._scorer.state.apply_labels([event.entry], appended, {about: known})
            if name in counts:
                counts[name] += 1
                first.setdefault(name, round(float(seconds[np.searchsorted(due, event.due_us)]), 1))
        return {**counts, "first_seconds": first}

    def readme(self, promises: Sequence[Promise]) -> list[dict[str, Any]]:
        """For each promise: the decision, the probabilities over a week, and how many differ.

        Each hour has people, cards and devices of its own, since each is another reader's.
        """
        found = []
        for number, promise in enumerate(promises):
            decided = [self._as_read(promise, number, hour) for hour in README_HOURS]
            probabilities = [probability for probability, _ in decided]
            found.append(
                {
                    "decision": promise.decision,
                    "low": min(probabilities),
                    "high": max(probabilities),
                    "other": sum(outcome.value != promise.decision for _, outcome in decided),
                }
            )
        return found

    def _as_read(self, promise: Promise, number: int, hour: int) -> tuple[float, Outcome]:
        payments = []
        for place, body in enumerate(promise.payments):
            own = {
                name: f"{value}-{number}-{hour}" if name.endswith("_id") else value
                for name, value in body.items()
            }
            if "ip_address" in own:
                own["ip_address"] = f"2001:db8::{number}:{hour + 1}"
            at_us = self.now_us + hour * _HOUR_US + (place + 1) * _APART_US
            payments.append(read_payment(json.dumps(own).encode(), at_us, self._rules))
        return self._decide(payments)[-1]

    def _decide(self, payments: Sequence[Transaction]) -> list[tuple[float, Outcome]]:
        scored = self._scorer.decide(payments)
        return [
            (float(probability), outcome_of(int(flags)))
            for probability, flags in zip(scored.probabilities, scored.flags, strict=True)
        ]


def look_at(
    now_us: int, *, customers: int = WORLD_CUSTOMERS, days: float = WORLD_DAYS
) -> dict[str, Any]:
    """One world: its lines, the README's payments and the scene."""
    folder = Path(tempfile.mkdtemp(prefix="sentinel-world-"))
    try:
        world = first_run(folder, now_us, customers, days)
        try:
            return {
                "start": f"{datetime.fromtimestamp(now_us / 1e6, UTC):%a %Y-%m-%d %H:%M}",
                "review_line": world.lines.review,
                "decline_line": world.lines.decline,
                "readme": world.readme(readme_promises()),
                "scene": world.scene(),
            }
        finally:
            world.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    print(json.dumps(look_at(int(sys.argv[1]))))
