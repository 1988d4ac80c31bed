"""`/metrics` and `/healthz` of a process that is no scorer: one small server, in own threads.

The monitor has it always, the follower and the dashboard where their settings name a port.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import msgspec
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from sentinel.domain import ConfigurationError
from sentinel.pipeline.watches import Health

MOST_REQUESTS: Final = 8
"""Requests that are answered at once; further connections are closed."""
REQUEST_SECONDS: Final = 5.0
"""A client that takes longer to ask or to read is cut off."""


class MonitorServer:
    """Serves until it is closed.

    Args:
        host, port: Where.
        registry: What `/metrics` shows.
        health: Asked for `/healthz`.
        whose: The process, for the error.
        variables: What to set to another address, for the error.

    Raises:
        ConfigurationError: The address cannot be listened on.
    """

    def __init__(
        self,
        host: str,
        port: int,
        registry: CollectorRegistry,
        health: Callable[[], Health],
        *,
        whose: str = "The monitor",
        variables: str = "SENTINEL_MONITOR__HOST and SENTINEL_MONITOR__PORT",
    ) -> None:
        try:
            self._server = _Server(host, port, registry, health)
        except OSError as error:
            raise ConfigurationError(
                f"{whose} cannot listen on {host}:{port}: {error.strerror or error}. Set "
                f"{variables} to an address that is free."
            ) from None
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.2}, daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(
        self, host: str, port: int, registry: CollectorRegistry, health: Callable[[], Health]
    ) -> None:
        self.registry = registry
        self.health = health
        self._places = threading.BoundedSemaphore(MOST_REQUESTS)
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that is gone is no news."""


class _Handler(BaseHTTPRequestHandler):
    timeout = REQUEST_SECONDS
    server: _Server

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            encode, content_type = choose_encoder(self.headers.get("Accept", ""))
            self._answer(HTTPStatus.OK, content_type, encode(self.server.registry))
        elif path == "/healthz":
            health = self.server.health()
            status = HTTPStatus.OK if health.well else HTTPStatus.SERVICE_UNAVAILABLE
            said = {
                "status": "ok" if health.well else "stuck",
                "watches": list(health.watches),
            }
            self._answer(status, "application/json", msgspec.json.encode(said))
        else:
            self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"Only /metrics and /healthz.\n")

    def _answer(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def version_string(self) -> str:
        return "sentinel"

    def log_message(self, *_: object) -> None:
        """Scrapes are not logged."""


def process_registry(*own: Collector) -> CollectorRegistry:
    """A registry with what every process shows of itself: processor, memory, files, its Python.

    Args:
        own: What this one shows besides.
    """
    registry = CollectorRegistry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    for figures in own:
        registry.register(figures)
    return registry
