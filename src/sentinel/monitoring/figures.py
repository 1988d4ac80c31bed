"""Figures of a watch as Prometheus samples: plain numbers that its thread sets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from sentinel.monitoring.families import families
from sentinel.monitoring.table import MetricRow


class Figures(Collector):
    """One figure for each row, 0 until it is set.

    Args:
        rows: Of the table, without labels.
        registry: Where they are shown.
    """

    def __init__(self, rows: Iterable[MetricRow], registry: CollectorRegistry) -> None:
        self._rows: Final = tuple(rows)
        self._values: dict[str, float] = dict.fromkeys((row.name for row in self._rows), 0.0)
        registry.register(self)

    def set(self, values: Mapping[str, float]) -> None:
        """Set figures together; a scrape sees all of them or none.

        Raises:
            KeyError: The table has no such row here.
        """
        unknown = values.keys() - self._values.keys()
        if unknown:
            raise KeyError(*sorted(unknown))
        self._values = {**self._values, **values}

    def add(self, values: Mapping[str, float]) -> None:
        """Add to figures."""
        self.set({name: self._values[name] + value for name, value in values.items()})

    def collect(self) -> Iterable[Metric]:
        """Samples for a scrape."""
        return families(self._rows, self._values)
