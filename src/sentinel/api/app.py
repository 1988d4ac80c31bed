"""The application: raw scoring routes in front, FastAPI behind them for everything else."""

from __future__ import annotations

import logging
import time
from importlib import metadata
from typing import Annotated, Any, Literal

import msgspec
from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from sentinel.api.answers import KnownAnswer
from sentinel.api.decisions import DecisionsPage, decisions_page
from sentinel.api.intake import Intake
from sentinel.api.models import ModelsPage, models_page, provisional_of
from sentinel.api.openapi import install_openapi
from sentinel.api.problems import (
    PROBLEM_TYPE,
    Problem,
    ProblemError,
    invalid,
    problem_body,
    problem_of,
    problem_responses,
)
from sentinel.api.scoring_routes import Receive, Scope, ScoringRoutes, Send
from sentinel.domain import (
    MAX_ID_LENGTH,
    Outcome,
    SentinelError,
    UnknownTransaction,
    Verdict,
    id_for_display,
)
from sentinel.ingest.cards import masked
from sentinel.ingest.values import BadValue
from sentinel.ledger.index_values import DecisionFilter
from sentinel.scoring.runtime import ScoringRuntime

log = logging.getLogger(__name__)

_DESCRIPTION = """Real-time card-fraud detection: true sliding-window features, exact reasons on
every decision, every decision durable before it is answered."""

MODEL_HEADER = "Sentinel-Model-Version"


class ServiceInformation(BaseModel):
    """What this service is."""

    service: str
    version: str
    documentation: str
    routes: list[str]


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
    provisional: str | None = Field(
        None, description="Why no gate could judge it, for want of known truth; null: one did."
    )
    problem: str | None = None


class FeatureStoreStatus(BaseModel):
    """The feature state."""

    ready: bool
    plan_hash: str
    features: int
    entities: int
    bytes: int
    sequence: int
    problem: str | None = None


class LedgerStatus(BaseModel):
    """The ledger."""

    sequence: int
    indexed_through: int
    snapshot_sequence: int


class Health(BaseModel):
    """Status of every part of the scoring service."""

    status: Literal["ok", "degraded", "unavailable"]
    uptime_seconds: float
    model: ModelStatus
    feature_store: FeatureStoreStatus
    ledger: LedgerStatus


