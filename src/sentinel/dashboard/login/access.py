"""What the door goes by: sessions and their cookies, and where a request comes from."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp

from sentinel.access.opening import is_loopback
from sentinel.dashboard.login.sessions import Sessions
from sentinel.dashboard.login.throttle import DEVICE_SECONDS, Throttle
from sentinel.dashboard.login.users import Session, UserStore
from sentinel.settings import DashboardSettings

_OWN_NAMES: Final = ("localhost", "127.0.0.1", "::1")
_OF_PROXIES: Final = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip")


class WayIn(Protocol):
    """Another way in than by password, such as an identity provider.

    Attributes:
        button: What the button that leads there says.
        app: Answers what is asked there.
    """

    @property
    def button(self) -> str: ...

    @property
    def app(self) -> ASGIApp: ...


class Access:
    """Who may come in.

    Args:
        settings: Of the dashboard.
        store: Users and sessions.
        sessions: What this process knows of them.
        throttle: How often passwords may be tried.
    """

    def __init__(
        self,
        settings: DashboardSettings,
        store: UserStore,
        sessions: Sessions,
        throttle: Throttle,
    ) -> None:
        self.store = store
        self.sessions = sessions
        self.throttle = throttle
        self.oidc: WayIn | None = None
        self._loopback = is_loopback(settings.host)
        self._seconds = int(settings.session_hours * 3600)
        self._public = urlsplit(settings.public_url)
        self._closed = False

    @property
    def is_open(self) -> bool:
        """Whether everybody on this machine may come in; never again once there was a user."""
        self._closed = (
            self._closed
            or not self._loopback
            or bool(self._public.netloc)
            or self.oidc is not None
            or self.sessions.has_users
        )
        return not self._closed

    # ---------------------------------------------------------------- where a request comes from
    def foreign(self, request: HTTPConnection) -> str:
        """Why a request is not meant for this dashboard; empty if it is.

        A page of elsewhere can give its own name our address. On loopback, or with a public
        address, the names that we go by are known; otherwise such a page has no cookie of ours.
        """
        host = request.headers.get("host", "")
        if host == self._public.netloc and host:
            return ""
        if _name_of(host) in _OWN_NAMES or not (self._loopback or self._public.netloc):
            return ""
        return (
            f"This is not {host}. Set SENTINEL_DASHBOARD__PUBLIC_URL to the address that browsers "
            "use.\n"
        )

    def foreign_origin(self, request: HTTPConnection, *, needed: bool = True) -> str:
        """Why a request was not sent by one of our own pages; empty if it was.

        Args:
            request: What was sent.
            needed: Whether one that does not say where it comes from is refused.
        """
        origin = request.headers.get("origin")
        if origin is None:
            if not needed or request.headers.get("sec-fetch-site") == "same-origin":
                return ""
        elif urlsplit(origin).netloc in (request.headers.get("host"), self._public.netloc):
            if urlsplit(origin).netloc:
                return ""
        return "This was sent from another site. Open the dashboard itself and try again."

    def not_of_this_machine(self, request: HTTPConnection) -> str:
        """Why an open dashboard does not answer: a proxy brings it to others; empty if none."""
        if any(name in request.headers for name in _OF_PROXIES):
            return (
                "This dashboard has no users, so it answers on its own machine alone, and not "
                "through a proxy. `sentinel users create NAME` adds a login.\n"
            )
        return ""

    def is_secure(self, request: HTTPConnection) -> bool:
        """Whether browsers reach us by TLS."""
        return self._public.scheme == "https" or request.url.scheme in ("https", "wss")

    # -------------------------------------------------------------------------------- cookies
    def session_of(self, request: HTTPConnection) -> Session | None:
        """The session of a request; None if it has none."""
        return self.sessions.find(request.cookies.get(self._named(request, "session"), ""))

    def device_of(self, request: HTTPConnection) -> str:
        """What the browser keeps of an earlier login; empty if it has none."""
        return request.cookies.get(self._named(request, "device"), "")

    async def admit(
        self,
        request: HTTPConnection,
        response: Response,
        name: str,
        how: str,
        accepted: str | None = None,
    ) -> bool:
        """Begin a session, and end that which the browser had.

        Args:
            request, response: The login, and what answers it.
            name, how: See `Session`.
            accepted: See `UserStore.add_session`.

        Returns:
            False if the password that was accepted is no longer the user's.
        """
        await self._end(request)
        address = request.client.host if request.client else ""
        token = await asyncio.to_thread(self.sessions.open, name, how, address, accepted)
        if token:
            self._keep(request, response, "session", token, self._seconds)
        return bool(token)

    async def dismiss(self, request: HTTPConnection, response: Response) -> None:
        """End the session of a browser, if it has one."""
        await self._end(request)
        response.delete_cookie(
            self._named(request, "session"),
            path="/",
            secure=self.is_secure(request),
            httponly=True,
            samesite="strict",
        )

    async def _end(self, request: HTTPConnection) -> None:
        token = request.cookies.get(self._named(request, "session"), "")
        if self.sessions.find(token) is not None:
            await asyncio.to_thread(self.sessions.end, token)

    def remember_device(self, request: HTTPConnection, response: Response, name: str) -> None:
        """Have the browser keep that this user has logged in with it."""
        if not self.throttle.knows(self.device_of(request), name):
            device = self.throttle.new_device(name)
            self._keep(request, response, "device", device, DEVICE_SECONDS)

    def _keep(
        self, request: HTTPConnection, response: Response, what: str, value: str, seconds: int
    ) -> None:
        response.set_cookie(
            self._named(request, what),
            value,
            max_age=seconds,
            path="/",
            secure=self.is_secure(request),
            httponly=True,
            samesite="strict",
        )

    def _named(self, request: HTTPConnection, what: str) -> str:
        # With this prefix browsers take it from this very host by TLS alone.
        return f"__Host-sentinel_{what}" if self.is_secure(request) else f"sentinel_{what}"


def _name_of(host: str) -> str:
    """The name in a Host header, without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
