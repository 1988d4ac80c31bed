"""Live traffic for a workspace whose history was simulated: the same people go on paying.

The history ends some weeks ago; what came since is played faster than it happened until it has
caught up with the clock, then at the pace of the clock.
"""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import httpx
import msgspec

from sentinel.domain import Label, Transaction
from sentinel.settings import Settings
from sentinel.sources.simulator.config import SimulatorConfig
from sentinel.sources.simulator.source import SimulatorSource

log = logging.getLogger(__name__)

BEHIND_DAYS: Final = 30
"""Days between the end of the simulated history and now."""

DEFAULT_SPEED: Final = 300.0
_TICK_SECONDS: Final = 0.2


class Traffic(msgspec.Struct, kw_only=True):
    """Which world the workspace's history came from, and how far its traffic was played.

    Attributes:
        config: The simulated world.
        played_us: Everything that happened before this time was sent.
    """

    config: dict[str, str | int | float]
    played_us: int


def traffic_file(settings: Settings) -> Path:
    """Where a workspace remembers its traffic."""
    return settings.workspace / "traffic.json"


def remember(settings: Settings, config: SimulatorConfig) -> None:
    """Note the world of a workspace's history, so that its traffic can go on."""
    fields = {name: getattr(config, name) for name in config.__dataclass_fields__}
    _save(traffic_file(settings), Traffic(config=fields, played_us=config.end_us))


def play(settings: Settings, url: str, *, speed: float, stop: Callable[[], bool]) -> None:
    """Send traffic until told to stop; goes on where it ended the last time.

    Args:
        settings: The workspace.
        url: The scoring API.
        speed: How much faster than it happened, while it is behind the clock.
        stop: Asked before each payment.
    """
    path = traffic_file(settings)
    traffic = msgspec.json.decode(path.read_bytes(), type=Traffic)
    source = SimulatorSource(SimulatorConfig(**traffic.config))  # type: ignore[arg-type]
    position = traffic.played_us
    started = time.time()
    with httpx.Client(base_url=url, timeout=30) as client:
        for event in source.stream_from(position):
            while not stop():
                now_us = time.time_ns() // 1000
                played_us = position + int((time.time() - started) * 1e6 * speed)
                if event.due_us <= min(played_us, now_us):
                    break
                time.sleep(_TICK_SECONDS)
            if stop():
                return
            _send(client, event.entry, stop)
            if event.due_us > traffic.played_us:
                traffic.played_us = event.due_us
                _save(path, traffic)


def _send(client: httpx.Client, entry: Transaction | Label, stop: Callable[[], bool]) -> None:
    route, body = _request(entry)
    while not stop():
        try:
            answer = client.post(route, json=body)
        except httpx.HTTPError as error:
            log.warning("The API does not answer (%s); trying again.", error)
        else:
            if answer.status_code < 500:
                if answer.status_code >= 400:
                    log.warning("%s %s: %s", route, answer.status_code, answer.text)
                return
            log.warning("%s %s; trying again.", route, answer.status_code)
        time.sleep(0.5)


def _request(entry: Transaction | Label) -> tuple[str, dict[str, object]]:
    if isinstance(entry, Label):
        return "/labels", {
            "transaction_id": entry.transaction_id,
            "verdict": entry.verdict.value,
            "label_id": entry.label_id,
            "origin": entry.origin,
        }
    moment = dt.datetime.fromtimestamp(entry.event_time_us // 1_000_000, dt.UTC)
    moment += dt.timedelta(microseconds=entry.event_time_us % 1_000_000)
    body: dict[str, object] = {
        "transaction_id": entry.transaction_id,
        "amount_minor": entry.amount_minor,
        "event_time": moment.isoformat(),
        "attributes": dict(entry.attributes),
    }
    for name in ("customer_id", "card_id", "merchant_id", "device_id", "ip_address"):
        value = getattr(entry, name)
        if value is not None:
            body[name] = value
    return "/predict", body


def _save(path: Path, traffic: Traffic) -> None:
    partial = path.with_suffix(".partial")
    partial.write_bytes(msgspec.json.encode(traffic))
    partial.replace(path)
