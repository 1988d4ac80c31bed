"""`GET /health`, `/livez` and `/readyz`: how the scoring process is."""

from __future__ import annotations

import time
from typing import Any, Final, Literal

import msgspec
from fastapi import APIRouter
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, Field

from sentinel.api.problems import ProblemError, problem_responses
from sentinel.api.routes.models import MeasuredOnStatus, measured_on, provisional_of
from sentinel.api.routes.payment_reading import unused_attributes
from sentinel.scoring.runtime import ScoringRuntime

MOST_UNUSED_NAMED: Final = 20
"""Attributes without effect that an answer names."""


class ModelStatus(BaseModel):
    """The model in charge."""

    loaded: bool
    name: str | None = None
    version: str | None = None
    kind: str | None = None
    created_at_us: int | None = None
    metrics: dict[str, Any] = {}
    not_measured: dict[str, str] = Field(
        {}, description="Figures that its held-out payments were too few for, and why."
    )
    measured_on: MeasuredOnStatus | None = Field(
        None,
        description="The held-out payments that `metrics` rest on; null: its training did not "
        "note it.",
    )
    refit: str | None = Field(
        None,
        description="Whether a refit on all mature payments serves, or the model that `metrics` "
        "are of, in a few sentences; null: no refit was made.",
    )
    provisional: str | None = Field(
        None, description="Why no gate could judge it, for want of known truth; null: one did."
    )
    signed: str | None = Field(
        None,
        description="Who let it serve, as its signature says: `passed` or `provisional` by the "
        "gate, `adopted` by an operator.",
    )
    signed_by: str | None = Field(None, description="Id of the trusted key that signed it.")
    problem: str | None = None


class FeatureStoreStatus(BaseModel):
    """The feature state."""

    ready: bool
    plan_hash: str
    features: int
    entities: int
    bytes: int
    held_bytes: int = Field(
        0, description="Memory of all records, keys included, wherever they are kept."
    )
    budget_bytes: int = Field(
        0, description="Memory that they may take; at it no new records are made. 0: no bound."
    )
    sequence: int
    unused_attributes: list[str] = Field(
        [],
        description="Attributes that payments brought and no feature reads: they are recorded and "
        "change no decision. The first 20 names.",
    )
    problem: str | None = None


class LedgerStatus(BaseModel):
    """The ledger."""

    sequence: int
    indexed_through: int
    snapshot_sequence: int


class ExperimentStatus(BaseModel):
    """An experiment of the line-up."""

    name: str
    kind: str
    version: str
    problem: str | None = Field(
        description="Why its model does not score here; null if it does. Until then the champion "
        "decides on its payments."
    )


class Health(BaseModel):
    """Status of every part of the scoring service."""

    status: Literal["ok", "degraded", "unavailable"]
    uptime_seconds: float
    model: ModelStatus
    feature_store: FeatureStoreStatus
    ledger: LedgerStatus
    experiments: list[ExperimentStatus] = Field(description="Models beside the champion.")


def health_of(runtime: ScoringRuntime) -> Health:
    """How model, feature state and ledger are."""
    writer = runtime.writer
    scorer = writer.scorer
    model = scorer.model
    signed = None if model is None else runtime.models.signed(model.version)
    problem = writer.unavailable
    status: Literal["ok", "degraded", "unavailable"] = "ok"
    if problem is not None or model is None:
        status = "unavailable"
    elif runtime.problem_with_model() is not None:
        status = "degraded"
    return Health(
        status=status,
        uptime_seconds=round(time.time() - runtime.started_at, 1),
        model=ModelStatus(loaded=False, problem=runtime.problem_with_model())
        if model is None
        else ModelStatus(
            loaded=True,
            name=model.name,
            version=model.version,
            kind=model.manifest.kind,
            created_at_us=model.manifest.created_at_us,
            metrics=msgspec.to_builtins(model.manifest.metrics),
            not_measured=model.manifest.not_measured,
            measured_on=measured_on(model.manifest),
            refit=None if model.manifest.refit is None else model.manifest.refit.words,
            provisional=provisional_of(runtime),
            signed=None if signed is None else signed.statement.verdict,
            signed_by=None if signed is None else signed.key_id,
            problem=runtime.problem_with_model(),
        ),
        feature_store=FeatureStoreStatus(
            ready=problem is None,
            plan_hash=scorer.program.plan.hash,
            features=scorer.program.n_features,
            entities=scorer.state.entities,
            bytes=scorer.state.used_bytes,
            held_bytes=scorer.state.held_bytes,
            budget_bytes=scorer.state.budget_bytes,
            sequence=scorer.state.sequence,
            unused_attributes=unused_attributes(scorer.program.plan)[:MOST_UNUSED_NAMED],
            problem=problem,
        ),
        ledger=LedgerStatus(
            sequence=writer.last_sequence,
            indexed_through=runtime.metrics.indexed_through,
            snapshot_sequence=runtime.metrics.snapshot_sequence,
        ),
        experiments=[
            ExperimentStatus(
                name=one.name,
                kind=one.kind,
                version=one.version,
                problem=runtime.problem_with_experiment(one.name),
            )
            for one in runtime.line_ups.line_up.experiments
        ],
    )


def health_router(runtime: ScoringRuntime) -> APIRouter:
    """The route for people and for `sentinel doctor`."""
    router = APIRouter(tags=["service"])

    @router.get("/health", summary="Health of model, features and ledger")
    async def health() -> Health:
        return health_of(runtime)

    return router


def probes_router(runtime: ScoringRuntime) -> APIRouter:
    """The routes for what starts, stops and balances processes."""
    router = APIRouter(tags=["service"])

    @router.get("/livez", summary="Whether the process lives", response_class=PlainTextResponse)
    async def livez() -> PlainTextResponse:
        return PlainTextResponse("ok")

    @router.get(
        "/readyz",
        summary="Whether payments can be scored",
        response_class=PlainTextResponse,
        responses=problem_responses(503),
    )
    async def readyz() -> PlainTextResponse:
        if runtime.writer.unavailable is not None:
            raise ProblemError(
                503, "state_unavailable", "Temporarily unavailable", runtime.writer.unavailable
            )
        if runtime.writer.scorer.model is None:
            raise ProblemError(503, "no_model", "No model yet", "No model has been promoted.")
        return PlainTextResponse("ok")

    return router
