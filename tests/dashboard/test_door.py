"""Nothing of the dashboard is reached without a session: raw requests and websockets."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from sentinel.dashboard.login.door import Door
from sentinel.dashboard.login.users import UserStore
from sentinel.dashboard.serve import access_for
from sentinel.domain import ConfigurationError
from sentinel.settings import DashboardSettings, Settings
from testkit.browsing import dashboard_of, wait_until_up
from testkit.ports import free_port

NAME, PASSWORD = "ann", "four random words here"
STREAM = "/_stcore/stream"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("closed")
    UserStore(folder / "dashboard.db").create(NAME, PASSWORD)
    return folder


@pytest.fixture(scope="module")
def metrics_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def url(workspace: Path, metrics_port: int) -> Iterator[str]:
    """A dashboard that has a user."""
    with dashboard_of(
        workspace,
        SENTINEL_DASHBOARD__PROXIES="127.0.0.2",
        SENTINEL_DASHBOARD__METRICS_PORT=str(metrics_port),
    ) as url:
        wait_until_up(url)
        yield url


@pytest.fixture
def store(workspace: Path) -> UserStore:
    return UserStore(workspace / "dashboard.db")


@pytest.fixture
def browser(url: str) -> Iterator[httpx.Client]:
    """A client that keeps cookies and says where it comes from, as a browser does."""
    with httpx.Client(base_url=url, headers={"origin": url}, timeout=60) as client:
        yield client


def log_in(client: httpx.Client, password: str = PASSWORD, name: str = NAME) -> httpx.Response:
    return client.post("/login", data={"name": name, "password": password})


def cookie_of(client: httpx.Client) -> str:
    return "; ".join(f"{name}={value}" for name, value in client.cookies.items())


def stream(url: str, **headers: str) -> ClientConnection:
    socket = url.replace("http://", "ws://") + STREAM
    return connect(socket, additional_headers=headers, open_timeout=60)


def refused(url: str, **headers: str) -> int:
    """The status that a websocket is refused with."""
    with pytest.raises(InvalidStatus) as caught:
        stream(url, **headers)
    return caught.value.response.status_code


# ------------------------------------------------------------------------- without a session


def streamlits_paths() -> list[str]:
    """A path for each route that the installed Streamlit has."""
    code = """
from pathlib import Path
from sentinel.dashboard import serve
from streamlit.web.server.starlette import starlette_app
from streamlit.starlette import App
runtime = App(serve._PAGES)._create_runtime()
for route in starlette_app.create_streamlit_routes(runtime):
    print(getattr(route, "path", "/"))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return sorted({re.sub(r"\{[^}]*\}", "x", path) or "/" for path in done.stdout.split()})


def test_no_route_of_streamlit_answers_without_a_session(url: str) -> None:
    paths = streamlits_paths()
    assert {"/_stcore/health", "/_stcore/host-config", "/_stcore/stream"} <= set(paths)
    assert len(paths) > 10
    with httpx.Client(base_url=url, timeout=60) as stranger:
        for path in [*paths, "/", "/index.html", "/static/js/index.js", "/any/page"]:
            for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"):
                answer = stranger.request(method, path)
                if path == "/_stcore/health" and method in ("GET", "HEAD"):
                    assert answer.status_code == 200
                else:
                    assert answer.status_code in (401, 404), (method, path)
                    assert "streamlit" not in answer.text.lower()


def test_a_page_leads_to_the_login_and_a_link_from_elsewhere_first_to_ourselves(url: str) -> None:
    asked = {"accept": "text/html,*/*"}
    led = httpx.get(url, headers=asked)
    assert (led.status_code, led.headers["location"]) == (303, "/login")
    # A strict cookie is not sent with a request that another site begins, but with the next one.
    led = httpx.get(url, headers={**asked, "sec-fetch-site": "cross-site"})
    assert led.status_code == 200
    assert 'http-equiv="refresh" content="0; url=/"' in led.text


@pytest.mark.parametrize(
    "cookie",
    [
        "",
        "sentinel_session=",
        "sentinel_session=" + "A" * 43,
        "sentinel_session=%00; sentinel_session=../..",
        "__Host-sentinel_session=" + "A" * 43,
        '_streamlit_user="2|1:0|10:1|15:_streamlit_user|4:e30=|00"',
    ],
)
def test_a_made_up_cookie_opens_nothing(url: str, cookie: str) -> None:
    assert httpx.get(url, headers={"cookie": cookie}).status_code == 401
    assert refused(url, cookie=cookie) == 401


def test_a_made_up_header_opens_nothing(url: str) -> None:
    claims = {"x-sentinel-user": "ann", "x-forwarded-for": "127.0.0.1", "remote-user": "ann"}
    assert httpx.get(url, headers=claims).status_code == 401
    assert refused(url, **claims) == 401


