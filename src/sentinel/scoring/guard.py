"""Guardrails of the experiments that run in a scoring process.

Payments add what was said of them to a list; every two seconds a thread counts it and asks
`sentinel.experiments.guardrails`. A breach has two answers: the experiment's model is asked no
more from the next payment on, and the line-up is written without it, so that all other processes
follow within a second. A process that may only read the line-up adds a stop beside it
(`sentinel.experiments.stops`). Where neither can be written, because the store is away, the first
holds until it can; each process watches for itself.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from sentinel.domain import NotFound, SentinelError
from sentinel.experiments.guardrails import (
    BUCKETS,
    EDGES,
    Counts,
    LastHour,
    Reading,
    breach,
    readings,
)
from sentinel.experiments.lineup import MOST_TEXT, Experiment, Guardrails, LineUp, stopped
from sentinel.experiments.stops import STOPPED_BY, Stop
from sentinel.experiments.store import change_line_up, open_line_ups
from sentinel.log.entries import FLAG_DEGRADED, outcome_codes
from sentinel.monitoring.metrics import ScoringMetrics
from sentinel.scoring.panel import Panel
from sentinel.scoring.roles import RolesScored
from sentinel.scoring.scorer import Scored
from sentinel.settings import Settings

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 2.0
"""How often guardrails are looked at."""
MOST_PAYMENTS: Final = 200_000
"""Payments that wait to be counted; of more between two looks, the rest is not counted."""

_RECENT_SLICES: Final = 2
"""Slices that are looked at alone, so that a long good hour does not hide a bad minute."""
_Run = tuple[str, int]


class _Watched(NamedTuple):
    roles: RolesScored
    flags: npt.NDArray[np.unsignedinteger]
    outcomes: npt.NDArray[np.unsignedinteger]


class Guard:
    """Watches the experiments of one scoring process.

    Args:
        settings: The deployment.
        line_up: The version of the line-up that holds here.
        panel: The models that score right now.

    Attributes:
        uncounted: Payments that were left out because too many waited.
    """

    def __init__(
        self, settings: Settings, line_up: Callable[[], LineUp], panel: Callable[[], Panel]
    ) -> None:
        self._settings = settings
        self._line_up = line_up
        self._panel = panel
        self._waiting: list[_Watched] = []
        self._payments = 0
        self._hours: dict[_Run, LastHour] = {}
        self._breaches: dict[_Run, str] = {}
        self._readings: dict[_Run, tuple[Reading, ...]] = {}
        self.uncounted = 0

    async def watch(self, metrics: ScoringMetrics) -> None:
        """Look every so often, in a thread. Runs until it is cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            metrics.experiment_payments_uncounted = self.uncounted
            waiting = self.take()  # of an experiment that has ended, nothing is left
            if not self._line_up().experiments:
                continue
            try:
                await asyncio.to_thread(self.look, waiting)
            except Exception:
                log.exception("Guardrails could not be looked at; trying again.")

    def add(self, scored: Scored) -> None:
        """Note a group that other models than the champion have scored."""
        if scored.roles is None:
            return
        payments = len(scored.flags)
        if self._payments + payments > MOST_PAYMENTS:
            self.uncounted += payments
            return
        self._payments += payments
        control = scored.control
        outcomes = outcome_codes(scored.flags) if control is None else control.base_outcomes
        self._waiting.append(_Watched(scored.roles, scored.flags, outcomes))

    def take(self) -> list[_Watched]:
        """What is to be counted; the caller hands it to `look`, which may run in a thread."""
        waiting, self._waiting = self._waiting, []
        self._payments = 0
        return waiting

    def look(self, waiting: list[_Watched]) -> None:
        """Count, and stop what has breached a guardrail."""
        running = {(one.name, one.started_at_us): one for one in self._line_up().experiments}
        for run in [run for run in self._hours if run not in running]:
            del self._hours[run]
        for run in [run for run in self._breaches if run not in running]:
            del self._breaches[run]
        for run in [run for run in self._readings if run not in running]:
            del self._readings[run]
        now = time.monotonic()
        waiting = joined(waiting)
        for run, experiment in running.items():
            hour = self._hours.setdefault(run, LastHour())
            hour.add(counted(waiting, experiment), now)
            self._readings[run] = self._read(experiment, hour)
            why = self._breaches.get(run) or self._breach(experiment, hour)
            if why is not None:
                self._breaches[run] = why
                self._stop(experiment, why)

    def breached(self, line_up: LineUp) -> dict[str, str]:
        """Experiments of a line-up that a guardrail has stopped here, and why, by name."""
        found = list(self._breaches.items())
        return {run[0]: why for run, why in found if _started(line_up, run[0]) == run[1]}

    def readings(self, experiment: Experiment) -> tuple[Reading, ...]:
        """What the guardrails of an experiment saw in the last hour here; none before a look."""
        return self._readings.get((experiment.name, experiment.started_at_us), ())

    def _read(self, experiment: Experiment, hour: LastHour) -> tuple[Reading, ...]:
        counts = hour.sums()
        counts.errors = int(experiment.name in self._failed(experiment))
        return readings(limits_of(experiment), counts)

    def _breach(self, experiment: Experiment, hour: LastHour) -> str | None:
        failed = self._failed(experiment).get(experiment.name)
        if failed is not None and experiment.guardrails.most_errors:
            return failed
        limits = limits_of(experiment)
        return breach(limits, hour.sums()) or breach(limits, hour.sums(_RECENT_SLICES))

    def _failed(self, experiment: Experiment) -> dict[str, str]:
        """What has failed of the panel that runs an experiment; of none while another one runs."""
        panel = self._panel()
        started_us = _started(panel.line_up, experiment.name)
        return panel.failed if started_us == experiment.started_at_us else {}

    def _stop(self, experiment: Experiment, why: str) -> None:
        failed = self._failed(experiment)
        first = experiment.name not in failed
        failed[experiment.name] = why

        def without(line_up: LineUp) -> LineUp:
            found = line_up.find(experiment.name)
            if found is None or found.started_at_us != experiment.started_at_us:
                raise NotFound(f"Experiment {experiment.name!r} does not run any more.")
            return stopped(line_up, experiment.name)

        at_us = time.time_ns() // 1_000
        said = f"Stopped {experiment.name}: {why}"[:MOST_TEXT]
        try:
            change_line_up(self._settings, without, by=STOPPED_BY, why=said, at_us=at_us)
        except NotFound:
            return  # another process was first
        except SentinelError as error:
            try:
                self._stop_beside(experiment, said, at_us)
            except SentinelError as beside:
                if first:
                    log.warning(
                        "Experiment %s decides nothing here any more: %s. The line-up still has "
                        "it and cannot be written: %s Nor can a stop be noted beside it: %s",
                        experiment.name,
                        why,
                        error,
                        beside,
                    )
                return
        log.warning("A guardrail stopped experiment %s: %s.", experiment.name, why)

    def _stop_beside(self, experiment: Experiment, why: str, at_us: int) -> None:
        """Stop what is in a line-up that this process may not write."""
        store = open_line_ups(self._settings)
        try:
            store.stop(
                Stop(
                    name=experiment.name,
                    started_at_us=experiment.started_at_us,
                    why=why,
                    at_us=at_us,
                )
            )
        finally:
            store.close()


