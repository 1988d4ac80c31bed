"""Digests: what a day or a week brought, read from the log and the documents beside it."""

from __future__ import annotations

import base64
import logging
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from sentinel.alerts.letters import lasting
from sentinel.alerts.mail import Letter, TakenForSome, addresses, mail_problem, message_of, send
from sentinel.alerts.store import AlertStore
from sentinel.domain import ConfigurationError, LabelsStopped, SentinelError, Verdict
from sentinel.features.plan.plan import DAY_US
from sentinel.ledger.base import Ledger
from sentinel.ledger.open import ledger_exists
from sentinel.log.entries import (
    FLAG_DEGRADED,
    DecisionGroup,
    Group,
    GroupKind,
    decode_decisions,
    decode_labels,
    outcome_codes,
)
from sentinel.models.decided import REVIEW
from sentinel.models.registry_view import read_view
from sentinel.pipeline.digest_drift import drift_digest
from sentinel.pipeline.digest_reviews import OpenReviews, Reviews
from sentinel.pipeline.label_watch import watch_labels
from sentinel.pipeline.watches import MonitorContext
from sentinel.pipeline.workspace import ledger_reader
from sentinel.settings import Settings

log = logging.getLogger(__name__)

Span = Literal["day", "week"]

LOOK_BACK_US: Final = 35 * DAY_US
"""Labels are matched with payments that were decided in so long a time before the end."""
MOST_LABELS: Final = 500_000
"""Payments whose labels a digest counts; the log says if there were more."""
EVERY_SECONDS: Final = 60.0
DEPLOYMENT: Final = "Sentinel"
OWN_LINES: Final = ("DriftFound", "LabelDriftFound", "LabelsStopped")
"""Alerts that a digest has words of its own for."""


class DigestWatch:
    """Sends the digests that are due, each once.

    Args:
        settings: The deployment.

    Attributes:
        name: Of the watch.
        every_seconds: Pause between two runs.
    """

    name = "digest"
    every_seconds = EVERY_SECONDS

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._store = AlertStore(settings.alerts_path)
        self._made: tuple[str, Letter] | None = None
        self._sent: set[str] = set()

    def run(self, now_us: int) -> None:
        """Send what is due and was not sent.

        Raises:
            Unavailable, ConfigurationError: It could not be sent, and is tried again.
            LedgerUnavailable, WorkspaceError: The log cannot be read, or it cannot be noted that a
                digest was sent; this process remembers it.
        """
        settings = self._settings
        local = datetime.fromtimestamp(now_us / 1e6, _zone(settings))
        if local.hour < settings.digest.hour:
            return
        spans: list[Span] = ["day"] if settings.digest.daily else []
        if settings.digest.weekly and local.weekday() == 0:
            spans.append("week")
        for span in spans:
            key = f"{span}-{local.date().isoformat()}"
            if self._store.digest_sent(key):
                continue
            if key not in self._sent:
                if has_decisions(settings, span, now_us):
                    self._send(span, key, now_us)
                    log.info("Sent the digest of the %s.", span)
                else:
                    log.info("There is no digest of the %s: no payment was decided by then.", span)
                self._sent.add(key)
            self._store.note_digest(key, now_us)
            self._sent.discard(key)

    def _send(self, span: Span, key: str, now_us: int) -> None:
        """Send a digest; the letter is made once, since that reads the whole log."""
        if self._made is None or self._made[0] != key:
            self._made = key, digest(self._settings, span, now_us)
        try:
            # The same id if it is sent twice after a crash: mail programs show it once.
            send_digest(self._settings, self._made[1], f"<digest-{key}@sentinel.invalid>")
        except TakenForSome as error:
            log.warning("A digest did not reach everybody. %s", error)
        self._made = None


def send_digest(settings: Settings, letter: Letter, message_id: str = "") -> str:
    """Send a digest; returns what the mail server answered.

    Raises:
        ConfigurationError: No mail can be sent by the settings.
        Unavailable: The mail server did not take it.
    """
    alerts = settings.alerts
    to = settings.digest.mail_to or alerts.mail_to
    problem = mail_problem(alerts.model_copy(update={"mail_to": to}))
    if problem:
        raise ConfigurationError(
            f"{problem}, so no mail is sent; see docs/alerts.md. `sentinel alerts digest --show "
            "FILE.html` writes it to a file."
        )
    message = message_of(
        letter,
        sender=alerts.mail_from,
        to=addresses(to),
        now_us=time.time_ns() // 1_000,
        message_id=message_id,
    )
    return send(alerts, message)


def as_file(letter: Letter) -> str:
    """A letter's HTML with its pictures inside, for a browser."""
    html = letter.html
    for name, png in letter.pictures.items():
        data = base64.b64encode(png).decode()
        html = html.replace(f"cid:{name}", f"data:image/png;base64,{data}")
    return html


