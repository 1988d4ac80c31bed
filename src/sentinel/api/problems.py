"""Errors as RFC 9457 problem documents, and the one place that renders them.

Whatever protocol a request came by, `ProblemRenderer` makes its error answer: status, headers and
body. It counts each, and logs those that nobody foresaw.
"""

from __future__ import annotations

import difflib
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from sentinel.domain import (
    Allowance,
    AlreadyRecorded,
    Forbidden,
    GateRefused,
    InputError,
    InvalidTransaction,
    ModelGone,
    NoModel,
    NotFound,
    Overloaded,
    RateLimited,
    SentinelError,
    TransactionConflict,
    Unauthenticated,
    Unavailable,
)
from sentinel.ingest.cards import masked
from sentinel.monitoring.metrics import ScoringMetrics

log = logging.getLogger(__name__)

PROBLEM_TYPE: Final = "application/problem+json"
_RETRY_SECONDS: Final = 1.0
"""When to come again after a 503 that says nothing else."""
_TYPE_PREFIX: Final = "urn:sentinel:problem:"

_STATUS: Final[tuple[tuple[type[SentinelError], int, str], ...]] = (
    (Unauthenticated, 401, "A key is needed"),
    (Forbidden, 403, "Not allowed"),
    (TransactionConflict, 409, "Conflicting transaction"),
    (AlreadyRecorded, 409, "Already recorded"),
    (InputError, 422, "Invalid input"),
    (ModelGone, 410, "The model is gone"),
    (NotFound, 404, "Not found"),
    (NoModel, 503, "No model yet"),
    (Overloaded, 429, "Too many requests"),
    (Unavailable, 503, "Temporarily unavailable"),
    (GateRefused, 409, "Refused by the gate"),
)


