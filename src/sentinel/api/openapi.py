"""The OpenAPI document: FastAPI's own routes and the raw scoring routes in one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from sentinel.access.scopes import ALL_SCOPES
from sentinel.api.admission import ADMISSIONS, OPEN
from sentinel.api.problems import Problem, problem_responses
from sentinel.api.routes.decision_detail import DecisionDetail
from sentinel.api.routes.decisions import KnownAnswer
from sentinel.api.routes.drift import DRIFT
from sentinel.api.routes.experiment_results import RESULTS
from sentinel.api.routes.explanation_json import Explanation
from sentinel.api.routes.raw import RawRoute


def install_openapi(app: FastAPI, raw: Sequence[RawRoute]) -> None:
    """Make ``app.openapi()`` describe all routes, those outside FastAPI's router included.

    Args:
        app: Has its own routes already.
        raw: The others.
    """

    def build() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _build(app, raw)
        return app.openapi_schema

    app.openapi = build  # type: ignore[method-assign]


def _build(app: FastAPI, raw: Sequence[RawRoute]) -> dict[str, Any]:
    document = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        routes=app.routes,
        tags=app.openapi_tags,
    )
    types = [kind for route in raw for kind in (*route.requests, route.answer)]
    schemas, components = msgspec.json.schema_components(
        [*types, Problem, KnownAnswer, DecisionDetail, Explanation, *RESULTS, *DRIFT],
        ref_template="#/components/schemas/{name}",
    )
    by_type = dict(zip(types, schemas, strict=False))
    document.setdefault("components", {}).setdefault("schemas", {}).update(components)
    paths = document["paths"]
    for route in raw:
        bodies = [by_type[alternative] for alternative in route.requests]
        content: dict[str, Any] = {"schema": bodies[0] if len(bodies) == 1 else {"anyOf": bodies}}
        if route.example is not None:
            content["example"] = route.example
        paths.setdefault(route.path, {})["post"] = {
            "tags": ["scoring"],
            "summary": route.summary,
            "description": route.text,
            "operationId": route.path.strip("/").replace("/", "_"),
            "parameters": list(route.parameters),
            "requestBody": {"required": True, "content": {"application/json": content}},
            "responses": {
                "200": {
                    "description": "Done",
                    "content": {"application/json": {"schema": by_type[route.answer]}},
                },
                **{str(s): r for s, r in problem_responses(*route.statuses).items()},
            },
        }
    _say_who_may(document)
    return document


def _say_who_may(document: dict[str, Any]) -> None:
    """Note at each operation which scopes let a key in."""
    document["components"]["securitySchemes"] = {
        "key": {
            "type": "http",
            "scheme": "bearer",
            "description": "A key, `ID.SECRET`, that the operator made with `sentinel keys create`."
            " Where there is no key yet, callers on the same machine need none.",
        }
    }
    for method, path, scopes, dry_run in ADMISSIONS:
        operation = document["paths"].get(path, {}).get(method.lower())
        if operation is None or scopes is OPEN:
            continue
        wanted = ["any"] if scopes == ALL_SCOPES else sorted(scopes)
        if dry_run:
            wanted = [f"{scope} (where dry_run is true)" for scope in wanted]
        operation.setdefault("security", []).extend({"key": [scope]} for scope in wanted)
        statuses = problem_responses(401, 403, 414)
        operation["responses"].update({str(status): said for status, said in statuses.items()})
