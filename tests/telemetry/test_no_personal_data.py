"""No value of a payment, a label or a file reaches any log, whatever goes wrong with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from testkit.otlp import OtlpReceiver
from testkit.scratch import Server
from tests.telemetry.conftest import lines_of

MARK = "qzx7mark"
FIELDS = ("transaction_id", "customer_id", "card_id", "merchant_id", "device_id")
AMOUNT = 71_717_171
ADDRESS = "198.51.100.77"
MAIL = f"{MARK}-jane@example.com"
SECRETS = (MARK, str(AMOUNT), "717171.71", ADDRESS)
"""What no log may hold."""


def marked(**changes: Any) -> dict[str, Any]:
    """A payment with a mark in every field."""
    body: dict[str, Any] = {name: f"{MARK}-{name}" for name in FIELDS}
    body |= {"amount_minor": AMOUNT, "ip_address": ADDRESS}
    body["attributes"] = {"channel": f"{MARK}-channel", "e-mail": MAIL, f"{MARK}-key": "x"}
    return body | changes


def requests() -> Iterator[tuple[str, str, bytes]]:
    """Method, path and body of good and bad requests with marks."""
    bodies: list[tuple[str, Any]] = [("/predict", marked()), ("/predict", marked())]
    bodies += [("/predict", marked(amount_minor=AMOUNT + 1))]  # a conflict
    for name in (*FIELDS, "ip_address", "amount_minor", "event_time", "attributes"):
        for wrong in ({MARK: MAIL}, [MAIL], f"{MARK}\x00", True, f"{MARK}" * 60):
            bodies.append(("/predict", marked(**{name: wrong})))
    bodies += [("/predict", marked(**{f"{MARK}-unknown": 1})), (f"/predict?dry_run={MARK}", {})]
    bodies += [("/predict/batch", {"transactions": [marked(), marked(card_id=[MARK])]})]
    label = {"transaction_id": f"{MARK}-transaction_id", "verdict": "fraud", "origin": MARK}
    bodies += [("/labels", label), ("/labels", label | {"verdict": MARK})]
    bodies += [("/labels", label | {"transaction_id": f"{MARK}-nobody"})]
    bodies += [("/voids", {"transaction_ids": [f"{MARK}-nobody"]})]
    bodies += [("/features/read", {"rows": [{"card_id": MARK, MARK: MAIL}], "features": [MARK]})]
    bodies += [("/policy", {MARK: MAIL}), (f"/{MARK}", {MARK: MAIL})]
    for path, body in bodies:
        yield "POST", path, json.dumps(body).encode()
    yield "POST", "/predict", f'{{"card_id": "{MARK}", '.encode()
    yield "POST", "/predict", f'"{MARK}'.encode() + b"\xff"
    for path in (f"/predict/{MARK}", f"/decisions/{MARK}", f"/decisions?card_id={MARK}"):
        yield "GET", path, b""
    yield "GET", f"/decisions/{MARK}-transaction_id/explanation", b""
    yield "GET", f"/decisions?from={MARK}&limit={MARK}", b""


def check(text: str, whose: str) -> None:
    for secret in SECRETS:
        at = text.find(secret)
        assert at < 0, (whose, text[max(at - 300, 0) : at + 100])


def test_a_scorer_and_its_indexer_log_no_value(
    server: Server, client: httpx.Client, receiver: OtlpReceiver
) -> None:
    trace = "8bf92f3577b34da6a3ce929d0e0e4736"
    headers = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01", "tracestate": f"a={MARK}"}
    statuses: list[int] = []
    for method, path, body in requests():
        headers["X-Request-Id"] = f"r-{len(statuses)}"
        answer = client.request(method, path, content=body or None, headers=headers)
        statuses.append(answer.status_code)
    assert {200, 400, 404, 409, 422} <= set(statuses), set(statuses)
    ids = [f"r-{number}" for number in range(len(statuses))]
    lines = lines_of(server, answered=ids)  # each line is JSON
    assert {line["service"] for line in lines} <= {"serve", "indexer"}
    assert len([line for line in lines if line["message"] == "Answered."]) >= len(statuses)
    check(server.log.read_text(), "serve")
    check("".join(map(str, receiver.of_trace(trace, 5))), "traces")


def test_an_error_that_nobody_foresaw_is_logged_without_the_payment(tmp_path: Path) -> None:
    """A fault in a kernel, in the ledger and in a task, with payments in the texts of all."""
    done = run("-c", FAULTS.replace("WORKSPACE", str(tmp_path / "w")))
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    said = " ".join(line["message"] for line in lines)
    assert "Scoring failed; state is rebuilt from the ledger." in said
    assert "The ledger failed unexpectedly: KeyError." in said
    assert any("RuntimeError" in line.get("traceback", "") for line in lines)
    check(done.stderr, "a scorer with faults")


FAULTS = f"""
import asyncio
from pathlib import Path
from sentinel.api.routes.decision_json import render, render_recorded
from sentinel.domain import Transaction
from sentinel.scoring.runtime import ScoringRuntime
from sentinel.settings import LogSettings
from sentinel.telemetry.log_setup import set_up_logs
from testkit.scratch import make_workspace