def test_paths_cannot_be_written_so_that_the_door_misreads_them(url: str) -> None:
    port = int(url.rpartition(":")[2])
    for target in (
        "//",
        "/./",
        "/login/../",
        "/login/..%2f",
        "/_stcore/health/../host-config",
        "/_stcore/health/..%2fhost-config",
        "/%5fstcore/host-config",
        "/_stcore/host-config?/_stcore/health",
        "/_stcore/health;/../stream",
        f"http://127.0.0.1:{port}/_stcore/host-config",
    ):
        answer = raw(port, f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n")
        assert re.match(rb"HTTP/1.1 (401|404|400) ", answer), (target, answer[:200])


def raw(port: int, head: str) -> bytes:
    import socket

    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(head.encode())
        return connection.recv(65_536)


# ----------------------------------------------------------------------------------- logging in


def test_a_login_opens_the_page_and_its_stream(browser: httpx.Client, url: str) -> None:
    answer = log_in(browser)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    page = browser.get("/")
    assert "streamlit" in page.text.lower()
    assert page.headers["cache-control"] == "no-store", "nothing is left to go back to"
    assert page.headers["x-frame-options"] == "DENY"
    assert browser.get("/_stcore/host-config").status_code == 200
    with stream(url, cookie=cookie_of(browser)) as socket:
        socket.ping().wait(60)
    assert browser.get("/login").headers["location"] == "/"


def test_cookies_are_kept_from_scripts_and_other_sites(browser: httpx.Client) -> None:
    cookies = log_in(browser).headers.get_list("set-cookie")
    assert [cookie.partition("=")[0] for cookie in cookies] == [
        "sentinel_session",
        "sentinel_device",
    ]
    for cookie in cookies:
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert "Path=/" in cookie
        assert "Domain" not in cookie
        assert "Secure" not in cookie, "this is not TLS, and the browser would not send it"
    assert f"Max-Age={12 * 3600};" in cookies[0]


def test_behind_tls_cookies_are_sent_by_tls_alone(url: str) -> None:
    proxied = {"x-forwarded-proto": "https", "x-forwarded-for": "203.0.113.7", "origin": url}
    transport = httpx.HTTPTransport(local_address="127.0.0.2")
    with httpx.Client(base_url=url, transport=transport, headers=proxied, timeout=60) as client:
        answer = log_in(client)
    for cookie in answer.headers.get_list("set-cookie"):
        assert cookie.startswith("__Host-sentinel_")
        assert "Secure" in cookie
    assert answer.headers["strict-transport-security"] == "max-age=31536000"


def test_only_named_proxies_are_believed(url: str, store: UserStore) -> None:
    claimed = {"x-forwarded-proto": "https", "x-forwarded-for": "203.0.113.7", "origin": url}
    with httpx.Client(base_url=url, headers=claimed, timeout=60) as client:
        log_in(client)
        assert "sentinel_session" in client.cookies
    newest = max(store.sessions(), key=lambda session: session.created_us)
    assert newest.address == "127.0.0.1"


def test_an_unknown_user_and_a_wrong_password_get_the_same_answer(
    browser: httpx.Client,
) -> None:
    unknown, wrong = log_in(browser, name="nobody"), log_in(browser, "wrong password")
    assert unknown.status_code == wrong.status_code == 401
    assert unknown.text.replace("nobody", "ann") == wrong.text
    assert "set-cookie" not in wrong.headers


def test_what_was_typed_is_shown_as_text(browser: httpx.Client) -> None:
    answer = log_in(browser, name='"><script>alert(1)</script>')
    assert answer.status_code == 401
    assert "<script" not in answer.text
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://elsewhere.example"},
        {"origin": "null"},
        {"origin": ""},
        {},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
@pytest.mark.parametrize("path", ["/login", "/logout"])
def test_another_site_can_log_nobody_in_or_out(
    url: str, browser: httpx.Client, headers: dict[str, str], path: str
) -> None:
    log_in(browser)
    sent = {"cookie": cookie_of(browser), **headers}
    answer = httpx.post(url + path, data={"name": NAME, "password": PASSWORD}, headers=sent)
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers
    assert browser.get("/").status_code == 200


def test_another_site_gets_no_stream_though_the_browser_sends_a_cookie(
    url: str, browser: httpx.Client
) -> None:
    log_in(browser)
    assert refused(url, cookie=cookie_of(browser), origin="https://elsewhere.example") == 401


def test_a_dashboard_on_loopback_has_no_other_name(url: str, browser: httpx.Client) -> None:
    log_in(browser)
    assert browser.get("/", headers={"host": "rebound.example"}).status_code == 421
    assert browser.get("/", headers={"host": "127.0.0.1.example:80"}).status_code == 421
    assert browser.get("/", headers={"host": "localhost:1"}).status_code == 200
    health = httpx.get(f"{url}/_stcore/health", headers={"host": "dashboard:8501"})
    assert health.status_code == 200


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"name=ann&password=" + b"x" * 5000, "application/x-www-form-urlencoded", 413),
        (b'{"name": "ann"}', "application/json", 415),
        (b"--b\r\n", "multipart/form-data; boundary=b", 415),
        (b"&" * 100, "application/x-www-form-urlencoded", 400),
        (b"name=\xff\xfe", "application/x-www-form-urlencoded", 400),
        (b"name=%00&password=%00", "application/x-www-form-urlencoded", 401),
        (b"", "application/x-www-form-urlencoded", 401),
    ],
)
def test_what_is_no_login_is_refused(
    browser: httpx.Client, content: bytes, kind: str, status: int
) -> None:
    answer = browser.post("/login", content=content, headers={"content-type": kind})
    assert answer.status_code == status


