"""The production profile from packages: the nightly pipeline, two scorers, restarts under load.

Real PostgreSQL, Redis, S3, MLflow and Airflow are started without containers. The pipeline's DAG
trains and promotes a model on simulated history; two scorers with workspaces of their own follow
the registry and share state and ledger; live payments go to both while Redis and PostgreSQL
restart. Then history is imported and labels come in beside them, and scorers die between a label's
commit and its effect (`stack_shared`; alone with ``--only shared``). Every answer is held against
the log, every shared record and every served value against a replay.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Final

import httpx
from redis import Redis as RedisClient
from rich.console import Console

from benchmarks import stack_shared
from benchmarks.stack_needs import missing
from sentinel.features.plan.plan import Plan
from sentinel.models.signing_keys import trusted_keys_of
from sentinel.pipeline.compare_shared import compare_shared
from sentinel.pipeline.importing import import_history
from sentinel.scoring.served import load_plan
from sentinel.settings import Settings
from sentinel.sources.simulator import SimulatorConfig, SimulatorSource
from testkit.airflow_server import Airflow, Run
from testkit.payments import payments
from testkit.ports import free_port
from testkit.scratch import REPOSITORY, Server
from testkit.servers import S3, Mlflow, Postgres, Redis, wait_until
from testkit.shared_scorers import Answers, books, repairs_done, replayed, send

DAG: Final = "sentinel_mlops_pipeline"
BUCKET: Final = "models"
PIPELINE_SECONDS: Final = 1800.0
SCORERS: Final = 2
FRAUD_RATE: Final = 0.03
"""More than payments have, so that a small history has enough to learn from."""


class Deployment:
    """Servers, settings as variables, and what runs on them.

    Args:
        folder: For everything.
        running: Whatever is started is stopped by it.
    """

    def __init__(self, folder: Path, running: contextlib.ExitStack) -> None:
        self.folder = folder
        self.postgres = running.enter_context(Postgres(folder / "postgres"))
        self.redis = running.enter_context(Redis(folder / "redis"))
        self.s3 = running.enter_context(S3(folder / "s3"))
        self.mlflow = running.enter_context(
            Mlflow(
                folder / "mlflow",
                database=self.postgres.url("mlflow"),
                s3=self.s3.settings(),
                bucket=BUCKET,
            )
        )
        shutil.copytree(REPOSITORY / "feature_store", folder / "feature_store")
        self.variables = {
            "SENTINEL_FEATURE_STORE": str(folder / "feature_store"),
            "SENTINEL_MLFLOW__TRACKING_URI": self.mlflow.url,
            "SENTINEL_LEDGER__URL": self.postgres.make_database("sentinel"),
            "SENTINEL_STATE__BACKEND": "redis",
            "SENTINEL_STATE__REDIS_URL": self.redis.url,
            "SENTINEL_FEAST__REGISTRY_URL": self.postgres.make_database("feast_registry"),
            "SENTINEL_FEAST__ONLINE_URL": self.redis.url,
            "SENTINEL_FEAST__OFFLINE_URL": str(folder / "pipeline" / "offline"),
            "SENTINEL_LABELS__MATURITY_DAYS": "10",
            "SENTINEL_TRAINING__BOOTSTRAP_ROUNDS": "100",
            "SENTINEL_TRAINING__TEST_DAYS": "20",
            "SENTINEL_TRAINING__WINDOW_DAYS": "80",
        }
        self.settings = self.settings_of("pipeline")
        self.airflow = Airflow(
            folder / "airflow",
            self.postgres.make_database("airflow_db"),
            environment={**self.variables, "SENTINEL_WORKSPACE": str(self.settings.workspace)},
        )

    def settings_of(self, workspace: str) -> Settings:
        """The settings of a process with a workspace of that name."""
        with _environment(self.variables | {"SENTINEL_WORKSPACE": str(self.folder / workspace)}):
            return Settings()


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def run_pipeline(deployment: Deployment, *, customers: int, days: float) -> tuple[float, int]:
    """History in, the DAG run to its end; its seconds and the number of historic transactions."""
    start = dt.datetime.now(dt.UTC).date() - dt.timedelta(days=math.ceil(days))
    world = SimulatorConfig(
        start=start.isoformat(),
        days=days,
        customers=customers,
        merchants=max(80, customers // 2),
        fraud_rate=FRAUD_RATE,
        seed=3,
    )
    imported = import_history(deployment.settings, SimulatorSource(world), now_us=world.end_us)
    airflow = deployment.airflow
    airflow.unpause(DAG)
    began = time.monotonic()
    wait_until(lambda: bool(airflow.runs(DAG)), 60, "the scheduled run of the last midnight")
    run = Run(DAG, airflow.runs(DAG)[0]["dag_run_id"])
    state = airflow.wait(run, PIPELINE_SECONDS)
    if state != "success":
        tasks = airflow.tasks(run)
        logs = "\n".join(airflow.log(run, task) for task, told in tasks.items() if "failed" in told)
        raise RuntimeError(f"The pipeline ended as {state}: {tasks}\n{logs[-4000:]}")
    return time.monotonic() - began, imported.report.accepted


@contextlib.contextmanager
def followed_scorers(deployment: Deployment) -> Iterator[list[Server]]:
    """Scorers that follow the registry, each in a workspace of its own."""
    with contextlib.ExitStack() as stack:
        servers = []
        for number in range(1, SCORERS + 1):
            settings = deployment.settings_of(f"scorer-{number}")
            settings.workspace.mkdir(parents=True)
            shutil.copy(deployment.settings.plan_path, settings.plan_path)
            # Scorers have no private key: they are told which keys to trust.
            trusted = " ".join(trusted_keys_of(deployment.settings).public)
            variables = deployment.variables | {
                "SENTINEL_WORKSPACE": str(settings.workspace),
                "SENTINEL_SIGNING__TRUSTED_KEYS": trusted,
            }
            follower = subprocess.Popen(
                [sys.executable, "-m", "sentinel.pipeline.follow"],
                env=os.environ | variables,
                stderr=(settings.workspace / "follower.log").open("ab"),
            )
            stack.callback(follower.wait)
            stack.callback(follower.terminate)
            champion = settings.models_dir / "champion.json"
            wait_until(champion.exists, 60, "the champion in the scorer's workspace")
            server = Server(settings, environment=variables, port=free_port())
            stack.callback(server.kill)
            server.start()
            servers.append(server)
        yield servers


def score(deployment: Deployment, servers: list[Server], number: int) -> Answers:
    """Live payments to both scorers, while Redis and PostgreSQL restart."""
    urls = [server.url for server in servers]
    sent = islice(payments(11, prefix="live", start_us=(time.time_ns() // 1000) - 3_600_000_000,
                           gap_us=100_000), number)  # fmt: skip
    answers = Answers()
    done = threading.Event()

    def restart() -> None:
        for share, server in ((0.3, deployment.redis), (0.6, deployment.postgres)):
            while len(answers.bodies) < share * number:
                if done.wait(0.05):
                    return
            server.restart()

    restarting = threading.Thread(target=restart)
    restarting.start()
    try:
        send(urls, sent, answers=answers)
    finally:
        done.set()
        restarting.join()
    return answers


def services(deployment: Deployment, servers: list[Server]) -> dict[str, bool]:
    """Whether each service is well, asked in its own way."""

    def answers(url: str) -> bool:
        try:
            return httpx.get(url, timeout=10).status_code == 200
        except httpx.HTTPError:
            return False

    found = {
        "postgres": deployment.postgres.is_ready(),
        "redis": bool(RedisClient.from_url(deployment.redis.url).ping()),
        "s3": deployment.s3.is_ready(),
        "mlflow": answers(f"{deployment.mlflow.url}/health"),
        "airflow": answers(f"{deployment.airflow.url}/api/v2/monitor/health"),
    }
    found.update(
        (f"scorer_{number}", answers(f"{server.url}/readyz"))
        for number, server in enumerate(servers, 1)
    )
    return found


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Start, run, hold the books against each other; see the module."""
    before = os.getloadavg()
    folder = Path(tempfile.mkdtemp(prefix="sentinel-stack-", dir=options.folder))
    folder.chmod(0o755)
    try:
        with (
            contextlib.ExitStack() as running,
            Console(stderr=True).status("starting the servers") as status,
        ):
            deployment = Deployment(folder, running)
            status.update("starting Airflow")
            running.enter_context(deployment.airflow)
            status.update("the pipeline runs")
            pipeline_seconds, history = run_pipeline(
                deployment, customers=options.customers, days=options.days
            )
            status.update("starting the scorers")
            with followed_scorers(deployment) as servers:
                status.update("live payments, restarts")
                began = time.monotonic()
                answers = score(deployment, servers, options.payments)
                scoring_seconds = time.monotonic() - began
                status.update("repairs")
                repairs_done(servers, 300)
                first = deployment.settings_of("scorer-1")
                plan: Plan = load_plan(first)
                status.update("imports, labels, scorers that die")
                shared = share(first, plan, servers, options)
                well = services(deployment, servers)
            status.update("the replay")
            found = books(deployment.settings, answers)
            replay = replayed(deployment.settings, plan)
            held = compare_shared(first, plan)
    finally:
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
    latencies = sorted(answers.latencies)
    return {
        "services": well,
        "pipeline_seconds": round(pipeline_seconds, 1),
        "history": history,
        "scored": len(answers.bodies),
        "lost": found.lost + found.twice + found.differing,
        "mismatches": replay.mismatches + shared["mismatches"],
        "unverifiable": shared["unverifiable"],
        "shared": shared,
        "records": 0 if held is None else held.records,
        "records_unlike_the_log": -1 if held is None else held.differing,
        "degraded": replay.degraded,
        "unverifiable_values": replay.unverifiable,
        "compared_values": replay.values,
        "refused_and_tried_again": answers.refused,
        "scoring_seconds": round(scoring_seconds, 1),
        "latency_ms": {
            name: round(1000 * latencies[int(share * (len(latencies) - 1))], 1)
            for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
        },
        "machine": {
            "cpus": os.cpu_count(),
            "loadavg_before": before,
            "loadavg_after": os.getloadavg(),
        },
    }


