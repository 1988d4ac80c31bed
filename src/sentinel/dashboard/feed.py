"""What the dashboard remembers of the decisions it has seen: asked for once, shared by all readers.

Each refresh fetches only what is new. Rows are kept for the table, counts per ten seconds for the
charts. Where more was decided between two refreshes than the dashboard will fetch, it forgets what
came before: every count it shows is complete from `Feed.covered_since_us` on.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from sentinel.dashboard.api_types import Decision, DecisionsPage, Health, Totals
from sentinel.domain import Outcome

BIN_US: Final = 10_000_000
"""Length of one bin of counts, microseconds."""

_BINS: Final = 24 * 360
_ROWS: Final = 3_000
_ALERTS: Final = 500
_PAGES: Final = 12
_LEAST_SECONDS: Final = 1.0


class Api(Protocol):
    """What a feed asks of the scoring API."""

    def health(self) -> Health: ...

    def totals(self) -> Totals: ...

    def decisions(
        self, *, since_us: int | None = None, before: int | None = None, limit: int = ...
    ) -> DecisionsPage: ...


@dataclass(frozen=True)
class Bin:
    """Decisions received in one bin of time.

    Attributes:
        start_us: Its beginning.
        approve, review, decline: How many of each.
    """

    start_us: int
    approve: int = 0
    review: int = 0
    decline: int = 0

    @property
    def decisions(self) -> int:
        """All of them."""
        return self.approve + self.review + self.decline

    @property
    def alerts(self) -> int:
        """Those that somebody has to look at."""
        return self.review + self.decline


@dataclass(frozen=True)
class Snapshot:
    """All that one refresh of the page shows, of one moment.

    Attributes:
        now_us: When it was taken.
        health, totals: As the API answered.
        rows: Newest decisions, newest first.
        alerts: Newest alerts, newest first.
        bins: Counts in order of time; bins without a decision are left out.
        covered_since_us: Counts are complete from here on; 0: they hold every decision.
    """

    now_us: int
    health: Health
    totals: Totals
    rows: tuple[Decision, ...]
    alerts: tuple[Decision, ...]
    bins: tuple[Bin, ...]
    covered_since_us: int


class Record:
    """Decisions seen so far, in bounded memory. Pure: it is handed pages, and asks nobody."""

    def __init__(self) -> None:
        self.rows: deque[Decision] = deque(maxlen=_ROWS)
        self.alerts: deque[Decision] = deque(maxlen=_ALERTS)
        self.covered_since_us = 0
        self._counts: dict[int, Counter[Outcome]] = {}

    @property
    def newest(self) -> Decision | None:
        """The latest decision seen."""
        return self.rows[-1] if self.rows else None

    def add(self, fresh: Sequence[Decision], *, complete: bool) -> None:
        """Take in decisions.

        Args:
            fresh: Not seen before, newest first.
            complete: Whether nothing was decided between the last one seen and these.
        """
        if not complete and fresh:
            self.covered_since_us = fresh[-1].received_at_us
            self._counts.clear()
            self.rows.clear()
        for decision in reversed(fresh):
            self.rows.append(decision)
            if decision.is_alert:
                self.alerts.append(decision)
            start_us = decision.received_at_us // BIN_US * BIN_US
            self._counts.setdefault(start_us, Counter())[decision.decision] += 1
        for start_us in sorted(self._counts)[:-_BINS]:
            del self._counts[start_us]
            self.covered_since_us = max(self.covered_since_us, start_us + BIN_US)

    def bins(self) -> tuple[Bin, ...]:
        """Counts in order of time."""
        return tuple(
            Bin(
                start_us,
                counts[Outcome.APPROVE],
                counts[Outcome.REVIEW],
                counts[Outcome.DECLINE],
            )
            for start_us, counts in sorted(self._counts.items())
        )


class Feed:
    """The record of one scoring API, brought up to date when somebody looks.

    Args:
        api: The scoring API.
        clock: Seconds since 1970.
    """

    def __init__(self, api: Api, clock: Callable[[], float] = time.time) -> None:
        self._api = api
        self._clock = clock
        self._lock = threading.Lock()
        self._record = Record()
        self._latest: Snapshot | None = None

    @property
    def last_seen_us(self) -> int | None:
        """When the API answered last."""
        return self._latest.now_us if self._latest is not None else None

    def snapshot(self) -> Snapshot:
        """The present state, at most a second old: many readers cost the API no more than one.

        Raises:
            Unavailable: The API does not answer.
        """
        with self._lock:
            now_us = int(self._clock() * 1e6)
            latest = self._latest
            if latest is not None and 0 <= now_us - latest.now_us < _LEAST_SECONDS * 1e6:
                return latest
            health = self._api.health()
            if self._is_another_log(health):
                self._record = Record()
            self._fetch()
            record = self._record
            self._latest = Snapshot(
                now_us=now_us,
                health=health,
                totals=self._api.totals(),
                rows=tuple(reversed(record.rows)),
                alerts=tuple(reversed(record.alerts)),
                bins=record.bins(),
                covered_since_us=record.covered_since_us,
            )
            return self._latest

    def _is_another_log(self, health: Health) -> bool:
        """A log never gets shorter: what answers now is not what answered before."""
        newest = self._record.newest
        return newest is not None and health.ledger.sequence < newest.sequence

    def _fetch(self) -> None:
        newest = self._record.newest
        since_us = newest.received_at_us if newest is not None else None
        known = newest.sequence if newest is not None else 0
        fresh: list[Decision] = []
        before: int | None = None
        for _ in range(_PAGES):
            page = self._api.decisions(since_us=since_us, before=before)
            fresh += (row for row in page.decisions if row.sequence > known)
            before = page.next_before
            if before is None:
                break
        self._record.add(fresh, complete=before is None)


def between(bins: Iterable[Bin], start_us: int, end_us: int) -> Bin:
    """The sum of the bins that begin in a period of time.

    >>> between([Bin(0, 5, 1), Bin(BIN_US, 2)], 0, BIN_US)
    Bin(start_us=0, approve=5, review=1, decline=0)
    """
    inside = [b for b in bins if start_us <= b.start_us < end_us]
    return Bin(
        start_us,
        sum(b.approve for b in inside),
        sum(b.review for b in inside),
        sum(b.decline for b in inside),
    )