set_up_logs(LogSettings(format="json"), "serve")

def payment(number, runtime):
    return Transaction(
        transaction_id=f"{MARK}-{{number}}", event_time_us=1,
        received_at_us=runtime.writer.receive_time_us(), amount_minor={AMOUNT}, card_id="{MARK}",
    )

async def main():
    settings = make_workspace(Path("WORKSPACE"))
    runtime = await ScoringRuntime.open(settings, render=render, render_recorded=render_recorded)
    writer = runtime.writer
    scorer = writer.scorer

    def fail(transactions, known_only=()):
        raise RuntimeError(f"cannot add {{transactions}}")

    scorer.decide, kept = fail, scorer.decide
    await asyncio.gather(writer.submit(payment(1, runtime)), return_exceptions=True)
    while writer.unavailable:
        await asyncio.sleep(0.02)

    def lose(kind, entries, *rest, transaction_ids, **more):
        raise KeyError(transaction_ids[0])

    ledger = writer._commits._ledger
    append = ledger.append
    ledger.append = lose
    await asyncio.gather(writer.submit(payment(2, runtime)), return_exceptions=True)
    ledger.append = append
    while writer.unavailable:
        await asyncio.sleep(0.02)
    assert b"Success" in await writer.submit(payment(3, runtime))
    await runtime.close()

asyncio.run(main())
"""

MAPPING = """
id = "ref"

[files]
path = "payments.csv"

[time]
column = "created"

[amount]
column = "amount"

[entities]
customer_id = "customer"
card_id = "card"
ip_address = "ip"
"""


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=600,
        env={
            **os.environ,
            "SENTINEL_LOGS__FORMAT": "json",
            "SENTINEL_LOGS__LEVEL": "debug",
            **environment,
        },
    )


def test_an_import_the_pipeline_and_the_follower_log_no_value(tmp_path: Path, root: Path) -> None:
    rows = ["ref,created,amount,customer,card,ip"]
    for n in range(300):
        moment = f"2026-01-{n % 28 + 1:02d}T{n % 24:02d}:00:00Z"
        rows.append(f"{MARK}-{n},{moment},717171.71,{MAIL},{MARK}-card{n % 7},{ADDRESS}")
    rows += [f"{MARK}-x,{MARK},717171.71,c,d,e", f"{MARK}-y,2026-01-01T00:00:00Z,{MARK},c,d,e"]
    (tmp_path / "payments.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "mapping.toml").write_text(MAPPING)
    workspace = str(tmp_path / "w")
    place = {
        "SENTINEL_WORKSPACE": workspace,
        "SENTINEL_FEATURE_STORE": str(root / "feature_store"),
    }
    logs = ""
    for verb, status in (
        (("import", str(tmp_path / "mapping.toml"), "--allow-rejects", "0"), 1),
        (("import", str(tmp_path / "mapping.toml"), "--allow-rejects", "0.5"), 0),
        (("features", "apply"), 0),
        (("features", "backfill"), 0),
        (("features", "verify"), 0),
        (("train",), 1),  # there are no labels
        (("explain", f"{MARK}-1"), 1),
    ):
        done = run("-m", "sentinel", *verb, **place)
        assert done.returncode == status, (verb, done.stdout, done.stderr)
        logs += done.stderr
        if status:
            last = json.loads(done.stderr.splitlines()[-1])
            assert last["service"] == " ".join(verb[:1]), last
            assert len(last["run_id"]) == 16
    follower = subprocess.Popen(
        [sys.executable, "-m", "sentinel", "follow"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "SENTINEL_LOGS__FORMAT": "json", **place},
    )
    try:
        follower.wait(4)
    except subprocess.TimeoutExpired:
        follower.terminate()
    logs += follower.communicate(timeout=60)[0]
    check(logs, "jobs and the follower")
    for line in logs.splitlines():
        json.loads(line)
