"""The monitor's look at the feed of labels: whether they arrive, and how much truth is to come.

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
from sentinel.monitoring.figures import Figures
from sentinel.monitoring.table import MEASURED
from sentinel.pipeline.history import read_arrivals
from sentinel.pipeline.watches import MonitorContext
from sentinel.pipeline.workspace import ledger_reader
from sentinel.settings import Settings

MINUTE_US: Final = 60_000_000
_ROWS: Final = tuple(
    row
    for row in MEASURED
    if row.name.startswith("sentinel_label_feed") or row.name == "sentinel_immature_payments"
)


class LabelFeedWatch:
    """Looks at what came into the log since it last looked.

    Arrivals are kept as minutes in which labels came, at most 129,600 of them in the 90 days that
    count, and decisions as a count by hour.

    Args:
        settings: The deployment.
        figures: What it says.
        stop: Ends a run between two groups.
    """

    name = "label-feed"
    every_seconds = 30.0

    def __init__(self, settings: Settings, figures: Figures, stop: threading.Event) -> None:
        self._settings = settings
        self._figures = figures
        self._stop = stop
        self._through = 0
        self._end_us = 0
        self._minutes: set[int] = set()
        self._decided: dict[int, int] = {}
        self._newest_us = 0

    def run(self, now_us: int) -> None:
        """See `Watch`."""
        if self._settings.ledger.url or self._settings.ledger_path.exists():
            with ledger_reader(self._settings) as ledger:
                labels = self._read(ledger)
            self._figures.add({"sentinel_label_feed_labels": labels})
        self._tell(now_us)

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
        if group.kind == GroupKind.DECISIONS:
            hour = group.received_at_us // HOUR_US
            self._decided[hour] = self._decided.get(hour, 0) + group.entries
        if group.kind not in (GroupKind.LABELS, GroupKind.IMPORT):
            return 0
        arrivals = read_arrivals([group])
        if len(arrivals):
            self._newest_us = max(self._newest_us, int(arrivals.max()))
            self._minutes.update(np.unique(arrivals // MINUTE_US).tolist())
        return len(arrivals)

    def _forget(self) -> None:
        oldest = (self._newest_us - SPAN_US) // MINUTE_US
        self._minutes = {minute for minute in self._minutes if minute >= oldest}
        immature_us = round(self._settings.labels.maturity_days * DAY_US)
        first = (self._end_us - immature_us) // HOUR_US
        self._decided = {hour: n for hour, n in self._decided.items() if hour >= first}

    def _tell(self, now_us: int) -> None:
        accepted = self._settings.labels.max_silence_days
        feed = label_feed(
            np.fromiter(self._minutes, np.int64) * MINUTE_US,
            self._end_us + 1,
            accepted_us=None if accepted == "auto" else round(accepted * DAY_US),
        )
        young = now_us - round(self._settings.labels.maturity_days * DAY_US)
        self._figures.set(
            {
                "sentinel_label_feed_newest_time_seconds": self._newest_us / 1e6,
                "sentinel_label_feed_stopped": float(feed.stopped),
                "sentinel_label_feed_sequence": float(self._through),
                "sentinel_immature_payments": float(
                    sum(n for hour, n in self._decided.items() if (hour + 1) * HOUR_US > young)
                ),
            }
        )


def watch_label_feed(context: MonitorContext) -> LabelFeedWatch:
    """The watch of a deployment."""
    return LabelFeedWatch(context.settings, Figures(_ROWS, context.registry), context.stop)
