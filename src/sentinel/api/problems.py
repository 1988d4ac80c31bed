"""Errors as RFC 9457 problem documents."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from sentinel.domain import (
    AlreadyRecorded,
    GateRefused,
    InputError,
    InvalidTransaction,
    NoModel,
    NotFound,
    SentinelError,
    TransactionConflict,
    Unavailable,
)

PROBLEM_TYPE: Final = "application/problem+json"
RETRY_AFTER: Final = (b"retry-after", b"1")
"""The header that goes with a 503."""
_TYPE_PREFIX: Final = "urn:sentinel:problem:"

_STATUS: Final[tuple[tuple[type[SentinelError], int, str], ...]] = (
    (TransactionConflict, 409, "Conflicting transaction"),
    (AlreadyRecorded, 409, "Already recorded"),
    (InputError, 422, "Invalid input"),
    (NotFound, 404, "Not found"),
    (NoModel, 503, "No model yet"),
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


class ProblemError(Exception):
    """A problem that only HTTP knows of, such as a body that is too large."""

    def __init__(self, status: int, code: str, title: str, detail: str) -> None:
        super().__init__(detail)
        self.problem = Problem(
            type=_TYPE_PREFIX + code, title=title, status=status, detail=detail, code=code
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


def problem_body(problem: Problem) -> bytes:
    """The JSON of a problem document."""
    return msgspec.json.encode(problem)


def invalid(fields: dict[str, str]) -> InvalidTransaction:
    """The error of a body with offending fields."""
    named = "; ".join(f"{field}: {message}" for field, message in fields.items())
    return InvalidTransaction(f"The request is not valid. {named}", fields=fields)


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI responses for problem documents with these statuses."""
    texts = {
        400: "The body is not JSON.",
        404: "Unknown id.",
        405: "Method not allowed.",
        409: "The id stands for other content.",
        413: "The body is too large.",
        422: "The input is not valid; the offending fields are named.",
        503: "No model yet, or state or ledger unavailable for the moment.",
    }
    return {
        status: {
            "description": texts[status],
            "content": {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in statuses
    }
