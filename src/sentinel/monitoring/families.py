"""Samples for a scrape, made from rows of the table and the values of the moment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from sentinel.monitoring.counting import Histogram
from sentinel.monitoring.table import MetricRow

Labels: TypeAlias = tuple[str, ...]
Figure: TypeAlias = float | Histogram
Value: TypeAlias = Figure | Mapping[Any, Any]
"""A figure; for a metric with labels, figures by the labels' values; for an info, its texts."""


def families(rows: Iterable[MetricRow], values: Mapping[str, Value]) -> Iterator[Metric]:
    """The samples of rows.

    Args:
        rows: Of the table.
        values: By name of the row; every row needs one.

    Raises:
        KeyError: A row has no value.
    """
    for row in rows:
        yield family(row, values[row.name])


def family(row: MetricRow, value: Value) -> Metric:
    """The samples of one row.

    >>> row = MetricRow("sentinel_labels", "counter", "labels", "Labels.", ("verdict",))
    >>> [(s.name, s.labels, s.value) for s in family(row, {("fraud",): 2}).samples]
    [('sentinel_labels_total', {'verdict': 'fraud'}, 2)]
    """
    if row.kind == "info":
        assert isinstance(value, Mapping)
        return InfoMetricFamily(row.name, row.words, value=dict(value))
    figures: Mapping[Labels, Figure]
    figures = value if isinstance(value, Mapping) else {(): value}
    if row.kind == "histogram":
        histograms = HistogramMetricFamily(row.name, row.words, labels=row.labels)
        for labels, figure in figures.items():
            assert isinstance(figure, Histogram)
            buckets, total = figure.samples()
            histograms.add_metric(labels, buckets=buckets, sum_value=total)
        return histograms
    plain = CounterMetricFamily if row.kind == "counter" else GaugeMetricFamily
    found = plain(row.name, row.words, labels=row.labels)
    for labels, figure in figures.items():
        assert not isinstance(figure, Histogram)
        found.add_metric(labels, figure)
    return found
