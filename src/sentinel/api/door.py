"""The door: the one place that refuses a request for what it is, before a route looks at it.

It knows the names that this service is called by, who may come in, methods, the types and sizes of
bodies, the query of a payment, and what every answer tells a browser. Each request is held against
it, whichever way it came.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final

from sentinel.access.principals import Gatekeeper, Principal
from sentinel.access.scopes import ALL_SCOPES
from sentinel.api.admission import OPEN, admission_of
from sentinel.api.heads import Head, bad_request
from sentinel.api.problems import Header, ProblemError, body_too_large, invalid, not_a_parameter
from sentinel.domain import InvalidQuery, Unauthenticated
from sentinel.ingest.names import shown_name
from sentinel.settings import ApiSettings

PAYMENT: Final = "/predict"
PAYMENTS: Final = "/predict/batch"
LABELS: Final = "/labels"
FEATURES: Final = "/features/read"
MANY_TIMES: Final = 20
"""A body of many things may be so many times as large as that of one payment."""


ON_EVERY_ANSWER: Final[tuple[Header, ...]] = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
ON_JSON: Final[tuple[Header, ...]] = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
ON_PAGES: Final[tuple[Header, ...]] = (
    (
        b"content-security-policy",
        (
            b"default-src 'self'; img-src 'self' data:; script-src 'self' 'unsafe-inline'; "
            b"style-src 'self' 'unsafe-inline'; frame-ancestors 'none'"
        ),
    ),
)
"""For the pages of /docs, whose scripts are in them."""
_READING: Final = frozenset(("GET", "HEAD", "OPTIONS", "TRACE"))
"""Methods that change nothing."""
_JSON: Final = re.compile(
    rb"application/json[ \t]*(?:;[ \t]*charset=(?:utf-8|\"utf-8\")[ \t]*)?", re.IGNORECASE
)
_DRY_RUN: Final = "dry_run"
_MOST_NAMED: Final = 20
_LOOPBACK: Final = re.compile(r"(?:.+\.)?localhost|127(?:\.[0-9]{1,3}){3}|\[::1\]")


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
        self._one = one
        self._most_bytes = {PAYMENT: one, PAYMENTS: many, LABELS: many, FEATURES: many}
        names = [name.strip().lower() for name in limits.allowed_hosts.split(",") if name.strip()]
        self._any_host = "*" in names
        self._hosts = frozenset((*map(_bracketed, names), _bracketed(limits.host.lower())))
        self._domains = tuple(name[1:] for name in names if name.startswith("*."))

    @property
    def largest_body(self) -> int:
        """Bytes of the largest body that any path takes."""
        return max(self._most_bytes.values())

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
        return self._most_bytes.get(path, self._one)

    def check_head(self, head: Head, own: str) -> None:
        """Let a request pass for what its head says, whoever sends it.

        Args:
            head: What it says.
            own: The address that the client reached.

        Raises:
            ProblemError: 400, 403, 413, 415 or 421.
        """
        self._check_host(head.host, own)
        if head.method in _READING:
            if head.length:
                raise bad_request(f"A {head.method} has no body.")
            return
        origin = head.only(b"origin")
        if origin is not None and not _is_of(origin, head.authority):
            raise ProblemError(
                403,
                "foreign_origin",
                "Foreign origin",
                "A page of another origin may not use this service. Programs send no Origin.",
            )
        if head.length:
            self._check_body(head)

    def _check_host(self, host: str, own: str) -> None:
        name = host.removesuffix(".")
        if not (
            name in self._hosts
            or _LOOPBACK.fullmatch(name)
            or name == _bracketed(own)
            or (self._domains and name.endswith(self._domains))
            or self._any_host
        ):
            raise ProblemError(
                421,
                "unknown_host",
                "Misdirected request",
                f"This service is not known as {host}. If clients are to call it so, add the name "
                "to the setting api.allowed_hosts (SENTINEL_API__ALLOWED_HOSTS), with commas "
                "between names.",
            )

    def _check_body(self, head: Head) -> None:
        limit = self.limit_of(head.path)
        if head.length > limit:
            raise body_too_large(limit)
        kind = head.only(b"content-type")
        if kind is None or _JSON.fullmatch(kind) is None:
            raise ProblemError(
                415,
                "not_json",
                "Unsupported media type",
                "A body is JSON in UTF-8: send Content-Type: application/json.",
                headers=((b"accept", b"application/json"),),
            )
        coding = head.only(b"content-encoding")
        if coding is not None and coding.lower() != b"identity":
            raise ProblemError(
                415,
                "encoded_body",
                "Unsupported content coding",
                "A body comes as it is, without a Content-Encoding.",
                headers=((b"accept-encoding", b"identity"),),
            )

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
            raise body_too_large(limit)
        return body


def _bracketed(address: str) -> str:
    """A name or an address as a URL has it; an IPv4 address in IPv6 clothes is one of IPv4."""
    address = address.removeprefix("::ffff:")
    return f"[{address}]" if ":" in address and not address.startswith("[") else address


def _is_of(origin: bytes, authority: bytes) -> bool:
    """Whether a page of an origin is one of this service, as the client calls it."""
    scheme, found, name = origin.lower().partition(b"://")
    return bool(found) and scheme in (b"http", b"https") and name == authority.lower()


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
        InvalidQuery: It is neither true nor false, or both.
        InvalidTransaction: There is another parameter: a misspelt ``dry_run`` would decide.
    """
    if not query:
        return False
    given = urllib.parse.parse_qs(query.decode("latin-1"), keep_blank_values=True)
    unknown = [name for name in given if name != _DRY_RUN]
    if unknown:
        raise invalid(
            {shown_name(n): not_a_parameter(n, [_DRY_RUN]) for n in unknown[:_MOST_NAMED]}
        )
    values = {value.lower() for value in given.get(_DRY_RUN, ["false"])}
    if values <= {"true", "1"}:
        return True
    if values <= {"false", "0"}:
        return False
    shown = " and ".join(repr(value) for value in sorted(values)[:_MOST_NAMED])
    raise InvalidQuery(
        f"dry_run is true or false, not {shown}.", fields={_DRY_RUN: "true or false"}
    )
