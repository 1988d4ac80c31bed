"""Champion, policy and line-up are followed, and swapped while payments keep arriving.

Each is looked for several times a second, loaded in a thread, and put in place between two groups
of payments. What cannot serve leaves the one before in charge, and says why.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from sentinel.domain import SentinelError, Unavailable
from sentinel.models.thresholds import Thresholds
from sentinel.monitoring.metrics import ScoringMetrics
from sentinel.scoring.champions import RegistryWatch
from sentinel.scoring.plan_changes import PlanChanges
from sentinel.scoring.policies import LOOK_SECONDS
from sentinel.scoring.scorer import Scorer
from sentinel.scoring.served import ServedLoader
from sentinel.scoring.writer import Writer
from sentinel.telemetry.safe_errors import shown

log = logging.getLogger(__name__)

_CHAMPION_SECONDS: Final = 0.1
_RETRY_SECONDS: Final = 10.0
"""How long after an error that is no fault of the champion it is tried again."""


class HotSwaps:
    """Keeps the scorer of a writer what files and stores say it is.

    Args:
        writer: Decides with the scorer.
        loader: Loads what is to serve.
        plans: Changes the plan where models want another.
        registry: What the follower saw in the registry.
        metrics: Told of swaps and of the registry.
        note: Told of the scorer that serves from now on.
        bands: The lines of the champion that serves; None without one.
    """

    def __init__(
        self,
        writer: Writer,
        loader: ServedLoader,
        plans: PlanChanges,
        registry: RegistryWatch,
        metrics: ScoringMetrics,
        note: Callable[[Scorer], None],
        bands: Thresholds | None,
    ) -> None:
        self._writer = writer
        self._loader = loader
        self._policies = loader.policies
        self._line_ups = loader.line_ups
        self._plans = plans
        self._registry = registry
        self._metrics = metrics
        self._note = note
        self._bands = bands
        self._problem: str | None = None
        self._again_at = math.inf

    @property
    def champion_problem(self) -> str | None:
        """Why the registry's champion does not serve; None if it does, or nobody knows."""
        view = self._registry.look()
        if self._problem is None and view is not None and view.refused:
            return view.problem
        return self._problem

    # Each of these runs until it is cancelled.

    async def watch_champion(self) -> None:
        """Take over each new champion."""
        while True:
            await asyncio.sleep(_CHAMPION_SECONDS)
            try:
                self._note_registry()
                if not self._loader.changed() and time.monotonic() < self._again_at:
                    continue
                self._again_at = math.inf
                async with self._plans.changing:
                    await self._take_over_champion()
                self._problem = None
            except SentinelError as error:
                if isinstance(error, Unavailable):
                    self._again_at = time.monotonic() + _RETRY_SECONDS
                self._note_problem(str(error))
            except Exception as error:  # noqa: BLE001 -- it is logged, and tried again
                self._again_at = time.monotonic() + _RETRY_SECONDS
                self._note_problem(f"unexpected error: {shown(error)}", error)

    async def watch_policy(self) -> None:
        """Take over each new version of the policy."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                if await asyncio.to_thread(self._policies.look):
                    async with self._plans.changing:
                        await self._take_over_policy()
            except Exception:
                log.exception("The policy could not be looked at; trying again.")

    async def watch_line_up(self) -> None:
        """Take over line-ups; what was stopped decides no more even while a champion takes long."""
        waits = False
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                if await asyncio.to_thread(self._line_ups.look):
                    self._line_ups.ask_no_more(self._writer.scorer.panel)
                    waits = True
                if waits and not self._plans.changing.locked():
                    async with self._plans.changing:
                        waits = False
                        await self.take_over_line_up()
            except Exception:
                log.exception("The line-up could not be looked at; trying again.")

    # What they take over. Only while `PlanChanges.changing` is held.

    async def _take_over_champion(self) -> None:
        started = time.perf_counter()
        served = await asyncio.to_thread(self._loader.load, self._writer.scorer.program.plan)
        if served is None:
            return
        model = served.model
        if served.panel.plan.hash == self._writer.scorer.program.plan.hash:

            def swap() -> None:
                self._line_ups.ask_no_more(served.panel)
                scorer = Scorer(self._writer.scorer.state, served.panel, served.policy, served.key)
                self._writer.take_over(scorer)

            await self._writer.turn.in_order(swap)
        else:
            await self._plans.change_to(served)
        self._plans.look_again()
        self._bands = served.bands
        self._metrics.model_swaps += 1
        self._metrics.model_swap_seconds = time.perf_counter() - started
        self._note(self._writer.scorer)
        log.info("Model %s version %s serves from now on.", model.name, model.version)

    async def _take_over_policy(self) -> None:
        """The policy that holds now over the models that serve."""
        model = self._writer.scorer.model
        if model is None:  # the first champion brings it
            return
        assert self._bands is not None  # of that model
        policy, key = await asyncio.to_thread(self._policies.of, self._bands, model.plan)

        def swap() -> None:
            before = self._writer.scorer
            panel = before.panel.with_lines(partial(self._policies.with_lines, policy))
            self._writer.take_over(Scorer(before.state, panel, policy, key))

        await self._writer.turn.in_order(swap)
        version = self._policies.version
        if version is not None:
            log.info("Version %d of the policy holds from now on.", version.version)

    async def take_over_line_up(self) -> None:
        """The experiments that run now, beside the champion that serves."""
        scorer = self._writer.scorer
        if scorer.model is None or scorer.policy is None:  # the first champion brings them
            return
        plan = scorer.program.plan
        panel = await asyncio.to_thread(self._loader.panel, scorer.model, scorer.policy, plan)
        self._plans.look_again()

        def swap() -> None:
            before = self._writer.scorer
            self._writer.take_over(Scorer(before.state, panel, before.policy, before.key))

        await self._writer.turn.in_order(swap)
        log.info(
            "Version %d of the line-up holds from now on: %s.",
            self._line_ups.line_up.version,
            ", ".join(other.name for other in panel.others) or "the champion alone",
        )

    def _note_problem(self, problem: str, error: Exception | None = None) -> None:
        """Note why the champion does not serve, and log it unless it was the same before."""
        if problem != self._problem:
            level = logging.WARNING if error is None else logging.ERROR
            words = "The new champion cannot serve; the old one stays. %s"
            log.log(level, words, problem, exc_info=error)
        self._problem = problem

    def _note_registry(self) -> None:
        view = self._registry.look()
        self._metrics.registry_answered = 0.0 if view is None else view.answered_at_us / 1e6
        self._metrics.model_problem = self.champion_problem is not None
