"""Answers as bytes: status line, header fields and body, for all connections."""

from __future__ import annotations

from typing import Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from sentinel.api.admission import admission_of
from sentinel.api.door import ON_EVERY_ANSWER, ON_JSON
from sentinel.api.heads import Head
from sentinel.api.payment_heads import PaymentHead
from sentinel.api.problems import Header, ProblemError, ProblemRenderer, status_of
from sentinel.api.request_log import RequestLog
from sentinel.telemetry.context import bound
from sentinel.telemetry.request_ids import REQUEST_ID, RequestIds, ids_in

_REQUEST_ID: Final = REQUEST_ID + b": "


class Answers:
    """Writes the heads of answers, and whole answers to requests that failed or were refused.

    Args:
        problems: Renders errors.
        request_ids: Makes ids for requests that came without one.
        requests: Told of requests that are answered; None if nobody is.

    Attributes:
        request_ids, requests: The same.
    """

    def __init__(
        self, problems: ProblemRenderer, request_ids: RequestIds, requests: RequestLog | None = None
    ) -> None:
        self._problems = problems
        self.request_ids = request_ids
        self.requests = requests
        self._date: list[Header] | None = None
        self._headers: list[Header] = []
        self._start = b""

    def headers(self, default_headers: list[Header]) -> list[Header]:
        """What every answer has; uvicorn replaces the list when the second ends."""
        if default_headers is not self._date:
            self._date = default_headers
            self._headers = [*default_headers, *ON_EVERY_ANSWER]
            json = [*self._headers, *ON_JSON, (b"content-type", b"application/json")]
            self._start = _lines(200, json) + _REQUEST_ID
        return self._headers

    def start(self, default_headers: list[Header]) -> bytes:
        """The head of a 200 up to the request's id; the length comes next."""
        if default_headers is not self._date:
            self.headers(default_headers)
        return self._start

    def problem(
        self,
        error: Exception,
        default_headers: list[Header],
        *,
        method: str = "unknown",
        path: str = "unknown",
        request_id: str = "",
        close: bool,
    ) -> bytes:
        """The whole answer to a request that failed.

        Args:
            error: What was raised.
            default_headers: Those of uvicorn.
            method, path: As far as they are known; the path is one that the API declares.
            request_id: The request's; empty if it has none yet.
            close: The connection ends with it.
        """
        request_id = request_id or self.request_ids.make()
        with bound(request_id=request_id):
            problem = self._problems.render(error, method, path)
        known = (REQUEST_ID, request_id.encode())
        headers = [*self.headers(default_headers), *ON_JSON, known, *problem.headers]
        if close:
            headers.append((b"connection", b"close"))
        return _lines(problem.status, headers) + b"\r\n" + problem.body

    def refusal(
        self,
        error: Exception,
        default_headers: list[Header],
        head: Head | PaymentHead | None,
        seconds: float,
    ) -> bytes:
        """The whole answer to a request that is refused before it is complete; it is logged.

        Args:
            error: Why.
            default_headers: Those of uvicorn.
            head: Of the request; None if it is not known, and the refusal is not logged then.
            seconds: Since the request began.
        """
        request_id, method, path = _named(head, self.request_ids)
        if self.requests is not None and head is not None:
            self.requests.answered(request_id, method, path, status_of(error), seconds, None)
        return self.problem(
            error, default_headers, method=method, path=path, request_id=request_id, close=True
        )


def too_slow(part: str, seconds: float) -> ProblemError:
    """The error where a part of a request did not come in in time."""
    return ProblemError(
        408,
        "request_timeout",
        "Request timeout",
        f"The {part} of the request did not come in within {seconds:g} s.",
    )


def _named(head: Head | PaymentHead | None, made: RequestIds) -> tuple[str, str, str]:
    """Id, method and route of a request that is refused, as far as they are known."""
    if isinstance(head, PaymentHead):
        return head.ids.request_id or made.make(), "POST", head.path
    if head is None:
        return made.make(), "unknown", "unknown"
    admission = admission_of(head.method, head.path)
    route = "unknown" if admission is None else admission.path
    return ids_in(head.fields).request_id or made.make(), head.method, route


def _lines(status: int, headers: list[Header]) -> bytes:
    return STATUS_LINE[status] + b"".join(b"%b: %b\r\n" % header for header in headers)
