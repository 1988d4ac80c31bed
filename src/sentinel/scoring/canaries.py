"""Canaries whose models run in this process: their shares grow by that, and by nothing else."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable

from sentinel.domain import NotFound, SentinelError
from sentinel.experiments.growth import GROWN_BY, Growth, grown, next_step, why
from sentinel.experiments.lineup import Canary, Experiment
from sentinel.experiments.store import change_line_up, open_line_ups
from sentinel.settings import Settings

log = logging.getLogger(__name__)

_Held = tuple[str, int, int]
"""Name and start of an experiment, and how often its share has grown."""


class Canaries:
    """Since when the models of canaries have run here at the shares that they have.

    Args:
        settings: The deployment.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._since: dict[_Held, float] = {}
        self._cannot: set[_Held] = set()

    def run(self, experiments: Iterable[Experiment]) -> None:
        """Note which experiments' models run here from now on; others run no more."""
        now = time.monotonic()
        self._since = {
            held: self._since.get(held, now)
            for one in experiments
            if (held := _held(one)) is not None
        }
        self._cannot &= self._since.keys()

    def grow(self, experiments: Iterable[Experiment], failed: Iterable[str]) -> bool:
        """Take the steps that are due; returns whether one was. Waits for the store.

        Args:
            experiments: The line-up as it holds.
            failed: Names of those whose model has failed here: they do not run.
        """
        left_out, took = set(failed), False
        for one in experiments:
            held = _held(one)
            if held is None or one.canary is None:
                continue
            if one.name in left_out:
                self._since.pop(held, None)
            since = self._since.get(held)
            if since is None or time.monotonic() - since < one.canary.hold_seconds:
                continue
            growth = next_step(one, _step_us(one.started_at_us, one.canary))
            if growth is not None:
                took |= self._take(one, growth, held)
        return took

    def _take(self, experiment: Experiment, growth: Growth, held: _Held) -> bool:
        try:
            try:
                change_line_up(
                    self._settings,
                    lambda line_up: grown(line_up, growth),
                    by=GROWN_BY,
                    why=why(experiment, growth.step),
                    at_us=growth.at_us,
                )
            except NotFound:
                return False  # another process was first
            except SentinelError:
                store = open_line_ups(self._settings)
                try:
                    store.grow(growth)
                finally:
                    store.close()
        except SentinelError as error:
            if held not in self._cannot:
                self._cannot.add(held)
                log.warning(
                    "Canary %s keeps its share, since its step cannot be noted: %s",
                    growth.name,
                    error,
                )
            return False
        log.info("%s", why(experiment, growth.step))
        return True


def _step_us(started_at_us: int, canary: Canary) -> int:
    """When a step is taken whose share was held; not sooner than the line-up lets it.

    This machine's clock may be behind that of whoever started the experiment or took the step
    before. A step that seems to come too soon would count for nothing, and keep its place.
    """
    before_us = (started_at_us, *(canary.grew_at_us or ()))[-1]
    return max(time.time_ns() // 1_000, before_us + round(canary.hold_seconds * 1e6))


def _held(experiment: Experiment) -> _Held | None:
    """What a canary holds right now; None for what grows by no steps."""
    canary = experiment.canary
    if canary is None or canary.grew_at_us is None:
        return None
    return experiment.name, experiment.started_at_us, len(canary.grew_at_us)