def test_guessing_is_slowed_down_and_shuts_nobody_out_whose_browser_is_known(
    url: str, browser: httpx.Client, store: UserStore
) -> None:
    store.create("bob", PASSWORD)
    assert log_in(browser, name="bob").status_code == 303
    browser.post("/logout")
    with httpx.Client(base_url=url, headers={"origin": url}, timeout=60) as stranger:
        answers = [log_in(stranger, f"wrong password {n}", "bob") for n in range(12)]
        assert [answer.status_code for answer in answers] == [401] * 10 + [429] * 2
        assert int(answers[-1].headers["retry-after"]) <= 30
        assert log_in(stranger, name="bob").status_code == 429
        assert log_in(stranger).status_code == 303, "others log in as always"
    assert log_in(browser, name="bob").status_code == 303


# ------------------------------------------------------------------------------------- the end


def is_closed(socket: ClientConnection, seconds: float, page: bytes = b"/login?ended") -> bool:
    """Whether a websocket is closed within so many seconds, having said where to go."""
    deadline = time.monotonic() + seconds
    said = b""
    try:
        while (left := deadline - time.monotonic()) > 0:
            message: Any = socket.recv(timeout=left)
            said = message
    except TimeoutError:
        return False
    except ConnectionClosed as closed:
        end = closed.rcvd
    else:
        return False
    assert end is not None
    assert end.code == 1008
    assert said.endswith(page)
    return True


def test_a_logout_ends_the_session_and_its_streams_everywhere(
    browser: httpx.Client, url: str
) -> None:
    log_in(browser)
    kept = cookie_of(browser)
    with stream(url, cookie=kept) as socket:
        assert browser.get("/logout").status_code == 405
        left = browser.post("/logout")
        assert (left.status_code, left.headers["location"]) == (303, "/login")
        assert is_closed(socket, 10, b"/login")
    assert httpx.get(url, headers={"cookie": kept}).status_code == 401
    assert refused(url, cookie=kept) == 401


def test_a_new_password_and_a_removal_end_open_streams(
    browser: httpx.Client, url: str, store: UserStore
) -> None:
    store.create("eve", PASSWORD)
    for end in (lambda: store.set_password("eve", PASSWORD), lambda: store.remove("eve")):
        assert log_in(browser, name="eve").status_code == 303
        with stream(url, cookie=cookie_of(browser)) as socket:
            assert not is_closed(socket, 1.5)
            end()
            assert is_closed(socket, 10)
        assert browser.get("/").status_code == 401
    assert log_in(browser, name="eve").status_code in (401, 429)


def test_a_new_login_ends_the_session_that_the_browser_had(browser: httpx.Client, url: str) -> None:
    log_in(browser)
    before = cookie_of(browser)
    log_in(browser)
    assert httpx.get(url, headers={"cookie": before}).status_code == 401
    assert browser.get("/").status_code == 200


