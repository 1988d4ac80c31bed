"""Whether every answer leaves after its record was synced: read off a trace of system calls."""

from __future__ import annotations

import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import httpx

from testkit.payments import payments
from testkit.scratch import Server, make_workspace

_CALLS = "openat,write,pwrite64,pwritev,writev,sendto,sendmsg,fsync,fdatasync"
_LINE = re.compile(r"^(\d+)\s+(\d+\.\d+)\s+(.*)$")
_OPEN = re.compile(r'openat\([^,]*, "([^"]*)".*= (\d+)$')
_ANSWER = re.compile(r'\\"transaction_id\\":\\"([^\\"]+)\\"')


def answers_before_sync(folder: Path, requests: int = 400) -> dict[str, Any]:
    """Trace a server under some load.

    Args:
        folder: For the workspace and the trace.
        requests: Payments to send, by four clients at once.

    Returns:
        ``answers_traced``, ``answers_before_sync``, or a reason why nothing was traced.
    """
    if shutil.which("strace") is None:
        return {"answers_traced": 0, "answers_before_sync": None, "trace": "strace is missing"}
    folder.mkdir(parents=True, exist_ok=True)
    trace = folder / "calls"
    settings = make_workspace(folder / "workspace")
    server = Server(
        settings,
        wrapper=(
            "strace", "-f", "-ttt", "-s", "8192", "-e", f"trace={_CALLS}", "-o", str(trace),
        ),
    )  # fmt: skip
    server.start(240)
    try:
        bodies = list(islice(payments(5, prefix="traced"), requests))
        with httpx.Client(base_url=server.url, timeout=60) as client, ThreadPoolExecutor(4) as pool:
            for status in pool.map(lambda b: client.post("/predict", json=b).status_code, bodies):
                if status != 200:
                    raise RuntimeError(f"a payment was answered with {status}")
    finally:
        server.stop(60)
    traced, early = _read(trace, settings.ledger_path.name + "-wal")
    return {"answers_traced": traced, "answers_before_sync": early + max(requests - traced, 0)}


def _read(trace: Path, name: str) -> tuple[int, int]:
    """Count answers, and those whose record was not written and synced before."""
    descriptors: set[str] = set()
    unfinished: dict[str, str] = {}
    written: set[str] = set()
    synced: set[str] = set()
    traced = early = 0
    for line in trace.read_text(errors="replace").splitlines():
        found = _LINE.match(line)
        if found is None:
            continue
        thread, _, call = found.groups()
        if call.endswith("<unfinished ...>"):
            unfinished[thread] = call.removesuffix("<unfinished ...>")
            if not call.startswith(("sendto", "sendmsg", "write", "pwrite")):
                continue
            call = unfinished[thread]
        elif call.startswith("<... "):
            call = unfinished.pop(thread, "") + call.split("resumed>", 1)[-1]
            if not call.startswith(("fsync", "fdatasync", "openat")):
                continue
        opened = _OPEN.match(call)
        if opened and opened.group(1).endswith(name):
            descriptors.add(opened.group(2))
            continue
        kind, _, rest = call.partition("(")
        descriptor = re.match(r"\d+", rest)
        if descriptor is None:
            continue
        if kind.startswith("pwrite") and descriptor.group() in descriptors:
            written.update(re.findall(r"traced-\d+", call))
        elif kind in ("fsync", "fdatasync") and descriptor.group() in descriptors:
            if call.rstrip().endswith("= 0"):
                synced |= written
        elif "HTTP/1.1 200" in call or '{\\"transaction_id' in call:
            for identifier in _ANSWER.findall(call):
                traced += 1
                early += identifier not in synced
    return traced, early
