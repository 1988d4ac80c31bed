"""What a channel is to be told next, and when.

Nothing is queued: what is told is the difference between the alerts as they are and what the
channel was told of them last. A channel that was away for a day gets one message about what holds
now, and alerts that came and went meanwhile are in it as resolved.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final

import msgspec

from sentinel.alerts.catalogue import ALERTS, Severity
from sentinel.alerts.states import SECOND_US, Held, Key
from sentinel.alerts.store import Acknowledgement, Delivery, Told
from sentinel.settings import AlertSettings

MOST_TOLD: Final = 50
"""Alerts in a message; the others are in the next one."""
LONGEST_RETRY_SECONDS: Final = 600.0
"""A channel that is away is tried again after a pause that doubles up to this."""
KEEP_MISSED_US: Final = 86_400 * SECOND_US
"""An alert that came and went while a channel was away is told if it ended within this time."""
_FIRST_RETRY_SECONDS: Final = 5.0
_HOUR_US: Final = 3_600 * SECOND_US
_ENDLESS_US: Final = 1 << 62


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """A message about alerts.

    Attributes:
        at_us: When it was made, microseconds UTC.
        firing: Alerts that fire, those first that were not told of.
        resolved: Alerts that ended.
        repeated: Whether all of it was told before.
        acknowledged: Who has taken which on, by name.
    """

    at_us: int
    firing: tuple[Held, ...] = ()
    resolved: tuple[Held, ...] = ()
    repeated: bool = False
    acknowledged: Mapping[str, Acknowledgement] = {}

    @property
    def alerts(self) -> tuple[Held, ...]:
        """All of them."""
        return self.firing + self.resolved

    @property
    def severity(self) -> Severity:
        """Page if one of them is."""
        return "page" if any(one.severity == "page" for one in self.alerts) else "ticket"


def next_notice(
    held: Iterable[Held],
    told: Mapping[Key, Told],
    acknowledged: Mapping[str, Acknowledgement],
    now_us: int,
    settings: AlertSettings,
) -> Notice | None:
    """What a channel is to be told now; None if nothing.

    Args:
        held: Alerts as they are.
        told: What the channel was told of them last.
        acknowledged: By name.
        now_us: When, microseconds UTC.
        settings: Give the times.
    """
    held = list(held)
    new, ended, again = [], [], []
    for one in held:
        last = told.get(one.key)
        known = last is not None and last.fired_at_us == one.fired_at_us
        if one.state == "firing" and (
            taken_on(one, acknowledged) is not None or _follows(one, held, now_us, settings)
        ):
            continue
        if one.state == "firing" and (last is None or not known):
            new.append(one)
        elif one.state == "firing" and last is not None and _stale(one, last, now_us, settings):
            again.append(one)
        elif one.state == "resolved" and _untold_end(one, last, now_us):
            if known or not _follows(one, held, one.fired_at_us, settings):
                ended.append(one)
    if not (new or ended or again) or not _is_time(new, ended, again, told, now_us, settings):
        return None
    firing = _by_weight([*new, *again])[:MOST_TOLD]
    return Notice(
        at_us=now_us,
        firing=firing,
        resolved=_by_weight(ended)[: MOST_TOLD - len(firing)],
        repeated=not (new or ended),
        acknowledged=acknowledged,
    )


def taken_on(one: Held, acknowledged: Mapping[str, Acknowledgement]) -> Acknowledgement | None:
    """Who is on an alert; None if nobody is.

    Args:
        one: The alert.
        acknowledged: By name.
    """
    known = acknowledged.get(one.name)
    return known if known is not None and known.covers(one) else None


def retry_at_us(delivery: Delivery) -> int:
    """When a channel may be tried next, microseconds UTC; 0 if at once."""
    if delivery.attempts == 0:
        return 0
    pause = _FIRST_RETRY_SECONDS * 2.0 ** min(delivery.attempts - 1, 20)
    return delivery.failed_at_us + round(min(pause, LONGEST_RETRY_SECONDS) * SECOND_US)


def _follows(one: Held, held: Iterable[Held], at_us: int, settings: AlertSettings) -> bool:
    """Whether it followed at a time from another alert that fired.

    Rates are those of a window, so it goes on for so long after the other one is resolved.
    """
    first = ALERTS[one.name].follows_from if one.name in ALERTS else ""
    window_us = round(settings.window_seconds * SECOND_US)
    return any(
        other.name == first
        and (other.state == "firing" or at_us < other.resolved_at_us + window_us)
        for other in held
    )


def _untold_end(one: Held, last: Told | None, now_us: int) -> bool:
    """Whether the channel believes that it fires, or missed that it did within the last day."""
    if last is not None and last.fired_at_us == one.fired_at_us:
        return last.state == "firing"
    return now_us - one.resolved_at_us < KEEP_MISSED_US


def _is_time(
    new: Collection[Held],
    ended: Collection[Held],
    again: Collection[Held],
    told: Mapping[Key, Told],
    now_us: int,
    settings: AlertSettings,
) -> bool:
    changes = [one.fired_at_us for one in new] + [one.resolved_at_us for one in ended]
    if (
        changes
        and max(_ago(at_us, now_us) for at_us in changes) < settings.group_seconds * SECOND_US
    ):
        return False  # others may follow
    interval_us = round(settings.interval_seconds * SECOND_US)
    latest = max((last.at_us for last in told.values() if last.at_us <= now_us), default=0)
    if now_us - latest >= interval_us:
        return True
    # Within the interval only what is news: an alert that comes and goes is told once in it.
    return bool(again) or any(
        one.key not in told or _ago(told[one.key].at_us, now_us) >= interval_us for one in new
    )


def _ago(at_us: int, now_us: int) -> int:
    """How long ago something was; very long if the clock was set back since then."""
    return now_us - at_us if at_us <= now_us else _ENDLESS_US


def _stale(one: Held, last: Told, now_us: int, settings: AlertSettings) -> bool:
    hours = settings.repeat_page_hours if one.severity == "page" else settings.repeat_ticket_hours
    return _ago(last.at_us, now_us) >= round(hours * _HOUR_US)


def _by_weight(alerts: Iterable[Held]) -> tuple[Held, ...]:
    """Pages first, then by name."""
    return tuple(sorted(alerts, key=lambda one: (one.severity != "page", one.key)))
