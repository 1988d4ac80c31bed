"""What is no payment, as uvicorn hands a request to an ASGI application and its answer back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.protocols.utils import get_local_addr, get_remote_addr

from sentinel.api.heads import Head

_log = logging.getLogger("uvicorn.error")


def call_of(
    head: Head,
    body: bytes,
    transport: asyncio.Transport,
    flow: FlowControl,
    config: Config,
    app_state: dict[str, Any],
    *,
    headers: list[tuple[bytes, bytes]],
    keep_alive: bool,
    answered: Callable[[], None],
) -> RequestResponseCycle:
    """A complete request and its answer; `run_asgi` of what is returned does the rest.

    Args:
        head: Of the request.
        body: Its body.
        transport: Where the answer is written.
        flow: Of that transport.
        config: Of uvicorn's server.
        app_state: What the application has put aside.
        headers: Of every answer.
        keep_alive: Whether the connection stays open after the answer.
        answered: Called when the answer is written.
    """
    scope = {
        "type": "http",
        "asgi": {"version": config.asgi_version, "spec_version": "2.3"},
        "http_version": "1.1",
        "method": head.method,
        "scheme": "http",
        "path": head.path,
        "raw_path": head.raw_path,
        "query_string": head.query,
        "root_path": "",
        "headers": head.fields,
        "client": get_remote_addr(transport),
        "server": get_local_addr(transport),
        "state": app_state.copy(),
    }
    cycle = RequestResponseCycle(
        scope=scope,  # type: ignore[arg-type]
        transport=transport,
        flow=flow,
        logger=_log,
        access_logger=_log,
        access_log=False,
        default_headers=headers,
        message_event=asyncio.Event(),
        expect_100_continue=False,
        keep_alive=keep_alive,
        on_response=answered,
    )
    cycle.body = body  # type: ignore[assignment]
    cycle.more_body = False
    cycle.message_event.set()
    return cycle
