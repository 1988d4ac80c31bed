"""Logging in and out as somebody does it: a real browser, and a real identity provider."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import oidc_provider_mock
import pytest
from playwright.sync_api import Browser, Page, expect

from sentinel.dashboard.login.users import UserStore
from testkit.browsing import PASSWORD, USER, dashboard_of, log_in, visit, wait_until_up
from testkit.ports import free_port
from tests.dashboard.conftest import Stage

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def closed(
    stage_with_payments: Stage, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, UserStore]]:
    """A dashboard with a user, beside the scorer that all tests share."""
    folder = tmp_path_factory.mktemp("closed")
    store = UserStore(folder / "dashboard.db")
    store.create(USER, PASSWORD)
    api = str(stage_with_payments.server.port)
    with dashboard_of(folder, SENTINEL_API__PORT=api) as url:
        wait_until_up(url)
        yield url, store


@pytest.fixture
def page(browser_process: Browser) -> Iterator[Page]:
    """A browser that nobody has used before."""
    with visit(browser_process) as opened:
        yield opened


def test_somebody_logs_in_sees_who_they_are_and_logs_out(
    page: Page, closed: tuple[str, UserStore], tmp_path: Path
) -> None:
    url, _ = closed
    page.goto(url)
    expect(page).to_have_url(f"{url}/login")
    expect(page.get_by_label("User")).to_be_focused()
    page.screenshot(path=tmp_path / "login.png")
    log_in(page, "a wrong password")
    expect(page.get_by_role("alert")).to_contain_text("do not belong together")
    expect(page.get_by_label("User")).to_have_value(USER)
    log_in(page)
    expect(page.get_by_text("Service health")).to_be_visible()
    expect(page.locator("tr[data-sequence]").first).to_be_visible()
    expect(page.locator(".s-user")).to_contain_text(USER)
    assert page.evaluate("document.cookie").count("sentinel") == 0, "scripts read no session"
    page.screenshot(path=tmp_path / "dashboard.png")
    page.get_by_role("button", name="Log out").click()
    expect(page).to_have_url(f"{url}/login")
    page.go_back()
    expect(page.get_by_label("Password")).to_be_visible()


def test_an_open_page_goes_to_the_login_when_its_session_ends(
    page: Page, closed: tuple[str, UserStore]
) -> None:
    url, store = closed
    page.goto(url)
    log_in(page)
    expect(page.get_by_text("Service health")).to_be_visible()
    store.end_sessions(USER)
    expect(page).to_have_url(f"{url}/login?ended")
    expect(page.get_by_role("alert")).to_contain_text("session has ended")
    expect(page.get_by_text("Service health")).to_have_count(0)


def test_a_link_on_another_site_leads_into_the_session(
    page: Page, closed: tuple[str, UserStore]
) -> None:
    url, _ = closed
    page.goto(url)
    log_in(page)
    expect(page.locator(".s-user")).to_contain_text(USER)
    page.goto("about:blank")
    page.set_content(f'<a href="{url}">Go</a>')
    page.get_by_text("Go").click()
    expect(page.locator(".s-user")).to_contain_text(USER)


# --------------------------------------------------------------------------- identity provider


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    people = [
        oidc_provider_mock.User(sub="1", claims={"email": "Ann@Example.com"}),
        oidc_provider_mock.User(sub="2", claims={"email": "eve@elsewhere.example"}),
        oidc_provider_mock.User(sub="3", claims={"email": "bob@example.com"}),
    ]
    for person in people[:2]:
        person.claims["email_verified"] = True
    with oidc_provider_mock.run_server_in_thread(user_claims=people, require_nonce=True) as server:
        yield f"http://localhost:{server.server_port}"


@pytest.fixture(scope="module")
def federated(provider: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A dashboard whose users an identity provider knows."""
    port = free_port()
    folder = tmp_path_factory.mktemp("federated")
    with dashboard_of(
        folder,
        port,
        SENTINEL_DASHBOARD__PUBLIC_URL=f"http://localhost:{port}",
        SENTINEL_DASHBOARD__OIDC_METADATA_URL=f"{provider}/.well-known/openid-configuration",
        SENTINEL_DASHBOARD__OIDC_CLIENT_ID="sentinel",
        SENTINEL_DASHBOARD__OIDC_CLIENT_SECRET="secret",
        SENTINEL_DASHBOARD__OIDC_USERS="@example.com",
    ) as url:
        wait_until_up(url)
        yield f"http://localhost:{port}"


def by_provider(page: Page, url: str, subject: str) -> None:
    page.goto(url)
    expect(page.get_by_label("Password")).to_have_count(0)
    page.get_by_text("Log in with your organisation").click()
    page.locator("[name=sub]").first.fill(subject)
    page.get_by_role("button", name="Authorize").first.click()


def test_the_identity_provider_opens_a_session_like_any_other(page: Page, federated: str) -> None:
    by_provider(page, federated, "1")
    expect(page.locator(".s-user")).to_contain_text("ann@example.com")
    cookies = {cookie["name"]: cookie for cookie in page.context.cookies()}
    assert cookies["sentinel_session"]["sameSite"] == "Strict"
    assert cookies["sentinel_session"]["httpOnly"]
    assert not any("streamlit_user" in name for name in cookies)
    page.get_by_role("button", name="Log out").click()
    expect(page).to_have_url(f"{federated}/login")


@pytest.mark.parametrize("subject", ["2", "3"], ids=["of another domain", "not verified"])
def test_the_identity_provider_alone_opens_nothing(
    page: Page, federated: str, subject: str
) -> None:
    by_provider(page, federated, subject)
    expect(page.get_by_role("alert")).to_contain_text("may not see this dashboard")
    page.goto(federated)
    expect(page).to_have_url(f"{federated}/login")


def test_an_answer_of_the_provider_that_was_not_asked_for_opens_nothing(
    page: Page, federated: str
) -> None:
    page.goto(f"{federated}/oauth2callback?code=made-up&state=made-up")
    expect(page.get_by_role("alert")).to_contain_text("not completed")
    page.goto(federated)
    expect(page).to_have_url(f"{federated}/login")
