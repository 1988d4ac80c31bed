"""Whether anything is lost when the scorer is killed under load, and whether answers wait.

The API is killed (SIGKILL) under load and started again, many times. Clients send again what was
not answered. In the end the ledger must hold every acknowledged payment once, with the answer
that was given, and the recovered state must be what the ledger says. In a second part the system
calls of a server are traced: no answer may leave before its record is synced.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.syncs import answers_before_sync
from sentinel.features.offline import LabelBook, OfflineFold
from sentinel.features.plan.program import compile_program
from sentinel.ledger.log import read_log
from sentinel.ledger.sqlite import SqliteLedger
from sentinel.log.entries import GroupKind, decode_decisions, decode_labels
from sentinel.scoring.recovery import recover
from sentinel.scoring.served import load_plan
from sentinel.settings import Settings
from testkit.payments import payments
from testkit.scratch import Server, make_workspace


@dataclass
class Client:
    """One client: sends its payments in order, each until it is answered."""

    bodies: list[dict[str, Any]]
    acknowledged: dict[str, float] = field(default_factory=dict)
    labelled: set[str] = field(default_factory=set)
    retries: int = 0

    async def run(self, url: str, stop: asyncio.Event) -> None:
        """Send until stopped or done; an unanswered payment stays first in the queue."""
        async with httpx.AsyncClient(base_url=url, timeout=10) as http:
            while self.bodies and not stop.is_set():
                body = self.bodies[0]
                identifier = str(body["transaction_id"])
                try:
                    answer = await http.post("/predict", json=body)
                    if answer.status_code != 200:
                        self.retries += 1
                        await asyncio.sleep(0.01)
                        continue
                    self.acknowledged[identifier] = answer.json()["fraud_probability"]
                    self.bodies.pop(0)
                    if len(self.acknowledged) % 20 == 0:
                        label = {
                            "transaction_id": identifier,
                            "verdict": "fraud",
                            "label_id": f"L-{identifier}",
                        }
                        if (await http.post("/labels", json=label)).status_code == 200:
                            self.labelled.add(f"L-{identifier}")
                except httpx.HTTPError:
                    self.retries += 1
                    return


def main(argv: list[str]) -> int:
    """Run the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(prog="benchmarks crash", description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="how often the server is killed")
    parser.add_argument("--clients", type=int, default=8, help="clients at once")
    parser.add_argument("--seconds", type=float, default=1.5, help="longest time between kills")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    options = parser.parse_args(argv)
    result = run(options.kills, options.clients, options.seconds, options.seed)
    table = Table(title="Killed under load", title_justify="left", show_header=False)
    for key, value in result.items():
        table.add_row(key, f"{value:,}" if isinstance(value, int) else str(value))
    Console().print(table)
    if options.json:
        print(json.dumps(result))
    wrong = ("lost", "state_mismatches", "duplicates", "answers_before_sync", "wrong_answers")
    return 1 if any(result[key] for key in wrong) else 0


def run(kills: int, clients: int, seconds: float, seed: int) -> dict[str, Any]:
    """Kill and restart a server; see the module's docstring for what is counted."""
    started = time.time()
    folder = Path(tempfile.mkdtemp(prefix="sentinel-crash-"))
    try:
        settings = make_workspace(folder / "workspace")
        crew = [
            Client(list(islice(payments(seed * 1000 + i, prefix=f"c{i}"), 100_000)))
            for i in range(clients)
        ]
        restarts = _kill_repeatedly(settings, crew, kills, seconds, random.Random(seed))
        acknowledged = {k: v for client in crew for k, v in client.acknowledged.items()}
        labelled = {label for client in crew for label in client.labelled}
        result: dict[str, Any] = {
            "kills": kills,
            "clients": clients,
            "acknowledged": len(acknowledged),
            "acknowledged_labels": len(labelled),
            "retries": sum(client.retries for client in crew),
            **_compare(settings, acknowledged, labelled),
            "slowest_restart_seconds": round(max(restarts), 2),
        }
        result.update(answers_before_sync(folder / "traced"))
        result["seconds"] = round(time.time() - started, 1)
        return result
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _kill_repeatedly(
    settings: Settings, crew: list[Client], kills: int, seconds: float, rng: random.Random
) -> list[float]:
    port = None
    restarts = []
    for round_number in range(kills + 1):
        server = Server(settings, port=port, environment={"SENTINEL_STATE__SNAPSHOT_SECONDS": "1"})
        port = server.port
        began = time.monotonic()
        server.start()
        restarts.append(time.monotonic() - began)
        last = round_number == kills
        asyncio.run(
            _load(server, crew, seconds=2.0 if last else rng.uniform(0.2, seconds), kill=not last)
        )
        if last:
            server.stop()
        print(
            f"\r{round_number}/{kills} kills, "
            f"{sum(len(c.acknowledged) for c in crew):,} payments acknowledged",
            end="\n" if last else "",
            file=sys.stderr,
            flush=True,
        )
    return restarts


async def _load(server: Server, crew: list[Client], *, seconds: float, kill: bool) -> None:
    stop = asyncio.Event()
    tasks = [asyncio.create_task(client.run(server.url, stop)) for client in crew]
    await asyncio.sleep(seconds)
    if kill:
        server.kill()
    stop.set()
    await asyncio.gather(*tasks)


def _compare(
    settings: Settings, acknowledged: dict[str, float], labelled: set[str]
) -> dict[str, int]:
    """Hold ledger and recovered state against what clients were told."""
    program = compile_program(load_plan(settings))
    with SqliteLedger.open_reader(settings.ledger_path) as ledger:
        times: Counter[str] = Counter()
        labels: Counter[str] = Counter()
        recorded: dict[str, float] = {}
        served = []
        for group in ledger.groups():
            if group.kind == GroupKind.DECISIONS:
                decided = decode_decisions(group.payload)
                ids = [t.transaction_id for t in decided.transactions]
                times.update(ids)
                probabilities = np.frombuffer(decided.probabilities, "<f8").tolist()
                recorded.update(zip(ids, probabilities, strict=True))
                served.append(decided.vector_array())
            elif group.kind == GroupKind.LABELS:
                labels.update(label.label_id for label in decode_labels(group.payload).labels)
        book = LabelBook()
        book.scan(batch for _, batch in read_log(ledger))
        folding = OfflineFold(program, book=book)
        recomputed = [folding.step(batch) for _, batch in read_log(ledger)]
        state = recover(program, ledger, settings.state_dir, lambda _: None)
        mismatches = int(
            np.count_nonzero(
                np.concatenate(served).view(np.int32) != np.concatenate(recomputed).view(np.int32)
            )
        )
        for view, keys in enumerate(folding.arena.keys):
            mismatches += len(set(keys) ^ set(state.arena.keys[view]))
            mismatches += sum(
                not np.array_equal(folding.arena.record(view, k), state.arena.record(view, k))
                for k in keys
            )
    return {
        "recorded": sum(times.values()),
        "lost": sum(i not in times for i in acknowledged) + sum(i not in labels for i in labelled),
        "duplicates": sum(n - 1 for n in (*times.values(), *labels.values())),
        "wrong_answers": sum(recorded.get(i) != p for i, p in acknowledged.items()),
        "state_mismatches": mismatches,
        "entities": folding.arena.entities,
    }
