"""The alerts of a deployment for people: listed, acknowledged, and tried.

Where the deployment has an Alertmanager, it is asked; an acknowledgement is a silence there.
Elsewhere alerts are in a file of the workspace, which `sentinel monitor` fills.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from sentinel.alerts.catalogue import ALERTS
from sentinel.alerts.letters import letter_of
from sentinel.alerts.mail import addresses, mail_problem, message_of, send
from sentinel.alerts.notices import Notice, taken_on
from sentinel.alerts.states import Held
from sentinel.alerts.store import Acknowledgement, AlertStore
from sentinel.alerts.webhook import body_of, post
from sentinel.domain import ConfigurationError, NotFound, SentinelError
from sentinel.pipeline.alert_watch import DEPLOYMENT
from sentinel.pipeline.alertmanager import Alertmanager
from sentinel.settings import Settings

_HOUR_US: Final = 3_600_000_000
_SUBJECTS: Final = ("feature", "stream", "instance", "path")
"""Labels that say what an alert of Prometheus is about."""


class Raised(msgspec.Struct, frozen=True, kw_only=True):
    """An alert as it is listed.

    Attributes:
        name, subject: Which one.
        severity: "page" or "ticket".
        state: "pending", "firing" or "resolved".
        summary: What was seen.
        since_us: When it came into this state, microseconds UTC.
        acknowledged: By whom, why and until when; None if by nobody.
    """

    name: str
    subject: str
    severity: str
    state: str
    summary: str
    since_us: int
    acknowledged: Acknowledgement | None


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """All alerts, and whether somebody is told of them.

    Attributes:
        alerts: Those that fire first.
        problems: Why a channel cannot be told, by its name.
    """

    alerts: Sequence[Raised]
    problems: dict[str, str]


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a trial message.

    Attributes:
        channel: "mail" or "webhook".
        well: Whether it was taken.
        said: What was answered, or what is wrong.
    """

    channel: str
    well: bool
    said: str


def raised(settings: Settings) -> Listing:
    """All alerts.

    Raises:
        Unavailable: Alertmanager does not answer.
        LedgerUnavailable, WorkspaceError: The file of alerts cannot be used.
    """
    now_us = time.time_ns() // 1_000
    if settings.services.alertmanager_url:
        return Listing(alerts=_of_alertmanager(settings.services.alertmanager_url), problems={})
    store = AlertStore(settings.alerts_path)
    acknowledged = store.acknowledged(now_us)
    alerts = [
        Raised(
            name=one.name,
            subject=one.subject,
            severity=one.severity,
            state=one.state,
            summary=one.summary,
            since_us=_in_state_since(one),
            acknowledged=taken_on(one, acknowledged) if one.state == "firing" else None,
        )
        for one in store.held().values()
    ]
    problems = {
        name: delivery.problem for name, delivery in store.deliveries().items() if delivery.problem
    }
    return Listing(alerts=_in_order(alerts), problems=problems)


def acknowledge(
    settings: Settings, name: str, *, by: str, why: str, hours: float
) -> Acknowledgement:
    """Take an alert on: it is not told again until it is resolved, or so many hours are over.

    Of an alert with several subjects those are meant that fire now. One that fires later is told.

    Raises:
        NotFound: No such alert fires.
        Unavailable: Alertmanager does not answer.
        LedgerUnavailable, WorkspaceError: The file of alerts cannot be used.
    """
    if not why.strip():
        raise ConfigurationError("Say why, for the others who look: --why 'I am on it'.")
    fires = [one for one in raised(settings).alerts if one.state == "firing"]
    firing = sorted({one.name for one in fires})
    if name not in firing:
        which = f"These do: {', '.join(firing)}." if firing else "None does."
        raise NotFound(f"No alert {name!r} fires. {which}")
    now_us = time.time_ns() // 1_000
    until_us = now_us + round(hours * _HOUR_US)
    made = Acknowledgement(name=name, by=by, why=why.strip(), at_us=now_us, until_us=until_us)
    if settings.services.alertmanager_url:
        server = Alertmanager(settings.services.alertmanager_url)
        for alert in server.alerts():
            if alert["labels"].get("alertname") == name:
                server.silence(
                    alert["labels"], by=by, why=made.why, from_us=now_us, until_us=until_us
                )
    else:
        # What fired by a clock that was ahead is meant, too.
        at_us = max(now_us, *(one.since_us for one in fires if one.name == name))
        made = msgspec.structs.replace(made, at_us=at_us)
        AlertStore(settings.alerts_path).acknowledge(made)
    return made