def digest_watch(context: MonitorContext) -> DigestWatch | None:
    """The watch; None if no digest can or is to be sent."""
    settings = context.settings
    alerts = settings.alerts
    if settings.digest.mail_to:
        alerts = alerts.model_copy(update={"mail_to": settings.digest.mail_to})
    wanted = settings.digest.daily or settings.digest.weekly
    return DigestWatch(settings) if wanted and not mail_problem(alerts) else None


def has_decisions(settings: Settings, span: Span, now_us: int) -> bool:
    """Whether a payment was decided before the end of the last whole day or week, ever.

    A deployment that has only begun has nothing to sum up.

    Raises:
        WorkspaceError, LedgerUnavailable: The log cannot be read.
        ConfigurationError: `digest.timezone` is no place.
    """
    if not ledger_exists(settings):
        return False
    end_us = _us(_bounds(settings, span, now_us)[1])
    with ledger_reader(settings) as ledger:
        for group in ledger.groups():
            if group.floor_us >= end_us:
                return False
            if group.kind == GroupKind.DECISIONS:
                return group.received_at_us < end_us or _first_us(group) < end_us
    return False


def _first_us(group: Group) -> int:
    return min(one.received_at_us for one in decode_decisions(group.payload).transactions)


def _bounds(settings: Settings, span: Span, now_us: int) -> tuple[datetime, datetime]:
    """The last whole day or week (from Monday on) before a moment; the end is exclusive."""
    today = datetime.fromtimestamp(now_us / 1e6, _zone(settings)).replace(
        hour=0, minute=0, second=0, microsecond=0
    )
    end = today if span == "day" else today - timedelta(days=today.weekday())
    return end - timedelta(days=1 if span == "day" else 7), end


def digest(settings: Settings, span: Span, now_us: int | None = None) -> Letter:
    """The letter of the last whole day or week (from Monday on) before a moment.

    Raises:
        WorkspaceError, LedgerUnavailable: There is no log, or it cannot be read.
        ConfigurationError: `digest.timezone` is no place.
    """
    # A monitor that sends none today is spared what draws and trains.
    from sentinel.alerts.digest_letter import DigestFigures, digest_letter

    now_us = time.time_ns() // 1_000 if now_us is None else now_us
    start, end = _bounds(settings, span, now_us)
    title = f"{start:%A, %-d %B %Y}" if span == "day" else f"Week from {start:%-d %B %Y}"
    with ledger_reader(settings) as ledger:
        figures = _counted(ledger, span, start, end)
    reviews: OpenReviews = figures.pop("reviews")
    drift = drift_digest(settings, _us(start), _us(end), now_us)
    changed = [*_changed(settings, start, end), *drift.changed]
    waits = [*_waits(settings), *_review_words(reviews, now_us), *drift.waits]
    return digest_letter(
        DigestFigures(
            title=title,
            span=span,
            changed=changed,
            waits=waits,
            currency=settings.money.currency,
            scale=settings.money.scale,
            reviews=reviews.count,
            reviews_minor=reviews.amount_minor,
            drift_found=drift.found,
            drift_alarms=drift.alarms,
            **figures,
        ),
        deployment=DEPLOYMENT,
    )


def _counted(ledger: Ledger, span: Span, start: datetime, end: datetime) -> dict[str, Any]:
    """The figures of `DigestFigures` that come from the log, by name."""
    start_us, end_us = _us(start), _us(end)
    before_us = 2 * start_us - end_us
    verdicts = _verdicts(ledger, start_us, end_us)
    parts = 24 if span == "day" else 7
    width = (end_us - start_us) / parts
    bars = np.zeros((parts, 2), dtype=np.int64)
    count: Counter[str] = Counter()
    reviews, since_us = Reviews(), min(before_us, end_us - LOOK_BACK_US)
    for group in _decisions(ledger, since_us, end_us):
        outcomes = outcome_codes(group.flag_array())
        degraded = (group.flag_array() & FLAG_DEGRADED) > 0
        for payment, outcome, ill in zip(group.transactions, outcomes, degraded, strict=True):
            at, stopped = payment.received_at_us, int(outcome > 0)
            amount = abs(payment.amount_minor)
            if outcome == REVIEW and end_us - LOOK_BACK_US <= at < end_us:
                reviews.add(payment.transaction_id, at, amount)
            if start_us <= at < end_us:
                bars[int((at - start_us) / width)] += (1, stopped)
                count["money_minor"] += amount
                count["stopped_minor"] += amount * stopped
                count["degraded"] += int(ill)
            elif before_us <= at < start_us:
                count["decisions_before"] += 1
                count["stopped_before"] += stopped
            verdict = verdicts.get(payment.transaction_id)
            if verdict is not None:
                fraud = verdict == Verdict.FRAUD
                count["judged"] += stopped
                count["confirmed"] += stopped * fraud
                count["passed"] += (1 - stopped) * fraud
                count["fraud_minor"] += amount * fraud
    names = [
        f"{start + timedelta(hours=n):%H}" if span == "day" else f"{start + timedelta(days=n):%a}"
        for n in range(parts)
    ]
    known = ("money_minor", "stopped_minor", "degraded", "decisions_before", "stopped_before",
             "judged", "confirmed", "passed", "fraud_minor")  # fmt: skip
    return {
        **{name: count[name] for name in known},
        "decisions": int(bars[:, 0].sum()),
        "stopped": int(bars[:, 1].sum()),
        "reviews": reviews.open_after(_groups_since(ledger, end_us - LOOK_BACK_US)),
        "fraud": sum(verdict == Verdict.FRAUD for verdict in verdicts.values()),
        "bars": [(name, int(n), int(s)) for name, (n, s) in zip(names, bars, strict=True)],
    }


