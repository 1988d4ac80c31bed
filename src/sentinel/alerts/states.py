"""What becomes of an alert: it is pending, fires, and is resolved.

    condition holds ─► pending ─ long enough ─► firing ─ holds no more ─► resolved
                          └─ holds no more ─► forgotten                      │
                                               condition holds again ◄───────┘

A condition that cannot be judged just now leaves its alert as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal

import msgspec
from msgspec.structs import replace

from sentinel.alerts.catalogue import ALERTS, Severity

State = Literal["pending", "firing", "resolved"]
Key = tuple[str, str]
"""Name and subject of an alert."""

MOST_ALERTS: Final = 200
"""Alerts that are kept, by name and subject; further ones are counted in a line of the log."""
KEEP_RESOLVED_US: Final = 7 * 86_400_000_000
"""So long a resolved alert stays in the list."""
SECOND_US: Final = 1_000_000


class Found(msgspec.Struct, frozen=True):
    """A condition that holds.

    Attributes:
        subject: What it is about, where there are several: an address, a folder; else empty.
        summary: What was seen, in a sentence.
    """

    subject: str
    summary: str


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """An alert as it is now.

    Attributes:
        name, subject: Which one.
        state: Where it is on its way.
        summary: What was seen last.
        since_us: Since when its condition holds, microseconds UTC; 0 if it does not.
        fired_at_us: When it began to fire; 0 if it has not.
        resolved_at_us: When it ended; 0 if it has not.
    """

    name: str
    subject: str
    state: State
    summary: str
    since_us: int
    fired_at_us: int = 0
    resolved_at_us: int = 0

    @property
    def key(self) -> Key:
        """Name and subject."""
        return self.name, self.subject

    @property
    def severity(self) -> Severity:
        """Of the alert of this name; one that is known no more waits for the morning."""
        return ALERTS[self.name].severity if self.name in ALERTS else "ticket"


class Pace(msgspec.Struct, frozen=True):
    """How long conditions hold before an alert fires.

    Attributes:
        page_us, ticket_us: By severity, microseconds.
    """

    page_us: int
    ticket_us: int

    def of(self, severity: Severity) -> int:
        """For a severity, microseconds."""
        return self.page_us if severity == "page" else self.ticket_us


def moved_on(
    held: Mapping[Key, Held], judged: Mapping[str, Iterable[Found]], now_us: int, pace: Pace
) -> tuple[dict[Key, Held], int]:
    """Alerts after a look.

    Args:
        held: As they were before it.
        judged: What was found, by the name of the alert; a name that is missing could not be
            judged.
        now_us: When, microseconds UTC.
        pace: How long conditions hold before alerts fire.

    Returns:
        The alerts, and how many further ones there was no room for.
    """
    held = {key: _not_ahead(one, now_us) for key, one in held.items()}
    found = {(name, one.subject): one for name, some in judged.items() for one in some}
    after: dict[Key, Held] = {}
    for key, one in held.items():
        if key in found or key[0] not in judged:
            after[key] = one
        elif one.state == "firing":
            after[key] = replace(one, state="resolved", since_us=0, resolved_at_us=now_us)
        elif one.state == "resolved" and now_us - one.resolved_at_us < KEEP_RESOLVED_US:
            after[key] = replace(one, since_us=0)
    left_out = 0
    for key, seen in found.items():
        before = after.get(key)
        if before is None:
            if len(after) >= MOST_ALERTS:
                left_out += 1
                continue
            before = Held(
                name=key[0], subject=key[1], state="pending", summary=seen.summary, since_us=now_us
            )
        after[key] = _holding(before, seen, now_us, pace)
    return after, left_out


def _not_ahead(one: Held, now_us: int) -> Held:
    """An alert whose times the clock has reached; after it was set back they would not be soon."""
    if max(one.since_us, one.resolved_at_us) <= now_us:
        return one
    return replace(
        one,
        since_us=min(one.since_us, now_us),
        resolved_at_us=min(one.resolved_at_us, now_us),
    )


def _holding(before: Held, seen: Found, now_us: int, pace: Pace) -> Held:
    """An alert whose condition holds; one that was resolved stays so until it fires again."""
    since_us = before.since_us or now_us
    if before.state != "firing" and now_us - since_us >= pace.of(before.severity):
        return replace(
            before,
            state="firing",
            summary=seen.summary,
            since_us=since_us,
            fired_at_us=now_us,
            resolved_at_us=0,
        )
    if before.state == "resolved":
        return replace(before, since_us=since_us)
    return replace(before, summary=seen.summary)
