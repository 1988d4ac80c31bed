"""Real mail servers and real webhooks are told what changed, once, in few and readable messages."""

from __future__ import annotations

import email
import email.policy
import hashlib
import hmac
import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Mailbox
from aiosmtpd.smtp import AuthResult, Envelope, Session
from pydantic import SecretStr

from sentinel.alerts.mail import Letter, addresses, message_of, send
from sentinel.alerts.notices import LONGEST_RETRY_SECONDS, retry_at_us
from sentinel.alerts.states import Held
from sentinel.alerts.store import Acknowledgement, AlertStore, Delivery
from sentinel.alerts.telling import channels, tell
from sentinel.domain import ConfigurationError, LedgerUnavailable, Unavailable
from sentinel.settings import AlertSettings
from testkit.ports import free_port
from testkit.servers import Mail

S = 1_000_000
NOW = 1_790_000_000 * S
HOUR = 3_600 * S


@pytest.fixture
def mail(tmp_path: Path) -> Iterator[Mail]:
    with Mail(tmp_path / "box") as server:
        yield server


@pytest.fixture
def store(tmp_path: Path) -> AlertStore:
    return AlertStore(tmp_path / "alerts.db")


def settings_of(port: int, **more: object) -> AlertSettings:
    return AlertSettings.model_validate(
        {"smtp_host": "127.0.0.1", "smtp_port": port, "smtp_tls": "none",
         "mail_to": "night@example.com, day@example.com", **more}
    )  # fmt: skip


def alert(name: str = "NoScorer", at_us: int = NOW, **more: object) -> Held:
    one = {"name": name, "subject": "", "state": "firing", "summary": f"{name} <was> seen.",
           "since_us": at_us, "fired_at_us": at_us, **more}  # fmt: skip
    return Held(**one)  # type: ignore[arg-type]


def keep(store: AlertStore, *alerts: Held) -> None:
    store.keep({one.key: one for one in alerts})


def run(store: AlertStore, settings: AlertSettings, now_us: int) -> None:
    tell(store, settings, channels(settings, "Sentinel"), now_us)


def parsed(mail: Mail) -> list[EmailMessage]:
    found = [email.message_from_string(m, policy=email.policy.default) for m in mail.messages()]
    return sorted(found, key=lambda one: str(one["Date"]))


def body_of(message: EmailMessage, kind: str) -> str:
    body = message.get_body((kind,))
    assert body is not None
    return str(body.get_content())


def test_alerts_of_one_moment_are_one_mail_that_says_what_to_do(
    mail: Mail, store: AlertStore
) -> None:
    settings = settings_of(mail.port, runbooks_url="https://docs.example.com/runbooks/")
    keep(store, alert("StateNearlyFull"), alert("NoScorer", NOW + 5 * S))
    run(store, settings, NOW + 9 * S)  # others may follow
    assert mail.messages() == []
    run(store, settings, NOW + 11 * S)
    run(store, settings, NOW + 26 * S)
    (message,) = parsed(mail)
    assert message["Subject"] == "[Sentinel page] NoScorer and 1 more fire"
    assert message["To"] == "night@example.com, day@example.com"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Importance"] == "high"
    text = body_of(message, "plain")
    html = body_of(message, "html")
    for part in (text, html):
        assert part.index("NoScorer") < part.index("StateNearlyFull")
        assert "sentinel serve" in part
        assert "https://docs.example.com/runbooks/NoScorer.md" in part
    assert "NoScorer <was> seen." in text
    assert "NoScorer &lt;was&gt; seen." in html


def test_a_resolved_alert_is_told_once_and_in_the_same_thread(
    mail: Mail, store: AlertStore
) -> None:
    settings = settings_of(mail.port)
    keep(store, alert())
    run(store, settings, NOW + 15 * S)
    over = alert(state="resolved", since_us=0, resolved_at_us=NOW + 100 * S)
    keep(store, over)
    run(store, settings, NOW + 120 * S)  # the last mail is less than the interval ago
    assert len(mail.messages()) == 1
    run(store, settings, NOW + 400 * S)
    run(store, settings, NOW + 900 * S)
    first, second = parsed(mail)
    assert second["Subject"] == "[Sentinel page] NoScorer is resolved"
    assert "1 minute" in body_of(second, "plain")
    assert first["References"] == second["References"]
    assert second["Importance"] is None


