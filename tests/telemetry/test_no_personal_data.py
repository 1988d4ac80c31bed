"""No value of a payment, a label or a file reaches any log, whatever goes wrong with it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx

from sentinel.dashboard.login.users import UserStore
from testkit.otlp import OtlpReceiver
from testkit.ports import free_port
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


def check(text: str, whose: str, secrets: Sequence[str] = SECRETS) -> None:
    for secret in secrets:
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


TRAINING = f"""
import sys
from pathlib import Path
from sentinel.features.plan.parts import RequestFeature
from sentinel.features.plan.plan import Plan
from sentinel.pipeline import fitting
from sentinel.pipeline.importing import import_history
from sentinel.pipeline.training import train
from sentinel.settings import Settings, TrainingSettings
from sentinel.sources import open_source
from sentinel.telemetry.context import begin_run
from sentinel.telemetry.log_setup import set_up_logs

folder = Path(sys.argv[1])
settings = Settings(
    workspace=folder / "w", training=TrainingSettings(bootstrap_rounds=50, window_days=365)
)
set_up_logs(settings.logs, "train")
begin_run()
import_history(settings, open_source(str(folder / "labelled.toml")))
features = (
    RequestFeature(name="amount", kind="amount"),
    RequestFeature(name="risk", kind="number", column="risk"),
)
Plan(views=(), request=features).save(settings.plan_path)
trained = train(settings, threads=1, baselines=False)
print(trained.version)

def fail(*rows, **more):
    raise KeyError("{MARK}-card", {AMOUNT})

fitting.train = fail
train(settings, threads=1, baselines=False)
"""


def test_a_training_that_goes_well_and_one_that_fails_log_no_value(tmp_path: Path) -> None:
    rows = ["ref,created,amount,customer,card,ip,risk,fraud"]
    for n in range(600):
        moment = f"2026-01-{n // 20 + 1:02d}T{n % 20:02d}:00:00Z"
        fraud = int(n % 10 == 0)
        who = f"{MAIL},{MARK}-card{n % 7},{ADDRESS}"
        rows.append(f"{MARK}-{n},{moment},717171.71,{who},{n % 9 + 3 * fraud},{fraud}")
    (tmp_path / "payments.csv").write_text("\n".join(rows) + "\n")
    labels = '\n[labels]\ncolumn = "fraud"\ndelay_days = 0.0\n'
    (tmp_path / "labelled.toml").write_text(MAPPING + labels)
    done = run("-c", TRAINING, str(tmp_path))
    assert done.stdout.strip() == "1", done.stderr
    assert done.returncode == 1
    last = json.loads(done.stderr.splitlines()[-1])
    assert "KeyError" in last["traceback"], last
    check(done.stderr, "trainings")


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


@contextmanager
def process(
    folder: Path,
    name: str,
    *arguments: str,
    secrets: Sequence[str] = SECRETS,
    **environment: str,
) -> Iterator[Path]:
    """A process that goes on, and where its log is; the log is checked at its end."""
    log = folder / f"{name}.log"
    given = {"SENTINEL_LOGS__FORMAT": "json", "SENTINEL_LOGS__LEVEL": "debug", **environment}
    with log.open("wb") as output:
        running = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **given},
        )
    try:
        yield log
    finally:
        running.terminate()
        running.wait(60)
    check(log.read_text(), name, secrets)
    lines = [line for line in log.read_text().splitlines() if line.startswith("{")]
    assert all(json.loads(line)["service"] for line in lines)  # Streamlit greets in its own way


def shown_at(url: str, *, until: str = "", seconds: float = 60.0) -> str:
    """What an address shows, once it holds a text."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(httpx.TransportError):
            text = httpx.get(url, timeout=30).text
            if until in text:
                return text
        assert time.monotonic() < deadline, (url, until)
        time.sleep(0.1)


