"""The door: the one place that every request and every websocket of the dashboard passes.

It stands before Streamlit as ASGI middleware, so nothing of Streamlit (page, stream of updates,
files) is reached without a session. Without users on loopback it lets everybody in who comes from
this machine, by one of its own names and not through a proxy.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import Final
from urllib.parse import parse_qs, quote, unquote

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sentinel.dashboard.login import pages
from sentinel.dashboard.login.access import Access
from sentinel.dashboard.login.users import NAMES, Session
from sentinel.monitoring.door_metrics import DoorMetrics
from sentinel.telemetry.pseudonyms import pseudonym

log = logging.getLogger(__name__)

HEALTH: Final = "/_stcore/health"
USER_HEADER: Final = "x-sentinel-user"
"""Says to the pages who is logged in; what a browser sends under this name is dropped. See
`header_of`."""

MOST_LOGINS_WAITING: Final = 16
"""Logins that wait for their turn, of known browsers and of others each."""

MOST_FORM_BYTES: Final = 4_096
WATCH_SECONDS: Final = 0.5
"""How often an open page's session is looked at."""

_FORM_SECONDS: Final = 10.0
_WRONG: Final = "This user and this password do not belong together."
_ONE_HOST: Final = "A request names one host."
_ENDED: Final = "Your session has ended. Log in again."
_HEADERS: Final = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "content-security-policy": "frame-ancestors 'none'; base-uri 'self'; object-src 'none'",
}
_LOCK_TO_TLS: Final = "max-age=31536000"
_LOGGED_OUT: Final = 1_000
"""Of so many sessions, the latest, it is known that their users logged out themselves."""


def header_of(name: str) -> bytes:
    """A name as a header has it, which is ASCII: other letters in percent encoding.

    >>> header_of("ann@example.com"), header_of("ça")
    (b'ann@example.com', b'%C3%A7a')
    """
    return quote(name, safe="@+").encode()


def name_in(header: str) -> str:
    """The name that `header_of` wrote.

    >>> name_in(header_of("ça va+1%").decode())
    'ça va+1%'
    """
    return unquote(header)


