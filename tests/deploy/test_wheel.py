"""The wheel in an empty folder, as somebody has it who installed the package and cloned nothing."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from sentinel.features import jit
from testkit.ports import free_port
from testkit.scratch import QUICK_TRAINING

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

WAIT_SECONDS = 600
"""Far more than it takes; a machine that is busy with other tests takes its time."""


@pytest.fixture(scope="module")
def uv(root: Path) -> str:
    program = subprocess.run(
        [sys.executable, "scripts/bootstrap.py", "uv"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    return program.stdout.strip()


@pytest.fixture(scope="module")
def wheel(root: Path, uv: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    command = [uv, "build", "--quiet", "--offline", "--wheel", "--out-dir", str(out)]
    subprocess.run(command, cwd=root, check=True)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, uv: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`sentinel` of a virtual environment with the wheel, and the locked packages beside it."""
    venv = tmp_path_factory.mktemp("venv")
    offline = os.environ | {"UV_OFFLINE": "1"}
    subprocess.run(
        [uv, "venv", "--quiet", "--clear", "--python", sys.executable, venv],
        check=True,
        env=offline,
    )
    python = str(venv / "bin" / "python")
    command = [uv, "pip", "install", "--quiet", "--no-deps", "--python", python, str(wheel)]
    subprocess.run(command, check=True, env=offline)
    (packages,) = venv.glob("lib/python*/site-packages")
    # A folder named in a .pth file is searched, but the .pth files in it are not read: the link
    # from there to the checkout's own source stays out.
    locked = Path(sys.prefix) / packages.relative_to(venv)
    (packages / "locked.pth").write_text(f"{locked}\n")
    where = subprocess.run(
        [python, "-c", "import sentinel; print(sentinel.__file__)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(where.stdout.strip()).is_relative_to(venv)
    return venv / "bin" / "sentinel"


@pytest.fixture(scope="module")
def kernels() -> Path:
    """Where the checkout keeps its compiled kernels; an installed package finds them there."""
    assert jit.CACHE_FOLDER is not None
    return jit.CACHE_FOLDER.parent


class Up:
    """One run of an installed `sentinel up` in a folder of its own."""

    def __init__(self, sentinel: Path, folder: Path, kernels: Path, *options: str) -> None:
        self.api = f"http://127.0.0.1:{(port := free_port())}"
        self._log = folder / "up.log"
        with self._log.open("wb") as output:
            self.process = subprocess.Popen(
                [sentinel, "up", *options],
                cwd=folder,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={k: v for k, v in os.environ.items() if not k.startswith("SENTINEL_")}
                | QUICK_TRAINING
                | {
                    "NUMBA_CACHE_DIR": str(kernels),
                    "SENTINEL_API__PORT": str(port),
                    "SENTINEL_MLFLOW__PORT": str(free_port()),
                    "SENTINEL_DASHBOARD__PORT": str(free_port()),
                    "SENTINEL_MONITOR__PORT": str(free_port()),
                    "COLUMNS": "80",
                },
            )

    def __enter__(self) -> Up:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    @property
    def said(self) -> str:
        return self._log.read_text(errors="replace")

    def wait(self, seconds: float) -> None:
        """Until everything is up."""
        deadline = time.monotonic() + seconds
        while "Ctrl-C stops everything" not in self.said:
            assert self.process.poll() is None, self.said[-3000:]
            assert time.monotonic() < deadline, self.said[-3000:]
            time.sleep(0.2)

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)


def test_the_wheel_has_every_file_of_the_package(root: Path, wheel: Path) -> None:
    source = root / "src"
    files = {
        path.relative_to(source).as_posix()
        for path in (source / "sentinel").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        assert files <= set(archive.namelist())
    assert {
        "sentinel/feature_sets/default/definitions.py",
        "sentinel/feature_sets/production.yaml",
        "sentinel/examples/mappings/sparkov.toml",
        "sentinel/dashboard/.streamlit/config.toml",
        "sentinel/ledger/migrations/script.py.mako",
    } <= files


def write_payments(file: Path, days: int = 60, a_day: int = 100) -> None:
    """A table of somebody's own: cards at shops, and a burst at one shop when a card is stolen."""
    draw = random.Random(7)
    first = datetime(2024, 1, 1, tzinfo=UTC)
    rows: list[tuple[datetime, str, str, float, int]] = []
    for day in range(days):
        for _ in range(a_day):
            moment = first + timedelta(days=day, seconds=draw.randrange(86_400))
            card, shop = draw.randrange(400), draw.randrange(60)
            rows.append((moment, f"card-{card}", f"shop-{shop}", draw.lognormvariate(3.5, 0.6), 0))
        for _ in range(2):
            moment = first + timedelta(days=day, seconds=draw.randrange(80_000))
            card = draw.randrange(400)
            for burst in range(4):
                at = moment + timedelta(minutes=3 * burst)
                rows.append((at, f"card-{card}", "shop-7", draw.lognormvariate(5.0, 0.4), 1))
    rows.sort()
    with file.open("w") as out:
        out.write("ref,created_at,card,shop,amount,is_fraud\n")
        for place, (at, payer, payee, amount, fraud) in enumerate(rows):
            line = f"P{place:06d},{at:%Y-%m-%d %H:%M:%S},{payer},{payee},{amount:.2f},{fraud}"
            out.write(f"{line}\n")


PACK = """
import numpy as np
from sentinel.features import jit
from sentinel.state.redis.fold import pack_record
pack_record(np.arange(70), np.empty(80, dtype=np.int64))
print(jit.__file__, jit.CACHE_FOLDER, sum(pack_record.stats.cache_hits.values()))
"""


def test_an_installed_package_finds_the_kernels_of_a_checkout(
    installed: Path, kernels: Path, tmp_path: Path
) -> None:
    found = {}
    for python in (sys.executable, str(installed.with_name("python"))):
        done = subprocess.run(
            [python, "-c", PACK],
            cwd=tmp_path,
            env=os.environ | {"NUMBA_CACHE_DIR": str(kernels)},
            capture_output=True,
            text=True,
            check=True,
        )
        package, folder, hits = done.stdout.split()
        found[python] = package
        assert folder == str(jit.CACHE_FOLDER)
    assert len(set(found.values())) == 2, "two packages"
    assert hits == "1"


def test_up_in_an_empty_folder_serves_with_the_default_definitions(
    installed: Path, kernels: Path, tmp_path: Path
) -> None:
    size = ("--customers", "600", "--days", "120", "--no-traffic")
    with Up(installed, tmp_path, kernels, *size) as up:
        up.wait(WAIT_SECONDS)
        assert httpx.get(f"{up.api}/health", timeout=60).json()["status"] == "ok"
        body = {"transaction_id": "t-1", "amount_minor": 4999, "card_id": "K1"}
        answer = httpx.post(f"{up.api}/predict", json=body, timeout=60)
        assert (answer.status_code, answer.json()["status"]) == (200, "Success")
        assert up.interrupt() == 0
    assert "the set 'default', copied to .sentinel/feature_store" in up.said
    assert sorted(path.name for path in (tmp_path / ".sentinel" / "feature_store").iterdir()) == [
        "definitions.py",
        "feature_store.yaml",
        "production.yaml",
    ]


def test_up_with_a_table_serves_a_model_of_it(
    installed: Path, kernels: Path, tmp_path: Path
) -> None:
    write_payments(tmp_path / "payments.csv")
    with Up(installed, tmp_path, kernels, "--data", "payments.csv") as up:
        up.wait(WAIT_SECONDS)
        assert httpx.get(f"{up.api}/health", timeout=60).json()["status"] == "ok"
        body = {
            "transaction_id": "P999999",
            "amount_minor": 4999,
            "card_id": "card-1",
            "merchant_id": "shop-7",
        }
        answer = httpx.post(f"{up.api}/predict", json=body, timeout=60)
        assert (answer.status_code, answer.json()["status"]) == (200, "Success")
        assert up.interrupt() == 0
    (definitions,) = tmp_path.glob(".sentinel*/feature_store/definitions.py")
    assert "from sentinel.feast_plugin.families import" in definitions.read_text()
