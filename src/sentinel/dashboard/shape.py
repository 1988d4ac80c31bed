"""From a snapshot to what the page draws. Pure functions: nothing here knows Streamlit."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from sentinel.dashboard import words
from sentinel.dashboard.api_types import Decision, Estimate, Health, HealthStatus
from sentinel.dashboard.feed import BIN_US, Bin, Snapshot, between
from sentinel.settings import MoneySettings

MINUTE_US: Final = 60_000_000
SMOOTHED_MINUTES: Final = 5
LEAST_FOR_A_RATE: Final = 200
"""Fewer decisions have no rate of alerts: one alert among ten would read as 100 per 1,000."""

TOP_REASONS: Final = 7

_METRIC_ORDER: Final = (
    "average_precision",
    "roc_auc",
    "recall_at_fpr_0.1pct",
    "recall_at_fpr_1pct",
    "recall_at_fpr_5pct",
    "card_precision_at_100",
    "money_caught",
    "calibration_error",
    "brier",
    "log_loss",
)
_LEAST_PERIOD_US: Final = 15 * MINUTE_US
_BAR_US: Final = 48_000_000
_FOREVER_US: Final = 2**62
_BEHIND: Final = 5_000
"""A table that lacks more entries than this is behind, not just catching its breath."""


@dataclass(frozen=True)
class Headline:
    """The figures at the top.

    Attributes:
        per_minute: Decisions of the last full minute; None before there is one.
        counted: Everything decided in the period the page shows.
        alerts_per_1000: None where fewer than `LEAST_FOR_A_RATE` were decided.
        median_us, p99_us: Latency of the latest decisions; None where there is none.
    """

    per_minute: int | None
    counted: Bin
    alerts_per_1000: float | None
    median_us: int | None
    p99_us: int | None


def headline(snapshot: Snapshot, since_us: int) -> Headline:
    """The figures at the top.

    Args:
        snapshot: What is known.
        since_us: Beginning of the period the page shows.
    """
    present = snapshot.now_us // BIN_US * BIN_US
    known_minute = snapshot.covered_since_us <= present - MINUTE_US
    counted = between(snapshot.bins, since_us // BIN_US * BIN_US, present + BIN_US)
    latencies = sorted(row.latency_us for row in snapshot.rows)
    return Headline(
        per_minute=(
            between(snapshot.bins, present - MINUTE_US, present).decisions if known_minute else None
        ),
        counted=counted,
        alerts_per_1000=per_1000(counted),
        median_us=quantile(latencies, 0.5),
        p99_us=quantile(latencies, 0.99),
    )


def per_1000(counted: Bin) -> float | None:
    """Alerts per 1,000 decisions; None of fewer than `LEAST_FOR_A_RATE` decisions.

    >>> per_1000(Bin(0, approve=995, review=4, decline=1)), per_1000(Bin(0, approve=9, review=1))
    (5.0, None)
    """
    return _per_1000(counted.alerts, counted.decisions)


def _per_1000(alerts: int, decisions: int) -> float | None:
    return 1000 * alerts / decisions if decisions >= LEAST_FOR_A_RATE else None


def quantile(ordered: Sequence[int], share: float) -> int | None:
    """The smallest value that at least this share of the values does not exceed.

    >>> quantile([1, 2, 3, 4], 0.5), quantile([7], 0.99), quantile([], 0.5)
    (2, 7, None)
    """
    if not ordered:
        return None
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def period_start(snapshot: Snapshot, minutes: int | None) -> int:
    """Where the charts begin: so many minutes ago.

    Args:
        snapshot: What is known.
        minutes: None for the first decision counted, but at least a quarter of an hour ago.
    """
    if minutes is not None:
        return snapshot.now_us - minutes * MINUTE_US
    first = snapshot.bins[0].start_us if snapshot.bins else snapshot.now_us
    return min(first, snapshot.now_us - _LEAST_PERIOD_US)


def by_minute(snapshot: Snapshot, since_us: int) -> list[dict[str, float | str | None]]:
    """Chart rows, one for each minute: empty ones too, the present one marked as unfinished.

    Args:
        snapshot: What is known.
        since_us: Beginning of the chart.

    Returns:
        ``time_ms``, ``until_ms`` (where its bar ends), ``state``; and, None where it is not known,
        ``decisions``, ``review``, ``decline`` (counts) and ``rate`` (alerts per 1,000 decisions
        over the five minutes up to this one, or over as many as held `LEAST_FOR_A_RATE` decisions).
    """
    counts: dict[int, Bin] = {}
    for one in snapshot.bins:
        minute = one.start_us // MINUTE_US
        sofar = counts.get(minute, Bin(minute * MINUTE_US))
        counts[minute] = between((sofar, one), 0, _FOREVER_US)
    rates = _Rates(counts)
    known_from = -(-snapshot.covered_since_us // MINUTE_US)
    present = snapshot.now_us // MINUTE_US
    rows: list[dict[str, float | str | None]] = []
    for minute in range(since_us // MINUTE_US, present + 1):
        known = minute >= known_from
        one = counts.get(minute, Bin(0))
        rows.append(
            {
                "time_ms": minute * MINUTE_US // 1000,
                "until_ms": (minute * MINUTE_US + _BAR_US) // 1000,
                "decisions": one.decisions if known else None,
                "review": one.review if known else None,
                "decline": one.decline if known else None,
                "rate": rates.until(minute) if known else None,
                "state": "unfinished" if minute == present else "finished",
            }
        )
    return rows


class _Rates:
    """Alerts per 1,000 up to each minute, over five minutes or as many as a rate needs.

    Args:
        counts: Decisions by minute.
    """

    def __init__(self, counts: dict[int, Bin]) -> None:
        self._minutes = sorted(counts)
        ordered = [counts[minute] for minute in self._minutes]
        self._decisions = [0, *accumulate(one.decisions for one in ordered)]
        self._alerts = [0, *accumulate(one.alerts for one in ordered)]

    def until(self, minute: int) -> float | None:
        """Of the minutes up to this one; None where no such number of decisions is known."""
        end = bisect_right(self._minutes, minute)
        enough = bisect_right(self._decisions, self._decisions[end] - LEAST_FOR_A_RATE) - 1
        start = min(bisect_left(self._minutes, minute - SMOOTHED_MINUTES + 1), max(enough, 0))
        decisions = self._decisions[end] - self._decisions[start]
        return _per_1000(self._alerts[end] - self._alerts[start], decisions)


def top_reasons(alerts: Iterable[Decision], since_us: int = 0) -> list[dict[str, str | int]]:
    """The features that most often weighed heaviest in alerts, most frequent first.

    Args:
        alerts: Reviewed and declined payments.
        since_us: Only those received at this time or later.

    Returns:
        ``reason`` (in words), ``feature``, ``alerts``.
    """
    counted = Counter(
        row.top_reason for row in alerts if row.top_reason and row.received_at_us >= since_us
    )
    ranked = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    return [
        {"reason": words.feature(name), "feature": name, "alerts": alerts_of}
        for name, alerts_of in ranked[:TOP_REASONS]
    ]


def table_rows(decisions: Iterable[Decision], base: MoneySettings) -> list[dict[str, object]]:
    """Rows of the table of decisions, as text, with what its bars and badges need."""
    return [
        {
            "sequence": row.sequence,
            "time": words.clock(row.received_at_us),
            "moment": words.moment(row.received_at_us),
            "transaction": str(row.transaction_id),
            "amount": words.money(row.amount_minor, base),
            "probability": row.fraud_probability,
            "percent": words.percent(row.fraud_probability),
            "outcome": row.decision.value,
            "decision": words.OUTCOME_WORDS[row.decision],
            "degraded": row.degraded,
            "reason": words.feature(row.top_reason),
            "label": row.label.value if row.label is not None else "",
            "void": row.void,
        }
        for row in decisions
    ]


@dataclass(frozen=True)
class Part:
    """A part of the service: how it is, in a word and a line."""

    name: str
    status: HealthStatus
    line: str


def parts(health: Health) -> list[Part]:
    """Each part of the scoring service."""
    model, store, ledger = health.model, health.feature_store, health.ledger
    behind = ledger.sequence - ledger.indexed_through
    model_status: HealthStatus = "unavailable" if not model.loaded else "ok"
    if model.loaded and model.problem:
        model_status = "degraded"
    return [
        Part("Scoring API", health.status, f"up for {words.duration(health.uptime_seconds)}"),
        Part(
            "Model",
            model_status,
            model.problem or (f"version {model.version}" if model.loaded else "none promoted yet"),
        ),
        Part(
            "Feature state",
            "ok" if store.ready else "unavailable",
            store.problem or f"{words.count(store.entities)} entities, {words.size(store.bytes)}",
        ),
        Part("Ledger", "ok", f"{words.count(ledger.sequence)} entries"),
        Part(
            "Query tables",
            "degraded" if behind > _BEHIND else "ok",
            f"through {words.count(ledger.indexed_through)}"
            + (f", {words.count(behind)} behind" if behind > 0 else ""),
        ),
    ]


def metric_rows(metrics: dict[str, Estimate]) -> list[tuple[str, Estimate]]:
    """The metrics that were measured, in words, the most telling first."""

    def place(name: str) -> tuple[int, str]:
        for number, start in enumerate(_METRIC_ORDER):
            if name.startswith(start):
                return number, name
        return len(_METRIC_ORDER), name

    return [
        (words.metric(name), metrics[name])
        for name in sorted(metrics, key=place)
        if metrics[name].value is not None
    ]
