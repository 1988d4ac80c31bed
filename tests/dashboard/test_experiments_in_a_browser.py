"""The page of experiments as somebody uses it: a real scorer, a real log, a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from testkit.browsing import dashboard_with_user, log_in, visit
from testkit.judged import MATURITY, NAME, SHADOW, make_judged_workspace
from testkit.scratch import Server, serving

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = make_judged_workspace(tmp_path_factory.mktemp("experiments"))
    with serving(settings, environment=MATURITY) as running:
        yield running


@pytest.fixture(scope="module")
def dashboard(server: Server) -> Iterator[str]:
    with dashboard_with_user(server) as url:
        yield url


@pytest.fixture
def page(browser_process: Browser, dashboard: str) -> Iterator[Page]:
    """The page of experiments, opened by a user by the link of the first page."""
    with visit(browser_process, height=1500) as opened:
        opened.goto(dashboard)
        log_in(opened)
        opened.get_by_role("link", name="Experiments").click()
        expect(opened.locator("#experiment-about")).to_be_visible()
        yield opened


def test_a_better_challenger_is_shown_with_its_interval_guardrails_and_estimates(
    page: Page, server: Server, tmp_path: Path
) -> None:
    about = page.locator("#experiment-about")
    expect(about).to_contain_text("Better: promote")
    expect(about).to_contain_text("challenger, version 2, decides on 50.0 % of the cards")
    api = httpx.get(f"{server.url}/experiments/{NAME}", timeout=60).json()
    said = api["status"]["judgement"]
    expect(page.get_by_text(said["why"])).to_be_visible()
    figures = page.get_by_test_id("stMetricValue")
    decided = f"{said['payments'] - said['decided']:,} : {said['decided']:,}"
    expect(figures.first).to_have_text(decided)
    last = said["looks"][-1]
    expect(figures.nth(1)).to_have_text(f"{last['champion']} : {last['challenger']}")
    expect(page.get_by_text(f"{last['low']:.0%} to {last['high']:.0%}").first).to_be_visible()
    marks = page.locator(".st-key-sequence .role-mark path")
    expect(marks.first).to_be_visible()
    sizes = marks.evaluate_all("all => all.map(m => m.getBBox()).map(b => [b.width, b.height])")
    assert max(width for width, _ in sizes) > 300
    assert max(height for _, height in sizes) > 60
    guardrails = page.locator(".st-key-guardrails")
    expect(guardrails).to_contain_text("above 3 times the champion's")
    expect(guardrails).to_contain_text("stops at 1")
    estimates = page.locator(".st-key-estimates")
    expect(estimates).to_contain_text("estimate")
    expect(estimates).to_contain_text("it decides nothing")
    page.screenshot(path=tmp_path / "experiments.png", full_page=True)


def test_a_change_is_kept_with_the_user_and_the_reason(page: Page, server: Server) -> None:
    page.get_by_text(SHADOW, exact=True).click()
    expect(page.locator("#experiment-about")).to_contain_text("shadow, version 3")
    button = page.get_by_role("button", name="Change share")
    expect(button).to_be_disabled()  # nobody has said why
    reason = page.get_by_label("Why")
    reason.fill("half is enough")
    reason.press("Enter")
    share = page.get_by_label("Share that it scores")
    share.fill("50")
    share.press("Enter")
    expect(button).to_be_enabled()
    button.click()
    expect(page.get_by_text("has 50 % from now on")).to_be_visible()
    expect(page.locator("#experiment-about")).to_contain_text("scores 50.0 % of the cards")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#experiment-about")).to_contain_text("Ended")
    versions = httpx.get(f"{server.url}/experiments/history", timeout=60).json()["versions"]
    assert [(v["by"], v["why"]) for v in versions[:2]] == [
        ("ann (by anyone on this machine)", "half is enough")
    ] * 2
    assert [e["name"] for e in versions[0]["experiments"]] == [NAME]


def test_a_promotion_that_cannot_be_says_so_and_changes_nothing(page: Page, server: Server) -> None:
    reason = page.get_by_label("Why")
    reason.fill("it is better")
    reason.press("Enter")
    page.get_by_role("button", name="Promote").click()
    expect(page.get_by_text("The promotion of version 2 is under way")).to_be_visible()
    # This workspace has no registry that could make a champion.
    wrong = page.locator(".s-wrong")
    expect(wrong).to_contain_text("The promotion by ann (by anyone on this machine) failed")
    (running,) = httpx.get(f"{server.url}/experiments", timeout=60).json()["experiments"]
    assert (running["experiment"]["name"], running["running"]) == (NAME, True)
