"""The watch that looks at everything alerts are about.

Where Prometheus and Alertmanager raise alerts, it shows them what it sees. Elsewhere it judges, and
tells people, itself.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from sentinel.alerts.conditions import Seen, judge
from sentinel.alerts.receivers import Receivers
from sentinel.alerts.scraped import Growth
from sentinel.alerts.states import SECOND_US, Held, Key, Pace, moved_on
from sentinel.alerts.store import AlertStore
from sentinel.alerts.telling import Channel, channels, tell
from sentinel.domain import SentinelError
from sentinel.monitoring.surroundings import Surroundings, SurroundingsMetrics
from sentinel.pipeline.alert_sight import Sight
from sentinel.pipeline.watches import LatestLabelFeed, MonitorContext
from sentinel.settings import Settings

log = logging.getLogger(__name__)

USUAL_HOURS: Final = 7 * 24
"""Hours that the usual share of stopped payments is of."""
DEPLOYMENT: Final = "Sentinel"
CLOSE_SECONDS: Final = 4.0
"""How long the end of the monitor waits for a mail that is being sent."""
_HOUR_US: Final = 3_600 * SECOND_US


def alert_watch(context: MonitorContext) -> AlertWatch:
    """The watch, which shows what it sees among the metrics of the monitor."""
    watch = AlertWatch(context.settings, context.label_feed)
    context.registry.register(SurroundingsMetrics(lambda: watch.surroundings))
    return watch


class AlertWatch:
    """Looks at everything, moves alerts on, and tells the channels that are set.

    Args:
        settings: The deployment.
        labels: What the watch of labels saw; see `Sight`.

    Attributes:
        name: Of the watch.
        every_seconds: Pause between two runs.
        receivers: Whom it tells.
        surroundings: What was seen last beside the scorers.
    """

    name = "alerts"

    def __init__(self, settings: Settings, labels: LatestLabelFeed | None = None) -> None:
        self.every_seconds = settings.alerts.every_seconds
        self._settings = settings
        self._store = AlertStore(settings.alerts_path)
        self._sight = Sight(settings, labels)
        self._judges = not settings.services.alertmanager_url
        self.surroundings = Surroundings()
        self._unwritten: dict[Key, Held] | None = None
        self._last: dict[Key, Held] = {}
        self.receivers = Receivers(channels(settings.alerts, DEPLOYMENT), self._tell)
        self._pace = Pace(
            page_us=round(settings.alerts.page_after_seconds * SECOND_US),
            ticket_us=round(settings.alerts.ticket_after_seconds * SECOND_US),
        )

    def run(self, now_us: int) -> None:
        """Look once, judge and tell.

        Where the file of alerts cannot be read or written, as on a full disk, alerts move on in
        this process, and people are told all the same.

        Raises:
            LedgerUnavailable, WorkspaceError: The file of alerts cannot be used.
        """
        if not self._judges:
            self.surroundings = _surroundings(self._sight.around(now_us))
            return
        seen, grown = self._sight.look(now_us, self._usual())
        self.surroundings = _surroundings(seen)
        before = self._before()
        after, left_out = moved_on(before, judge(seen), now_us, self._pace)
        if left_out:
            log.warning("There is no room for %d further alerts; see docs/bounds.md.", left_out)
        if after != before:
            _log_changes(before, after)
        self._last = after
        problem = self._keep(after) if after != before or self._unwritten is not None else None
        self.receivers.look(now_us, after)
        if problem is not None:
            raise problem
        if grown is not None:
            self._count(grown, now_us)

    def close(self) -> None:
        """Wait some seconds for what is being told."""
        self.receivers.settle(CLOSE_SECONDS)

    def _tell(self, name: str, channel: Channel, now_us: int, alerts: Mapping[Key, Held]) -> None:
        tell(self._store, self._settings.alerts, {name: channel}, now_us, alerts)

    def _usual(self) -> tuple[int, int] | None:
        """What the usual share of stopped payments is of; None if it cannot be read."""
        try:
            return self._store.outcomes()
        except SentinelError:
            return None

    def _before(self) -> dict[Key, Held]:
        """Alerts as the last look left them."""
        if self._unwritten is None:
            try:
                return self._store.held()
            except SentinelError:  # `_keep` tries the same file next, and says why it cannot
                self._unwritten = self._last
        return self._unwritten

    def _keep(self, alerts: dict[Key, Held]) -> SentinelError | None:
        """Write alerts, or remember them and return why they could not be written."""
        try:
            self._store.keep(alerts)
        except SentinelError as error:
            self._unwritten = alerts
            return error
        self._unwritten = None
        return None

    def _count(self, grown: Growth, now_us: int) -> None:
        """Let decisions count for the usual share."""
        if grown.decisions > 0:
            self._store.count_outcomes(
                now_us // _HOUR_US,
                round(grown.decisions),
                round(grown.stopped),
                keep_hours=USUAL_HOURS,
            )


def _surroundings(seen: Seen) -> Surroundings:
    return Surroundings(
        disk=seen.disk,
        disk_full_share=seen.disk_full_share,
        redis_answers=None if seen.redis_problem is None else not seen.redis_problem,
    )


def _log_changes(before: dict[Key, Held], after: dict[Key, Held]) -> None:
    for key, one in after.items():
        was = before[key].state if key in before else "none"
        if one.state != was:
            log.warning("Alert %s is %s: %s", " ".join(filter(None, key)), one.state, one.summary)