class Application:
    """The ASGI application.

    Args:
        runtime: The scoring process, already recovered and warm.

    Attributes:
        intake: Takes payments.
        fastapi: Answers on all other routes.
    """

    def __init__(self, runtime: ScoringRuntime) -> None:
        self._running = runtime
        self.intake = Intake(runtime)
        self._routes = ScoringRoutes(runtime, self.intake)
        self._raw_paths = frozenset(self._routes.handlers)
        self.fastapi = self._build()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            scope["type"] == "http"
            and scope["path"] in self._raw_paths
            and not (scope["path"] == "/predict/batch" and scope["method"] in ("GET", "HEAD"))
        ):  # a transaction may have the id "batch"
            await self._routes(scope, receive, send)
        else:
            await self.fastapi(scope, receive, send)

    def _build(self) -> FastAPI:
        # With the pages of /docs from this process: where payments are, the internet may not be.
        app = FastAPIOffline(
            title="Sentinel",
            version=metadata.version("sentinel-fraud"),
            description=_DESCRIPTION,
            openapi_tags=[
                {"name": "scoring", "description": "Decide on payments."},
                {"name": "ledger", "description": "Ask what was decided."},
                {"name": "service", "description": "How the service is."},
            ],
        )
        _install_problem_handlers(app)
        self._add_service_routes(app)
        self._add_ledger_routes(app)
        install_openapi(app)
        return app

    def _add_service_routes(self, app: FastAPI) -> None:
        @app.get("/", tags=["service"], summary="Service information")
        async def information() -> ServiceInformation:
            return ServiceInformation(
                service="Sentinel",
                version=app.version,
                documentation="/docs",
                routes=sorted(app.openapi()["paths"]),
            )

        @app.get("/health", tags=["service"], summary="Health of model, features and ledger")
        async def health() -> Health:
            return self._health()

        @app.get("/models", tags=["service"], summary="Versions of the model and what serves")
        async def models() -> ModelsPage:
            return models_page(self._running)

        @app.get(
            "/livez",
            tags=["service"],
            summary="Whether the process lives",
            response_class=PlainTextResponse,
        )
        async def livez() -> PlainTextResponse:
            return PlainTextResponse("ok")

        @app.get(
            "/readyz",
            tags=["service"],
            summary="Whether payments can be scored",
            response_class=PlainTextResponse,
            responses=problem_responses(503),
        )
        async def readyz() -> PlainTextResponse:
            runtime = self._running
            if runtime.service.unavailable is not None:
                raise ProblemError(
                    503, "state_unavailable", "Temporarily unavailable", runtime.service.unavailable
                )
            if runtime.service.engine.model is None:
                raise ProblemError(503, "no_model", "No model yet", "No model has been promoted.")
            return PlainTextResponse("ok")

        @app.get(
            "/metrics",
            tags=["service"],
            summary="Prometheus metrics",
            response_class=PlainTextResponse,
        )
        async def metrics() -> Response:
            return Response(
                generate_latest(self._running.metrics.registry), media_type=CONTENT_TYPE_LATEST
            )

    def _add_ledger_routes(self, app: FastAPI) -> None:
        known_schema = {"$ref": "#/components/schemas/KnownAnswer"}

        @app.get(
            "/predict/{transaction_id:path}",
            tags=["ledger"],
            summary="The answer for a known transaction",
            description="Any id that was posted can be asked for, also one with slashes in it.",
            response_class=Response,
            responses={
                200: {
                    "description": "Done",
                    "headers": {MODEL_HEADER: {"schema": {"type": "string"}}},
                    "content": {"application/json": {"schema": known_schema}},
                },
                **problem_responses(404, 422),
            },
        )
        async def known(transaction_id: str) -> Response:
            answer, version = self._known(transaction_id)
            return Response(
                msgspec.json.encode(answer),
                media_type="application/json",
                headers={MODEL_HEADER: version},
            )

        self._add_decisions_route(app)

    def _add_decisions_route(self, app: FastAPI) -> None:
        @app.get(
            "/decisions",
            tags=["ledger"],
            summary="Decisions, newest first",
            responses=problem_responses(422),
        )
        def decisions(
            outcome: Annotated[Outcome | None, Query()] = None,
            min_probability: Annotated[float | None, Query(ge=0, le=1)] = None,
            is_fraud: bool | None = None,
            label: Verdict | Literal["none"] | None = None,
            since_us: Annotated[int | None, Query(ge=0, le=2**62)] = None,
            until_us: Annotated[int | None, Query(ge=0, le=2**62)] = None,
            customer_id: Annotated[str | None, Query(max_length=MAX_ID_LENGTH)] = None,
            card_id: Annotated[str | None, Query(max_length=MAX_ID_LENGTH)] = None,
            merchant_id: Annotated[str | None, Query(max_length=MAX_ID_LENGTH)] = None,
            limit: Annotated[int, Query(ge=1, le=1000)] = 50,
            before: Annotated[int | None, Query(ge=1, le=2**62)] = None,
        ) -> DecisionsPage:
            where = DecisionFilter(
                outcomes=() if outcome is None else (outcome,),
                min_probability=min_probability,
                since_us=since_us,
                until_us=until_us,
                customer_id=self._id("customer_id", customer_id),
                card_id=self._id("card_id", card_id),
                merchant_id=self._id("merchant_id", merchant_id),
                is_fraud=is_fraud,
                label=label,
            )
            return decisions_page(self._running, where, limit=limit, before=before)

    def _id(self, field: str, text: str | None) -> str | None:
        """An id of a question as the ledger has it; None if there is none."""
        try:
            return self.intake.guard.known_id(field, text)
        except BadValue as error:
            raise invalid({field: str(error)}) from None

    def _known(self, transaction_id: str) -> tuple[KnownAnswer, str]:
        identifier = self._id("transaction_id", transaction_id)
        if identifier is None:
            raise invalid({"transaction_id": f"must have 1 to {MAX_ID_LENGTH} characters"})
        found = self._find(identifier)
        if found is None and identifier != transaction_id:
            found = self._find(transaction_id)  # from before ids had one spelling
        if found is not None:
            return found
        raise UnknownTransaction(
            f"No decision is recorded for transaction {masked(transaction_id)!r}. Score it with "
            "POST /predict."
        )

    def _find(self, transaction_id: str) -> tuple[KnownAnswer, str] | None:
        """The answer that was given for a transaction, and by which version of the model."""
        runtime = self._running
        recorded = runtime.service.recorded(transaction_id)
        if recorded is not None:
            return (
                _known_answer(transaction_id, recorded.is_fraud, recorded.probability),
                recorded.scored.model.version,
            )
        decided = runtime.index.decision_row(transaction_id)
        found = decided if decided is not None else runtime.history.find(transaction_id)
        if found is None:
            return None
        answer = _known_answer(transaction_id, found.is_fraud, found.fraud_probability)
        return answer, found.model_version

    def _health(self) -> Health:
        runtime = self._running
        service = runtime.service
        engine = service.engine
        model = engine.model
        problem = service.unavailable
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
                provisional=provisional_of(runtime),
                problem=runtime.problem_with_model(),
            ),
            feature_store=FeatureStoreStatus(
                ready=problem is None,
                plan_hash=engine.program.plan.hash,
                features=engine.program.n_features,
                entities=engine.state.entities,
                bytes=engine.state.used_bytes,
                sequence=engine.state.sequence,
                problem=problem,
            ),
            ledger=LedgerStatus(
                sequence=service.last_sequence,
                indexed_through=runtime.metrics.indexed_through,
                snapshot_sequence=runtime.metrics.snapshot_sequence,
            ),
        )


def _known_answer(transaction_id: str, is_fraud: bool, probability: float) -> KnownAnswer:
    return KnownAnswer(
        transaction_id=id_for_display(transaction_id),
        is_fraud=is_fraud,
        fraud_probability=probability,
    )


def _install_problem_handlers(app: FastAPI) -> None:
    def answer(problem: Problem, headers: dict[str, str] | None = None) -> Response:
        return Response(
            problem_body(problem),
            status_code=problem.status,
            media_type=PROBLEM_TYPE,
            headers=headers,
        )

    @app.exception_handler(RequestValidationError)
    async def on_invalid(_: Request, error: RequestValidationError) -> Response:
        fields = {
            ".".join(str(part) for part in e["loc"][1:]) or str(e["loc"][0]): str(e["msg"])
            for e in error.errors()
        }
        return answer(problem_of(invalid(fields)))

    @app.exception_handler(HTTPException)
    async def on_http(_: Request, error: HTTPException) -> Response:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
        problem = ProblemError(
            error.status_code, code, str(error.detail), str(error.detail)
        ).problem
        return answer(problem, dict(error.headers or {}))

    @app.exception_handler(SentinelError)
    @app.exception_handler(ProblemError)
    @app.exception_handler(Exception)
    async def on_error(request: Request, error: Exception) -> Response:
        problem = problem_of(error)
        if problem.status == 500:
            log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return answer(problem)