class Door:
    """ASGI middleware.

    Args:
        app: Streamlit.
        access: Who may come in.
        farewell: Last message of a websocket whose session has ended; sends the browser to /login.
        goodbye: The same where the user has logged out; default: the farewell.
        metrics: Counts what comes in; default: a count that nobody sees.
    """

    def __init__(
        self,
        app: ASGIApp,
        access: Access,
        farewell: bytes = b"",
        goodbye: bytes = b"",
        metrics: DoorMetrics | None = None,
    ) -> None:
        self._metrics = metrics or DoorMetrics()
        self._app = app
        self._access = access
        self._farewell, self._goodbye = farewell, goodbye or farewell
        self._logged_out: deque[bytes] = deque(maxlen=_LOGGED_OUT)
        self._turns = {known: asyncio.Semaphore(1) for known in (True, False)}
        self._waiting = {True: 0, False: 0}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let in, answer, or refuse."""
        if scope["type"] == "http":
            await self._counted(scope, receive, self._with_headers(scope, send))
        elif scope["type"] == "websocket":
            await self._counted_stream(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _counted(self, scope: Scope, receive: Receive, send: Send) -> None:
        began, status = time.perf_counter(), 0

        async def send_and_see(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._http(scope, receive, send_and_see)
        finally:
            self._metrics.answered(scope["path"], status, time.perf_counter() - began)

    async def _counted_stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        metrics, is_open = self._metrics, False

        async def send_and_see(message: Message) -> None:
            nonlocal is_open
            kind = message["type"]
            if kind == "websocket.accept":
                is_open = True
                metrics.open_pages += 1
                metrics.answered(scope["path"], 101, None)
            elif kind == "websocket.http.response.start":
                metrics.answered(scope["path"], message["status"], None)
            elif kind == "websocket.close" and not is_open:
                metrics.answered(scope["path"], 403, None)
            await send(message)

        try:
            await self._websocket(scope, receive, send_and_see)
        finally:
            if is_open:
                metrics.open_pages -= 1

    # ----------------------------------------------------------------------------------- http
    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        access, path = self._access, request.url.path
        if path == HEALTH and request.method in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        answer: Response | None
        if len(request.headers.getlist("host")) != 1:
            answer = PlainTextResponse(_ONE_HOST, 400)
        elif problem := access.foreign(request):
            answer = PlainTextResponse(problem, 421)
        elif access.is_open:
            problem = access.not_of_this_machine(request)
            answer = PlainTextResponse(problem, 403) if problem else None
            if not problem and path == "/login":
                answer = RedirectResponse("/", 303)
        elif path in ("/login/oidc", "/oauth2callback") and access.oidc is not None:
            await access.oidc.app(scope, receive, send)
            return
        else:
            answer = await self._answer(request, access.session_of(request))
        if answer is not None:
            await answer(scope, receive, send)
        else:
            await self._app(self._named(scope), receive, send)

    async def _answer(self, request: Request, session: Session | None) -> Response | None:
        """The answer of the door itself; None if the request may go on to Streamlit."""
        path, method = request.url.path, request.method
        if path == "/login":
            if method == "POST":
                return await self._log_in(request)
            if session is not None:
                return RedirectResponse("/", 303)
            if method not in ("GET", "HEAD"):
                return _not_allowed("GET, POST")
            return self._login_page(_ENDED if "ended" in request.query_params else "")
        if path == "/logout":
            return await self._log_out(request) if method == "POST" else _not_allowed("POST")
        if path.startswith("/auth/") or path == "/oauth2callback":
            return PlainTextResponse("There is nothing here.", 404)
        if session is not None:
            return None
        if method == "GET" and "text/html" in request.headers.get("accept", ""):
            if request.headers.get("sec-fetch-site") == "cross-site":
                # A link of elsewhere: the browser sends our cookie with the next step.
                return _page(pages.onward())
            return RedirectResponse("/login", 303)
        return PlainTextResponse(
            "You are not logged in, or your session has ended. Log in at /login.",
            401,
            {"www-authenticate": 'Form realm="Sentinel"', "cache-control": "no-store"},
        )

    async def _log_in(self, request: Request) -> Response:
        access = self._access
        if problem := access.foreign_origin(request):
            return _page(pages.told("Not logged in", problem), 403)
        fields = await _form(request)
        if isinstance(fields, Response):
            return fields
        name, password = fields.get("name", "").strip().lower(), fields.get("password", "")
        if not NAMES.fullmatch(name):
            return self._login_page(_WRONG, "", 401)
        address = request.client.host if request.client else ""
        device = access.device_of(request)
        wait = access.throttle.take(name, address, device)
        if wait > 0:
            log.warning("Too many tries to log in as %s from %s.", *map(pseudonym, (name, address)))
            problem = f"Too many tries. Try again in {wait:.0f} seconds."
            return self._login_page(problem, name, 429, wait)
        known = access.throttle.knows(device, name)
        if self._waiting[known] >= MOST_LOGINS_WAITING:
            return self._login_page("Too many log in at this moment. Try again.", name, 503, 2)
        self._waiting[known] += 1
        self._metrics.waiting_logins += 1
        try:
            # One at a time: each takes 64 MiB. Known browsers do not stand behind others.
            async with self._turns[known]:
                accepted = await asyncio.to_thread(access.store.check, name, password)
        finally:
            self._waiting[known] -= 1
            self._metrics.waiting_logins -= 1
        response = RedirectResponse("/", 303)
        # The password may have been changed while it was looked at, or the user removed.
        if not accepted or not await access.admit(request, response, name, "password", accepted):
            log.warning("A wrong password for %s from %s.", *map(pseudonym, (name, address)))
            return self._login_page(_WRONG, name, 401)
        access.throttle.give_back(name, address, device)
        access.remember_device(request, response, name)
        return response

    async def _log_out(self, request: Request) -> Response:
        if problem := self._access.foreign_origin(request):
            return _page(pages.told("Not logged out", problem), 403)
        response = RedirectResponse("/login", 303)
        session = self._access.session_of(request)
        if session is not None:
            self._logged_out.append(session.digest)
        await self._access.dismiss(request, response)
        return response

    def _login_page(
        self, problem: str = "", name: str = "", status: int = 200, wait: float = 0
    ) -> Response:
        access = self._access
        offered = "" if access.oidc is None else access.oidc.button
        text = pages.login(
            problem=problem, name=name, password=access.sessions.has_users, oidc=offered
        )
        response = _page(text, status)
        if wait:
            response.headers["retry-after"] = str(max(1, round(wait)))
        return response

    # ------------------------------------------------------------------------------ websocket
    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = HTTPConnection(scope)
        access = self._access
        problem = "" if len(request.headers.getlist("host")) == 1 else _ONE_HOST
        problem = problem or access.foreign(request) or access.foreign_origin(request, needed=False)
        session = None
        if not problem and access.is_open:
            problem = access.not_of_this_machine(request)
        elif not problem:
            session = access.session_of(request)
            problem = "" if session is not None else "Log in at /login."
        if problem:
            await _refuse_websocket(scope, receive, send, problem, 403 if access.is_open else 401)
        else:
            named = self._named(scope, "" if session is None else session.name)
            await self._watched(named, receive, send, session)

    async def _watched(
        self, scope: Scope, receive: Receive, send: Send, session: Session | None
    ) -> None:
        """Hand a websocket on while its session lives, or everybody may come in."""
        ended = asyncio.create_task(self._end_of(session))

        async def receive_until_end() -> Message:
            message = asyncio.ensure_future(receive())
            await asyncio.wait({message, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                return message.result()
            message.cancel()
            left = session is not None and session.digest in self._logged_out
            if last := self._goodbye if left else self._farewell:
                await send({"type": "websocket.send", "bytes": last})
            await send({"type": "websocket.close", "code": 1008, "reason": "The session ended."})
            return {"type": "websocket.disconnect", "code": 1008}

        async def send_until_end(message: Message) -> None:
            if not ended.done():
                await send(message)

        try:
            await self._app(scope, receive_until_end, send_until_end)
        finally:
            ended.cancel()

    async def _end_of(self, session: Session | None) -> None:
        access = self._access
        while access.is_open if session is None else access.sessions.lives(session):
            await asyncio.sleep(WATCH_SECONDS)

    # -------------------------------------------------------------------------------- headers
    def _named(self, scope: Scope, name: str = "") -> Scope:
        """The same request, saying who is logged in."""
        if not name and scope["type"] == "http":
            return scope
        own = [pair for pair in scope["headers"] if pair[0].lower() != USER_HEADER.encode()]
        if name:
            own.append((USER_HEADER.encode(), header_of(name)))
        return {**scope, "headers": own}

    def _with_headers(self, scope: Scope, send: Send) -> Send:
        secure = self._access.is_secure(HTTPConnection(scope))

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                if headers.get("content-type", "").startswith("text/html"):
                    # So that going back after a logout shows nothing.
                    headers["cache-control"] = "no-store"
                if secure:
                    headers.setdefault("strict-transport-security", _LOCK_TO_TLS)
            await send(message)

        return send_with_headers


async def _form(request: Request) -> dict[str, str] | Response:
    """The fields of a form; a refusal if it is none, too large or too slow."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        return PlainTextResponse("A login is sent as a form.", 415)
    body = bytearray()
    try:
        async with asyncio.timeout(_FORM_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MOST_FORM_BYTES:
                    return PlainTextResponse("A login is smaller than this.", 413)
        found = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=8)
    except TimeoutError:
        return PlainTextResponse("The login took too long to arrive.", 408)
    except (ClientDisconnect, ValueError):
        return PlainTextResponse("This is not a form.", 400)
    return {name: values[0] for name, values in found.items()}


async def _refuse_websocket(
    scope: Scope, receive: Receive, send: Send, problem: str, status: int
) -> None:
    await receive()  # the opening handshake
    if "websocket.http.response" in scope.get("extensions", {}):
        head = [(b"content-type", b"text/plain; charset=utf-8")]
        await send({"type": "websocket.http.response.start", "status": status, "headers": head})
        await send({"type": "websocket.http.response.body", "body": problem.encode()})
    else:
        await send({"type": "websocket.close", "code": 1008})


def _page(text: str, status: int = 200) -> Response:
    headers = {"content-security-policy": pages.POLICY, "cache-control": "no-store"}
    return HTMLResponse(text, status, headers)


def _not_allowed(allowed: str) -> Response:
    return PlainTextResponse("This is not asked in this way.", 405, {"allow": allowed})
