"""Shared state beside everything that is no live decision, and beside a scorer that dies.

Two scorers decide live payments. Meanwhile history is imported for the same customers, labels come
in about payments of every kind, some of them before their payment, payments are declared void, and
the scorer that follows the log is killed between the commit of a label and its effect on shared
state. Once that is over and all is quiet, every shared record is held against the log, and every
value that was served against a replay of positions.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np
import psycopg
import pyarrow as pa
from psycopg import sql

from sentinel.domain import ENTITY_COLUMNS, LedgerUnavailable
from sentinel.features.plan.plan import Plan
from sentinel.features.plan.program import compile_program
from sentinel.ledger.open import open_shared
from sentinel.log.schema import ATTRIBUTE_PREFIX
from sentinel.pipeline.compare_shared import SharedComparison, compare_shared
from sentinel.pipeline.importing import import_history
from sentinel.settings import Settings
from sentinel.sources.base import AttributeType, Chunk, Description, Source, transaction_schema
from sentinel.state.redis.records import Records
from sentinel.state.redis.wire import Wire
from testkit.payments import payments
from testkit.scratch import Server, make_workspace
from testkit.servers import Postgres, Redis, wait_until
from testkit.shared_scorers import Answers, books, repairs_done, replayed, scorers, send, workspaces

HOUR_US: Final = 3_600_000_000
FROZEN_SECONDS: Final = 0.4
"""A scorer that follows the log does so several times in this time."""
QUIET_SECONDS: Final = 240.0
VOID_SECONDS: Final = 2.0
"""From one void to the next."""
_CUSTOMERS: Final = {"customers": 300, "merchants": 60}
_IMPORTED: Final = "old"
_LIVE: Final = "beside"


class History(Source):
    """Payments of the same customers some days ago, every twelfth of them labelled.

    Args:
        number: How many.
        now_us: When they are imported.
    """

    name = "beside"
    label_delay_us = 24 * HOUR_US

    def __init__(self, number: int, now_us: int) -> None:
        self.number = number
        self._bodies = list(
            itertools.islice(
                payments(5, prefix=_IMPORTED, start_us=now_us - 5 * 24 * HOUR_US, **_CUSTOMERS),
                number,
            )
        )
        some = self._bodies[0]["attributes"]
        self.attributes: dict[str, AttributeType] = {
            name: "category" if isinstance(value, str) else "number" for name, value in some.items()
        }

    def describe(self) -> Description:
        return Description(self.name, (), (), "every twelfth")

    def row_count(self) -> int:
        return self.number

    def raw_batches(self, chunk_rows: int = 50_000) -> Iterator[Chunk]:
        schema = transaction_schema(self.attributes)
        for start in range(0, self.number, chunk_rows):
            bodies = self._bodies[start : start + chunk_rows]
            rows = [self._row(start + place, body) for place, body in enumerate(bodies)]
            numbers = np.arange(start + 1, start + 1 + len(bodies))
            yield Chunk(self.name, numbers, pa.RecordBatch.from_pylist(rows, schema))

    def _row(self, number: int, body: dict[str, Any]) -> dict[str, Any]:
        at = int(dt.datetime.fromisoformat(body["event_time"]).timestamp() * 1e6)
        verdict = None if number % 12 else "fraud" if number % 24 else "legitimate"
        row = {name: body.get(name) for name in ("transaction_id", *ENTITY_COLUMNS)}
        row |= {"event_time_us": at, "received_at_us": at, "amount_minor": body["amount_minor"]}
        row["verdict"] = verdict
        for name, value in body["attributes"].items():
            given = value if self.attributes[name] == "category" else float(value)
            row[ATTRIBUTE_PREFIX + name] = given
        return row


@dataclass
class Told:
    """Labels that were sent.

    Attributes:
        accepted: Ids of the labels that were answered.
        refused: Answers that were not 200, by status; 0 for none. Each was sent again.
    """

    accepted: set[str] = field(default_factory=set)
    refused: dict[int, int] = field(default_factory=dict)

    def send(self, urls: Sequence[str], label: dict[str, str], seconds: float = 60.0) -> None:
        """Send a label to one scorer after the other until it is taken."""
        deadline = time.monotonic() + seconds
        for url in itertools.cycle(urls):
            status = 0
            with contextlib.suppress(httpx.HTTPError):
                status = httpx.post(f"{url}/labels", json=label, timeout=10).status_code
            if status == 200:
                self.accepted.add(label["label_id"])
                return
            self.refused[status] = self.refused.get(status, 0) + 1
            if time.monotonic() > deadline:
                raise RuntimeError(f"Label {label['label_id']} was never taken: {self.refused}")
            time.sleep(0.05)


class Beside:
    """Everything that reaches the log beside live payments.

    Args:
        settings: What the scorers share; history is imported into its workspace.
        plan: What they run.
        servers: The scorers.
    """

    def __init__(self, settings: Settings, plan: Plan, servers: Sequence[Server]) -> None:
        self.settings = settings
        self.plan = plan
        self.servers = list(servers)
        self.urls = [server.url for server in servers]
        self.answers = Answers()
        self.told = Told()
        self.kills = 0
        self.voids: list[str] = []
        self._numbers = itertools.count(1)
        self._over = threading.Event()
        self._problems: list[str] = []
        wire = Wire(settings.state.redis_url, timeout_seconds=10.0)
        program = compile_program(plan)
        self.records = Records(program, wire, prefix=settings.state.redis_prefix)

    def run(self, *, imported: int, kills: int) -> int:
        """Import, label, void and kill while payments are decided; how many entries were
        imported.
        """
        start = time.time_ns() // 1000
        history = History(imported, start)
        live = payments(6, prefix=_LIVE, start_us=start - HOUR_US, gap_us=100_000, **_CUSTOMERS)
        entries: list[int] = []

        def bring_in() -> None:
            found = import_history(self.settings, history)
            entries.append(found.last_sequence - found.first_sequence + 1)

        def decide() -> None:
            while not self._over.is_set():
                send(self.urls, itertools.islice(live, 40), clients=4, answers=self.answers)

        works = (decide, self._label, bring_in, lambda: self._void(entries))
        threads = [self._thread(work) for work in works]
        try:
            for _ in range(kills):
                self._kill_before_effect()
            threads[2].join(300)
        finally:
            self._over.set()
            for thread in threads:
                thread.join(300)
        if self._problems:
            raise RuntimeError(self._problems[0])
        return entries[0]

    def quiet(self) -> None:
        """Wait until nothing is under way, nothing in doubt, and all of the log is brought in."""
        repairs_done(self.servers, QUIET_SECONDS)

        def is_quiet() -> bool:
            with open_shared(self.settings) as ledger:
                last = ledger.last_sequence()
            return self.records.followed() >= last and not self.records.intents()

        wait_until(is_quiet, QUIET_SECONDS, "what a dead scorer left to be settled")

    def close(self) -> None:
        """Release the connections."""
        self.records.close()

    def _thread(self, work: Any) -> threading.Thread:
        def run() -> None:
            try:
                work()
            except Exception as error:  # noqa: BLE001 -- the caller is told
                self._problems.append(repr(error))

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread

    def _label(self) -> None:
        """Labels about live payments, imported ones, and those that come later, in turns."""
        while not self._over.wait(0.02):
            number = next(self._numbers)
            about = (
                f"{_LIVE}-{max(1, len(self.answers.bodies) - number % 50)}",
                f"{_IMPORTED}-{number}",
                f"{_LIVE}-{len(self.answers.bodies) + 200 + number % 50}",
            )[number % 3]
            verdict = "fraud" if number % 7 else "legitimate"
            self.told.send(
                self.urls[number % 2 :] + self.urls[: number % 2], _label(about, verdict)
            )

    def _void(self, imported: Sequence[int]) -> None:
        """Voids of live payments and, once they are there, of imported ones, in turns."""
        while not self._over.wait(VOID_SECONDS):
            number = len(self.voids)
            about = f"{_LIVE}-{max(1, len(self.answers.bodies) // 2)}"
            if imported and number % 2:
                about = f"{_IMPORTED}-{number + 1}"
            if len(self.answers.bodies) < 10 or about in self.voids:
                continue
            asked = {"transaction_ids": [about], "reason": "a benchmark"}
            for url in itertools.islice(itertools.cycle(self.urls), 1_000):
                status = 0
                with contextlib.suppress(httpx.HTTPError):
                    status = httpx.post(f"{url}/voids", json=asked, timeout=10).status_code
                if status == 200:
                    self.voids.append(about)
                    break
                if self._over.wait(0.05):
                    return

    def _kill_before_effect(self) -> None:
        """Kill the scorer that follows the log when a label of it is durable and not followed."""
        name = sql.Identifier(self.settings.ledger.namespace, "labels")
        query = sql.SQL("SELECT sequence FROM {} WHERE label_id = %s").format(name)
        before = len(self.answers.bodies)
        wait_until(lambda: len(self.answers.bodies) > before + 50, 120, "payments to be decided")
        with psycopg.connect(self.settings.ledger.url, autocommit=True) as connection:
            for number in range(200):
                victim = self.servers[number % len(self.servers)]
                label = _label(f"{_LIVE}-{len(self.answers.bodies) // 2}", "fraud")
                sending = self._thread(lambda v=victim, x=label: self.told.send([v.url], x, 5.0))
                sequence = _recorded(connection, query, label["label_id"])
                os.killpg(victim.pid, signal.SIGSTOP)
                time.sleep(FROZEN_SECONDS)
                if self.records.followed() < sequence:
                    # Nobody else follows the log, and this one has not come to the label yet.
                    victim.kill()
                    sending.join()
                    self._problems = [p for p in self._problems if label["label_id"] not in p]
                    self.told.send([s.url for s in self.servers if s is not victim], label)
                    self.kills += 1
                    victim.start()
                    return
                os.killpg(victim.pid, signal.SIGCONT)
                sending.join()
        raise RuntimeError("No scorer was caught between a label's commit and its effect.")


def _label(about: str, verdict: str) -> dict[str, str]:
    return {"label_id": os.urandom(8).hex(), "transaction_id": about, "verdict": verdict}


def _recorded(connection: psycopg.Connection[Any], query: Any, label_id: str) -> int:
    """Wait until the log holds a label, for a moment as short as can be."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        row = connection.execute(query, (label_id.encode(),)).fetchone()
        if row is not None:
            return int(row[0])
    raise TimeoutError(f"Label {label_id} was not recorded.")


