"""`/experiments/{name}`: what is known of an experiment, and making its challenger champion."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Query, Request, Response

from sentinel.api.problems import problem_responses
from sentinel.api.routes.experiments import (
    OnBehalfOf,
    RunningExperiment,
    experiments_of,
    json_answer,
    who,
)
from sentinel.api.routes.raw import PRINCIPAL
from sentinel.experiments.guardrails import Reading
from sentinel.experiments.judgement import ExperimentState
from sentinel.experiments.lineup import MOST_TEXT
from sentinel.scoring.experiment_judge import ExperimentJudge, Promotion
from sentinel.scoring.runtime import ScoringRuntime

MOST_WAIT_SECONDS: Final = 120.0
"""The longest that an answer waits for a judgement or a promotion."""

_UNDER_WAY: Final = 202


class JudgedExperiment(msgspec.Struct, kw_only=True):
    """An experiment with all that is known of it.

    Attributes:
        here: As this scorer runs it; null if it does not run.
        status: As the log says it: verdict, interval, disagreements, estimates; null if it is being
            judged for the first time.
        judged_at_us: When it was judged, microseconds UTC; null as above.
        judging: Whether a newer judgement is on its way.
        problem: Why the last look at the log failed; empty if it did not.
        guardrails: What the guardrails saw in the last hour, in this scorer; empty if it does not
            run or was not looked at yet.
        promotion: The last one that was asked for here; null if none was.
    """

    here: RunningExperiment | None
    status: ExperimentState | None
    judged_at_us: int | None
    judging: bool
    problem: str
    guardrails: tuple[Reading, ...]
    promotion: Promotion | None


RESULTS: Final = (JudgedExperiment, Promotion)
"""Structs that the OpenAPI document describes."""


def experiment_results_router(runtime: ScoringRuntime) -> APIRouter:
    """The routes of what is known of an experiment."""
    router = APIRouter(tags=["service"])
    judge = ExperimentJudge(runtime.settings)

    @router.get(
        "/experiments/{name}",
        summary="What is known of an experiment",
        description=(
            "Judging reads the log, in a process of its own and at most once a minute; the answer "
            "says when it was judged. Guardrails are those of the scorer that answers."
        ),
        responses={200: _done("JudgedExperiment"), **problem_responses(404, 422, 429, 503)},
    )
    async def experiment(
        name: str,
        wait_seconds: Annotated[
            float,
            Query(
                ge=0.0,
                le=MOST_WAIT_SECONDS,
                description="How long to wait for a judgement that is not older than a minute.",
            ),
        ] = 30.0,
    ) -> Response:
        running = experiments_of(runtime).experiments
        here = next((one for one in running if one.experiment.name == name), None)
        started_at_us = None if here is None else here.experiment.started_at_us
        found = await judge.judged(name, started_at_us, wait_seconds)
        return json_answer(
            JudgedExperiment(
                here=here,
                status=found.status,
                judged_at_us=found.judged_at_us,
                judging=found.judging,
                problem=found.problem,
                guardrails=() if here is None else runtime.guard.readings(here.experiment),
                promotion=judge.promotion(name),
            )
        )

    @router.post(
        "/experiments/{name}/promote",
        summary="Make a challenger the champion, and end its experiment",
        description=(
            "Only one that was shown to be better, unless `force` says so. The answer is 202 where "
            "the promotion takes longer than the wait: it goes on, and the experiment shows how it "
            "ended."
        ),
        responses={
            200: _done("Promotion"),
            _UNDER_WAY: _done("Promotion", "Under way"),
            **problem_responses(404, 409, 422, 429, 503),
        },
    )
    async def promote(
        request: Request,
        name: str,
        why: Annotated[
            str,
            Query(max_length=MOST_TEXT, description="Why; without, the judgement's words are."),
        ] = "",
        force: Annotated[
            bool, Query(description="Whether it may be one that was not shown to be better.")
        ] = False,
        on_behalf_of: OnBehalfOf = "",
        wait_seconds: Annotated[
            float, Query(ge=0.0, le=MOST_WAIT_SECONDS, description="How long to wait for it.")
        ] = 60.0,
    ) -> Response:
        by = who(request.scope[PRINCIPAL], on_behalf_of)
        said = await judge.promote(name, by=by, why=why, force=force, wait_seconds=wait_seconds)
        return json_answer(said, 200 if said.state == "done" else _UNDER_WAY)

    return router


def _done(name: str, said: str = "Done") -> dict[str, Any]:
    schema = {"$ref": f"#/components/schemas/{name}"}
    return {"description": said, "content": {"application/json": {"schema": schema}}}
