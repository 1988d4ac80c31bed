"""The page of drift as somebody uses it: what the monitor keeps, through a real scorer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from sentinel.dashboard.login.users import UserStore
from sentinel.drift.notices import HOUR_US, Notice
from sentinel.drift.store import open_drift
from sentinel.models.serving import model_folder
from testkit.scratch import Server, make_workspace, serving
from tests.dashboard import stage
from tests.drift.test_overview import NOW_US, REFERENCE, filled

pytestmark = [pytest.mark.browser, pytest.mark.slow]

USER, PASSWORD = "ann", "four random words here"
SOON_MS = 120_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if not stage.CHROMIUM.exists():
        pytest.skip("no Chromium: install the Debian packages chromium and fonts-dejavu-core")
    settings = make_workspace(tmp_path_factory.mktemp("drift"))
    folder = model_folder(settings, "7")
    folder.mkdir(parents=True)
    REFERENCE.save(folder)
    store = open_drift(settings)
    filled(store)
    store.add_notice(
        Notice(
            kind="plan",
            why="a new merchant",
            by="ann",
            said_at_us=0,
            from_us=NOW_US - 240 * HOUR_US,
            until_us=NOW_US,
            feature="risk",
        )
    )
    store.close()
    with serving(settings) as running:
        yield running


@pytest.fixture
def page(browser_process: Browser, server: Server) -> Iterator[Page]:
    workspace = server.settings.workspace
    UserStore(workspace / "dashboard.db").create(USER, PASSWORD)
    with stage.dashboard_of(workspace, SENTINEL_API__PORT=str(server.port)) as url:
        stage.wait_until_up(url)
        context = browser_process.new_context(viewport={"width": 1440, "height": 1500})
        context.set_default_timeout(SOON_MS)
        expect.set_options(timeout=SOON_MS)
        opened = context.new_page()
        opened.goto(url)
        opened.get_by_label("User").fill(USER)
        opened.get_by_label("Password").fill(PASSWORD)
        opened.get_by_role("button", name="Log in").click()
        opened.get_by_role("link", name="Drift").click()
        yield opened
        assert opened.get_by_test_id("stException").count() == 0
        context.close()


def test_what_moved_is_shown_with_its_days_its_plan_and_its_histogram(
    page: Page, tmp_path: Path
) -> None:
    changes = page.locator(".st-key-drift-changes")
    expect(changes).to_contain_text("risk above 0.7: 25.0% → 50.0%")
    expect(changes).to_contain_text("planned: a new merchant")
    moved = page.locator(".st-key-drift-features .s-changed")
    expect(moved).to_contain_text("risk")
    bars = moved.locator(".s-days i")
    expect(bars).to_have_count(10)
    heights = bars.evaluate_all("all => all.map(bar => bar.getBoundingClientRect().height)")
    assert heights[-2] > 30 > 5 > heights[1] > 0
    expect(page.locator(".st-key-drift-one")).to_contain_text("unknown")
    expect(page.locator(".st-key-drift-notices")).to_contain_text("a new merchant")
    page.screenshot(path=tmp_path / "drift.png", full_page=True)
