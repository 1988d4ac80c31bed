"""Vectors of another plan: its state is opened beside the running one, then both change at once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Final

from sentinel.features.plan.plan import Plan
from sentinel.models.plans import union_path
from sentinel.scoring.scorer import Scorer
from sentinel.scoring.served import Served, ServedLoader
from sentinel.scoring.snapshots import Snapshots
from sentinel.scoring.states import States
from sentinel.scoring.writer import Writer
from sentinel.settings import Settings
from sentinel.state.base import FeatureState
from sentinel.state.snapshot_file import drop_snapshots

log = logging.getLogger(__name__)

_RETRY_SECONDS: Final = 30.0
"""How long after a failure the features of a line-up are computed again."""
_SMALL_GAP: Final = 256
_GAP_ROUNDS: Final = 20


class PlanChanges:
    """Changes the plan of a writer's vectors while it decides.

    Args:
        settings: The deployment.
        states: Open the state of a plan.
        writer: Decides with the state.
        loader: Puts panels together.
        snapshots: Of the state that serves.
        alone: Held while a state is put in place, by whatever else does that, too.
        note: Told of the scorer that serves from now on.

    Attributes:
        changing: Held by whoever changes what serves.
    """

    def __init__(
        self,
        settings: Settings,
        states: States,
        writer: Writer,
        loader: ServedLoader,
        snapshots: Snapshots,
        alone: asyncio.Lock,
        note: Callable[[Scorer], None],
    ) -> None:
        self.changing = asyncio.Lock()
        self._settings = settings
        self._states = states
        self._writer = writer
        self._loader = loader
        self._line_ups = loader.line_ups
        self._snapshots = snapshots
        self._alone = alone
        self._note = note
        self._opening = asyncio.Lock()
        self._wanted = asyncio.Event()

    def look_again(self) -> None:
        """Models may want features of another plan by now."""
        self._wanted.set()

    async def change_to(self, served: Served) -> None:
        """Go on with models whose features the running plan lacks. Only while `changing` is held.

        Raises:
            SentinelError: The state of their plan cannot be opened.
        """
        async with self._opening:
            state = await self._open_beside(served.panel.plan)
            await self.take_over_state(Scorer(state, served.panel, served.policy, served.key))

    async def take_over_state(self, scorer: Scorer) -> None:
        """Go on with a scorer over another state, once that has the last entries of the log."""
        async with self._alone:
            await asyncio.to_thread(scorer.warm)
            await asyncio.to_thread(self._states.catch_up, scorer.state)
            await asyncio.to_thread(self._states.prepare_catch_up, scorer.state)

            old = self._writer.scorer

            def take_over(_: int) -> None:
                nonlocal old
                self._line_ups.ask_no_more(scorer.panel)  # what was stopped meanwhile
                old = self._writer.scorer
                self._writer.take_over(scorer)
                self._snapshots.begin_anew()

            turn = self._writer.turn
            await turn.holding(partial(self._states.catch_up, scorer.state), take_over)

        def forget() -> None:
            old.state.close()
            if old.panel.union is not None and scorer.panel.union is not old.panel.union:
                drop_snapshots(self._settings.state_dir, old.panel.union.plan.hash)

        await asyncio.to_thread(forget)

    async def watch(self) -> None:
        """See that vectors have the features of all models of the line-up, and no others."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            try:
                while await self._follow_line_up():
                    pass
            except Exception:
                log.exception("The features of the line-up could not be computed; trying again.")
                await asyncio.sleep(_RETRY_SECONDS)
                self._wanted.set()

    async def _follow_line_up(self) -> bool:
        """Change to the plan of the line-up, if it is another one.

        Payments, labels, new champions and line-ups go on meanwhile. Whatever was decided in the
        time it took holds.

        Returns:
            Whether it has to be looked at again.
        """
        plan = self._line_ups.plan
        if plan is None or plan.hash == self._writer.scorer.program.plan.hash:
            return False
        log.info("The state of plan %s is opened beside the one that serves.", plan.hash)
        async with self._opening:
            state = await self._open_beside(plan)
        async with self.changing:
            before = self._writer.scorer
            wanted = self._line_ups.plan
            model, policy = before.model, before.policy
            if (
                wanted is None
                or wanted.hash != plan.hash
                or before.program.plan.hash == plan.hash
                or model is None
                or policy is None
            ):
                await asyncio.to_thread(self._discard, state)
                return True
            panel = await asyncio.to_thread(self._loader.panel, model, policy, plan)
            await self.take_over_state(Scorer(state, panel, policy, before.key))
        self._note(self._writer.scorer)
        log.info("Vectors are of plan %s from now on.", plan.hash)
        return True

    async def _open_beside(self, plan: Plan) -> FeatureState:
        """The state of another plan, nearly as far as the log. Only while `_opening` is held."""

        def opened() -> FeatureState:
            state = self._states.open(plan)
            state.warm()
            return state

        state = await asyncio.to_thread(opened)
        for _ in range(_GAP_ROUNDS):
            if await asyncio.to_thread(self._states.catch_up, state) < _SMALL_GAP:
                break
        return state

    def _discard(self, state: FeatureState) -> None:
        """Give up a state that was opened beside the one that serves."""
        state.close()
        plan_hash = state.program.plan.hash
        wanted, serving = self._line_ups.plan, self._writer.scorer.program.plan
        unused = wanted is not None and plan_hash not in (wanted.hash, serving.hash)
        if unused and union_path(self._settings, plan_hash).exists():
            drop_snapshots(self._settings.state_dir, plan_hash)
