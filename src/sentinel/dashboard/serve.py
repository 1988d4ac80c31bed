"""`python -m sentinel.dashboard.serve`: the dashboard's server, with the door before Streamlit."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Final

from starlette.middleware import Middleware
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.starlette import App

from sentinel.access.opening import is_loopback
from sentinel.dashboard.login.access import Access
from sentinel.dashboard.login.door import Door
from sentinel.dashboard.login.sessions import Sessions
from sentinel.dashboard.login.throttle import Throttle
from sentinel.dashboard.login.users import UserStore
from sentinel.domain import ConfigurationError, SentinelError
from sentinel.monitoring.door_metrics import DoorMetrics
from sentinel.pipeline.monitor_server import MonitorServer, process_registry
from sentinel.pipeline.watches import Health
from sentinel.settings import Settings, load_settings
from sentinel.telemetry.log_setup import set_up_logs

log = logging.getLogger(__name__)

_PAGES: Final = Path(__file__).with_name("app.py")


def access_for(settings: Settings) -> Access:
    """Who may come in by these settings.

    Raises:
        ConfigurationError: The dashboard is to be reached from elsewhere and nobody could log in.
    """
    own = settings.dashboard
    store = UserStore(settings.dashboard_path)
    sessions = Sessions(store, hours=own.session_hours, idle_minutes=own.session_idle_minutes)
    access = Access(own, store, sessions, Throttle(store.secret("device")))
    if own.oidc_metadata_url:
        from sentinel.dashboard.login.oidc import Oidc

        access.oidc = Oidc(own, access)
    if not (access.is_open or access.oidc or sessions.has_users):
        sessions.close()
        where = f"on {own.host}" if not is_loopback(own.host) else f"as {own.public_url}"
        raise ConfigurationError(
            f"The dashboard is to be reached {where}, and it has no users. Make one with `sentinel "
            "users create NAME`, or set dashboard.oidc_metadata_url; docs/security.md says more."
        )
    return access


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Raises:
        ConfigurationError: As `access_for` does.
    """
    access = access_for(settings)
    if access.is_open:
        log.warning(
            "The dashboard has no users: everybody on this machine may see it. `sentinel users "
            "create NAME` adds a login."
        )
    # Whose word on a client's address and on TLS counts. Uvicorn reads it from here.
    os.environ["FORWARDED_ALLOW_IPS"] = settings.dashboard.proxies
    metrics = DoorMetrics()
    if settings.dashboard.metrics_port:
        show_metrics(settings, metrics)
    door = Middleware(
        Door,
        access=access,
        farewell=_to("/login?ended"),
        goodbye=_to("/login"),
        metrics=metrics,
    )
    app = App(_PAGES, middleware=[door])
    app.run(
        config={
            "server.headless": True,
            "server.address": settings.dashboard.host,
            "server.port": settings.dashboard.port,
            "server.fileWatcherType": "none",
            "browser.gatherUsageStats": False,
            "client.toolbarMode": "minimal",
        }
    )


def show_metrics(settings: Settings, metrics: DoorMetrics) -> MonitorServer:
    """Serve `/metrics` at a port of its own, in threads: no path of it is the dashboard's.

    Raises:
        ConfigurationError: The port cannot be listened on.
    """
    return MonitorServer(
        settings.dashboard.host,
        settings.dashboard.metrics_port,
        process_registry(metrics),
        lambda: Health(True, ()),
        whose="The dashboard",
        variables="SENTINEL_DASHBOARD__METRICS_PORT",
    )


def _to(page: str) -> bytes:
    """What Streamlit's own logout sends to a browser: go to another page."""
    message = ForwardMsg()
    message.auth_redirect.url = page
    return bytes(message.SerializeToString())


if __name__ == "__main__":
    settings = load_settings()
    set_up_logs(settings.logs, "dashboard")
    try:
        serve(settings)
    except SentinelError as error:
        sys.exit(f"sentinel: {error}")
