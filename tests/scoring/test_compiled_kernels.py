"""Kernels are compiled with an image: whoever serves finds them, and may not write them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import httpx
import pytest

from sentinel.experiments.lineup import Experiment, LineUp
from sentinel.experiments.store import change_line_up
from sentinel.features import jit
from testkit.experiments import install_version
from testkit.payments import payments
from testkit.scratch import Server, default_plan, fraud_label, make_workspace, serving
from testkit.servers import Postgres, Redis, wait_until
from testkit.shared_scorers import send

COMPILE = """
import json, sys, tempfile
from pathlib import Path
from sentinel.features import jit
from sentinel.scoring.compile_kernels import compile_kernels

with tempfile.TemporaryDirectory() as folder:
    compile_kernels(Path(folder))
stats = [kernel.stats for kernel in jit.KERNELS]
print(json.dumps({
    "writable": jit.CACHE_IS_WRITABLE,
    "found": sum(sum(one.cache_hits.values()) for one in stats),
    "compiled": sum(sum(one.cache_misses.values()) for one in stats),
}))
"""
PACK = """
import json
import numpy as np
from sentinel.features import jit
from sentinel.state.redis.fold import pack_record

used = pack_record(np.arange(70), room := np.empty(80, dtype=np.int64))
print(json.dumps({
    "writable": jit.CACHE_IS_WRITABLE,
    "packed": room[:used].tolist(),
    "compiled": sum(pack_record.stats.cache_misses.values()),
}))
"""


def run(code: str, *wrapper: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [*wrapper, sys.executable, "-c", code]
    done = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, timeout=550
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def kernels_in(text: str) -> set[str]:
    """Compiled kernels that a process loaded or saved, as Numba tells of them."""
    return {
        Path(path).name
        for path in re.findall(r"\[cache\] data (?:loaded from|saved to) '([^']+)'", text)
    }


@pytest.fixture(scope="module")
def compiled() -> set[str]:
    """What compiling for an image compiles."""
    return kernels_in(run(COMPILE, NUMBA_DEBUG_CACHE="1").stdout)


def unprivileged() -> tuple[str, ...]:
    """Root may write everywhere; without capabilities it is as others are."""
    if os.geteuid():
        return ()
    return ("setpriv", "--bounding-set=-all", "--inh-caps=-all")


@pytest.fixture(scope="module")
def image(compiled: set[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as images have it: with what was compiled, and nothing that may be written."""
    folder = tmp_path_factory.mktemp("image")
    assert jit.CACHE_FOLDER is not None
    shutil.copytree(jit.CACHE_FOLDER, folder / jit.CACHE_FOLDER.name)
    for path in [*folder.rglob("*"), folder]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    return folder


def files(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_an_image_holds_is_used_and_nothing_is_written(image: Path) -> None:
    before = files(image)
    said = json.loads(run(COMPILE, *unprivileged(), NUMBA_CACHE_DIR=str(image)).stdout)
    assert said["writable"] is False
    assert said["found"] > 20
    assert said["compiled"] == 0
    assert files(image) == before


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_on_another_processor_kernels_are_compiled_in_memory(image: Path, tmp_path: Path) -> None:
    before = files(image)
    another = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "HOME": str(tmp_path)}
    for folder in (image, tmp_path / "cannot" / "be" / "made"):
        (tmp_path / "cannot").mkdir(mode=0o555, exist_ok=True)
        done = run(PACK, *unprivileged(), NUMBA_CACHE_DIR=str(folder), **another)
        said = json.loads(done.stdout)
        assert said["packed"] == [-2, 63, *range(1, 70)]
        assert said["writable"] is False
        assert said["compiled"] == 1
    assert files(image) == before
    assert {path.name for path in tmp_path.iterdir()} == {"cannot"}, "not in a home, either"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("backend", ["embedded", "redis"])
def test_a_scorer_needs_no_kernel_that_an_image_lacks(
    compiled: set[str], backend: str, tmp_path: Path
) -> None:
    settings = make_workspace(tmp_path / "workspace")
    environment = {"NUMBA_DEBUG_CACHE": "1", "PYTHONUNBUFFERED": "1"}

    def serve() -> None:
        for start in ("first", "second"):
            server = Server(settings, environment=environment)
            server.start()
            try:
                send([server.url], islice(payments(3, prefix=start, customers=9), 120))
                labels = [fraud_label(f"{start}-5"), fraud_label(f"{start}-early")]
                told = httpx.post(f"{server.url}/labels", json={"labels": labels}, timeout=60)
                assert told.status_code == 200, told.text
                server.stop()  # it leaves a snapshot
            finally:
                server.kill()

    if backend == "embedded":
        serve()
    else:
        with Redis(tmp_path / "redis") as redis, Postgres(tmp_path / "postgres") as postgres:
            environment |= {
                "SENTINEL_LEDGER__URL": postgres.make_database("kernels"),
                "SENTINEL_STATE__BACKEND": "redis",
                "SENTINEL_STATE__REDIS_URL": redis.url,
            }
            serve()
    used = kernels_in((settings.workspace / "server.log").read_text())
    assert used
    assert used - compiled == set()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_first_line_up_is_not_held_up_by_kernels(tmp_path: Path) -> None:
    plan = default_plan()
    settings = make_workspace(tmp_path / "workspace", plan=plan)
    settings = settings.model_copy(
        update={"mlflow": settings.mlflow.model_copy(update={"model_name": "scratch"})}
    )
    install_version(settings, plan, "11")
    challenger = Experiment(name="ab", kind="challenger", version="11", share=0.5)
    environment = {
        "NUMBA_DEBUG_CACHE": "1",
        "PYTHONUNBUFFERED": "1",
        "SENTINEL_MLFLOW__MODEL_NAME": "scratch",
    }
    log = settings.workspace / "server.log"
    with serving(settings, environment=environment) as server:
        numbered = payments(3, prefix="before", customers=40)
        send([server.url], islice(numbered, 60))
        ready = kernels_in(log.read_text())
        change_line_up(
            settings,
            lambda _: LineUp(experiments=(challenger,)),
            by="test",
            why="an experiment",
            at_us=time.time_ns() // 1_000,
        )

        def decides() -> bool:
            answers = send([server.url], islice(numbered, 20))
            return any(answer["model_version"] == "11" for answer in answers.bodies.values())

        wait_until(decides, 60, "the challenger to decide")
        assert kernels_in(log.read_text()) - ready == set()
