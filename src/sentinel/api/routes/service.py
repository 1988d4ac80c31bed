"""`GET /` and `/metrics`: what the service is, and its figures."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel

from sentinel.monitoring.metrics import ScoringMetrics


class ServiceInformation(BaseModel):
    """What this service is."""

    service: str
    version: str
    documentation: str
    routes: list[str]


def information_router(app: FastAPI) -> APIRouter:
    """The route that says what there is.

    Args:
        app: Knows version and routes.
    """
    router = APIRouter(tags=["service"])

    @router.get("/", summary="Service information")
    async def information() -> ServiceInformation:
        return ServiceInformation(
            service="Sentinel",
            version=app.version,
            documentation="/docs",
            routes=sorted(app.openapi()["paths"]),
        )

    return router


def metrics_router(figures: ScoringMetrics) -> APIRouter:
    """The route for Prometheus."""
    router = APIRouter(tags=["service"])

    @router.get("/metrics", summary="Prometheus metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        return Response(generate_latest(figures.registry), media_type=CONTENT_TYPE_LATEST)

    return router