def _verdicts(ledger: Ledger, start_us: int, end_us: int) -> dict[str, Verdict]:
    """The newest verdict of each payment that a label of the time is about."""
    found: dict[str, Verdict] = {}
    uncounted = 0
    for group in ledger.groups():
        if group.kind != GroupKind.LABELS or group.received_at_us < start_us:
            continue
        for label in decode_labels(group.payload).labels:
            if not start_us <= label.received_at_us < end_us:
                continue
            if len(found) < MOST_LABELS or label.transaction_id in found:
                found[label.transaction_id] = label.verdict
            else:
                uncounted += 1
    if uncounted:
        log.warning("A digest counts %d labelled payments, and not %d.", MOST_LABELS, uncounted)
    return found


def _groups_since(ledger: Ledger, start_us: int) -> Iterator[Group]:
    return (group for group in ledger.groups() if group.received_at_us >= start_us)


def _decisions(ledger: Ledger, start_us: int, end_us: int) -> Iterator[DecisionGroup]:
    for group in ledger.groups():
        if group.floor_us >= end_us:
            break
        if group.kind == GroupKind.DECISIONS and group.received_at_us >= start_us:
            yield decode_decisions(group.payload)


def _changed(settings: Settings, start: datetime, end: datetime) -> list[str]:
    """Policies, line-ups and versions of the time, in words."""
    from sentinel.pipeline import experiments, policies

    def within(at_us: int) -> bool:
        return _us(start) <= at_us < _us(end)

    found = [
        f"Policy version {one.version} by {one.by}: {one.why}"
        for one in policies.history(settings, 50)
        if within(one.at_us)
    ]
    found += [
        f"Experiments, by {one.by}: {one.why}"
        for one in experiments.history(settings, 50)
        if within(one.at_us)
    ]
    view = read_view(settings.models_dir)
    if view is not None:
        found += [
            f"Version {one.version} of the model was registered"
            f"{', and is the champion now' if one.version in view.champions[-1:] else ''}."
            for one in view.versions
            if within(one.created_at_us)
        ]
    return found


def _waits(settings: Settings) -> list[str]:
    """What waits for somebody."""
    from sentinel.pipeline.approvals import request_of

    held = AlertStore(settings.alerts_path).held().values()
    found = [
        f"Alert {one.name} fires: {one.summary}"
        for one in held
        if one.state == "firing" and one.name not in OWN_LINES
    ]
    view = read_view(settings.models_dir)
    if view is not None:
        found += [
            f"Version {one.version} of the model awaits a second key's approval."
            for one in view.versions
            if request_of(one.tags) is not None
        ]
    try:
        watch_labels(settings)
    except LabelsStopped as error:
        found.append(str(error).partition(". ")[0] + ".")
    except SentinelError as error:
        log.warning("The digest cannot tell how labels do. %s", error)
    return found


def _review_words(reviews: OpenReviews, now_us: int) -> list[str]:
    if not reviews.count:
        return []
    longest = lasting(now_us - reviews.oldest_us)
    which = "payment waits" if reviews.count == 1 else "payments wait"
    return [f"{reviews.count:,} {which} for a verdict in review, the oldest for {longest}."]


def _us(moment: datetime) -> int:
    return int(moment.astimezone(UTC).timestamp()) * 1_000_000


def _zone(settings: Settings) -> ZoneInfo:
    try:
        return ZoneInfo(settings.digest.timezone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ConfigurationError(
            f"digest.timezone is {settings.digest.timezone!r}, which is no place; write it like "
            "Europe/Berlin, or UTC."
        ) from error
