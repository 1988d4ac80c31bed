"""How the dashboard's door does, as Prometheus samples: requests, their times, open pages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from sentinel.monitoring.counting import ByLabels, Histogram
from sentinel.monitoring.families import families
from sentinel.monitoring.metrics import REQUEST_BOUNDS_SECONDS
from sentinel.monitoring.table import DASHBOARD

MOST_STATUSES: Final = 128
"""Pairs of a page and a status that have counts of their own."""
_PAGES: Final = {
    "": "live",
    "experiments": "experiments",
    "drift": "drift",
    "login": "login",
    "oauth2callback": "login",
    "logout": "logout",
    "static": "files",
    "media": "files",
    "component": "files",
    "_stcore": "streamlit",
}


def page_of(path: str) -> str:
    """What a path is for, of a dozen words: paths may hold anything.

    >>> page_of("/"), page_of("/login/oidc"), page_of("/_stcore/health"), page_of("/jane")
    ('live', 'login', 'health', 'other')
    """
    if path == "/_stcore/health":
        return "health"
    return _PAGES.get(path.lstrip("/").partition("/")[0], "other")


class DoorMetrics(Collector):
    """Counts on the dashboard's event loop; another thread shows it.

    Attributes:
        open_pages: Streams of updates that are open.
        waiting_logins: Logins that wait or are checked.
    """

    def __init__(self) -> None:
        self.open_pages = 0
        self.waiting_logins = 0
        self._answers: ByLabels[list[int]] = ByLabels(MOST_STATUSES, 2, lambda: [0])
        self._seconds: ByLabels[Histogram] = ByLabels(
            MOST_STATUSES, 1, lambda: Histogram(REQUEST_BOUNDS_SECONDS)
        )
        self._answers.of(("login", "200"))  # so that there is a series before the first request
        self._seconds.of(("login",))

    def answered(self, path: str, status: int, seconds: float | None) -> None:
        """Count an answer.

        Args:
            path: What was asked for.
            status: Of the answer; 0 if the client was gone before there was one.
            seconds: What it took; None for a stream.
        """
        page = page_of(path)
        self._answers.of((page, str(status)))[0] += 1
        if seconds is not None:
            self._seconds.of((page,)).add(seconds)

    def collect(self) -> Iterable[Metric]:
        """Samples for a scrape."""
        answers = self._answers.items.copy()
        return families(
            DASHBOARD,
            {
                "sentinel_dashboard_requests": {key: n for key, (n,) in answers.items()},
                "sentinel_dashboard_request_seconds": self._seconds.items.copy(),
                "sentinel_dashboard_open_pages": self.open_pages,
                "sentinel_dashboard_waiting_logins": self.waiting_logins,
            },
        )
