"""The application: it assembles routes, and holds no logic of its own.

Payments and what else is posted go to raw routes (`routes/raw.py`), all other requests to FastAPI.
A new route is a file in `routes/` and a line here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, MutableMapping
from importlib import metadata
from typing import Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException

from sentinel.access.limits import Rates
from sentinel.access.principals import STRANGER, Gatekeeper
from sentinel.api.admission import admission_of
from sentinel.api.door import ON_JSON, ON_PAGES, PAYMENT, PAYMENTS, Door
from sentinel.api.large import LargeBodies
from sentinel.api.openapi import install_openapi
from sentinel.api.parameters import only_known_parameters
from sentinel.api.problems import (
    Header,
    ProblemAnswer,
    ProblemError,
    ProblemRenderer,
    invalid,
    rate_headers,
)
from sentinel.api.request_log import request_log
from sentinel.api.routes.decision_detail import decision_router
from sentinel.api.routes.decisions import DecisionRoutes
from sentinel.api.routes.drift import drift_router
from sentinel.api.routes.experiment_results import experiment_results_router
from sentinel.api.routes.experiments import ExperimentRoutes
from sentinel.api.routes.explanation import ExplanationRoute
from sentinel.api.routes.features import FeaturesRoute
from sentinel.api.routes.health import health_router, probes_router
from sentinel.api.routes.labels import LabelRoute
from sentinel.api.routes.models import models_router
from sentinel.api.routes.payments import Intake
from sentinel.api.routes.policy import PolicyRoutes
from sentinel.api.routes.raw import (
    PRINCIPAL,
    RawRoutes,
    Receive,
    Scope,
    Send,
    answer_problem,
)
from sentinel.api.routes.service import information_router, metrics_router
from sentinel.api.routes.voids import VoidRoute
from sentinel.domain import SentinelError
from sentinel.ledger.index_readers import IndexReaders
from sentinel.scoring.runtime import ScoringRuntime
from sentinel.telemetry.context import bound
from sentinel.telemetry.request_ids import REQUEST_ID, RequestIds, ids_in

_DESCRIPTION = """Real-time card-fraud detection: true sliding-window features, exact reasons on
every decision, every decision durable before it is answered."""
_TAGS = [
    {"name": "scoring", "description": "Decide on payments."},
    {"name": "ledger", "description": "Ask what was decided."},
    {"name": "service", "description": "How the service is."},
]
_PAGES = ("/docs", "/redoc", "/static-offline-docs")
_ADMIN = (*_PAGES, "/openapi.json", "/metrics")
"""What is at the admin port alone where there is one."""
_PROBES = ("/livez", "/readyz")
_READ_TOO = (PAYMENTS, "/policy", "/experiments")
"""Paths of raw routes that FastAPI answers a GET to. A transaction may have the id "batch"."""


class Application:
    """The ASGI application.

    Args:
        runtime: The scoring process, already recovered and warm.
        gatekeeper: Says who calls; started already.

    Attributes:
        metrics: Counts what is answered.
        door: Refuses what may not come in.
        problems: Renders errors.
        intake: Takes payments.
        rates: How much each caller may send.
        request_ids: Makes ids for requests that came without one.
        requests: Told of requests that are answered; None if nobody is.
        fastapi: Answers on all routes that are not raw.
    """

    def __init__(self, runtime: ScoringRuntime, gatekeeper: Gatekeeper) -> None:
        self.metrics = runtime.metrics
        self.door = Door(runtime.settings.api, gatekeeper)
        self.problems = ProblemRenderer(runtime.metrics)
        self.request_ids = RequestIds()
        self.requests = request_log(runtime.settings.logs.requests, runtime.metrics)
        self._large = LargeBodies()
        self.rates = Rates(runtime.settings.access)
        self.intake = Intake(runtime, self._large, self.rates)
        guard = self.intake.guard
        limits = runtime.settings.api
        self._admin_port = limits.admin_port
        self._readers = IndexReaders(
            runtime.settings.index_path,
            readers=limits.readers,
            waiting=limits.readers_waiting,
            seconds=limits.reader_seconds,
        )
        policy = PolicyRoutes(runtime, self._large)
        self._explanations = ExplanationRoute(runtime, guard, self._readers)
        experiments = ExperimentRoutes(runtime, self._large)
        routes = (
            *self.intake.routes,
            *LabelRoute(runtime, guard, self._large).routes,
            *VoidRoute(runtime, guard, self._large).routes,
            *FeaturesRoute(runtime, guard, self._large).routes,
            *policy.routes,
            *experiments.routes,
        )
        self._raw = RawRoutes(routes, self.door, self.problems)
        # With the pages of /docs from this process: where payments are, the internet may not be.
        self.fastapi = FastAPIOffline(
            title="Sentinel",
            version=metadata.version("sentinel-fraud"),
            description=_DESCRIPTION,
            openapi_tags=_TAGS,
            dependencies=[Depends(only_known_parameters)],
        )
        for router in (
            information_router(self.fastapi),
            health_router(runtime),
            models_router(runtime),
            experiments.router(),
            experiment_results_router(runtime),
            drift_router(runtime),
            policy.router(),
            probes_router(runtime),
            metrics_router(runtime.metrics),
            DecisionRoutes(runtime, guard, self._readers).router(),
            self._explanations.router(),
            decision_router(runtime, guard, self._readers),
        ):
            self.fastapi.include_router(router)
        _answer_errors(self.fastapi, self.problems)
        install_openapi(self.fastapi, routes)

    def close(self) -> None:
        """End the threads. Waits for what they have under way."""
        self._readers.close()
        self._explanations.close()
        self._large.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; its id is in the answer, and in what is logged meanwhile."""
        request_id = ids_in(scope["headers"]).request_id or self.request_ids.make()
        known = (REQUEST_ID, request_id.encode())
        began = time.perf_counter()
        status = 500

        async def counting(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [known, *message["headers"]]
            await send(message)

        with bound(request_id=request_id):
            try:
                await self._answer(scope, receive, counting)
            finally:
                admission = admission_of(scope["method"], scope["path"])
                route = "unknown" if admission is None else admission.path
                seconds = time.perf_counter() - began
                self.metrics.answer(route, status, seconds)
                if self.requests is not None:
                    self.requests.answered(
                        request_id, scope["method"], route, status, seconds, scope.get(PRINCIPAL)
                    )

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        method: str = scope["method"]
        path: str = scope["path"]
        if self._admin_port and not self._is_here(scope):
            await answer_problem(self._elsewhere(method), send)
            return
        try:
            principal = self.door.admit(method, path, scope["query_string"], scope["headers"])
            if principal is not None and self.rates.limits(principal):
                peer = (scope["client"] or ("",))[0]
                payments = int(path == PAYMENT and method == "POST")
                self.rates.spend(principal, peer, requests=1, payments=payments)
                send = _sending_with(lambda: rate_headers(self.rates.left(principal, peer)), send)
        except Exception as error:  # noqa: BLE001 -- the renderer logs what was not foreseen
            admission = admission_of(method, path)
            route = "unknown" if admission is None else admission.path
            await answer_problem(self.problems.render(error, method, route), send)
            return
        scope[PRINCIPAL] = principal or STRANGER
        reads = method in ("GET", "HEAD") and path in _READ_TOO
        if path in self._raw.by_path and not reads:
            await self._raw(scope, receive, send)
        else:
            headers = ON_PAGES if _below(path, _PAGES) else ON_JSON
            await self.fastapi(scope, receive, _sending_with(lambda: headers, send))

    def _is_here(self, scope: Scope) -> bool:
        """Whether the port that a request came by has its path."""
        path = scope["path"]
        is_admin_port = scope["server"][1] == self._admin_port
        return path in _PROBES or _below(path, _ADMIN) == is_admin_port

    def _elsewhere(self, method: str) -> ProblemAnswer:
        """The answer to a request for what another port has."""
        detail = (
            f"{', '.join(sorted(_ADMIN))} are at port {self._admin_port} (api.admin_port), and "
            "nothing else but probes is."
        )
        error = ProblemError(404, "not_at_this_port", "Not at this port", detail)
        return self.problems.render(error, method, "unknown")


def _below(path: str, tops: tuple[str, ...]) -> bool:
    return any(path == top or path.startswith(f"{top}/") for top in tops)


def _sending_with(headers: Callable[[], Iterable[Header]], send: Send) -> Send:
    """A `send` whose answers have these headers, too."""

    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*headers(), *message["headers"]]
        await send(message)

    return sending


def _answer_errors(app: FastAPI, problems: ProblemRenderer) -> None:
    """Have the errors of FastAPI's routes rendered like all others."""

    def answer(request: Request, error: Exception) -> Response:
        route = getattr(request.scope.get("route"), "path", "unknown")
        problem = problems.render(error, request.method, route)
        response = Response(problem.body, status_code=problem.status)
        response.raw_headers = problem.headers
        return response

    @app.exception_handler(RequestValidationError)
    async def on_invalid(request: Request, error: RequestValidationError) -> Response:
        fields = {
            ".".join(str(part) for part in e["loc"][1:]) or str(e["loc"][0]): str(e["msg"])
            for e in error.errors()
        }
        return answer(request, invalid(fields))

    @app.exception_handler(HTTPException)
    async def on_http(request: Request, error: HTTPException) -> Response:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
        headers = [(k.lower().encode(), v.encode()) for k, v in (error.headers or {}).items()]
        detail = str(error.detail)
        return answer(request, ProblemError(error.status_code, code, detail, detail, headers))

    @app.exception_handler(SentinelError)
    @app.exception_handler(ProblemError)
    @app.exception_handler(Exception)
    async def on_error(request: Request, error: Exception) -> Response:
        return answer(request, error)