def try_channels(settings: Settings) -> list[Tried]:
    """Send one message by each channel that is set.

    Returns:
        What came of it; of a channel that is not set, that it is not.
    """
    alerts = settings.alerts
    now_us = time.time_ns() // 1_000
    sample = Held(
        name="NoScorer",
        subject="",
        state="firing",
        summary="This is a trial. Nothing is wrong: somebody ran `sentinel alerts test`.",
        since_us=now_us,
        fired_at_us=now_us,
    )
    notice = Notice(at_us=now_us, firing=(sample,))
    tried = []
    problem = mail_problem(alerts)
    try:
        if problem:
            raise ConfigurationError(f"{problem}, so no mail is sent; see docs/alerts.md")
        letter = letter_of(notice, deployment=DEPLOYMENT, runbooks_url=alerts.runbooks_url)
        letter = msgspec.structs.replace(
            letter, subject=f"[{DEPLOYMENT}] A trial of alerts", urgent=False, about=()
        )
        to = addresses(alerts.mail_to)
        said = send(alerts, message_of(letter, sender=alerts.mail_from, to=to, now_us=now_us))
        tried.append(Tried(channel="mail", well=True, said=said))
    except SentinelError as error:
        tried.append(Tried(channel="mail", well=False, said=str(error)))
    if alerts.webhook_url.get_secret_value():
        try:
            said = post(alerts, body_of(notice, deployment=DEPLOYMENT), now_us)
            tried.append(Tried(channel="webhook", well=True, said=said))
        except SentinelError as error:
            tried.append(Tried(channel="webhook", well=False, said=str(error)))
    return tried


def _of_alertmanager(url: str) -> list[Raised]:
    server = Alertmanager(url)
    silences = {one["id"]: one for one in server.silences()}
    found = []
    for alert in server.alerts():
        labels = alert["labels"]
        by = [silences[one] for one in alert["status"]["silencedBy"] if one in silences]
        name = labels.get("alertname", "")
        found.append(
            Raised(
                name=name,
                subject=next((labels[one] for one in _SUBJECTS if one in labels), ""),
                severity=labels.get("severity", "ticket"),
                state="firing",
                summary=alert["annotations"].get("summary", ""),
                since_us=_microseconds(alert["startsAt"]),
                acknowledged=_from_silence(name, by[0]) if by else None,
            )
        )
    return _in_order(found)


def _from_silence(name: str, silence: dict[str, Any]) -> Acknowledgement:
    return Acknowledgement(
        name=name,
        by=silence["createdBy"],
        why=silence["comment"],
        at_us=_microseconds(silence["startsAt"]),
        until_us=_microseconds(silence["endsAt"]),
    )


def _microseconds(iso: str) -> int:
    return round(datetime.fromisoformat(iso).timestamp() * 1e6)


def _in_state_since(one: Held) -> int:
    if one.state == "firing":
        return one.fired_at_us
    return one.resolved_at_us if one.state == "resolved" else one.since_us


def _in_order(alerts: Sequence[Raised]) -> list[Raised]:
    """Firing, pending, resolved; pages before tickets; then as the catalogue has them."""
    states = ("firing", "pending", "resolved")
    known = list(ALERTS)
    return sorted(
        alerts,
        key=lambda one: (
            states.index(one.state),
            one.severity != "page",
            known.index(one.name) if one.name in known else len(known),
            one.name,
            one.subject,
        ),
    )
