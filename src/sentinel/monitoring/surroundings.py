"""What the monitor sees around the scorers, for Prometheus: the disk and Redis."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from sentinel.monitoring.families import Value, family
from sentinel.monitoring.table import SURROUNDINGS


class Surroundings(NamedTuple):
    """What was seen last. What is None could not be seen, and is not exported.

    Attributes:
        disk: A folder, and which share of its file system is in use.
        disk_full_share: From which share on it is nearly full.
        redis_answers: Whether Redis does; None without Redis.
    """

    disk: tuple[str, float] | None = None
    disk_full_share: float = 0.0
    redis_answers: bool | None = None


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
        values: dict[str, Value | None] = {"sentinel_redis_answers": seen.redis_answers}
        if seen.disk is not None:
            folder, share = seen.disk
            values["sentinel_disk_used_share"] = {(folder,): share}
            values["sentinel_disk_full_share"] = {(folder,): seen.disk_full_share}
        for row in SURROUNDINGS:
            value = values.get(row.name)
            if value is not None:
                yield family(row, value)
