"""The OpenAPI document: FastAPI's own routes and the raw scoring routes in one."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from sentinel.api.answers import BatchAnswer, KnownAnswer, PredictAnswer
from sentinel.api.messages import (
    BatchRequest,
    FeaturesRequest,
    LabelRequest,
    LabelsRequest,
    PredictRequest,
)
from sentinel.api.problems import Problem, problem_responses
from sentinel.api.scoring_routes import FeaturesAnswer, LabelsAnswer

_EXAMPLE: Final = {
    "transaction_id": "tx-1001",
    "amount_minor": 4999,
    "customer_id": "C42",
    "card_id": "K7",
    "merchant_id": "M9",
    "device_id": "D3",
    "ip_address": "203.0.113.9",
    "attributes": {"channel": "online", "merchant_country": "DE"},
}
_DRY_RUN: Final = {
    "name": "dry_run",
    "in": "query",
    "description": "true: score only; nothing is recorded and no state changes.",
    "schema": {"type": "boolean", "default": False},
}

# path, summary, description, request, answer, parameters, statuses
_ROUTES: Final[tuple[tuple[str, str, str, Any, Any, list[Any], tuple[int, ...]], ...]] = (
    (
        "/predict",
        "Score a payment",
        (
            "Scores a new payment, records the decision durably and adds the payment to the "
            "features. A repeat gets the recorded decision."
        ),
        PredictRequest,
        PredictAnswer,
        [_DRY_RUN],
        (400, 409, 413, 422, 503),
    ),
    (
        "/predict/batch",
        "Score payments in order",
        "As many single requests, in the order given. If one is not valid, none is scored.",
        BatchRequest,
        BatchAnswer,
        [_DRY_RUN],
        (400, 413, 422, 503),
    ),
    (
        "/labels",
        "Record verdicts",
        (
            "One label, or several under `labels`. A later label corrects an earlier one; a label "
            "for an unknown transaction waits for it."
        ),
        (LabelRequest, LabelsRequest),
        LabelsAnswer,
        [],
        (400, 413, 422, 503),
    ),
    (
        "/features/read",
        "Read features of now",
        "The features of entities without a payment, as of now or a given time.",
        FeaturesRequest,
        FeaturesAnswer,
        [],
        (400, 413, 422, 503),
    ),
)


def install_openapi(app: FastAPI) -> None:
    """Make ``app.openapi()`` describe all routes, those outside FastAPI's router included."""

    def build() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _build(app)
        return app.openapi_schema

    app.openapi = build  # type: ignore[method-assign]


def _build(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        routes=app.routes,
        tags=app.openapi_tags,
    )
    types = [kind for route in _ROUTES for kind in (*_alternatives(route[3]), route[4])]
    schemas, components = msgspec.json.schema_components(
        [*types, Problem, KnownAnswer], ref_template="#/components/schemas/{name}"
    )
    by_type = dict(zip(types, schemas, strict=False))
    document.setdefault("components", {}).setdefault("schemas", {}).update(components)
    paths = document["paths"]
    for path, summary, text, kind, answer, parameters, statuses in _ROUTES:
        bodies = [by_type[alternative] for alternative in _alternatives(kind)]
        content: dict[str, Any] = {"schema": bodies[0] if len(bodies) == 1 else {"anyOf": bodies}}
        if kind is PredictRequest:
            content["example"] = _EXAMPLE
        paths.setdefault(path, {})["post"] = {
            "tags": ["scoring"],
            "summary": summary,
            "description": text,
            "operationId": path.strip("/").replace("/", "_"),
            "parameters": parameters,
            "requestBody": {"required": True, "content": {"application/json": content}},
            "responses": {
                "200": {
                    "description": "Done",
                    "content": {"application/json": {"schema": by_type[answer]}},
                },
                **{str(s): r for s, r in problem_responses(*statuses).items()},
            },
        }
    return document


def _alternatives(kind: Any) -> tuple[Any, ...]:
    return kind if isinstance(kind, tuple) else (kind,)
