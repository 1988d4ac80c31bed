"""Logging in at an identity provider by OpenID Connect, for a session of our own.

Streamlit has `st.login` for this. It runs inside the page, so that the page and its stream would
have to be open to everybody first, and its cookie lasts 30 days whatever happens meanwhile. Here
the provider is asked before the page, by the same library, and what follows is a session like any
other.
"""

from __future__ import annotations

import logging
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
from authlib.integrations.base_client import OAuthError
from authlib.integrations.starlette_client import OAuth
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from sentinel.dashboard.login import pages
from sentinel.dashboard.login.access import Access
from sentinel.domain import ConfigurationError
from sentinel.settings import DashboardSettings
from sentinel.telemetry.pseudonyms import pseudonym

log = logging.getLogger(__name__)

_LOGIN_SECONDS: Final = 600
_REFUSED: Final = "The identity provider knows you, but you may not see this dashboard."


class Oidc:
    """The way in by an identity provider.

    Args:
        settings: Of the dashboard.
        access: Admits those whom the provider knows and the settings name.
    """

    def __init__(self, settings: DashboardSettings, access: Access) -> None:
        require_complete(settings)
        self.button = settings.oidc_button
        self._access = access
        self._claim = settings.oidc_claim
        self._allowed = {word.strip().lower() for word in settings.oidc_users.split(",")} - {""}
        self._callback = f"{settings.public_url.rstrip('/')}/oauth2callback"
        self._provider = OAuth().register(
            "provider",
            client_id=settings.oidc_client_id,
            client_secret=settings.oidc_client_secret.get_secret_value(),
            server_metadata_url=settings.oidc_metadata_url,
            client_kwargs={
                "scope": "openid email profile",
                "code_challenge_method": "S256",
                "trust_env": True,
            },
        )
        # Between the two steps the browser keeps state and nonce, signed, for ten minutes. The
        # provider leads back from another site, so this cookie cannot be a strict one.
        secure = urlsplit(settings.public_url).scheme == "https"
        kept = Middleware(
            SessionMiddleware,
            secret_key=access.store.secret("oidc").hex(),
            session_cookie="sentinel_oidc",
            max_age=_LOGIN_SECONDS,
            same_site="lax",
            https_only=secure,
        )
        routes = [
            Route("/login/oidc", self._start, methods=["GET"]),
            Route("/oauth2callback", self._return, methods=["GET"]),
        ]
        self.app = Starlette(routes=routes, middleware=[kept])

    async def _start(self, request: Request) -> Response:
        try:
            answer: Response = await self._provider.authorize_redirect(request, self._callback)
        except (httpx.HTTPError, OAuthError, ValueError) as error:
            log.warning("The identity provider cannot be asked: %s", error)
            return _told("The identity provider does not answer. Try again, or tell an admin.", 503)
        answer.headers["cache-control"] = "no-store"
        return answer

    async def _return(self, request: Request) -> Response:
        try:
            token = await self._provider.authorize_access_token(request)
        except (httpx.HTTPError, OAuthError, ValueError) as error:
            log.warning("A login by the identity provider failed: %s", error)
            return _told("The login was not completed. Start it once more.", 401)
        request.session.clear()
        name = self._name(token.get("userinfo") or {})
        if not name:
            return _told(_REFUSED, 403)
        response = HTMLResponse(pages.onward(), headers=_HEADERS)
        await self._access.admit(request, response, name, "oidc")
        log.info("%s logged in by the identity provider.", pseudonym(name))
        return response

    def _name(self, claims: dict[str, Any]) -> str:
        """Whom the claims name; empty if that is nobody who may come in."""
        name = str(claims.get(self._claim) or "").strip().lower()
        if self._claim == "email" and claims.get("email_verified") is not True:
            log.warning(
                "The identity provider does not say that it verified the address of %s.",
                pseudonym(name),
            )
            return ""
        domain = "@" + name.rpartition("@")[2]
        if name and self._allowed & {name, domain, "*"}:
            return name
        log.warning(
            "Who logged in is not among `dashboard.oidc_users`: %s, of the domain %r.",
            pseudonym(name),
            domain if "@" in name else "",
        )
        return ""


def require_complete(settings: DashboardSettings) -> None:
    """Refuse settings of which a part is missing.

    Raises:
        ConfigurationError: Names what is missing.
    """
    given = {
        "public_url": settings.public_url,
        "oidc_client_id": settings.oidc_client_id,
        "oidc_client_secret": settings.oidc_client_secret.get_secret_value(),
        "oidc_users": settings.oidc_users,
    }
    missing = [name for name, value in given.items() if not value]
    if missing:
        names = ", ".join(f"dashboard.{name}" for name in missing)
        raise ConfigurationError(
            f"dashboard.oidc_metadata_url is set, and {names} not. A login by an identity provider "
            "needs all of them; see docs/security.md."
        )


_HEADERS: Final = {"content-security-policy": pages.POLICY, "cache-control": "no-store"}


def _told(text: str, status: int) -> Response:
    return HTMLResponse(pages.told("Not logged in", text), status, _HEADERS)