@pytest.mark.parametrize("how", ["password", "remove"])
def test_a_login_does_not_outlive_the_password_that_it_came_with(
    tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = UserStore(tmp_path / "dashboard.db")
    store.create(NAME, PASSWORD)
    access = access_for(Settings(workspace=tmp_path))
    add_session = UserStore.add_session

    def change_first(*given: Any, **named: Any) -> Any:
        if how == "password":
            store.set_password(NAME, PASSWORD + PASSWORD)
        else:
            store.remove(NAME)
        return add_session(*given, **named)

    async def behind(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(UserStore, "add_session", change_first)

    async def log_in_here() -> httpx.Response:
        here, transport = "http://localhost", httpx.ASGITransport(Door(behind, access))
        async with httpx.AsyncClient(transport=transport, base_url=here) as client:
            fields = {"name": NAME, "password": PASSWORD}
            return await client.post("/login", data=fields, headers={"origin": here})

    answer = asyncio.run(log_in_here())
    access.sessions.close()
    assert answer.status_code == 401
    assert not answer.cookies
    assert store.sessions() == []


# --------------------------------------------------------------------------- open, or not at all


def test_without_users_it_is_open_to_this_machine_until_there_is_one(tmp_path: Path) -> None:
    with dashboard_of(tmp_path) as url:
        wait_until_up(url)
        assert "everybody on this machine" in (tmp_path / "dashboard.log").read_text()
        assert httpx.get(url).status_code == 200
        assert httpx.get(f"{url}/login").headers["location"] == "/"
        assert httpx.get(url, headers={"host": "rebound.example"}).status_code == 421
        doubled = "GET / HTTP/1.1\r\nHost: localhost\r\nHost: rebound.example\r\n\r\n"
        assert raw(int(url.rpartition(":")[2]), doubled).startswith(b"HTTP/1.1 400 ")
        assert refused(url, host="rebound.example") == 403, "two hosts"
        upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        key = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        head = f"GET {STREAM} HTTP/1.1\r\nHost: rebound.example\r\n{upgrade}{key}\r\n"
        assert raw(int(url.rpartition(":")[2]), head).startswith(b"HTTP/1.1 403 ")
        assert refused(url, origin="https://elsewhere.example") == 403
        proxied = httpx.get(url, headers={"x-forwarded-for": "203.0.113.7"})
        assert proxied.status_code == 403
        assert "not through a proxy" in proxied.text
        with stream(url) as socket:
            UserStore(tmp_path / "dashboard.db").create(NAME, PASSWORD)
            assert is_closed(socket, 10)
        assert httpx.get(url).status_code == 401
        UserStore(tmp_path / "dashboard.db").remove(NAME)
        time.sleep(1.5)
        assert httpx.get(url).status_code == 401, "a removed user opens no door"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"host": "0.0.0.0"}, "on 0.0.0.0, and it has no users"),
        ({"host": "::"}, "on ::, and it has no users"),
        ({"host": ""}, "and it has no users"),
        ({"public_url": "https://fraud.example"}, "as https://fraud.example, and it has no users"),
        (
            {"oidc_metadata_url": "https://id.example/.well-known", "public_url": "http://a.b"},
            "dashboard.oidc_client_id, dashboard.oidc_client_secret, dashboard.oidc_users not",
        ),
    ],
)
def test_it_does_not_start_for_others_without_a_login(
    tmp_path: Path, settings: dict[str, str], said: str
) -> None:
    dashboard = DashboardSettings(**settings)
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        access_for(Settings(workspace=tmp_path, dashboard=dashboard))


def test_the_command_says_why_it_does_not_start(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sentinel", "dashboard", "--workspace", str(tmp_path)]
    environment = {**os.environ, "SENTINEL_DASHBOARD__HOST": "0.0.0.0"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert "`sentinel users create NAME`" in done.stderr
    assert "Traceback" not in done.stderr


# ------------------------------------------------------------------------- what is counted


def test_the_door_counts_what_it_answers_and_what_is_open(
    url: str, browser: httpx.Client, metrics_port: int
) -> None:
    def count(name: str, **labels: str) -> float:
        text = httpx.get(f"http://127.0.0.1:{metrics_port}/metrics", timeout=60).text
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    asked, opened = "sentinel_dashboard_requests_total", "sentinel_dashboard_open_pages"
    wrong = count(asked, page="login", status="401")
    let_in = count(asked, page="streamlit", status="101")
    others = count(asked, page="other")
    assert log_in(browser, "not the password").status_code == 401
    assert log_in(browser).status_code == 303
    assert httpx.get(f"{url}/someone@example.com").status_code == 401
    assert refused(url) == 401
    before = count(opened)
    with stream(url, cookie=cookie_of(browser)):
        assert count(opened) == before + 1
    deadline = time.monotonic() + 20
    while count(opened) > before:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert count(asked, page="login", status="401") == wrong + 1
    assert count(asked, page="streamlit", status="101") == let_in + 1
    assert count(asked, page="streamlit", status="401") >= 1
    assert count(asked, page="other") == others + 1
    assert count("sentinel_dashboard_request_seconds_count", page="login") >= 2
    assert count("process_cpu_seconds_total") > 0
    assert httpx.get(f"{url}/metrics").status_code == 401  # it is nowhere else