def limits_of(experiment: Experiment) -> Guardrails:
    """The guardrails of an experiment that mean something for its kind.

    A segment model decides on other payments than the champion, so that their shares of alerts
    and of degraded decisions may differ for a good reason.
    """
    limits = experiment.guardrails
    if experiment.kind != "segment":
        return limits
    return msgspec.structs.replace(limits, most_alert_ratio=None, most_degraded_ratio=None)


def _started(line_up: LineUp, name: str) -> int | None:
    """When the experiment of that name in a line-up was started; None if there is none."""
    found = line_up.find(name)
    return None if found is None else found.started_at_us


def joined(waiting: list[_Watched]) -> list[_Watched]:
    """The same payments in as few groups as can be: those that the same models scored are one."""
    alike: dict[tuple[int, ...], list[_Watched]] = {}
    for group in waiting:
        alike.setdefault(tuple(map(id, group.roles.models)), []).append(group)
    return [_as_one(groups) for groups in alike.values()]


def _as_one(groups: list[_Watched]) -> _Watched:
    first = groups[0].roles
    deciders = [
        np.zeros(len(group.flags), np.uint8) if one is None else one
        for group in groups
        for one in [group.roles.deciders]
    ]
    took = [group.roles.took_ns for group in groups if group.roles.took_ns]
    roles = RolesScored(
        first.models,
        np.concatenate([group.roles.scores for group in groups], axis=1),
        np.concatenate([group.roles.probabilities for group in groups], axis=1),
        np.concatenate(deciders),
        [sum(each) for each in zip(*took, strict=True)],
    )
    flags = np.concatenate([group.flags for group in groups])
    return _Watched(roles, flags, np.concatenate([group.outcomes for group in groups]))


def counted(waiting: list[_Watched], experiment: Experiment) -> Counts:
    """What happened to the payments of some groups, for one experiment."""
    parts = []
    total = Counts()
    for group in waiting:
        wanted = experiment.name, experiment.version
        models = enumerate(group.roles.models, 1)
        number = next((i for i, m in models if (m.name, m.model.version) == wanted), None)
        if number is None:
            continue
        roles = group.roles
        n = len(group.flags)
        deciders = np.zeros(n, np.uint8) if roles.deciders is None else roles.deciders
        parts.append(
            np.stack(
                [
                    deciders == number,
                    deciders == 0,
                    group.outcomes > 0,
                    (group.flags & FLAG_DEGRADED) > 0,
                    roles.probabilities[number],
                    roles.probabilities[0],
                ]
            )
        )
        total.scoring_ns += roles.took_ns[number - 1] if roles.took_ns else 0
    if not parts:
        return total
    rows = np.concatenate(parts, axis=1)
    own, champion, alert, degraded = rows[:4] > 0
    total.decided, total.champion_decided = int(own.sum()), int(champion.sum())
    total.alerts, total.champion_alerts = int((own & alert).sum()), int((champion & alert).sum())
    total.degraded = int((own & degraded).sum())
    total.champion_degraded = int((champion & degraded).sum())
    scored = ~np.isnan(rows[4])
    total.scored = int(scored.sum())
    total.probabilities = _histogram(rows[4][scored])
    total.champion_probabilities = _histogram(rows[5][scored])
    return total


def _histogram(probabilities: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    buckets = np.searchsorted(EDGES, probabilities, side="right")
    return np.asarray(np.bincount(buckets, minlength=BUCKETS), np.int64)
