"""Experiments judged and promoted for a scoring process, by jobs beside it.

Judging reads the log from the start of an experiment on, so that one job at a time does it, what it
found is kept with its time, and all who ask meanwhile get that. A promotion is a job, too, and goes
on when whoever asked for it has gone.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from typing import Final, TypeVar

import msgspec

from sentinel.domain import (
    ConfigurationError,
    GateRefused,
    GateWaits,
    InvalidQuery,
    LedgerUnavailable,
    ModelNotSigned,
    NoModel,
    NotFound,
    Overloaded,
    PlanMismatch,
    SentinelError,
    Unavailable,
)
from sentinel.experiments.judgement import ExperimentState
from sentinel.experiments.names import Names
from sentinel.scoring.jobs import run_job
from sentinel.settings import Settings
from sentinel.telemetry.safe_errors import shown

log = logging.getLogger(__name__)
T = TypeVar("T")

MOST_JUDGING: Final = 8
"""Experiments that are judged or wait for it; one is judged at a time."""
JUDGE_SECONDS: Final = 300.0
"""How long one may take."""
FRESH_SECONDS: Final = 60.0
"""For so long nothing is judged again; for longer where judging took longer than a tenth of it."""
MOST_KEPT: Final = 32
"""Experiments of which the last judgement is kept."""
PROMOTE_SECONDS: Final = 3_600.0
"""How long a promotion may take."""

_JOB: Final = "sentinel.pipeline.experiment_job"
_PAUSE: Final = 10.0
_AS: Final[dict[str, type[SentinelError]]] = {
    kind.code: kind
    for kind in (NotFound, GateWaits, GateRefused, NoModel, LedgerUnavailable, Unavailable)
}
_REFUSED: Final = (ConfigurationError.code, ModelNotSigned.code, PlanMismatch.code)


class _Known(msgspec.Struct):
    """What is known of an experiment.

    Attributes:
        status: As it was judged last; None if it never was.
        judged_at_us: When that was.
        error: Why the last job said nothing; None if it said something.
        again_at: Of the monotonic clock: no job before.
        other_at: The same if another experiment runs than the one that was judged.
    """

    status: ExperimentState | None = None
    judged_at_us: int | None = None
    error: SentinelError | None = None
    again_at: float = 0.0
    other_at: float = 0.0


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """An experiment as it was judged last.

    Attributes:
        status: It; None if it is being judged for the first time, or only an earlier one of its
            name was judged.
        judged_at_us: When, microseconds UTC; None as above.
        judging: Whether a newer judgement is on its way.
        problem: Why the last job could not judge it; empty if it could.
    """

    status: ExperimentState | None
    judged_at_us: int | None
    judging: bool
    problem: str


class Promotion(msgspec.Struct, frozen=True, kw_only=True):
    """A promotion that was asked for here.

    Attributes:
        state: "under way", "done" or "failed".
        by: Who asked for it.
        version: The champion that it made; empty if it has not.
        replaced: The champion before; None if there was none, or as above.
        problem: Why it failed; empty if it did not.
    """

    state: str
    by: str
    version: str = ""
    replaced: str | None = None
    problem: str = ""


class _Crowned(msgspec.Struct):
    version: str
    replaced: str | None


class ExperimentJudge:
    """Judges and promotes experiments. For one event loop.

    Args:
        settings: The deployment.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._names = Names(settings)
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._judging: dict[str, asyncio.Task[None]] = {}
        self._turn = asyncio.Semaphore(1)
        self._promotions: OrderedDict[str, Promotion] = OrderedDict()
        self._promoting = False
        self._promoted = 0
        self._promotion_task: asyncio.Task[Promotion] | None = None

    async def judged(self, name: str, started_at_us: int | None, wait_seconds: float) -> Judged:
        """An experiment as it was judged last; a newer judgement begins if that is old.

        Args:
            name: Of it.
            started_at_us: Of the one of that name that runs here; None if none does. A judgement
                of another one is old.
            wait_seconds: How long to wait for a judgement that is not old.

        Raises:
            NotFound: There never was one of that name.
            SentinelError: It could not be judged, and never was.
            Overloaded: Too many are being judged.
        """
        if name not in self._known and name not in self._judging and started_at_us is None:
            await asyncio.to_thread(self._names.require, name)  # no process for any name
        known = self._known.get(name, _Known())
        other = known.status is not None and started_at_us != (
            known.status.experiment.started_at_us if known.status.running else None
        )
        if time.monotonic() >= (known.other_at if other else known.again_at):
            task = self._begin(name)
            await asyncio.wait({task}, timeout=wait_seconds)
            known = self._known.get(name, known)
        judging = name in self._judging
        if known.error is not None and not judging:
            if known.status is None or isinstance(known.error, NotFound):
                raise known.error
        problem = "" if known.error is None else str(known.error)
        status = known.status
        if status is not None and started_at_us not in (None, status.experiment.started_at_us):
            # It is of an earlier experiment of this name, and says nothing of the one that runs.
            return Judged(status=None, judged_at_us=None, judging=judging, problem=problem)
        return Judged(
            status=known.status, judged_at_us=known.judged_at_us, judging=judging, problem=problem
        )

    def promotion(self, name: str) -> Promotion | None:
        """The last promotion of an experiment that was asked for here; None if none was."""
        return self._promotions.get(name)

    async def promote(
        self, name: str, *, by: str, why: str, force: bool, wait_seconds: float
    ) -> Promotion:
        """Make a challenger the champion; goes on by itself after the wait.

        Raises:
            NotFound: It does not run.
            GateWaits: It was not shown to be better.
            InvalidQuery: Its model may not serve, or it is no challenger.
            Overloaded: Another promotion is under way.
            Unavailable: The registry or the log cannot be used right now.
        """
        if self._promoting:
            raise Overloaded(
                "A promotion is under way. Ask again when it is done: `GET /experiments/{name}` "
                "shows it.",
                retry_after_seconds=10.0,
            )
        self._promoting = True
        try:
            await asyncio.to_thread(self._names.require, name)
        except BaseException:
            self._promoting = False
            raise
        self._note(name, Promotion(state="under way", by=by))
        task = asyncio.create_task(self._promote(name, by, why, force), name="promote-experiment")
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        self._promotion_task = task
        await asyncio.wait({task}, timeout=wait_seconds)
        return task.result() if task.done() else self._promotions[name]

    def _begin(self, name: str) -> asyncio.Task[None]:
        """The job that judges an experiment, begun or under way."""
        task = self._judging.get(name)
        if task is None:
            if len(self._judging) >= MOST_JUDGING:
                raise Overloaded(
                    f"{len(self._judging)} experiments are being judged or wait for it, as many as "
                    "may. Ask again in a moment.",
                    retry_after_seconds=5.0,
                )
            task = asyncio.create_task(self._judge(name), name="judge-experiment")
            self._judging[name] = task
        return task

    async def _judge(self, name: str) -> None:
        status: ExperimentState | None = None
        error: SentinelError | None = None
        began = time.monotonic()
        try:
            async with self._turn:
                promoted = -1
                while promoted != self._promoted:  # it may tell of the time before a promotion
                    promoted, began = self._promoted, time.monotonic()
                    status = await self._run(
                        {"do": "status", "name": name}, ExperimentState, JUDGE_SECONDS
                    )
        except SentinelError as caught:
            error = caught
        except Exception as caught:
            log.exception("Experiment %s could not be judged.", name)
            error = Unavailable(f"It could not be judged: {shown(caught)}; the log says more.")
        finally:
            del self._judging[name]
        known = self._known.get(name, _Known())
        ended = time.monotonic()
        known.error = error
        if error is not None:
            known.again_at = ended + _PAUSE
        else:
            known.status = status
            known.judged_at_us = time.time_ns() // 1_000
            known.other_at = ended + _PAUSE
            known.again_at = ended + max(FRESH_SECONDS, 10.0 * (ended - began))
        self._known[name] = known
        self._known.move_to_end(name)
        while len(self._known) > MOST_KEPT:
            self._known.popitem(last=False)

    async def _promote(self, name: str, by: str, why: str, force: bool) -> Promotion:
        wanted = {"do": "promote", "name": name, "by": by, "why": why, "force": force}
        try:
            made = await self._run(wanted, _Crowned, PROMOTE_SECONDS)
        except SentinelError as error:
            log.warning("Experiment %s was not promoted: %s", name, error)
            self._note(name, Promotion(state="failed", by=by, problem=str(error)))
            raise
        except Exception as error:
            log.exception("Experiment %s was not promoted.", name)
            problem = f"It could not be promoted: {shown(error)}; the log says more."
            self._note(name, Promotion(state="failed", by=by, problem=problem))
            raise Unavailable(problem) from error
        finally:
            self._promoting = False
        self._promoted += 1
        self._known.pop(name, None)
        said = Promotion(state="done", by=by, version=made.version, replaced=made.replaced)
        self._note(name, said)
        return said

    def _note(self, name: str, said: Promotion) -> None:
        self._promotions[name] = said
        self._promotions.move_to_end(name)
        while len(self._promotions) > MOST_KEPT:
            self._promotions.popitem(last=False)

    async def _run(self, wanted: dict[str, object], kind: type[T], seconds: float) -> T:
        try:
            said = await run_job(_JOB, msgspec.json.encode(wanted), self._settings, seconds)
        except TimeoutError:
            raise Unavailable(
                f"It took longer than {seconds:,.0f} s and was ended. `sentinel experiment "
                f"{wanted['do']} {wanted['name']}` takes its time."
            ) from None
        answer = msgspec.json.decode(said, type=dict[str, msgspec.Raw])
        if "ok" in answer:
            return msgspec.json.decode(answer["ok"], type=kind)
        code, words = (msgspec.json.decode(answer[part], type=str) for part in ("code", "error"))
        if code in _REFUSED:
            raise InvalidQuery(words, fields={"name": words})
        raise _AS.get(code, Unavailable)(words)
