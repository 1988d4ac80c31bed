"""How the monitor does, as it says itself: for `sentinel doctor`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

import httpx
import msgspec

from sentinel.alerts.letters import lasting
from sentinel.alerts.scraped import Scraped, scraped
from sentinel.domain import Unavailable
from sentinel.monitoring.watch_metrics import WatchState
from sentinel.pipeline.watches import STUCK_SECONDS

ANSWER_SECONDS: Final = 5.0
OVERDUE_SECONDS: Final = 600.0
"""A watch that has been due for so long without a success is not well."""


class _Told(msgspec.Struct):
    status: str
    watches: list[WatchState]


def monitor_health(url: str) -> str:
    """Whether it runs, when each watch last succeeded, and how far drift has followed the log.

    Args:
        url: Of the monitor.

    Raises:
        Unavailable: It does not answer, or a watch is stuck, fails or is overdue; says which.
    """
    now_us = time.time_ns() // 1_000
    try:
        with httpx.Client(timeout=ANSWER_SECONDS, trust_env=False) as client:
            health = client.get(f"{url}/healthz")
            metrics = client.get(f"{url}/metrics").text
    except httpx.HTTPError as error:
        raise Unavailable(
            f"the monitor does not answer at {url} ({error}); start it with `sentinel monitor`, or "
            "correct monitor.host and monitor.port"
        ) from error
    try:
        told = msgspec.json.decode(health.content, type=_Told)
        figures = scraped(metrics, now_us)
    except (msgspec.MsgspecError, ValueError):
        raise Unavailable(f"what answers at {url} is no monitor") from None
    ill = [words for one in told.watches if (words := _ill(one, now_us))]
    if ill:
        raise Unavailable(
            f"{url}: {'; '.join(ill)}. Look at the monitor's log (logs/monitor.log, or `docker "
            "compose logs monitor`)"
        )
    successes = _successes(told.watches, now_us)
    return f"{url}, last successes: {successes}; {_followed(figures)}"


def _followed(figures: Scraped) -> str:
    if "sentinel_drift_lag_entries" not in figures.totals:
        return "drift has not looked at the log yet"
    through = figures.total("sentinel_drift_followed_sequence")
    behind = figures.total("sentinel_drift_lag_entries")
    said = f"drift has followed the log to entry {through:,.0f}"
    return f"{said}, {behind:,.0f} behind" if behind else said


def _ill(one: WatchState, now_us: int) -> str:
    """What is wrong with a watch; empty if nothing is."""
    if one.running_seconds >= STUCK_SECONDS:
        return (
            f"watch {one.name} has been in one run for {lasting(round(one.running_seconds * 1e6))}"
        )
    if one.problem:
        return f"watch {one.name} fails and is tried again: {one.problem.rstrip('.')}"
    due_us = one.last_success_us + round(one.every_seconds * 1e6)
    if one.last_success_us and not one.running_seconds and now_us - due_us > OVERDUE_SECONDS * 1e6:
        return f"watch {one.name} has been due for {lasting(now_us - due_us)}"
    return ""


def _successes(watches: Sequence[WatchState], now_us: int) -> str:
    if not watches:
        return "it has no watches"
    return ", ".join(
        f"{one.name} {lasting(max(0, now_us - one.last_success_us))} ago"
        if one.last_success_us
        else f"{one.name} not yet"
        for one in watches
    )