def labels_lost(settings: Settings, told: Told) -> int:
    """Labels that were answered and are not in the log."""
    name = sql.Identifier(settings.ledger.namespace, "labels")
    query = sql.SQL("SELECT count(*) FROM {} WHERE label_id = ANY(%s)").format(name)
    with psycopg.connect(settings.ledger.url) as connection:
        row = connection.execute(query, ([i.encode() for i in told.accepted],)).fetchone()
    assert row is not None
    return len(told.accepted) - int(row[0])


def measure(
    settings: Settings,
    plan: Plan,
    servers: Sequence[Server],
    *,
    imported: int,
    kills: int,
    quiet: int,
) -> dict[str, Any]:
    """The whole scene; see the module.

    Args:
        settings: What the scorers share.
        plan: What they run.
        servers: The scorers, started.
        imported: Payments of the history that is imported beside them.
        kills: How many scorers die between a label's commit and its effect.
        quiet: Payments that are decided at the end, once nothing is under way.
    """
    beside = Beside(settings, plan, servers)
    with closing(beside):
        entries = beside.run(imported=imported, kills=kills)
        beside.quiet()
        disturbed = replayed(settings, plan)
        after = payments(7, prefix="quiet", start_us=time.time_ns() // 1000 - HOUR_US // 2,
                         gap_us=100_000, **_CUSTOMERS)  # fmt: skip
        send(beside.urls, itertools.islice(after, quiet), answers=beside.answers)
        beside.quiet()
    replay = replayed(settings, plan)
    held = compare_shared(settings, plan)
    if held is None:
        raise LedgerUnavailable("Redis does not hold the state that was compared.")
    found = books(settings, beside.answers)
    return {
        "mismatches": replay.mismatches + held.differing + held.behind,
        "unverifiable": replay.unverifiable - disturbed.unverifiable,
        "unverifiable_before": disturbed.unverifiable,
        "decided": len(beside.answers.bodies),
        "degraded": replay.degraded,
        "lost": found.lost + found.twice + found.differing,
        "imported": entries,
        "labels": len(beside.told.accepted),
        "labels_lost": labels_lost(settings, beside.told),
        "voids": len(beside.voids),
        "killed_before_effect": beside.kills,
        "compared_records": held.records,
        "compared_values": replay.values,
        "refused_and_tried_again": {
            "payments": beside.answers.refused,
            "labels": beside.told.refused,
        },
        "examples": [*_shown(held), *map(str, replay.examples)],
    }


def _shown(held: SharedComparison) -> list[str]:
    return [f"{view} {key!r}" for view, key in held.examples]


@contextlib.contextmanager
def deployment(folder: Path, scorers_: int) -> Iterator[tuple[Settings, Plan, list[Server]]]:
    """Scorers over a Redis and a PostgreSQL of their own, with a small made-up model."""
    with Redis(folder / "redis") as redis, Postgres(folder / "postgres") as postgres:
        environment = {
            "SENTINEL_LEDGER__URL": postgres.make_database("sentinel"),
            "SENTINEL_STATE__BACKEND": "redis",
            "SENTINEL_STATE__REDIS_URL": redis.url,
        }
        made = make_workspace(folder / "scorer-1")
        ledger = made.ledger.model_copy(update={"url": environment["SENTINEL_LEDGER__URL"]})
        state = {"backend": "redis", "redis_url": redis.url}
        settings = made.model_copy(
            update={"ledger": ledger, "state": made.state.model_copy(update=state)}
        )
        every = workspaces(folder, made, scorers_)
        with scorers(every, environment) as servers:
            yield settings, Plan.load(settings.plan_path), servers
