"""The one table of which scopes each route needs.

The door asks it for every request, the OpenAPI document says it, and `python -m benchmarks door`
tries every route of it with every scope. What it does not list needs a key of any kind, so that a
stranger does not learn what there is.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from sentinel.access.scopes import ALL_SCOPES, Scope

OPEN: Final[frozenset[Scope]] = frozenset()
"""No key is needed."""


class Admission(NamedTuple):
    """A route and who may use it.

    Attributes:
        method: HTTP's.
        path: As OpenAPI writes it; a parameter takes slashes.
        scopes: A key needs one of these; `OPEN` = no key is needed.
        dry_run: Of requests that say ``dry_run=true``; the others have a line of their own.
    """

    method: str
    path: str
    scopes: frozenset[Scope]
    dry_run: bool = False


_SCORE: Final = frozenset({Scope.SCORE})
_DRY_RUN: Final = frozenset({Scope.DRY_RUN})

ADMISSIONS: Final = (
    Admission("POST", "/predict", _SCORE),
    Admission("POST", "/predict", _DRY_RUN, dry_run=True),
    Admission("POST", "/predict/batch", _SCORE),
    Admission("POST", "/predict/batch", _DRY_RUN, dry_run=True),
    Admission("GET", "/predict/{transaction_id}", frozenset({Scope.SCORE, Scope.DECISIONS})),
    Admission("GET", "/decisions", frozenset({Scope.DECISIONS})),
    Admission("GET", "/decisions/{transaction_id}/explanation", frozenset({Scope.DECISIONS})),
    Admission("GET", "/decisions/{transaction_id}", frozenset({Scope.DECISIONS})),
    Admission("POST", "/labels", frozenset({Scope.LABEL})),
    Admission("POST", "/voids", frozenset({Scope.ADMIN})),
    Admission("POST", "/features/read", frozenset({Scope.FEATURES})),
    Admission("GET", "/models", frozenset({Scope.MODELS, Scope.ADMIN})),
    Admission("GET", "/models/{version}", frozenset({Scope.MODELS, Scope.ADMIN})),
    Admission("GET", "/experiments", frozenset({Scope.MODELS, Scope.ADMIN})),
    Admission("GET", "/experiments/history", frozenset({Scope.MODELS, Scope.ADMIN})),
    Admission("GET", "/experiments/{name}", frozenset({Scope.MODELS, Scope.ADMIN})),
    Admission("POST", "/experiments/{name}/promote", frozenset({Scope.ADMIN})),
    Admission("POST", "/experiments", frozenset({Scope.ADMIN})),
    Admission("POST", "/experiments/share", frozenset({Scope.ADMIN})),
    Admission("DELETE", "/experiments/{name}", frozenset({Scope.ADMIN})),
    Admission("GET", "/drift", frozenset({Scope.MODELS, Scope.ADMIN})),
    Admission("GET", "/drift/{feature}", frozenset({Scope.MODELS, Scope.ADMIN})),
    Admission("GET", "/policy", frozenset({Scope.MODELS, Scope.ADMIN})),
    Admission("GET", "/policy/history", frozenset({Scope.MODELS, Scope.ADMIN})),
    Admission("POST", "/policy/preview", frozenset({Scope.ADMIN})),
    Admission("POST", "/policy", frozenset({Scope.ADMIN})),
    Admission("GET", "/metrics", frozenset({Scope.METRICS, Scope.ADMIN})),
    Admission("GET", "/health", ALL_SCOPES),
    Admission("GET", "/", ALL_SCOPES),
    Admission("GET", "/livez", OPEN),
    Admission("GET", "/readyz", OPEN),
    # How the API is used says nothing of a deployment, and a browser cannot send a key for a page.
    Admission("GET", "/docs", OPEN),
    Admission("GET", "/docs/oauth2-redirect", OPEN),
    Admission("GET", "/redoc", OPEN),
    Admission("GET", "/openapi.json", OPEN),
    Admission("GET", "/static-offline-docs/{path}", OPEN),
)

_EXACT: Final = {(a.method, a.path, a.dry_run): a for a in ADMISSIONS if "{" not in a.path}
_BELOW: Final = tuple(
    (a.method, a.path.partition("{")[0], a.path.partition("}")[2], a)
    for a in ADMISSIONS
    if "{" in a.path
)


def admission_of(method: str, path: str, *, dry_run: bool = False) -> Admission | None:
    """The line of the table for a request; None if it has none.

    >>> admission_of("GET", "/predict/shop-a/17").path, admission_of("DELETE", "/predict")
    ('/predict/{transaction_id}', None)
    >>> admission_of("GET", "/decisions/shop-a/17/explanation").path
    '/decisions/{transaction_id}/explanation'
    """
    found = _EXACT.get((method, path, dry_run)) or _EXACT.get((method, path, False))
    if found is not None:
        return found
    return next(
        (
            a
            for verb, below, behind, a in _BELOW
            if method == verb and path.startswith(below) and path.endswith(behind)
        ),
        None,
    )
