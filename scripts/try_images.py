"""The second half of scripts/try-images: runs the built images over real servers and scores."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import httpx

from testkit.ports import free_port
from testkit.servers import S3, Postgres, Redis, all_started, wait_until

TAG = "tried"
START_SECONDS = 600.0
IMPORT = """
import time
from sentinel.pipeline.importing import import_history
from sentinel.settings import Settings
from sentinel.sources import SimulatorConfig, SimulatorSource

end_us = time.time_ns() // 1000 - 86_400_000_000
world = SimulatorConfig.ending(
    end_us, days=150, customers=400, merchants=200, fraud_rate=0.02, seed=3
)
done = import_history(Settings(), SimulatorSource(world), now_us=end_us)
print(f"Imported {done.report.accepted:,} payments.")
"""


class Containers:
    """Containers of our images on the host's network, ended when the block ends.

    Args:
        folder: Holds secrets and volumes, as Compose would mount them.
        environment: Settings that all of them get.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = environment
        self._started: list[str] = []
        self.seconds: dict[str, float] = {}

    def _command(
        self, image: str, name: str, options: list[str], more: Mapping[str, str]
    ) -> list[str]:
        variables = [f"--env={key}={value}" for key, value in {**self._environment, **more}.items()]
        volumes = [
            f"--volume={self._folder / 'secrets'}:/run/secrets:ro",
            f"--volume={self._folder / 'models'}:/var/lib/sentinel/models",
        ]
        locked = [
            "--read-only",
            "--tmpfs=/tmp",
            "--cap-drop=all",
            "--security-opt=no-new-privileges",
        ]
        head = ["podman", "run", "--rm", "--no-healthcheck", "--name", name, "--network", "host"]
        return [*head, *locked, *volumes, *variables, *options, f"localhost/sentinel-{image}:{TAG}"]

    def job(self, name: str, *arguments: str, options: tuple[str, ...] = ()) -> None:
        """Run one job of the pipeline to its end."""
        began = time.monotonic()
        workspace = f"--volume={self._folder / 'workspace'}:/var/lib/sentinel"
        command = self._command("pipeline", f"job-{name}", [workspace, *options], {})
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
        self.seconds[name] = round(time.monotonic() - began, 1)
        print(done.stdout.strip() or f"{name}: done")
        if done.returncode:
            sys.exit(f"{name} ended with {done.returncode}:\n{done.stderr[-4000:]}")

    def service(
        self,
        name: str,
        image: str,
        *arguments: str,
        ready: Callable[[], bool],
        more: Mapping[str, str] | None = None,
    ) -> None:
        """Start a service and wait until it is ready."""
        began = time.monotonic()
        workspace = self._folder / f"workspace-{name}"
        workspace.mkdir(mode=0o777, exist_ok=True)
        workspace.chmod(0o777)
        options = ["--detach", f"--volume={workspace}:/var/lib/sentinel"]
        command = self._command(image, name, options, more or {})
        subprocess.run([*command, *arguments], check=True, stdout=subprocess.DEVNULL)
        self._started.append(name)

        def up() -> bool:
            with contextlib.suppress(httpx.HTTPError):
                return ready()
            return False

        try:
            wait_until(up, START_SECONDS, f"{name} to be ready")
        except TimeoutError:
            logs = subprocess.run(
                ["podman", "logs", name], capture_output=True, text=True, check=False
            )
            sys.exit(f"{name} is not ready:\n{(logs.stdout + logs.stderr)[-4000:]}")
        self.seconds[f"start of {name}"] = round(time.monotonic() - began, 1)

    def stop(self) -> None:
        """End what was started, the last first."""
        for name in reversed(self._started):
            subprocess.run(
                ["podman", "stop", "--time", "20", name], check=False, stdout=subprocess.DEVNULL
            )


def main(work: Path) -> None:
    """Run everything and print what came of it as JSON."""
    with tempfile.TemporaryDirectory(dir=work) as name, servers(Path(name)) as (made, settings):
        folder = Path(name)
        containers = Containers(folder, settings)
        try:
            report = run(containers, settings)
        finally:
            containers.stop()
        del made
    report["bytes"] = {image: size_of(image) for image in ("api", "mlflow", "pipeline")}
    print(json.dumps(report, indent=2))


