"""A day and a week are summed up in a letter that is sent once."""

from __future__ import annotations

import email
import email.policy
import re
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry

from sentinel.alerts.mail import Letter
from sentinel.alerts.store import AlertStore
from sentinel.domain import (
    ConfigurationError,
    Label,
    LedgerUnavailable,
    Unavailable,
    Verdict,
    Void,
)
from sentinel.drift.notices import HOUR_US
from sentinel.ledger.open import open_writer
from sentinel.log.entries import (
    LABEL_FORMAT,
    VOID_FORMAT,
    Group,
    GroupKind,
    LabelGroup,
    VoidGroup,
    encode_group,
)
from sentinel.pipeline.digest import DigestWatch, as_file, digest
from sentinel.pipeline.digest_reviews import Reviews
from sentinel.pipeline.drift_watch import DriftWatch
from sentinel.pipeline.watches import MonitorContext
from sentinel.settings import AlertSettings, DigestSettings, Settings
from testkit.drifting_log import fill_hours, install_followed, reference_of
from testkit.ports import free_port
from testkit.scratch import Server, fraud_label, make_workspace
from testkit.servers import Mail

DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def decided(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Forty payments of today, three of which are known to be fraud."""
    server = Server(make_workspace(tmp_path_factory.mktemp("digest")))
    server.start()
    try:
        for number in range(40):
            payment = {"transaction_id": f"d{number}", "amount_minor": 1_250, "card_id": "K1"}
            httpx.post(f"{server.url}/predict", json=payment).raise_for_status()
        for number in range(3):
            label = fraud_label(f"d{number}")
            httpx.post(f"{server.url}/labels", json=label).raise_for_status()
        yield server.settings
    finally:
        server.kill()


def at(days: int, hour: int = 9) -> int:
    moment = datetime.fromtimestamp(time.time(), UTC).replace(hour=hour, minute=0) + days * DAY
    return int(moment.timestamp()) * 1_000_000


def test_the_figures_of_a_day_are_those_of_its_log(decided: Settings) -> None:
    letter = digest(decided, "day", at(days=1))
    assert f"{datetime.now(UTC):%-d %B %Y}: 40 payments" in letter.subject
    assert "Decisions: 40 (none the day before)" in letter.text
    assert "Money decided: 500 EUR" in letter.text
    assert "Fraud that became known: 3 (38 EUR;" in letter.text
    assert "What waits\n- Nothing waits for anybody." in letter.text
    assert "Reviews without a verdict: 0" in letter.text
    assert "Changes of payments (drift): 0 on (0 found in the day)" in letter.text
    assert letter.pictures["decisions"].startswith(b"\x89PNG")
    assert "cid:" not in as_file(letter)
    after = digest(decided, "day", at(days=2)).text
    assert "Decisions: 0 (-100% against the day before)" in after
    assert "Precision of what was stopped: not known" in after


def test_a_digest_is_sent_once_at_its_hour_even_after_restarts(
    decided: Settings, tmp_path: Path
) -> None:
    with Mail(tmp_path / "box") as mail:
        settings = decided.model_copy(
            update={
                "alerts": AlertSettings(
                    smtp_host="127.0.0.1", smtp_port=mail.port, smtp_tls="none",
                    mail_to="ann@example.com",
                ),
                "digest": DigestSettings(hour=8, weekly=False),
            }
        )  # fmt: skip
        DigestWatch(settings).run(at(days=1, hour=7))
        assert mail.messages() == []
        for _ in range(3):
            DigestWatch(settings).run(at(days=1, hour=8))
        (text,) = mail.messages()
    message = email.message_from_string(text, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    kinds = [part.get_content_type() for part in message.walk()]
    assert kinds == [
        "multipart/alternative", "text/plain", "multipart/related", "text/html", "image/png",
    ]  # fmt: skip
    assert message["Message-ID"].startswith("<digest-day-")


def test_a_digest_that_cannot_be_noted_is_sent_once_and_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def make(settings: Settings, span: str, now_us: int) -> Letter:
        made.append(span)
        return Letter(subject=span, text=span, html=f"<p>{span}</p>")

    monkeypatch.setattr("sentinel.pipeline.digest.digest", make)
    monkeypatch.setattr("sentinel.pipeline.digest.has_decisions", lambda *_: True)
    monkeypatch.setattr("sentinel.workspace_database._LOCK_SECONDS", 0.05)
    alerts = {"smtp_host": "127.0.0.1", "smtp_tls": "none", "mail_to": "ann@example.com"}
    port = free_port()
    settings = Settings.model_validate(
        {"workspace": tmp_path, "alerts": alerts | {"smtp_port": port}, "digest": {"weekly": False}}
    )
    watch, store = DigestWatch(settings), AlertStore(settings.alerts_path)
    for _ in range(3):
        with pytest.raises(Unavailable):
            watch.run(at(days=1))
    assert made == ["day"]
    with Mail(tmp_path / "box", port) as mail:
        store.note_digest("another", at(days=1))
        with closing(sqlite3.connect(settings.alerts_path, isolation_level=None)) as another:
            another.execute("BEGIN IMMEDIATE")
            for _ in range(3):
                with pytest.raises(LedgerUnavailable, match="locked"):
                    watch.run(at(days=1))
            another.execute("ROLLBACK")
        watch.run(at(days=1))
        DigestWatch(settings).run(at(days=1))
        assert len(mail.messages()) == 1
    assert made == ["day"]


def test_a_place_that_is_none_is_named(decided: Settings) -> None:
    wrong = decided.model_copy(update={"digest": DigestSettings(timezone="Nowhere/Here")})
    with pytest.raises(ConfigurationError, match="Nowhere/Here"):
        digest(wrong, "week")


@pytest.fixture
def drifted(tmp_path: Path) -> Settings:
    """Three days of payments, of which a third goes to review; on the third day risk changes."""
    settings = Settings(workspace=tmp_path / "drifted")
    last = at(days=0, hour=0) // HOUR_US
    install_followed(settings, "1", reference_of(until_hour=last - 72))
    with open_writer(settings) as ledger:
        fill_hours(ledger, range(last - 72, last - 24))
        fill_hours(ledger, range(last - 24, last + 1), shift=1.0)
    return settings


def test_a_digest_says_what_drifted_and_what_waits(drifted: Settings) -> None:
    now_us = at(days=0)
    before = digest(drifted, "day", now_us).text
    assert "Changes of payments (drift): 0 on" in before
    context = MonitorContext(drifted, threading.Event(), CollectorRegistry())
    DriftWatch(context).run(now_us)
    text = digest(drifted, "day", now_us).text
    assert re.search(r"Changes of payments \(drift\): 3 on \(3 found in the day\)", text)
    assert re.search(
        r"\n- Drift: risk in .+ and 2 more segments changed since .+ UTC \(risk: ", text
    )
    waits = text[text.index("What waits") :]
    assert "Payments have changed in risk, and nobody silenced it" in waits
    reviewed = 72 * 21
    assert f"{reviewed:,} payments wait for a verdict in review, the oldest for 3 days." in waits


def test_a_review_waits_until_a_label_or_a_void_answers_it() -> None:
    def said(entries: list[Group]) -> tuple[int, int, int]:
        reviews = Reviews()
        for number in range(4):
            reviews.add(f"d{number}", number + 10, 100)
        found = reviews.open_after(entries)
        return found.count, found.oldest_us, found.amount_minor

    def group(kind: GroupKind, body: LabelGroup | VoidGroup) -> Group:
        payload = encode_group(body)
        return Group(first_sequence=1, entries=1, kind=kind, received_at_us=50, payload=payload)

    label = Label(label_id="l", transaction_id="d0", verdict=Verdict.LEGITIMATE, received_at_us=50)
    void = Void(transaction_id="d1", received_at_us=50, reason="sent twice")
    answers = [
        group(GroupKind.LABELS, LabelGroup(LABEL_FORMAT, [label])),
        group(GroupKind.VOIDS, VoidGroup(VOID_FORMAT, [void], called_by="")),
    ]
    assert said([]) == (4, 10, 400)
    assert said(answers) == (2, 12, 200)


def test_a_deployment_that_has_only_begun_sends_no_digest_of_nothing(
    decided: Settings, tmp_path: Path
) -> None:
    with Mail(tmp_path / "box") as mail:
        alerts = AlertSettings(
            smtp_host="127.0.0.1", smtp_port=mail.port, smtp_tls="none", mail_to="ann@example.com"
        )
        daily = DigestSettings(hour=8, weekly=False)
        begun = decided.model_copy(update={"alerts": alerts, "digest": daily})
        empty = begun.model_copy(update={"workspace": tmp_path / "nothing"})
        DigestWatch(empty).run(at(days=0))  # no log yet, which is no failure
        DigestWatch(begun).run(at(days=0))  # its first payments are of today
        assert mail.messages() == []
        DigestWatch(begun).run(at(days=5))  # a quiet day of one that has begun is news
        (message,) = mail.messages()
        assert "0 payments" in message