class FieldProblem(msgspec.Struct, frozen=True):
    """What is wrong with one field."""

    field: str
    message: str


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A problem document.

    Attributes:
        type: A URN that names the kind of problem.
        title: The same for people.
        status: The HTTP status.
        detail: What was wrong this time and what to do.
        code: Stable code for programs.
        errors: The offending fields.
    """

    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: list[FieldProblem] = []


Header = tuple[bytes, bytes]


class ProblemError(Exception):
    """A problem that only HTTP knows of, such as a body that is too large.

    Args:
        status: The HTTP status.
        code: Stable code for programs.
        title: The same for people.
        detail: What was wrong this time and what to do.
        headers: Further headers of the answer.
    """

    def __init__(
        self, status: int, code: str, title: str, detail: str, headers: Sequence[Header] = ()
    ) -> None:
        super().__init__(detail)
        self.headers = tuple(headers)
        self.problem = Problem(
            type=_TYPE_PREFIX + code, title=title, status=status, detail=detail, code=code
        )


def rate_headers(allowances: Sequence[Allowance]) -> list[Header]:
    """What a caller may still send, as draft-ietf-httpapi-ratelimit-headers-10 has it.

    >>> rate_headers([Allowance("requests", 600, 12, 58.7)])[1]
    (b'ratelimit', b'"requests";r=12;t=59')
    """
    policies = (f'"{a.name}";q={a.per_minute};w=60' for a in allowances)
    left = (f'"{a.name}";r={a.left};t={math.ceil(a.full_seconds)}' for a in allowances)
    return [
        (b"ratelimit-policy", ", ".join(policies).encode()),
        (b"ratelimit", ", ".join(left).encode()),
    ]


def body_too_large(most_bytes: int) -> ProblemError:
    """The answer to a body with more bytes than its route takes."""
    return ProblemError(
        413, "body_too_large", "Body too large", f"A body has at most {most_bytes:,} bytes."
    )


def problem_of(error: Exception) -> Problem:
    """The problem document of an error; an unforeseen one tells nothing of the inside."""
    if isinstance(error, ProblemError):
        return error.problem
    if isinstance(error, SentinelError):
        for kind, status, title in _STATUS:
            if isinstance(error, kind):
                return Problem(
                    type=_TYPE_PREFIX + error.code,
                    title=title,
                    status=status,
                    detail=str(error),
                    code=error.code,
                    errors=[FieldProblem(f, m) for f, m in error.fields.items()],
                )
    return Problem(
        type=_TYPE_PREFIX + "internal_error",
        title="Internal error",
        status=500,
        detail="Something went wrong inside Sentinel; the server's log has the details.",
        code="internal_error",
    )


def status_of(error: Exception) -> int:
    """The HTTP status of an error."""
    return problem_of(error).status


@dataclass(frozen=True, slots=True)
class ProblemAnswer:
    """The answer to a request that failed.

    Attributes:
        status: The HTTP status.
        headers: Headers, type and length of the body included.
        body: JSON of a `Problem`.
    """

    status: int
    headers: list[Header]
    body: bytes


class ProblemRenderer:
    """Makes the answer to every request that failed.

    Args:
        metrics: Counts them by route and status.
    """

    def __init__(self, metrics: ScoringMetrics) -> None:
        self._metrics = metrics

    def render(self, error: Exception, method: str, route: str) -> ProblemAnswer:
        """The answer for an error.

        Args:
            error: What was raised.
            method: Of the request, for the log.
            route: Its path as the API declares it, so that their number is bounded.
        """
        problem = _masked(problem_of(error))
        self._metrics.problem(route, problem.status)
        if problem.status == 500:
            log.error("%s %s failed", method, route, exc_info=error)
        body = msgspec.json.encode(problem)
        headers = [
            (b"content-type", PROBLEM_TYPE.encode()),
            (b"content-length", b"%d" % len(body)),
        ]
        if problem.status == 401:
            headers.append((b"www-authenticate", b'Bearer realm="sentinel"'))
        if problem.status in (429, 503):
            seconds = getattr(error, "retry_after_seconds", _RETRY_SECONDS)
            headers.append((b"retry-after", b"%d" % max(1, round(seconds))))
        if isinstance(error, ProblemError):
            headers += error.headers
        elif isinstance(error, RateLimited):
            headers += rate_headers(error.allowances)
        return ProblemAnswer(problem.status, headers, body)


def _masked(problem: Problem) -> Problem:
    """The problem without the card numbers that its texts may quote."""
    return msgspec.structs.replace(
        problem,
        detail=masked(problem.detail),
        errors=[FieldProblem(masked(e.field), masked(e.message)) for e in problem.errors],
    )


def invalid(fields: dict[str, str]) -> InvalidTransaction:
    """The error of a body with offending fields."""
    named = "; ".join(f"{field}: {message}" for field, message in fields.items())
    return InvalidTransaction(f"The request is not valid. {named}", fields=fields)


def not_a_parameter(name: str, known: Sequence[str]) -> str:
    """What to say of a parameter of a query that a route does not have.

    >>> not_a_parameter("outcom", ["outcome", "limit"])
    "is not a parameter here; did you mean 'outcome'? There is: outcome, limit"
    """
    close = difflib.get_close_matches(name.lower(), known, n=1)
    hint = f"did you mean {close[0]!r}? There is" if close else "there is"
    return f"is not a parameter here; {hint}: {', '.join(known)}"


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI responses for problem documents with these statuses."""
    texts = {
        400: "The body is not JSON.",
        401: "No key came, or none that is good.",
        403: "The key is not for this: `detail` names the scope or the field.",
        404: "Unknown id.",
        405: "Method not allowed.",
        409: "The id stands for other content.",
        410: "The model that decided is kept nowhere any more.",
        413: "The body is too large.",
        414: "The URL is too long.",
        422: "The input is not valid; the offending fields are named.",
        429: "More at once than is worked on; come again after Retry-After seconds.",
        503: "No model yet, or state or ledger unavailable for the moment.",
    }
    return {
        status: {
            "description": texts[status],
            "content": {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in statuses
    }
