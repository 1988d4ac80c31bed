"""The monitor's look at the feed of labels: whether they arrive, how much truth is to come, and
what the truth of the control group costs.

It reads each group of the log once for as long as the process lives. Labels are kept by the minute
of their arrival and payments by the hour of their decision, for the time that counts.
"""

from __future__ import annotations

import threading
from typing import Final

import numpy as np

from sentinel.features.plan.plan import DAY_US, HOUR_US
from sentinel.ledger.base import Ledger
from sentinel.log.entries import Group, GroupKind
from sentinel.models.label_feed import SPAN_US, label_feed
from sentinel.monitoring.control_group_metrics import ControlGroupMetrics
from sentinel.monitoring.figures import Figures
from sentinel.monitoring.table import MEASURED
from sentinel.pipeline.explored_payments import ExploredPayments, control_group_budget
from sentinel.pipeline.history import read_arrivals
from sentinel.pipeline.watches import LatestLabelFeed, MonitorContext
from sentinel.pipeline.workspace import ledger_reader
from sentinel.settings import Settings

MINUTE_US: Final = 60_000_000
MOST_MOMENTS: Final = 1_000
"""Arrivals that are kept to the microsecond; of a feed that has more, the minutes are enough."""
LABEL_ROWS: Final = tuple(
    row
    for row in MEASURED
    if row.name.startswith("sentinel_label_") or row.name == "sentinel_immature_payments"
)


class LabelFeedWatch:
    """Looks at what came into the log since it last looked.

    The first arrivals are kept as they are; later on minutes in which labels came, at most 129,600
    of them in the 90 days that count. Decisions are kept as a count by hour.

    Args:
        settings: The deployment.
        figures: What it says.
        stop: Ends a run between two groups.
        latest: Told how the feed does.

    Attributes:
        name: Of the watch.
        every_seconds: Pause between two runs: alerts rest on what it sees.
        explored: What the control group let through.
    """

    name = "label-feed"

    def __init__(
        self,
        settings: Settings,
        figures: Figures,
        stop: threading.Event,
        latest: LatestLabelFeed | None = None,
    ) -> None:
        self.every_seconds = settings.alerts.every_seconds
        self.explored = ExploredPayments(round(settings.labels.maturity_days * DAY_US))
        self._settings = settings
        self._figures = figures
        self._stop = stop
        self._latest = latest or LatestLabelFeed()
        self._through = 0
        self._end_us = 0
        self._moments: set[int] | None = set()
        self._minutes: set[int] = set()
        self._decided: dict[int, int] = {}
        self._newest_us = 0

    def run(self, now_us: int) -> None:
        """See `Watch`."""
        try:
            if self._settings.ledger.url or self._settings.ledger_path.exists():
                with ledger_reader(self._settings) as ledger:
                    labels = self._read(ledger)
                self._figures.add({"sentinel_label_feed_labels": labels})
                self.explored.budget_minor = control_group_budget(self._settings)
            if not self._stop.is_set():
                self._tell(now_us)
        except BaseException:
            self._latest.seen = None  # nobody knows how the feed does
            raise

    def _read(self, ledger: Ledger) -> int:
        """Read on; returns how many labels there were."""
        labels = 0
        for group in ledger.groups(self._through):
            labels += self._take(group)
            if self._stop.is_set():
                break
        self._forget()
        return labels

    def _take(self, group: Group) -> int:
        self._through = group.first_sequence + group.entries - 1
        self._end_us = max(self._end_us, group.received_at_us)
        self.explored.take(group)
        if group.kind == GroupKind.DECISIONS:
            hour = group.received_at_us // HOUR_US
            self._decided[hour] = self._decided.get(hour, 0) + group.entries
        if group.kind not in (GroupKind.LABELS, GroupKind.IMPORT):
            return 0
        arrivals = read_arrivals([group])
        if len(arrivals):
            self._newest_us = max(self._newest_us, int(arrivals.max()))
            self._minutes.update(np.unique(arrivals // MINUTE_US).tolist())
            if self._moments is not None:
                self._moments.update(np.unique(arrivals).tolist())
                if len(self._moments) > MOST_MOMENTS:
                    self._moments = None
        return len(arrivals)

    def _forget(self) -> None:
        oldest = (self._newest_us - SPAN_US) // MINUTE_US
        self._minutes = {minute for minute in self._minutes if minute >= oldest}
        immature_us = round(self._settings.labels.maturity_days * DAY_US)
        first = (self._end_us - immature_us) // HOUR_US
        self._decided = {hour: n for hour, n in self._decided.items() if hour >= first}

    def _tell(self, now_us: int) -> None:
        accepted = self._settings.labels.max_silence_days
        if self._moments is not None:
            arrivals = np.array(list(self._moments), np.int64)
        else:  # the newest one to the microsecond: silence is told from there on
            earlier = [minute for minute in self._minutes if minute < self._newest_us // MINUTE_US]
            arrivals = np.append(np.array(earlier, np.int64) * MINUTE_US, self._newest_us)
        feed = label_feed(
            arrivals,
            self._end_us + 1,
            accepted_us=None if accepted == "auto" else round(accepted * DAY_US),
        )
        self._latest.seen = feed
        young = now_us - round(self._settings.labels.maturity_days * DAY_US)
        self._figures.set(
            {
                "sentinel_label_feed_newest_time_seconds": self._newest_us / 1e6,
                "sentinel_label_feed_silent_seconds": feed.silent_us / 1e6,
                "sentinel_label_feed_accepted_silence_seconds": (feed.limit_us or 0) / 1e6,
                "sentinel_label_feed_stopped": float(feed.stopped),
                "sentinel_label_maturity_seconds": self._settings.labels.maturity_days * 86_400,
                "sentinel_label_feed_sequence": float(self._through),
                "sentinel_immature_payments": float(
                    sum(n for hour, n in self._decided.items() if (hour + 1) * HOUR_US > young)
                ),
            }
        )


def watch_label_feed(context: MonitorContext) -> LabelFeedWatch:
    """The watch of a deployment."""
    figures = Figures(LABEL_ROWS, context.registry)
    watch = LabelFeedWatch(context.settings, figures, context.stop, context.label_feed)
    context.registry.register(ControlGroupMetrics(watch.explored.figures))
    return watch
