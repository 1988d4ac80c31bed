"""The door: the one place that refuses a request for what it is, before a route looks at it.

It knows who may come in, methods, the sizes of bodies and the query of a payment. Every request is
held against it, whichever protocol it came by.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final

from sentinel.access.principals import Gatekeeper, Principal
from sentinel.access.scopes import ALL_SCOPES
from sentinel.api.admission import OPEN, admission_of
from sentinel.api.problems import ProblemError
from sentinel.domain import InvalidQuery, Unauthenticated
from sentinel.settings import ApiSettings

PAYMENT: Final = "/predict"
PAYMENTS: Final = "/predict/batch"
LABELS: Final = "/labels"
FEATURES: Final = "/features/read"
MANY_TIMES: Final = 20
"""A body of many things may be so many times as large as that of one payment."""


class Door:
    """What is let in.

    Args:
        limits: The deployment's limits.
        gatekeeper: Says who calls.
    """

    def __init__(self, limits: ApiSettings, gatekeeper: Gatekeeper) -> None:
        self.gatekeeper = gatekeeper
        one = limits.max_body_bytes
        many = one * MANY_TIMES
        self._most_bytes = {PAYMENT: one, PAYMENTS: many, LABELS: many, FEATURES: many}

    def admit(
        self, method: str, path: str, query: bytes, headers: Iterable[tuple[bytes, bytes]]
    ) -> Principal | None:
        """Who makes a request, if they may; None where the route is open to all.

        Args:
            method: HTTP's.
            path: Decoded, without the query.
            query: As it came.
            headers: Names in small letters.

        Raises:
            Unauthenticated: No key came, or none that is good.
            Forbidden: The key has not the scope that the route needs.
            AccessUnavailable: Keys cannot be checked right now.
            InvalidQuery: ``dry_run`` is neither true nor false.
        """
        admission = admission_of(method, path)
        if admission is not None and admission.scopes is OPEN:
            return None
        principal = self.gatekeeper.admit(key_in(headers))
        if path in (PAYMENT, PAYMENTS) and read_dry_run(query):
            admission = admission_of(method, path, dry_run=True)
        principal.require(ALL_SCOPES if admission is None else admission.scopes)
        return principal

    def limit_of(self, path: str) -> int:
        """Most bytes of a body for a path."""
        return self._most_bytes[path]

    def check_method(self, method: str, path: str) -> None:
        """Let a POST pass.

        Raises:
            ProblemError: 405 for any other method.
        """
        if method != "POST":
            raise ProblemError(
                405,
                "method_not_allowed",
                "Method not allowed",
                f"Use POST for {path}.",
                headers=((b"allow", b"POST"),),
            )

    async def read_body(
        self, path: str, receive: Callable[[], Awaitable[MutableMapping[str, Any]]]
    ) -> bytes:
        """The body of a request; no more of it is read than its limit and one message.

        Raises:
            ProblemError: 413 if it is too large.
        """
        limit = self.limit_of(path)
        message = await receive()
        body: bytes = message.get("body", b"")
        if message.get("more_body"):
            pieces = [body]
            size = len(body)
            while message.get("more_body") and size <= limit:
                message = await receive()
                pieces.append(message.get("body", b""))
                size += len(pieces[-1])
            body = b"".join(pieces)
        if len(body) > limit:
            raise ProblemError(
                413, "body_too_large", "Body too large", f"A body has at most {limit:,} bytes."
            )
        return body


def key_in(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The key that a request carries; None if it carries none.

    Raises:
        Unauthenticated: There are several, or one of another kind.

    >>> key_in([(b"authorization", b"Bearer shop-a.snt_x")]), key_in([])
    ('shop-a.snt_x', None)
    """
    given = [value for name, value in headers if name == b"authorization"]
    if not given:
        return None
    kind, _, key = given[0].decode("latin-1").partition(" ")
    if len(given) > 1 or kind.lower() != "bearer":
        raise Unauthenticated("Send one header `Authorization: Bearer ID.SECRET`.")
    return key.strip()


def read_dry_run(query: bytes) -> bool:
    """The parameter ``dry_run`` of a query string.

    Raises:
        InvalidQuery: It is neither true nor false.
    """
    if not query:
        return False
    values = urllib.parse.parse_qs(query.decode("latin-1"), keep_blank_values=True).get("dry_run")
    if values is None:
        return False
    value = values[-1].lower()
    if value in ("true", "1"):
        return True
    if value in ("false", "0"):
        return False
    raise InvalidQuery(
        f"dry_run is true or false, not {value!r}.", fields={"dry_run": "true or false"}
    )
