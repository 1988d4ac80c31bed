"""Live traffic for a workspace whose history was simulated: the same people go on paying.

The imported history ends some days ago. What came since is played to the scoring API, fast at first
and slower the closer it gets to the clock, so that after a minute or two payments happen when they
happen; labels arrive among them. A payment sent by hand then meets windows that reach up to now.

The people of the traffic hear what was decided (`AnsweringWorld`): a declined fraud brings no
chargeback, and a review brings an analyst's verdict hours later, in the traffic's own time.
"""

from __future__ import annotations

import datetime as dt
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import httpx
import msgspec

from sentinel.access.own_key import OwnKey
from sentinel.domain import Label, Outcome, Transaction
from sentinel.settings import Settings
from sentinel.sources.base import DAY_US
from sentinel.sources.simulator.answering import AnsweringWorld
from sentinel.sources.simulator.config import SimulatorConfig
from sentinel.sources.simulator.memory import Memory

log = logging.getLogger(__name__)

BEHIND_DAYS: Final = 3
"""Days between the end of the imported history and now: what the traffic plays first."""

CATCH_UP_SECONDS: Final = 30.0
"""Within so many seconds the traffic's distance to the clock falls to 37 %, whatever it was."""

_CLOSED_SECONDS: Final = 2.0

_FRAUD_RATE: Final = 0.009
"""Enough frauds on held-out days, whatever the date, that a decline line can be drawn."""

_SEED: Final = 25
_CALENDAR: Final = "2026-10-05"
"""The world is always the same one, moved in time by whole weeks, so that its model, its lines and
the campaigns under way hardly depend on the day. What is left is how far the week has come."""

_BEFORE: Final[dict[str, str | int | float]] = {"device_ids": "number"}

_TICK_SECONDS: Final = 0.05
_SAVE_SECONDS: Final = 1.0


class Traffic(msgspec.Struct, kw_only=True):
    """Which world the workspace's history came from, and how far its traffic was played.

    Attributes:
        config: The simulated world.
        played_us: Everything that happened before this time was sent.
        memory: What decisions have changed in the world until then.
    """

    config: dict[str, str | int | float]
    played_us: int
    memory: Memory = msgspec.field(default_factory=Memory)

    @property
    def world(self) -> SimulatorConfig:
        """The world; what the version that noted it did not know yet is as it was then."""
        return SimulatorConfig(**_BEFORE | self.config)  # type: ignore[arg-type]


