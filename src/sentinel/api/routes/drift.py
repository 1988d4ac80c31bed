"""`/drift`: how far the features are from the model's reference, and what changed since."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

from fastapi import APIRouter, Response

from sentinel.api.problems import problem_responses
from sentinel.api.routes.experiments import json_answer
from sentinel.domain import LedgerUnavailable, NotFound, Overloaded
from sentinel.drift.figures import DriftOverview, FeatureDetail
from sentinel.drift.overview import DriftView
from sentinel.drift.reference import DriftReference
from sentinel.drift.rows import StreamRow
from sentinel.drift.store import open_drift
from sentinel.models.serving import model_folder
from sentinel.scoring.runtime import ScoringRuntime

MOST_READING: Final = 2
"""Questions about drift that are read at once; more get 429."""
KEPT_SECONDS: Final = 30.0
"""So long one overview answers all that ask."""
READ_SECONDS: Final = 30.0
"""A question that takes longer is answered with 503."""

DRIFT: Final = (DriftOverview, FeatureDetail)
"""Structs that the OpenAPI document describes."""

_T = TypeVar("_T")


def drift_router(runtime: ScoringRuntime) -> APIRouter:
    """The routes of drift. They read what the monitor keeps; nothing here follows the log."""
    router = APIRouter(tags=["service"])
    reading = _Reading(runtime)

    @router.get(
        "/drift",
        summary="What moved since the model was made",
        description=(
            "As the monitor has it: every feature's distance from the model's reference over the "
            "last seven days, day by day for 28, the changes that were found, and silences and "
            "planned changes. `missing` says what is not there yet."
        ),
        responses={200: _done("DriftOverview"), **problem_responses(429, 503)},
    )
    async def overview() -> Response:
        return json_answer(await reading.overview())

    @router.get(
        "/drift/{feature}",
        summary="One feature, as it was and as it is",
        description="`score` is the probability of the model.",
        responses={200: _done("FeatureDetail"), **problem_responses(404, 429, 503)},
    )
    async def feature(feature: str) -> Response:
        return json_answer(await reading.feature(feature))

    return router


class _Reading:
    """Reads the record of drift off the event loop, a few questions at a time."""

    def __init__(self, runtime: ScoringRuntime) -> None:
        settings = runtime.settings

        def load(stream: StreamRow) -> DriftReference | None:
            return DriftReference.load(model_folder(settings, stream.model_version))

        self._settings, self._load = settings, load
        self._view: DriftView | None = None
        self._running = 0
        self._kept: tuple[float, DriftOverview] | None = None

    async def overview(self) -> DriftOverview:
        """The overview, at most `KEPT_SECONDS` old."""
        if self._kept is not None and time.monotonic() - self._kept[0] < KEPT_SECONDS:
            return self._kept[1]
        found = await self._ask(lambda view: view.overview(_now_us()))
        self._kept = time.monotonic(), found
        return found

    async def feature(self, name: str) -> FeatureDetail:
        """One feature."""
        found = await self._ask(lambda view: view.feature(name, _now_us()))
        if found is None:
            raise NotFound(
                f"Drift knows no feature {name!r}. `GET /drift` lists those that it knows, and "
                "says what is missing."
            )
        return found

    async def _ask(self, question: Callable[[DriftView], _T]) -> _T:
        if self._running >= MOST_READING:
            raise Overloaded("Drift is being read already. Ask again in a second.")

        def read() -> _T:
            if self._view is None:
                self._view = DriftView(open_drift(self._settings), self._load)
            return question(self._view)

        self._running += 1
        task = asyncio.ensure_future(asyncio.to_thread(read))
        task.add_done_callback(self._done)
        try:
            # A read that is given up on goes on in its thread, and counts until it has ended.
            return await asyncio.wait_for(asyncio.shield(task), READ_SECONDS)
        except TimeoutError:
            raise LedgerUnavailable(
                f"The record of drift was not read within {READ_SECONDS:.0f} s. Ask again later."
            ) from None

    def _done(self, task: asyncio.Future[Any]) -> None:
        self._running -= 1
        if not task.cancelled():
            task.exception()


def _now_us() -> int:
    return time.time_ns() // 1000


def _done(name: str) -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{name}"}
    return {"description": "Done", "content": {"application/json": {"schema": schema}}}
