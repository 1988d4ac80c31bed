"""Mutated heads and bodies: no 5xx, nothing hangs, no way in without a key, the ledger in balance.

The protocol of the scoring API runs in this process, with its application, a scorer and a ledger,
on transports without sockets, so that a million cases take minutes. Half of the connections send a
good key, a quarter none, a quarter one that is forged. Each head that is let in is compared with
what httptools, another parser, makes of it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import shutil
import tempfile
import time
import urllib.parse
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import httptools
import uvloop
from rich.console import Console
from uvicorn.config import Config
from uvicorn.server import ServerState

from benchmarks.fuzz_cases import Case, cases
from sentinel.access.keys import new_key
from sentinel.access.managing import KeyRights, create_key
from sentinel.access.open_store import open_store
from sentinel.access.opening import open_gatekeeper
from sentinel.access.pepper import pepper_of
from sentinel.access.scopes import ALL_SCOPES
from sentinel.api.app import Application
from sentinel.api.connections import Connections, Wait
from sentinel.api.fast_path import FastPath
from sentinel.api.heads import CHUNKED, Head
from sentinel.api.payment_heads import PaymentHead, PaymentHeads
from sentinel.api.protocol import PaymentProtocol
from sentinel.api.routes.decision_json import render, render_recorded
from sentinel.ledger.sqlite import SqliteLedger
from sentinel.log.entries import GroupKind, decode_decisions
from sentinel.scoring.runtime import ScoringRuntime
from sentinel.settings import Settings
from testkit.scratch import make_workspace

CONNECTIONS: Final = 64
HANG_SECONDS: Final = 180.0
"""A case that has no answer after so long hangs."""
_STATUS: Final = re.compile(rb"HTTP/1\.1 (\d{3}) ")
_DECIDED: Final = re.compile(rb'"transaction_id":("(?:[^"\\]|\\.)*"|-?\d+),"is_fraud"')
_SHOWN: Final = 5


@dataclass
class Findings:
    """What became of the cases.

    Attributes:
        cases: How many were sent.
        statuses: Answers by status.
        broken: Connections that were ended.
        server_errors, hangs, accesses, misread: What must not be; some of them, in words.
        accepted: Ids of payments that were answered with a decision, dry runs left out.
        heads: Heads that were let in and compared.
    """

    cases: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    broken: int = 0
    server_errors: list[str] = field(default_factory=list)
    hangs: list[str] = field(default_factory=list)
    accesses: list[str] = field(default_factory=list)
    misread: list[str] = field(default_factory=list)
    accepted: set[str] = field(default_factory=set)
    heads: int = 0


class Wire(asyncio.Transport):
    """A transport without a socket: what is written is kept, and the other side reads at once."""

    def __init__(self, make: Any) -> None:
        super().__init__()
        self.sent = bytearray()
        self.written = asyncio.Event()
        self.closed = False
        self.protocol: PaymentProtocol = make()
        self.protocol.connection_made(self)

    def write(self, data: Any) -> None:
        self.sent += data
        self.written.set()

    def write_eof(self) -> None:
        self.close()

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)
        self.written.set()

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"sockname": ("127.0.0.1", 8000), "peername": ("127.0.0.1", 9)}.get(name, default)

    def pause_reading(self) -> None:
        """What is sent is there already."""

    def resume_reading(self) -> None:
        """As above."""

    def get_write_buffer_size(self) -> int:
        return 0


class Compared(PaymentHeads):
    """Reads heads as always, and compares what it lets in with httptools."""

    def __init__(self, findings: Findings, *given: Any) -> None:
        super().__init__(*given)
        self._findings = findings

    def read(self, text: bytes, own: str, payments: bool) -> Head | PaymentHead:
        found = super().read(text, own, payments)
        self._findings.heads += 1
        said = _by_httptools(text)
        ours = (found.path, found.length)
        if said is None or ours != said:
            self._findings.misread.append(f"{text[:300]!r}: {ours}, httptools: {said}")
        return found


class _Heard:
    """What httptools finds in a head."""

    def __init__(self) -> None:
        self.url = b""
        self.fields: list[tuple[bytes, bytes]] = []

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value.strip()))


def _by_httptools(text: bytes) -> tuple[str, int] | None:
    """Path and length of a head as httptools reads it; None if it refuses it."""
    heard = _Heard()
    parser: Any = httptools.HttpRequestParser(heard)
    try:
        with contextlib.suppress(httptools.HttpParserUpgrade):
            parser.feed_data(text + b"\r\n\r\n")
    except httptools.HttpParserError:
        return None
    path = httptools.parse_url(heard.url).path.decode("latin-1")
    fields = dict(heard.fields)
    if b"transfer-encoding" in fields:
        return _unquoted(path), CHUNKED
    return _unquoted(path), int(fields.get(b"content-length", b"0"))


def _unquoted(path: str) -> str:
    return urllib.parse.unquote(path) if "%" in path else path


async def _client(
    number: int, count: int, key: str, good: bool, make: Any, late: Wait, found: Findings
) -> None:
    """Send cases over one connection after the other."""
    source = cases(number, key)
    wire = Wire(make)
    for _ in range(count):
        case = next(source)
        found.cases += 1
        if wire.closed:
            wire = Wire(make)
        wire.sent.clear()
        await _send(wire, case, late, found)
        _note(wire, case, good, found)
        if wire.closed:
            found.broken += 1
            await asyncio.sleep(0)


async def _send(wire: Wire, case: Case, late: Wait, found: Findings) -> None:
    """Send a case, and wait until nothing more can come."""
    for piece in case.cut():
        if wire.closed:
            return
        wire.protocol.data_received(piece)
    ends = time.monotonic() + HANG_SECONDS
    while wire.protocol.busy and not wire.closed:
        wire.written.clear()
        try:
            await asyncio.wait_for(wire.written.wait(), max(ends - time.monotonic(), 0.01))
        except TimeoutError:
            found.hangs.append(f"no answer: {case.text[:300]!r}")
            wire.close()
            return
        await asyncio.sleep(0)
    if not wire.closed and wire.protocol.waits_for_more:
        wire.protocol.run_out(late)
        if not wire.closed:
            found.hangs.append(f"waits for ever: {case.text[:300]!r}")
            wire.close()


def _note(wire: Wire, case: Case, good: bool, found: Findings) -> None:
    sent = bytes(wire.sent)
    statuses = [int(status) for status in _STATUS.findall(sent)]
    found.statuses.update(statuses)
    if not statuses and not wire.closed:
        found.hangs.append(f"neither answered nor ended: {case.text[:300]!r}")
    if any(status >= 500 for status in statuses):
        found.server_errors.append(f"{case.text[:300]!r}: {sent[-400:]!r}")
    decided = [str(json.loads(identifier)) for identifier in _DECIDED.findall(sent)]
    if decided and not good:
        found.accesses.append(f"{case.text[:300]!r}: {sent[:300]!r}")
    if b"dry_run=true" not in case.text.partition(b"\r\n")[0]:
        found.accepted.update(decided)


async def _run(settings: Settings, count: int, seed: int, found: Findings) -> None:
    store, pepper = open_store(settings), pepper_of(settings, make=True)
    key = create_key(store, pepper, "fuzz", KeyRights(scopes=ALL_SCOPES))
    store.close()
    gatekeeper = await asyncio.to_thread(open_gatekeeper, settings)
    runtime = await ScoringRuntime.open(settings, render=render, render_recorded=render_recorded)
    application = Application(runtime, gatekeeper)
    connections = Connections(settings.api, 10**6, settings.api.max_buffered_bytes)
    fast_path = FastPath(
        application.intake,
        application.door,
        application.problems,
        connections,
        application.rates,
        application.metrics.payment_answers,
    )
    fast_path.heads = Compared(found, application.door, application.rates)
    config = Config(cast("Any", application), lifespan="off", ws="none", access_log=False)
    config.load()
    state = ServerState()

    def make() -> PaymentProtocol:
        return PaymentProtocol(fast_path, config, state, {})

    each = [count // CONNECTIONS + (n < count % CONNECTIONS) for n in range(CONNECTIONS)]
    keys = [(key, True), ("", False), (key, True), (new_key("fuzz"), False)]
    try:
        await asyncio.gather(
            *(
                _client(
                    seed * CONNECTIONS + n, each[n], *keys[n % 4], make, connections.head, found
                )
                for n in range(CONNECTIONS)
            )
        )
    finally:
        await asyncio.to_thread(application.close)
        await runtime.close()
        await asyncio.to_thread(gatekeeper.close)


def recorded_in(settings: Settings) -> list[str]:
    """Ids of all decisions of a ledger."""
    with SqliteLedger.open_reader(settings.ledger_path) as ledger:
        return [
            str(transaction.transaction_id)
            for group in ledger.groups()
            if group.kind == GroupKind.DECISIONS
            for transaction in decode_decisions(group.payload).transactions
        ]


def run(count: int, seed: int, folder: Path | None = None) -> dict[str, Any]:
    """Send so many cases; what was found."""
    found = Findings()
    made = Path(tempfile.mkdtemp(prefix="sentinel-fuzz-", dir=folder))
    began, cpu = time.monotonic(), time.process_time()
    try:
        settings = make_workspace(made / "workspace", trees=5, leaves=7)
        uvloop.run(_run(settings, count, seed, found))
        recorded = recorded_in(settings)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    missing, unanswered = found.accepted - set(recorded), set(recorded) - found.accepted
    wrong = {
        "server_errors": len(found.server_errors),
        "hangs": len(found.hangs),
        "accesses_without_a_key": len(found.accesses),
        "heads_read_otherwise": len(found.misread),
        "accepted_and_not_recorded": len(missing),
        "recorded_and_not_accepted": len(unanswered),
        "recorded_twice": len(recorded) - len(set(recorded)),
    }
    return {
        "cases": found.cases,
        "seed": seed,
        "statuses": {str(status): n for status, n in sorted(found.statuses.items())},
        "connections_ended": found.broken,
        "heads_compared": found.heads,
        "accepted": len(found.accepted),
        "recorded": len(recorded),
        "wrong": wrong,
        "examples": [
            *found.server_errors[:_SHOWN],
            *found.hangs[:_SHOWN],
            *found.accesses[:_SHOWN],
            *found.misread[:_SHOWN],
            *sorted(missing)[:_SHOWN],
            *sorted(unanswered)[:_SHOWN],
        ],
        "seconds": round(time.monotonic() - began, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
    }


def main(argv: list[str]) -> int:
    """Run the benchmark; returns the exit status: 1 if anything is wrong."""
    parser = argparse.ArgumentParser(prog="benchmarks fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="for the ledger (a temporary folder)")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    options = parser.parse_args(argv)
    result = run(options.cases, options.seed, options.folder)
    console = Console()
    for name, value in result.items():
        console.print(f"{name}: {value}", markup=False, soft_wrap=True)
    if options.json:
        print(json.dumps(result))
    return 1 if any(result["wrong"].values()) else 0