def test_an_alert_is_told_again_until_somebody_takes_it_on(mail: Mail, store: AlertStore) -> None:
    settings = settings_of(mail.port)
    keep(store, alert())
    run(store, settings, NOW + 15 * S)
    run(store, settings, NOW + HOUR)
    run(store, settings, NOW + HOUR + 20 * S)
    assert [m["Subject"] for m in parsed(mail)] == [
        "[Sentinel page] NoScorer fires",
        "[Sentinel page] NoScorer fires (still)",
    ]
    store.acknowledge(
        Acknowledgement(name="NoScorer", by="ann", why="restarting", at_us=NOW + HOUR,
                        until_us=NOW + 9 * HOUR)
    )  # fmt: skip
    run(store, settings, NOW + 3 * HOUR)
    assert len(mail.messages()) == 2
    run(store, settings, NOW + 9 * HOUR)
    assert len(mail.messages()) == 3


def test_what_fires_after_an_acknowledgement_is_told_although_its_name_was_taken_on(
    mail: Mail, store: AlertStore
) -> None:
    settings = settings_of(mail.port, interval_seconds=0)
    first = alert("DriftFound", subject="amount")
    keep(store, first)
    run(store, settings, NOW + 15 * S)
    store.acknowledge(
        Acknowledgement(name="DriftFound", by="ann", why="a release", at_us=NOW + 60 * S,
                        until_us=NOW + 90 * HOUR)
    )  # fmt: skip
    keep(store, first, alert("DriftFound", NOW + HOUR, subject="country"))
    for hours in (1, 30):
        run(store, settings, NOW + hours * HOUR + 15 * S)
    told = parsed(mail)
    assert [m["Subject"] for m in told] == [
        "[Sentinel ticket] DriftFound fires",
        "[Sentinel ticket] DriftFound fires",
        "[Sentinel ticket] DriftFound fires (still)",
    ]
    assert "DriftFound: country" in body_of(told[1], "plain")
    assert "ann acknowledged it" not in body_of(told[1], "plain")
    assert "amount" not in body_of(told[2], "plain")


def test_a_clock_that_is_set_back_silences_nobody(mail: Mail, store: AlertStore) -> None:
    settings, ahead = settings_of(mail.port, group_seconds=0), NOW + 24 * HOUR
    keep(store, alert(at_us=ahead), alert("DiskNearlyFull", at_us=ahead))
    run(store, settings, ahead + S)
    keep(
        store,
        alert(at_us=ahead, state="resolved", since_us=0, resolved_at_us=NOW),
        alert("DiskNearlyFull", at_us=ahead),
        alert("RedisDown", at_us=ahead),
    )
    run(store, settings, NOW + 60 * S)
    assert len(parsed(mail)) == 2
    for name in ("NoScorer", "RedisDown", "DiskNearlyFull"):
        assert name in mail.messages()[1] + mail.messages()[0]
    store.note_failed("mail", "away", ahead)
    keep(store, alert(at_us=NOW + HOUR))
    run(store, settings, NOW + HOUR + 60 * S)
    assert len(parsed(mail)) == 3


def test_an_alert_that_comes_and_goes_is_no_storm(mail: Mail, store: AlertStore) -> None:
    settings = settings_of(mail.port)
    for flap in range(30):  # for a quarter of an hour, every 30 seconds
        at = NOW + flap * 30 * S
        keep(store, alert(at_us=at))
        run(store, settings, at + 12 * S)
        keep(store, alert(at_us=at, state="resolved", since_us=0, resolved_at_us=at + 15 * S))
        run(store, settings, at + 27 * S)
    assert 2 <= len(mail.messages()) <= 4


def test_what_followed_from_an_outage_is_not_told_when_the_outage_is_over(
    mail: Mail, store: AlertStore
) -> None:
    settings = settings_of(mail.port, interval_seconds=0)
    follows = alert("DegradedDecisions")
    back = alert("RedisDown", state="resolved", since_us=0, resolved_at_us=NOW + 600 * S)
    keep(store, alert("RedisDown"), follows)
    run(store, settings, NOW + 15 * S)
    keep(store, back, follows)
    run(store, settings, NOW + 620 * S)  # the window still holds what was degraded
    end = {"state": "resolved", "since_us": 0, "resolved_at_us": NOW + 880 * S}
    keep(store, back, alert("DegradedDecisions", NOW, **end))
    run(store, settings, NOW + 895 * S)
    assert [m["Subject"] for m in parsed(mail)] == [
        "[Sentinel page] RedisDown fires",
        "[Sentinel page] RedisDown is resolved",
    ]
    keep(store, back, alert("DegradedDecisions", NOW + 910 * S))  # of its own
    run(store, settings, NOW + 925 * S)
    assert "DegradedDecisions fires" in parsed(mail)[2]["Subject"]


