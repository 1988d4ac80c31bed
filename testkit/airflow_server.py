"""A real Airflow on PostgreSQL for tests and benchmarks: API server, scheduler, DAG processor.

    with Airflow(folder, database_url, environment=variables) as airflow:
        run = airflow.trigger("sentinel_mlops_pipeline", dry_run=True)
        state = airflow.wait(run, seconds=120)
        print(airflow.log(run, "train"))

It is the environment of `make airflow`, with the checkout's DAGs, on a free loopback port.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import httpx

from testkit.ports import free_port
from testkit.servers import MissingProgram

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv-airflow"
DAGS = ROOT / "airflow_dags"
START_SECONDS = 600.0
_PARTS = {
    "api-server": (),
    # Its log server would listen on all addresses; the API server finds the logs by itself.
    "scheduler": ("--skip-serve-logs",),
    "dag-processor": (),
}


class Run:
    """A run of a DAG: its ids."""

    def __init__(self, dag: str, run_id: str) -> None:
        self.dag = dag
        self.run_id = run_id


class Airflow:
    """Three processes over one metadata database, each in a process group of its own.

    Args:
        folder: Its home: logs and what it writes.
        database_url: An empty PostgreSQL database, ``postgresql://...``.
        environment: Variables for the tasks, on top of this process's own.
        dags: Folder of DAGs.
    """

    def __init__(
        self,
        folder: Path,
        database_url: str,
        *,
        environment: Mapping[str, str] | None = None,
        dags: Path = DAGS,
    ) -> None:
        self.folder = folder.resolve()
        self.port = free_port()
        self._dags = dags
        self._database = database_url.replace("postgresql://", "postgresql+psycopg2://", 1)
        self._given = dict(environment or {})
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._client: httpx.Client | None = None
        self._secret = secrets.token_hex(48)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environment(self) -> dict[str, str]:
        """The whole environment of its processes."""
        return {
            **os.environ,
            "AIRFLOW_HOME": str(self.folder),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self._dags),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "2",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": self._database,
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API_AUTH__JWT_SECRET": self._secret,
            **self._given,
        }

    def command(self, *words: str) -> list[str]:
        """A command line of the `airflow` program.

        Raises:
            MissingProgram: Its environment is not there.
        """
        program = VENV / "bin" / "airflow"
        if not program.exists():
            raise MissingProgram(f"There is no {program}: make airflow")
        return [str(program), *words]

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run an `airflow` command to its end."""
        return subprocess.run(
            self.command(*words),
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )

    def start(self) -> Self:
        """Migrate the database, start the processes and wait until all three are well.

        Raises:
            RuntimeError: It did not come up; the ends of its logs are in the message.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        migrated = self.call("db", "migrate")
        if migrated.returncode:
            raise RuntimeError(f"airflow db migrate failed:\n{migrated.stderr[-3000:]}")
        for part, options in _PARTS.items():
            with (self.folder / f"{part}.log").open("ab") as log:
                self._processes[part] = subprocess.Popen(
                    self.command(part, *options),
                    env=self.environment(),
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if any(process.poll() is not None for process in self._processes.values()):
                break
            if self._is_well():
                return self
            time.sleep(0.3)
        self.stop()
        logs = "\n".join(
            f"--- {part}\n{(self.folder / f'{part}.log').read_text(errors='replace')[-2000:]}"
            for part in _PARTS
        )
        raise RuntimeError(f"Airflow did not come up:\n{logs}")

    def _is_well(self) -> bool:
        try:
            health = httpx.get(f"{self.url}/api/v2/monitor/health", timeout=5).json()
        except (httpx.HTTPError, ValueError):
            return False
        return all(
            health[part]["status"] == "healthy"
            for part in ("metadatabase", "scheduler", "dag_processor")
        )

    def stop(self) -> None:
        """End the three and every process that they started."""
        for number, seconds in ((signal.SIGTERM, 15.0), (signal.SIGKILL, 15.0)):
            for process in self._processes.values():
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
            for process in self._processes.values():
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(seconds)
        self._processes.clear()
        if self._client is not None:
            self._client.close()
            self._client = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    # ------------------------------------------------------------------------------- its REST API

    def ask(self, method: str, path: str, **options: Any) -> Any:
        """Call the REST API; what it answers, parsed.

        Raises:
            RuntimeError: It refuses; what it says is in the message.
        """
        if self._client is None:
            token = httpx.get(f"{self.url}/auth/token", timeout=30).json()["access_token"]
            self._client = httpx.Client(
                base_url=f"{self.url}/api/v2/",
                headers={"Authorization": f"Bearer {token}", "Accept": "application/json"},
                timeout=60,
            )
        answer = self._client.request(method, path, **options)
        if answer.is_error:
            raise RuntimeError(f"{method} {path}: {answer.status_code} {answer.text[:1000]}")
        return answer.json()

    def unpause(self, dag: str) -> None:
        """Let a DAG run."""
        self.ask("PATCH", f"dags/{dag}", json={"is_paused": False})

    def trigger(self, dag: str, **parameters: object) -> Run:
        """Start a run by hand."""
        body = {"logical_date": None, "conf": parameters}
        return Run(dag, self.ask("POST", f"dags/{dag}/dagRuns", json=body)["dag_run_id"])

    def runs(self, dag: str) -> list[dict[str, Any]]:
        """All runs of a DAG."""
        found: list[dict[str, Any]] = self.ask("GET", f"dags/{dag}/dagRuns")["dag_runs"]
        return found

    def wait(self, run: Run, seconds: float) -> str:
        """Wait for the end of a run; its state.

        Raises:
            TimeoutError: It did not end; the states of its tasks are in the message.
        """
        deadline = time.monotonic() + seconds
        path = f"dags/{run.dag}/dagRuns/{run.run_id}"
        while (state := str(self.ask("GET", path)["state"])) not in ("success", "failed"):
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"{run.run_id} is {state} after {seconds:.0f} s: {self.tasks(run)}"
                )
            time.sleep(0.5)
        return state

    def tasks(self, run: Run) -> dict[str, tuple[str | None, int]]:
        """State and number of attempts of each task."""
        path = f"dags/{run.dag}/dagRuns/{run.run_id}/taskInstances"
        found = self.ask("GET", path)["task_instances"]
        return {task["task_id"]: (task["state"], task["try_number"]) for task in found}

    def result(self, run: Run, task: str) -> Any:
        """What a task returned."""
        path = f"dags/{run.dag}/dagRuns/{run.run_id}/taskInstances/{task}/xcomEntries/return_value"
        return self.ask("GET", path, params={"deserialize": True})["value"]

    def log(self, run: Run, task: str, attempt: int = 1) -> str:
        """The log of one attempt as the UI shows it, a line for each event."""
        path = f"dags/{run.dag}/dagRuns/{run.run_id}/taskInstances/{task}/logs/{attempt}"
        answer = self.ask("GET", path, params={"full_content": True})
        return "\n".join(_lines(answer["content"]))


def _lines(content: Any) -> Iterator[str]:
    for event in content:
        yield str(event.get("event", "")) if isinstance(event, dict) else str(event)
