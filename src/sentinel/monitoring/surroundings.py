"""What the monitor sees around the scorers, for Prometheus: the disk, Redis, the feed of labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class Surroundings(NamedTuple):
    """What was seen last. What is None could not be seen, and is not exported.

    Attributes:
        disk: A folder, and which share of its file system is in use.
        disk_full_share: From which share on it is nearly full.
        redis_answers: Whether Redis does; None without Redis.
        labels_silent_seconds, labels_accepted_seconds: How long no label has come, and how long
            that may last.
    """

    disk: tuple[str, float] | None = None
    disk_full_share: float = 0.0
    redis_answers: bool | None = None
    labels_silent_seconds: float | None = None
    labels_accepted_seconds: float | None = None


class SurroundingsMetrics(Collector):
    """Shows what was seen last.

    Args:
        seen: Gives it.
    """

    def __init__(self, seen: Callable[[], Surroundings]) -> None:
        self._seen = seen

    def collect(self) -> Iterable[Metric]:
        """Samples for a scrape."""
        seen = self._seen()
        if seen.disk is not None:
            folder, share = seen.disk
            for name, words, value in (
                ("used_share", "Share of the watched file system that is in use.", share),
                (
                    "full_share",
                    "From which share on it is nearly full, as set.",
                    seen.disk_full_share,
                ),
            ):
                gauge = GaugeMetricFamily(f"sentinel_disk_{name}", words, labels=["path"])
                gauge.add_metric([folder], value)
                yield gauge
        for name, words, known in (
            ("redis_answers", "1 if Redis answers.", seen.redis_answers),
            (
                "label_silence_seconds",
                "How long no label had come by the end of the log.",
                seen.labels_silent_seconds,
            ),
            (
                "label_silence_accepted_seconds",
                "How long that may last by the feed's own rhythm, or as set.",
                seen.labels_accepted_seconds,
            ),
        ):
            if known is not None:
                yield GaugeMetricFamily(f"sentinel_{name}", words, value=float(known))