def share(
    settings: Settings, plan: Plan, servers: list[Server], options: argparse.Namespace
) -> dict[str, Any]:
    """`stack_shared.measure` as the options say."""
    return stack_shared.measure(
        settings,
        plan,
        servers,
        imported=options.imported,
        kills=options.kills,
        quiet=options.quiet,
    )


def run_shared(options: argparse.Namespace) -> dict[str, Any]:
    """Shared state alone, without pipeline, registry and Airflow."""
    before = os.getloadavg()
    folder = Path(tempfile.mkdtemp(prefix="sentinel-stack-", dir=options.folder))
    folder.chmod(0o755)
    began = time.monotonic()
    try:
        with stack_shared.deployment(folder, SCORERS) as (settings, plan, servers):
            found = share(settings, plan, servers, options)
    finally:
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
    machine = {"cpus": os.cpu_count(), "loadavg_before": before, "loadavg_after": os.getloadavg()}
    return {**found, "seconds": round(time.monotonic() - began, 1), "machine": machine}


def main(argv: list[str]) -> int:
    """Run the benchmark; returns the exit status, 2 if something is missing."""
    parser = argparse.ArgumentParser(prog="benchmarks stack", description=__doc__)
    parser.add_argument("--customers", type=int, default=720, help="in the history (720)")
    parser.add_argument("--days", type=float, default=117.0, help="of the history (117)")
    parser.add_argument("--payments", type=int, default=10_000, help="live ones (10,000)")
    parser.add_argument("--only", choices=("shared",), help="shared state, without Airflow")
    parser.add_argument("--imported", type=int, default=20_000, help="beside scorers (20,000)")
    parser.add_argument("--kills", type=int, default=3, help="of scorers, at a label (3)")
    parser.add_argument("--quiet", type=int, default=500, help="payments at the end (500)")
    parser.add_argument("--folder", type=Path, help="for everything (a temporary folder)")
    parser.add_argument("--keep", action="store_true", help="leave the folder")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    options = parser.parse_args(argv)
    lacking = missing(options.folder, shared_only=options.only == "shared")
    if lacking:
        print("The benchmark was not started. It needs:", file=sys.stderr)
        print("\n".join(f"- {line}" for line in lacking), file=sys.stderr)
        return 2
    result = run_shared(options) if options.only == "shared" else run(options)
    console = Console(soft_wrap=True)
    for key, value in result.items():
        console.print(f"{key:26}{value}")
    if options.json:
        print(json.dumps(result))
    return 1 if _is_wrong(result, options) else 0


def _is_wrong(result: dict[str, Any], options: argparse.Namespace) -> bool:
    """Whether anything is not as it must be."""
    shared = result.get("shared", result)
    wrong = (
        result["mismatches"]
        or result["unverifiable"]
        or shared["lost"]
        or shared["labels_lost"]
        or shared["killed_before_effect"] != options.kills
    )
    if options.only == "shared":
        return bool(wrong)
    return bool(
        wrong
        or result["lost"]
        or result["records_unlike_the_log"]
        or not all(result["services"].values())
        or result["scored"] != options.payments
    )