def test_the_monitor_shows_no_value_in_its_log_its_metrics_or_its_health(
    server: Server, client: httpx.Client, tmp_path: Path
) -> None:
    sent = marked(transaction_id=f"{MARK}-watched")
    assert client.post("/predict", json=sent).status_code == 200
    label = {"transaction_id": f"{MARK}-watched", "verdict": "fraud", "origin": MARK}
    assert client.post("/labels", json=label).status_code == 200
    port = free_port()
    mails = {
        "SENTINEL_ALERTS__SMTP_HOST": "127.0.0.1",
        "SENTINEL_ALERTS__SMTP_PORT": str(free_port()),
        "SENTINEL_ALERTS__MAIL_TO": MAIL,
        "SENTINEL_ALERTS__WEBHOOK_URL": f"http://127.0.0.1:{free_port()}/{MARK}",
        "SENTINEL_ALERTS__PAGE_AFTER_SECONDS": "0",
        "SENTINEL_ALERTS__GROUP_SECONDS": "0",
        "SENTINEL_ALERTS__EVERY_SECONDS": "0.5",
        "SENTINEL_DIGEST__HOUR": "0",
    }
    place = {
        "SENTINEL_WORKSPACE": str(server.settings.workspace),
        "SENTINEL_FEATURE_STORE": str(server.settings.feature_store),
        "SENTINEL_API__PORT": str(free_port()),  # no scorer answers there: an alert fires
        "SENTINEL_MONITOR__PORT": str(port),
    }
    with process(tmp_path, "monitor", "sentinel.pipeline.monitor", **place, **mails) as log:
        url = f"http://127.0.0.1:{port}"
        read = 'sentinel_drift_entries_total{kind="labels"}'
        shown = shown_at(f"{url}/metrics", until=read)
        deadline = time.monotonic() + 60
        while not {"by mail", "by webhook"} <= {
            way for way in ("by mail", "by webhook") if way in log.read_text()
        }:
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        shown += shown_at(f"{url}/healthz")
    check(shown, "what the monitor shows")


def test_the_dashboards_door_logs_nobodys_name_password_address_or_path(tmp_path: Path) -> None:
    password = f"{MARK} pass word"
    UserStore(tmp_path / "dashboard.db").create(f"{MARK}-ann", password)
    port, metrics = free_port(), free_port()
    place = {
        "SENTINEL_WORKSPACE": str(tmp_path),
        "SENTINEL_DASHBOARD__PORT": str(port),
        "SENTINEL_DASHBOARD__METRICS_PORT": str(metrics),
        "SENTINEL_DASHBOARD__PROXIES": "127.0.0.1",
    }
    with process(tmp_path, "dashboard", "sentinel.dashboard.serve", **place) as log:
        url = f"http://127.0.0.1:{port}"
        shown_at(f"{url}/_stcore/health", until="ok")
        headers = {"origin": url, "x-forwarded-for": ADDRESS, "user-agent": MARK}
        with httpx.Client(base_url=url, headers=headers, timeout=60) as browser:
            for name, word in ((f"{MARK}-ann", MARK), (MAIL, password), (f"{MARK}-ann", password)):
                browser.post("/login", data={"name": name, "password": word})
            for path in (f"/{MARK}", f"/drift?feature={MARK}", f"/auth/{MARK}"):
                browser.get(path)
                browser.get(path, headers={"host": f"{MARK}.example.com"})
                browser.get(path, headers={"cookie": f"sentinel_session={MARK}"})
            browser.post("/login", content=MARK.encode(), headers={"content-type": MARK})
            browser.post("/logout")
        shown = shown_at(f"http://127.0.0.1:{metrics}/metrics", until="sentinel_dashboard")
        assert "A wrong password" in log.read_text()
    check(shown, "the door's metrics")


class Registry(BaseHTTPRequestHandler):
    """A registry whose answers, good and bad, hold marks where a person may write."""

    def do_GET(self) -> None:
        known = {
            "name": MARK,
            "tags": [{"key": "note", "value": f"asked by {MAIL}"}],
            "aliases": [],
        }
        body = json.dumps({"registered_model": known, "model_versions": [known]})
        self.answer(200 if "get" in self.path else 500, body)

    def do_POST(self) -> None:
        self.answer(400, json.dumps({"error_code": "X", "message": f"{MARK} of {MAIL}"}))

    def answer(self, status: int, body: str) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        """Quiet."""


def test_a_follower_shows_no_address_that_stands_in_the_registry(tmp_path: Path) -> None:
    """Names of models are no values of payments; the addresses of people may stand beside them."""
    port = free_port()
    with HTTPServer(("127.0.0.1", 0), Registry) as registry:
        thread = threading.Thread(target=registry.serve_forever, args=(0.05,))
        thread.start()
        try:
            place = {
                "SENTINEL_WORKSPACE": str(tmp_path),
                "SENTINEL_FOLLOWER__PORT": str(port),
                "SENTINEL_MLFLOW__TRACKING_URI": f"http://127.0.0.1:{registry.server_port}",
            }
            with process(tmp_path, "follow", "sentinel.pipeline.follow", secrets=(MAIL,), **place):
                url = f"http://127.0.0.1:{port}"
                looked = re.compile(r"^sentinel_follower_looks_total.* [1-9]", re.MULTILINE)
                deadline = time.monotonic() + 60
                while not looked.search(shown := shown_at(f"{url}/metrics")):
                    assert time.monotonic() < deadline
                    time.sleep(0.1)
                shown += shown_at(f"{url}/healthz")
            check(shown, "what the follower shows", (MAIL, MARK))
        finally:
            registry.shutdown()
            thread.join()
