"""Fetching a model that is not here any more, in a process beside the payments."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Final

import msgspec

from sentinel.domain import LookupTooSlow, ModelGone, NoModel, Overloaded, Unavailable
from sentinel.scoring.jobs import run_job
from sentinel.settings import Settings

MOST_FETCHES: Final = 1
"""Models that are fetched at once."""
FETCH_SECONDS: Final = 60.0
"""How long one may take."""
REMEMBERED_SECONDS: Final = 30.0
"""How long a failure is answered without trying again."""
MOST_REMEMBERED: Final = 64
"""Failures that are remembered."""
_JOB: Final = "sentinel.pipeline.fetch_past"

Version = tuple[str, str]
Failure = ModelGone | Unavailable


class ModelFetcher:
    """Fetches versions from the registry for explanations. For one event loop.

    Args:
        settings: The deployment.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._fetching = 0
        self._failed: OrderedDict[Version, tuple[float, Failure]] = OrderedDict()

    async def fetch(self, name: str, version: str, problem: str = "") -> None:
        """Bring a version into the folder of past models.

        Args:
            name, version: Of the model in the registry.
            problem: Why the folder that is here cannot be used; empty if there is none.

        Raises:
            ModelGone: The registry has it no more either, or what it has may not be used.
            Unavailable: The registry does not answer.
            LookupTooSlow: It took too long.
            Overloaded: Another one is being fetched.
        """
        key = (name, version)
        until, failure = self._failed.get(key, (0.0, None))
        if failure is not None and time.monotonic() < until:
            raise type(failure)(str(failure))
        if self._fetching >= MOST_FETCHES:
            raise Overloaded(
                f"Version {version} of {name} has to be fetched, and another one is being fetched "
                "already. Ask again in a moment.",
                retry_after_seconds=2.0,
            )
        self._fetching += 1
        try:
            failure = await self._run(key, problem)
        finally:
            self._fetching -= 1
        if failure is None:
            self._failed.pop(key, None)
            return
        self._failed[key] = (time.monotonic() + REMEMBERED_SECONDS, failure)
        self._failed.move_to_end(key)
        while len(self._failed) > MOST_REMEMBERED:
            self._failed.popitem(last=False)
        raise failure

    async def _run(self, key: Version, problem: str) -> Failure | None:
        name, version = key
        settings = self._settings
        request = msgspec.json.encode({"name": name, "version": version})
        try:
            said = await run_job(_JOB, request, settings, FETCH_SECONDS)
        except TimeoutError:
            return LookupTooSlow(
                f"Version {version} of {name} could not be fetched in {FETCH_SECONDS:.0f} s. Ask "
                "again later, or see whether the registry is well: `sentinel status`."
            )
        except Unavailable as error:
            return Unavailable(f"Version {version} of {name} could not be fetched: {error}")
        answer = msgspec.json.decode(said, type=dict[str, str])
        if "ok" in answer:
            return None
        beside = f" The folder that is here cannot be used: {problem}" if problem else ""
        code, words = answer["code"], answer["error"]
        if code == NoModel.code:
            return ModelGone(
                f"The decision was made by version {version} of {name}, which neither this machine "
                f"nor the registry has any more, so it cannot be attributed again. {words}{beside} "
                "GET /decisions/{id} has the strongest reasons as they were recorded. Bring the "
                "version's folder back from a backup of the models folder to explain it whole."
            )
        if code in ("model_not_signed", "model_format_error", "plan_mismatch"):
            return ModelGone(
                f"The decision was made by version {version} of {name}, and what the registry "
                f"holds of it may not be used: {words}{beside}"
            )
        return Unavailable(
            f"The decision was made by version {version} of {name}, which is not on this machine "
            f"any more, and it cannot be fetched right now: {words}{beside}"
        )