@contextlib.contextmanager
def servers(folder: Path) -> Iterator[tuple[list[Any], dict[str, str]]]:
    """Real stores, and the settings by which containers find them, secrets as files."""
    for volume in ("models", "workspace"):
        (folder / volume).mkdir()
        (folder / volume).chmod(0o777)
    folder.chmod(0o755)
    postgres, redis, s3 = Postgres(folder / "pg"), Redis(folder / "redis"), S3(folder / "s3")
    with all_started(postgres, redis, s3):
        kept = {
            "ledger_url": postgres.make_database("sentinel"),
            "mlflow_database_url": postgres.make_database("mlflow"),
            "state_url": redis.url,
            "s3_access_key": s3.access_key,
            "s3_secret_key": s3.secret_key,
        }
        (folder / "secrets").mkdir()
        for secret, content in kept.items():
            (folder / "secrets" / secret).write_text(content)
        port = free_port()
        yield (
            [postgres, redis, s3],
            {
                "SENTINEL_LEDGER__URL_FILE": "/run/secrets/ledger_url",
                "SENTINEL_STATE__BACKEND": os.environ.get("STATE_BACKEND", "redis"),
                "SENTINEL_STATE__REDIS_URL_FILE": "/run/secrets/state_url",
                "SENTINEL_STATE__TIMEOUT_MS": "1000",
                "SENTINEL_MLFLOW__HOST": "127.0.0.1",
                "SENTINEL_MLFLOW__PORT": str(port),
                "SENTINEL_MLFLOW__TRACKING_URI": f"http://127.0.0.1:{port}",
                "SENTINEL_MLFLOW__BACKEND_STORE_URI_FILE": "/run/secrets/mlflow_database_url",
                "SENTINEL_S3__ENDPOINT_URL": s3.url,
                "SENTINEL_S3__ACCESS_KEY_ID_FILE": "/run/secrets/s3_access_key",
                "SENTINEL_S3__SECRET_ACCESS_KEY_FILE": "/run/secrets/s3_secret_key",
                "SENTINEL_S3__ARTIFACTS_BUCKET": "mlflow",
                "SENTINEL_LABELS__MATURITY_DAYS": "20",
                "SENTINEL_TRAINING__TEST_DAYS": "25",
                "SENTINEL_TRAINING__BOOTSTRAP_ROUNDS": "50",
                "SENTINEL_API__HOST": "127.0.0.1",
                "SENTINEL_API__PORT": str(free_port()),
            },
        )


def run(containers: Containers, settings: Mapping[str, str]) -> dict[str, Any]:
    """The life of a deployment, from an empty database to a decision."""
    mlflow = settings["SENTINEL_MLFLOW__TRACKING_URI"]
    api = f"http://127.0.0.1:{settings['SENTINEL_API__PORT']}"
    containers.service(
        "mlflow", "mlflow", ready=lambda: httpx.get(f"{mlflow}/health").status_code == 200
    )
    containers.job("migrate", "ledger", "migrate")
    containers.job("import", "-c", IMPORT, options=("--entrypoint=python",))
    containers.job("apply", "features", "apply")
    containers.job("train", "train")
    containers.job("promote", "promote")
    containers.service("follower", "api", "follow", ready=lambda: True)
    containers.service("api", "api", ready=lambda: httpx.get(f"{api}/readyz").status_code == 200)
    payment = {
        "transaction_id": f"tried-{secrets.token_hex(4)}",
        "amount_minor": 48_900,
        "card_id": "k200",
        "merchant_id": "m8",
        "attributes": {"channel": "online", "merchant_country": "BR"},
    }
    first = httpx.post(f"{api}/predict", json=payment, timeout=30)
    again = httpx.post(f"{api}/predict", json=payment, timeout=30)
    if first.status_code != 200 or again.json() != first.json():
        sys.exit(f"Scoring went wrong: {first.text} {again.text}")
    owner = subprocess.run(
        ["podman", "exec", "api", "id", "-u"], capture_output=True, text=True, check=True
    )
    return {
        "seconds": containers.seconds,
        "decision": first.json(),
        "uid": int(owner.stdout),
        "memory_bytes": memory_of("api"),
    }


def memory_of(name: str) -> int:
    """Resident memory of a container's processes."""
    pids = subprocess.run(
        ["podman", "top", name, "hpid"], capture_output=True, text=True, check=True
    ).stdout.split()[1:]
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
    return pages * os.sysconf("SC_PAGE_SIZE")


def size_of(image: str) -> int:
    """Bytes of an image, uncompressed."""
    inspected = subprocess.run(
        [
            "podman",
            "image",
            "inspect",
            "--format",
            "{{.Size}}",
            f"localhost/sentinel-{image}:{TAG}",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(inspected.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