def world_before(now_us: int, *, customers: int, days: float) -> SimulatorConfig:
    """The world of a first run: its history ends `BEHIND_DAYS` before the clock.

    Args:
        now_us: The clock, microseconds UTC.
        customers, days: Its size; it has at least so many days.

    >>> world = world_before(1_764_000_000_000_000, customers=100, days=30)
    >>> (1_764_000_000_000_000 - world.end_us) / 86_400_000_000
    3.0
    >>> world.start, world_before(1_795_000_000_000_000, customers=100, days=30).start
    ('2025-10-20', '2026-10-12')
    """
    end_us = now_us - BEHIND_DAYS * DAY_US
    latest = int((end_us - days * DAY_US) // DAY_US)
    monday = latest - (latest + 3) % 7
    return SimulatorConfig(
        customers=customers,
        days=(end_us - monday * DAY_US) / DAY_US,
        start=dt.datetime.fromtimestamp(monday * 86_400, dt.UTC).date().isoformat(),
        seed=_SEED,
        fraud_rate=_FRAUD_RATE,
        calendar=_CALENDAR,
    )


def traffic_file(settings: Settings) -> Path:
    """Where a workspace remembers its traffic."""
    return settings.workspace / "traffic.json"


def remember(settings: Settings, config: SimulatorConfig) -> None:
    """Note the world of a workspace's history, so that its traffic can go on."""
    fields = {name: getattr(config, name) for name in config.__dataclass_fields__}
    _save(traffic_file(settings), Traffic(config=fields, played_us=config.end_us))


def remembered(settings: Settings) -> SimulatorConfig | None:
    """The world that a workspace's history came from; None if it was not simulated."""
    try:
        return msgspec.json.decode(traffic_file(settings).read_bytes(), type=Traffic).world
    except FileNotFoundError:
        return None


class Pace:
    """Which moment of the simulated world is due at a moment of the clock.

    Args:
        position_us: What happened before was played already, microseconds UTC.
        speed: How much faster than it happened; None if `CATCH_UP_SECONDS` says so.

    >>> pace = Pace(0)
    >>> pace.due_us(0.0, now_us=100_000_000), pace.due_us(30.0, now_us=130_000_000)
    (0, 93212056)
    >>> Pace(0, speed=2.0).due_us(30.0, now_us=130_000_000)
    60000000
    """

    def __init__(self, position_us: int, speed: float | None = None) -> None:
        self._position_us = position_us
        self._speed = speed

    def due_us(self, elapsed_seconds: float, now_us: int) -> int:
        """The moment that is due.

        Args:
            elapsed_seconds: Since the traffic began to play.
            now_us: The clock, microseconds UTC; nothing later is due.
        """
        if self._speed is not None:
            return min(self._position_us + int(elapsed_seconds * 1e6 * self._speed), now_us)
        gap_us = now_us - elapsed_seconds * 1e6 - self._position_us
        if gap_us <= 0:
            return now_us
        return now_us - round(gap_us * math.exp(-elapsed_seconds / CATCH_UP_SECONDS))


def play(
    settings: Settings, url: str, *, speed: float | None = None, stop: Callable[[], bool]
) -> None:
    """Send traffic until told to stop; goes on where it ended the last time.

    Args:
        settings: The workspace.
        url: The scoring API.
        speed: How much faster than it happened, while it is behind the clock; None to cover
            most of the distance within a minute.
        stop: Asked before each payment.
    """
    path = traffic_file(settings)
    traffic = msgspec.json.decode(path.read_bytes(), type=Traffic)
    world = AnsweringWorld(traffic.world, from_us=traffic.played_us, memory=traffic.memory)
    pace = Pace(traffic.played_us, speed)
    started = time.monotonic()
    saved = started
    hooks = {"request": [OwnKey(settings).sign]}
    with httpx.Client(base_url=url, timeout=30, event_hooks=hooks) as client:
        while True:
            event = world.next()
            while not stop():
                now_us = time.time_ns() // 1000
                if event.due_us <= pace.due_us(time.monotonic() - started, now_us):
                    break
                time.sleep(_TICK_SECONDS)
            if stop():
                break
            answer = _send(client, event.entry, stop)
            if answer is None:
                break
            if isinstance(event.entry, Transaction):
                world.answer(_outcome(answer))
            traffic.played_us = event.due_us
            # What is sent twice after a crash is a repeat, which changes nothing.
            if time.monotonic() - saved >= _SAVE_SECONDS:
                traffic.memory = world.memory
                _save(path, traffic)
                saved = time.monotonic()
    traffic.memory = world.memory
    _save(path, traffic)


def _outcome(answer: httpx.Response) -> Outcome | None:
    """What was decided on a payment; None if it was refused."""
    return Outcome(answer.json()["decision"]) if answer.status_code == httpx.codes.OK else None


def _send(
    client: httpx.Client, entry: Transaction | Label, stop: Callable[[], bool]
) -> httpx.Response | None:
    """Send a payment or a label until it is answered; None if the traffic has to stop before."""
    route, body = _request(entry)
    while not stop():
        try:
            answer = client.post(route, json=body)
        except httpx.HTTPError as error:
            log.warning("The API does not answer (%s); trying again.", error)
        else:
            if answer.status_code == 401:  # what the scorer has not seen yet may come
                log.warning(
                    "%s 401: %s `sentinel keys create tools --for-tools` makes a key for the "
                    "traffic.",
                    route,
                    _code(answer),
                )
                time.sleep(_CLOSED_SECONDS)
                continue
            if answer.status_code < 500:
                if answer.status_code >= 400:
                    log.warning("%s %s: %s", route, answer.status_code, _code(answer))
                return answer
            log.warning("%s %s; trying again.", route, answer.status_code)
        time.sleep(0.5)
    return None


def _code(answer: httpx.Response) -> str:
    """What a refusal is about; its text may quote the payment."""
    try:
        return str(answer.json()["code"])
    except (ValueError, KeyError, TypeError):
        return answer.reason_phrase


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
