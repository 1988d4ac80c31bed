"""The page of drift as somebody uses it: what the monitor keeps, through a real scorer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from sentinel.drift.notices import HOUR_US, Notice
from sentinel.drift.store import open_drift
from sentinel.models.serving import model_folder
from testkit.browsing import dashboard_with_user, log_in, visit
from testkit.scratch import Server, make_workspace, serving
from tests.drift.test_overview import NOW_US, REFERENCE, filled

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
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
    with dashboard_with_user(server) as url, visit(browser_process, height=1500) as opened:
        opened.goto(url)
        log_in(opened)
        opened.get_by_role("link", name="Drift").click()
        yield opened


def test_what_moved_is_shown_with_its_days_its_plan_and_its_histogram(
    page: Page, tmp_path: Path
) -> None:
    changes = page.locator(".st-key-drift-changes")
    expect(changes).to_contain_text("risk above 0.7: 25.0% → 50.0%")
    expect(changes).to_contain_text("planned: a new merchant")
    expect(page.get_by_text("of them 2 degraded, 5 late, which are not counted")).to_be_visible()
    moved = page.locator(".st-key-drift-features .s-changed")
    expect(moved).to_contain_text("risk")
    bars = moved.locator(".s-days i")
    expect(bars).to_have_count(10)
    heights = bars.evaluate_all("all => all.map(bar => bar.getBoundingClientRect().height)")
    assert heights[-2] > 30 > 5 > heights[1] > 0
    expect(page.locator(".st-key-drift-one")).to_contain_text("unknown")
    expect(page.locator(".st-key-drift-notices")).to_contain_text("a new merchant")
    page.screenshot(path=tmp_path / "drift.png", full_page=True)
