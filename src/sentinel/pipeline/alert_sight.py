"""Looks at everything that alerts are about: scorers, Redis, the disk, labels and drift.

It sees what `/metrics` of the scorers says, what lies in the workspace, and what another watch saw
of labels, and asks nothing of payments. Each part that cannot be seen is missing from what was
seen, and keeps no other from it.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import httpx
from msgspec.structs import replace

from sentinel.access.own_key import OwnKey
from sentinel.alerts.conditions import ScorerSeen, Seen
from sentinel.alerts.scraped import Growth, Looks, scraped
from sentinel.alerts.states import SECOND_US
from sentinel.domain import SentinelError
from sentinel.pipeline.health import scorer_urls
from sentinel.pipeline.watches import LatestLabelFeed
from sentinel.settings import Settings
from sentinel.telemetry.starting import starting_of

if TYPE_CHECKING:
    from sentinel.drift.rows import RecordedChange

log = logging.getLogger(__name__)

ANSWER_SECONDS: Final = 5.0
"""A scorer that takes longer to answer does not answer."""
MOST_SCORERS: Final = 64
"""Scorers that are looked at; further ones are named in the log."""

MOST_CHANGES_NAMED: Final = 5
"""Changes that an alert of drift names; `sentinel drift status` has all of them."""

_T = TypeVar("_T")


class Sight:
    """Looks again and again, and remembers what rates are told by.

    Args:
        settings: The deployment.
        labels: What the watch of labels saw; default: nothing, and nothing is told of labels.
    """

    def __init__(self, settings: Settings, labels: LatestLabelFeed | None = None) -> None:
        self._settings = settings
        self._key = OwnKey(settings)
        self._looks: dict[str, Looks] = {}
        self._unseen: dict[str, str] = {}
        self._labels = labels or LatestLabelFeed()

    def look(self, now_us: int, usual: tuple[int, int] | None = None) -> tuple[Seen, Growth | None]:
        """Look at everything.

        Args:
            now_us: When, microseconds UTC.
            usual: Decisions of the last days, and those among them that stopped a payment.

        Returns:
            What was seen, and how the figures of all scorers grew since the look before; None if
            that is not known.
        """
        scorers, grown = self._scorers(now_us)
        return replace(self.around(now_us), scorers=scorers, usual=usual), grown

    def around(self, now_us: int) -> Seen:
        """Look at everything but the scorers.

        Args:
            now_us: When, microseconds UTC.
        """
        settings = self._settings
        folder = Path(settings.alerts.disk_path or settings.workspace)
        feed = self._labels.seen
        return Seen(
            at_us=now_us,
            scorers=(),
            redis_problem=self._redis(),
            disk=self._or_none("the disk", lambda: (str(folder), used_share(folder))),
            disk_full_share=settings.alerts.disk_full_share,
            labels_silent_us=None if feed is None else feed.silent_us,
            labels_accepted_us=None if feed is None else feed.limit_us,
            drift=self._or_none("drift", lambda: self._drift(now_us)),
            label_drift=self._or_none("drift of labels", lambda: self._label_drift(now_us)),
        )

    def _scorers(self, now_us: int) -> tuple[list[ScorerSeen], Growth | None]:
        """Every scorer, and how all grew together since the look before."""
        settings = self._settings
        urls = scorer_urls(settings, settings.api.admin_port or None)
        if len(urls) > MOST_SCORERS:
            log.warning("Alerts look at %d of %d scorers.", MOST_SCORERS, len(urls))
        window_us = round(settings.alerts.window_seconds * SECOND_US)
        self._looks = {url: self._looks.get(url) or Looks(window_us) for url in urls[:MOST_SCORERS]}
        for gone in [what for what in self._unseen if "://" in what and what not in self._looks]:
            del self._unseen[gone]
        found, grown = [], []
        alone = len(urls) == 1  # and so the one whose workspace this is
        with httpx.Client(timeout=ANSWER_SECONDS, trust_env=False) as client:
            for url, looks in self._looks.items():
                try:
                    answer = client.get(f"{url}/metrics", headers=self._key.headers())
                    if answer.is_client_error:  # it answers, and does not let us see its figures
                        why = f"it answers {answer.status_code}; its key may not read /metrics"
                        self._note_unseen(url, why, why)
                        found.append(ScorerSeen(address=url))
                        continue
                    answer.raise_for_status()
                    self._unseen.pop(url, None)
                    look = scraped(answer.text, now_us)
                except (httpx.HTTPError, ValueError) as error:
                    problem = f"{url} does not answer: {str(error) or type(error).__name__}"
                    starting = alone and self._starts(now_us)
                    found.append(ScorerSeen(address=url, problem=problem, starting=starting))
                    continue
                rise = looks.add(look)
                if rise is not None:
                    grown.append(rise)
                found.append(ScorerSeen(address=url, now=look, growth=looks.growth()))
        return found, _together(grown)

    def _starts(self, now_us: int) -> bool:
        """Whether the scorer of this workspace is at work on its start."""
        starting = starting_of(self._settings.workspace)
        return starting is not None and starting.is_at_work(now_us)

    def _or_none(self, what: str, look: Callable[[], _T]) -> _T | None:
        """What was seen; None if it could not be, which is logged once for each reason."""
        try:
            found = look()
        except (SentinelError, OSError) as error:
            self._note_unseen(what, str(error), error)
            return None
        except Exception as error:  # whatever it is, it must not silence the other alerts
            if self._unseen.get(what) != str(error):
                log.exception("Alerts about %s cannot be judged.", what)
            self._unseen[what] = str(error)
            return None
        self._unseen.pop(what, None)
        return found

    def _note_unseen(self, what: str, why: str, said: object) -> None:
        if self._unseen.get(what) != why:
            log.warning("Alerts about %s cannot be judged: %s", what, said)
        self._unseen[what] = why

    def _redis(self) -> str | None:
        """Why Redis does not answer; empty if it does; None without Redis."""
        if self._settings.state.backend != "redis":
            return None
        from sentinel.state.redis.health import redis_health

        try:
            redis_health(self._settings.state.redis_url)
        except SentinelError as error:
            return str(error)
        return ""

    def _drift(self, now_us: int) -> dict[str, str]:
        """What moved and is not silenced, a sentence for each feature; nothing if nothing did."""
        from sentinel.drift.alarms import by_feature
        from sentinel.drift.store import open_drift

        store = open_drift(self._settings)
        try:
            alarms = by_feature(store.open_alarms(now_us))
        finally:
            store.close()
        return {feature: _changed_words(some) for feature, some in alarms.items()}

    def _label_drift(self, now_us: int) -> dict[str, str]:
        """What labels have changed about and is not silenced, in a sentence for each stream."""
        from sentinel.drift.store import open_drift

        store = open_drift(self._settings)
        try:
            found = store.labels(now_us)
        finally:
            store.close()
        alarms = () if found is None else found.alarms
        return {one.stream: f"Labels have changed: {one.words}." for one in alarms}


def used_share(folder: Path) -> float:
    """Which share of a folder's file system is in use, as `df` says it.

    Raises:
        OSError: There is no such folder.
    """
    usage = shutil.disk_usage(folder)
    usable = usage.used + usage.free
    return usage.used / usable if usable else 1.0


def _changed_words(changes: Sequence[RecordedChange]) -> str:
    """What moved, the farthest first."""
    told = sorted((one.change for one in changes), key=lambda one: -one.total_variation)
    named = ", ".join(
        f"{one.feature} of {one.segment} by {one.total_variation:.2f}"
        for one in told[:MOST_CHANGES_NAMED]
    )
    more = len(told) - MOST_CHANGES_NAMED
    rest = f" and {more:,} more" if more > 0 else ""
    return f"Payments have changed (total variation): {named}{rest}."


def _together(grown: list[Growth]) -> Growth | None:
    """The growth of all scorers."""
    if not grown:
        return None
    names = ("decisions", "stopped", "degraded", "errors", "commit_failures")
    return Growth(
        seconds=max(one.seconds for one in grown),
        latency_p99_seconds=None,
        **{name: sum(getattr(one, name) for one in grown) for name in names},
    )
