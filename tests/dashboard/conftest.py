"""One scorer and one dashboard for all tests of the dashboard; a fresh page for each."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request

from testkit import browsing
from testkit.scratch import Server
from tests.dashboard import stage

PAYMENTS = 400


@dataclass
class Stage:
    """What the tests share.

    Attributes:
        server: The scorer.
        url: The dashboard's address.
        bodies: Payments that were not sent yet.
        answers: What the scorer answered, in order.
    """

    server: Server
    url: str
    bodies: Iterator[dict[str, Any]]
    answers: list[dict[str, Any]] = field(default_factory=list)

    def send(self, count: int) -> list[dict[str, Any]]:
        fresh = stage.send(self.server.url, self.bodies, count)
        self.answers += fresh
        return fresh

    def wait_until_indexed(self) -> None:
        """Until the queryable tables hold what the log holds."""
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            ledger = httpx.get(f"{self.server.url}/health", timeout=30).json()["ledger"]
            if ledger["indexed_through"] >= ledger["sequence"]:
                return
            time.sleep(0.05)
        raise TimeoutError("The queryable tables don't catch up with the log.")


@pytest.fixture(scope="package")
def stage_with_payments(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    if not browsing.CHROMIUM.exists():
        pytest.skip("no Chromium: install the Debian packages chromium and fonts-dejavu-core")
    settings = stage.make_stage(tmp_path_factory.mktemp("dashboard"))
    server = Server(settings)
    with stage.dashboard(server) as url:
        server.start()
        try:
            made = Stage(server, url, stage.payments())
            made.send(PAYMENTS)
            browsing.wait_until_up(url)
            yield made
        finally:
            server.kill()


@pytest.fixture(scope="package")
def browser_process() -> Iterator[Browser]:
    """Chromium, for all tests."""
    if not browsing.CHROMIUM.exists():
        pytest.skip("no Chromium: install the Debian packages chromium and fonts-dejavu-core")
    with browsing.browser() as browser:
        yield browser


@pytest.fixture(scope="package")
def window(browser_process: Browser) -> BrowserContext:
    """A browser that keeps what it has fetched from page to page."""
    return browser_process.new_context(viewport={"width": 1440, "height": 1000})


@pytest.fixture
def page(window: BrowserContext, stage_with_payments: Stage) -> Iterator[Page]:
    """The dashboard, opened; at the end nothing may have gone wrong in it or left the machine."""
    troubles: list[str] = []
    opened = window.new_page()
    opened.set_default_timeout(120_000)

    def on_console(message: ConsoleMessage) -> None:
        if message.type == "error":
            troubles.append(f"console: {message.text}")

    def on_request(request: Request) -> None:
        if not request.url.startswith((stage_with_payments.url, "data:", "blob:")):
            troubles.append(f"asked the outside: {request.url}")

    opened.on("console", on_console)
    opened.on("request", on_request)
    opened.on("pageerror", lambda error: troubles.append(f"page: {error}"))
    opened.goto(stage_with_payments.url)
    opened.get_by_text("Service health").wait_for()
    try:
        yield opened
        assert opened.get_by_test_id("stException").count() == 0
        assert troubles == []
    finally:
        opened.close()
