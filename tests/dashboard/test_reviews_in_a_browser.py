"""The page of reviews as an analyst uses it: a real scorer, a real log, a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from testkit.browsing import dashboard_with_user, log_in, visit
from testkit.scratch import Server, serving
from testkit.servers import wait_until
from tests.dashboard import stage

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PAYMENTS = 400


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(stage.make_stage(tmp_path_factory.mktemp("reviews"))) as running:
        stage.send(running.url, stage.payments(), PAYMENTS)
        yield running


@pytest.fixture(scope="module")
def dashboard(server: Server) -> Iterator[str]:
    with dashboard_with_user(server) as url:
        yield url


@pytest.fixture
def page(browser_process: Browser, dashboard: str) -> Iterator[Page]:
    """The page of reviews, opened by a user by the link of the first page."""
    with visit(browser_process, height=1300) as opened:
        opened.goto(dashboard)
        log_in(opened)
        opened.get_by_role("link", name="Reviews").click()
        expect(opened.get_by_text("Held for review, without a verdict")).to_be_visible()
        yield opened


def decisions(server: Server, **asked: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = httpx.get(
        f"{server.url}/decisions", params={"limit": 1000, **asked}, timeout=60
    ).json()["decisions"]
    return found


def labels_of(server: Server, decision: dict[str, Any]) -> list[dict[str, Any]]:
    """As the index has them, which follows the log."""
    detail = httpx.get(f"{server.url}/decisions/{decision['transaction_id']}", timeout=60).json()
    found: list[dict[str, Any]] = detail["labels"]
    return found


def row_of(page: Page, decision: dict[str, Any]) -> Locator:
    return page.locator(f'tr[data-sequence="{decision["sequence"]}"]')


def test_what_waits_is_what_was_held_and_nobody_judged(page: Page, server: Server) -> None:
    waiting = decisions(server, outcome="review", label="none")
    assert len(waiting) > 5
    expect(page.get_by_text(f"{len(waiting)}, the newest first")).to_be_visible()
    expect(page.locator("tbody tr")).to_have_count(len(waiting))
    for decision in (waiting[0], waiting[-1]):
        expect(row_of(page, decision)).to_contain_text(str(decision["transaction_id"]))


@pytest.mark.parametrize("verdict", ["fraud", "legitimate"])
def test_a_verdict_is_recorded_with_its_user_and_the_payment_waits_no_more(
    page: Page, server: Server, verdict: str, tmp_path: Path
) -> None:
    payment = decisions(server, outcome="review", label="none")[0]
    row_of(page, payment).click()
    desk = page.locator(".st-key-verdict")
    expect(desk).to_contain_text("as ann")
    expect(desk).to_contain_text("Nobody has said anything")
    expect(page.locator(".st-key-reviewed-detail")).to_contain_text("Place in the log")
    page.screenshot(path=tmp_path / "reviews.png", full_page=True)
    desk.get_by_role("button", name=verdict.capitalize()).click()
    said = f"{payment['transaction_id']} is {verdict}: recorded at"
    expect(page.get_by_text(said)).to_be_visible()
    expect(row_of(page, payment)).to_have_count(0)
    wait_until(lambda: labels_of(server, payment) != [], 60, "the label is in the index")
    (label,) = labels_of(server, payment)
    assert (label["verdict"], label["origin"]) == (verdict, "analyst")
    assert label["label_id"].startswith("ann-")


def test_a_payment_is_found_by_its_id_and_a_verdict_can_be_corrected(
    page: Page, server: Server
) -> None:
    payment = decisions(server, outcome="approve")[3]
    page.get_by_label("Its id").fill(str(payment["transaction_id"]))
    page.get_by_role("button", name="Find", exact=True).click()
    desk = page.locator(".st-key-verdict")
    for number, verdict in enumerate(("Legitimate", "Fraud")):
        desk.get_by_role("button", name=verdict).click()
        expect(page.get_by_text(f"is {verdict.lower()}: recorded at")).to_be_visible()
        row_of(page, payment).click()
        expect(desk.locator(".s-line")).to_have_count(number + 1)
    expect(desk.locator(".s-line").first).to_contain_text("fraud")
    page.get_by_role("button", name="Back to those that wait").click()
    expect(page.get_by_text("Held for review, without a verdict")).to_be_visible()


def test_an_id_that_looks_like_markdown_is_shown_as_it_is(page: Page, server: Server) -> None:
    identifier = "![a](http://127.0.0.1:9/x.png) *b* $5$ :red[c] `d`"
    body = next(stage.payments())
    sent = httpx.post(f"{server.url}/predict", json=body | {"transaction_id": identifier})
    sent.raise_for_status()
    page.get_by_label("Its id").fill(identifier)
    page.get_by_role("button", name="Find", exact=True).click()
    page.locator(".st-key-verdict").get_by_role("button", name="Legitimate").click()
    said = page.get_by_test_id("stAlert")
    expect(said).to_contain_text("![a](http://127.0.0.1:9/x.png) *b* $5$ :red[c]")
    expect(said).to_contain_text("is legitimate: recorded at")
    expect(said.locator("img")).to_have_count(0)


def test_payments_are_found_by_whose_they_are(page: Page, server: Server) -> None:
    card = decisions(server)[0]["card_id"]
    page.get_by_label("Find payments by").click()
    page.get_by_role("option", name="Card").click()
    page.get_by_label("Its id").fill(card)
    page.get_by_role("button", name="Find", exact=True).click()
    expect(page.get_by_text(f"Payments of card {card}")).to_be_visible()
    expect(page.locator("tbody tr")).to_have_count(len(decisions(server, card_id=card)))


@pytest.mark.parametrize("identifier", ["no such payment", "<b>/../x?y=1#z", "4111111111111111"])
def test_what_was_never_decided_on_is_said(page: Page, identifier: str) -> None:
    page.get_by_label("Its id").fill(identifier)
    page.get_by_role("button", name="Find", exact=True).click()
    expect(page.get_by_text("was decided on here")).to_be_visible()