def test_a_mail_server_that_is_down_is_tried_again_and_gets_one_mail(
    tmp_path: Path, store: AlertStore, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    settings = settings_of(port)
    keep(store, alert())
    at = NOW + 15 * S
    for _ in range(200):
        run(store, settings, at)
        at += 15 * S
    failed = store.deliveries()["mail"]
    assert "does not answer" in failed.problem
    assert 8 <= failed.attempts <= 14
    assert f"127.0.0.1:{port} does not answer" in caplog.text
    assert len(caplog.records) == failed.attempts
    # Meanwhile another one came and went, and the first is over.
    keep(
        store,
        alert("RedisDown", NOW + 20 * S),
        alert(state="resolved", since_us=0, resolved_at_us=at),
        alert("ErrorAnswers", NOW, state="resolved", since_us=0, resolved_at_us=NOW + 60 * S),
    )
    received = Mailbox(tmp_path / "late")
    controller = Controller(received, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        run(store, settings, at + HOUR)
        run(store, settings, at + HOUR + 20 * S)
    finally:
        controller.stop()
    (message,) = received.mailbox
    assert message["Subject"] == "[Sentinel page] RedisDown fires, 2 resolved"
    assert store.deliveries()["mail"].problem == ""


def test_pauses_between_attempts_grow_to_ten_minutes() -> None:
    pauses = [retry_at_us(Delivery(attempts=n, failed_at_us=0)) / S for n in (1, 2, 3, 50)]
    assert pauses == [5, 10, 20, LONGEST_RETRY_SECONDS]


class Hook(HTTPServer):
    """Takes what is posted; answers with a status."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Taking)
        self.status = 200
        self.taken: list[tuple[dict[str, str], bytes]] = []


class Taking(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.taken.append((dict(self.headers.items()), body))
        self.send_response(self.server.status)
        self.send_header("location", "/elsewhere")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def hook() -> Iterator[Hook]:
    with Hook() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_webhook_gets_signed_json_and_is_tried_again_where_it_refuses(
    hook: Hook, store: AlertStore
) -> None:
    url = f"http://127.0.0.1:{hook.server_port}/alerts?token=hidden"
    settings = AlertSettings(webhook_url=SecretStr(url), webhook_secret=SecretStr("shared"))
    hook.status = 302
    keep(store, alert())
    run(store, settings, NOW + 15 * S)
    problem = store.deliveries()["webhook"].problem
    assert "answered 302" in problem
    assert "hidden" not in problem
    hook.status = 200
    run(store, settings, NOW + 30 * S)
    run(store, settings, NOW + 45 * S)
    assert len(hook.taken) == 2
    headers, body = hook.taken[1]
    seconds = (NOW + 30 * S) // S
    signed = hmac.new(b"shared", b"%d." % seconds + body, hashlib.sha256).hexdigest()
    assert headers["Sentinel-Signature"] == f"t={seconds},v1={signed}"
    (told,) = json.loads(body)["alerts"]
    assert (told["name"], told["state"], told["severity"]) == ("NoScorer", "firing", "page")
    assert told["runbook"] == "docs/runbooks/NoScorer.md"


def test_one_channel_that_fails_does_not_keep_the_other_from_being_told(
    mail: Mail, hook: Hook, store: AlertStore
) -> None:
    hook.status = 500
    settings = settings_of(mail.port, webhook_url=f"http://127.0.0.1:{hook.server_port}/")
    keep(store, alert())
    run(store, settings, NOW + 15 * S)
    assert len(mail.messages()) == 1
    assert store.deliveries()["webhook"].attempts == 1


class Asking:
    """Lets one user in, and refuses mails to strangers."""

    async def handle_RCPT(  # noqa: N802 -- aiosmtpd's name
        self, server: object, session: Session, envelope: Envelope, address: str, options: list
    ) -> str:
        if address.startswith("stranger"):
            return "550 no such user here"
        envelope.rcpt_tos.append(address)
        return "250 OK"


class Leaving(Mailbox):
    """Refuses strangers, keeps the other mails, and is rude at the farewell."""

    handle_RCPT = Asking.handle_RCPT  # noqa: N815 -- aiosmtpd's name

    async def handle_QUIT(self, server: object, session: Session, envelope: Envelope) -> str:  # noqa: N802
        return "451 not now"


@pytest.fixture
def leaving(tmp_path: Path) -> Iterator[tuple[Leaving, int]]:
    handler, port = Leaving(tmp_path / "taken"), free_port()
    controller = Controller(handler, hostname="127.0.0.1", port=port)
    controller.start()
    yield handler, port
    controller.stop()


def test_those_who_got_a_mail_do_not_get_it_again_because_another_one_is_refused(
    leaving: tuple[Leaving, int], store: AlertStore, caplog: pytest.LogCaptureFixture
) -> None:
    handler, port = leaving
    settings = settings_of(port, mail_to="ann@example.com, stranger@example.com")
    keep(store, alert())
    for number in range(1, 100):
        run(store, settings, NOW + number * 15 * S)
    assert len(handler.mailbox) == 1
    assert "not for all: stranger@example.com" in store.deliveries()["mail"].problem
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "by mail to everybody" in line
    assert "stranger" not in line


def test_what_cannot_be_noted_is_not_told_again(
    mail: Mail, hook: Hook, store: AlertStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sentinel.workspace_database._LOCK_SECONDS", 0.05)
    settings = settings_of(mail.port, webhook_url=f"http://127.0.0.1:{hook.server_port}/")
    keep(store, alert())
    with closing(sqlite3.connect(tmp_path / "alerts.db", isolation_level=None)) as another:
        another.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerUnavailable, match="locked"):
            run(store, settings, NOW + 15 * S)
        for number in range(2, 20):
            run(store, settings, NOW + number * 15 * S)
        another.execute("ROLLBACK")
    assert (len(mail.messages()), len(hook.taken)) == (1, 1)
    run(store, settings, NOW + HOUR + 20 * S)  # told again, as it still fires
    assert (len(mail.messages()), len(hook.taken)) == (2, 2)
    again = AlertStore(tmp_path / "alerts.db")
    assert {*again.told("mail"), *again.told("webhook")} == {("NoScorer", "")}


def test_a_setting_that_no_mail_server_understands_keeps_no_webhook_from_being_told(
    mail: Mail, hook: Hook, store: AlertStore
) -> None:
    url = f"http://127.0.0.1:{hook.server_port}/"
    keep(store, alert())
    run(store, settings_of(mail.port, webhook_url=url, mail_from="a\nb@example.com"), NOW + 15 * S)
    assert len(hook.taken) == 1
    assert "ValueError" in store.deliveries()["mail"].problem
    with pytest.raises(ConfigurationError, match="smtp_password") as raised:
        send(
            settings_of(mail.port, smtp_host="mail..example.com"),
            message_of(Letter(subject="s", text="t", html="<p>t</p>"), sender="s@example.com",
                       to=["ann@example.com"], now_us=NOW),
        )  # fmt: skip
    assert "mail..example.com" in str(raised.value)


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS:UserWarning")
def test_logins_and_refusals_are_told_in_words() -> None:
    def authenticate(server, session, envelope, mechanism, data):
        good = (data.login, data.password) == (b"sentinel", b"right")
        return AuthResult(success=good, handled=False, message=None if good else "535 5.7.8 no")

    port = free_port()
    controller = Controller(
        Asking(), hostname="127.0.0.1", port=port, authenticator=authenticate,
        auth_required=True, auth_require_tls=False,
    )  # fmt: skip
    controller.start()
    try:
        letter = Letter(subject="s", text="t", html="<p>t</p>")

        def sent(to: list[str], **more: object) -> str:
            message = message_of(letter, sender="s@example.com", to=to, now_us=NOW)
            return send(settings_of(port, **more), message)

        login = {"smtp_user": "sentinel", "smtp_password": "right"}
        assert "took it for ann@example.com" in sent(["ann@example.com"], **login)
        with pytest.raises(ConfigurationError, match=r"refuses the login of sentinel"):
            sent(["ann@example.com"], **(login | {"smtp_password": "wrong"}))
        with pytest.raises(Unavailable, match=r"not for all: stranger@example.com: 550 no such"):
            sent(["ann@example.com", "stranger@example.com"], **login)
        with pytest.raises(Unavailable, match=r"refuses all recipients"):
            sent(["stranger@example.com"], **login)
        with pytest.raises(ConfigurationError, match=r"alerts.smtp_tls"):
            sent(["ann@example.com"], **login, smtp_tls="starttls")
    finally:
        controller.stop()


def test_a_recipient_that_is_no_address_is_named() -> None:
    for wrong in ("not an address", "bob@"):
        with pytest.raises(ConfigurationError, match=f"'{wrong}' is no e-mail address"):
            addresses(f"ann@example.com, {wrong}")
