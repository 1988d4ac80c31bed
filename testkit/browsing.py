"""A dashboard in a process of its own, and somebody who looks at it with a browser.

with browser() as chromium, dashboard_with_user(server) as url, visit(chromium) as page:
page.goto(url)
log_in(page)
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
from playwright.sync_api import Browser, Page, expect, sync_playwright

from sentinel.dashboard.login.users import UserStore
from testkit.ports import free_port
from testkit.scratch import Server

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
USER, PASSWORD = "ann", "four random words here"
SOON_MS = 120_000
"""Far more than it takes; a machine that is busy with other tests takes its time."""


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """Chromium without a window."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(FLAGS))
        try:
            yield chromium
        finally:
            chromium.close()


@contextlib.contextmanager
def visit(browser: Browser, *, height: int = 1000) -> Iterator[Page]:
    """A page of somebody who was never there before; at the end nothing has failed in it."""
    context = browser.new_context(viewport={"width": 1440, "height": height})
    context.set_default_timeout(SOON_MS)
    expect.set_options(timeout=SOON_MS)
    page = context.new_page()
    try:
        yield page
        assert page.get_by_test_id("stException").count() == 0
    finally:
        context.close()


def log_in(page: Page, password: str = PASSWORD) -> None:
    """Fill in the form of the login, and send it."""
    page.get_by_label("User").fill(USER)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()


@contextlib.contextmanager
def dashboard_of(workspace: Path, port: int | None = None, **variables: str) -> Iterator[str]:
    """The `sentinel dashboard` command with these variables, just started; its address."""
    port = port or free_port()
    log = workspace / "dashboard.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "sentinel", "dashboard"],
            env={
                **os.environ,
                "SENTINEL_WORKSPACE": str(workspace),
                "SENTINEL_DASHBOARD__PORT": str(port),
                **variables,
            },
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextlib.contextmanager
def dashboard_with_user(server: Server) -> Iterator[str]:
    """A dashboard in a scorer's workspace that its user may log in to; its address."""
    workspace = server.settings.workspace
    UserStore(workspace / "dashboard.db").create(USER, PASSWORD)
    with dashboard_of(workspace, SENTINEL_API__PORT=str(server.port)) as url:
        wait_until_up(url)
        yield url


def wait_until_up(url: str, seconds: float = 300) -> None:
    """Until a dashboard answers; raises TimeoutError otherwise."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{url}/_stcore/health", timeout=30).status_code == 200:
                return
        time.sleep(0.1)
    raise TimeoutError(f"No dashboard at {url}; see dashboard.log in its workspace.")
