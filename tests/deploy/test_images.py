"""Images are made from locks, run as nobody in particular, and hold only what they need."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "deploy" / "images"
DOCKERFILES = sorted(IMAGES.glob("*.Dockerfile"))
HEAVY = {"apache-airflow", "feast", "mlflow", "pandas", "scikit-learn", "streamlit", "lightgbm"}


def locked(lock: str) -> set[str]:
    text = (ROOT / "requirements" / f"{lock}.txt").read_text()
    return set(re.findall(r"^([a-z0-9._-]+)(?:\[[^]]*\])?==", text, re.MULTILINE))


def test_there_is_an_image_for_each_service_that_is_ours() -> None:
    assert {path.stem for path in DOCKERFILES} == {
        "airflow",
        "api",
        "dashboard",
        "mlflow",
        "pipeline",
    }


def test_the_linter_finds_nothing() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, *DOCKERFILES], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_an_image_is_built_from_a_lock_and_does_not_run_as_root(path: Path) -> None:
    text = path.read_text()
    (lock,) = re.findall(r"image_environment\.py packages (\S+) ", text)
    assert f"requirements/{lock}.txt" in text
    last = text.rpartition("\nFROM ")[2]
    assert re.search(r"^USER (?!0\b|root\b)\d+:\d+$", last, re.MULTILINE)
    assert "pip install" not in text
    assert "apt-get" not in text
    assert re.search(r"^HEALTHCHECK ", last, re.MULTILINE)


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_everything_an_image_copies_is_in_its_build_context(path: Path) -> None:
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    let_in = {line[1:] for line in ignore if line.startswith("!")}
    for line in re.findall(r"^COPY (?!--from)(.+)$", path.read_text(), re.MULTILINE):
        *sources, _target = line.split()
        for source in sources:
            assert source in let_in or source.partition("/")[0] in let_in, source
            assert (ROOT / source).exists(), source


@pytest.mark.parametrize("name", ["api", "pipeline", "airflow"])
def test_kernels_are_compiled_into_the_image_and_read_only_there(name: str) -> None:
    build, _, last = (IMAGES / f"{name}.Dockerfile").read_text().rpartition("\nFROM ")
    compiled = re.search(r"NUMBA_CACHE_DIR=(\S+) \S+ -m sentinel\.\S+\.compile_kernels", build)
    assert compiled is not None
    assert f"NUMBA_CACHE_DIR={compiled[1]} " in last
    assert compiled[1].startswith("/opt/sentinel/")
    assert "COPY --from=build /opt/sentinel /opt/sentinel\n" in last, "as root made it"
    assert compiled[1] not in "".join(re.findall(r"install -d[^\n]*(?:\\\n[^\n]*)*", last))
    volumes = yaml.safe_load((ROOT / "deploy/compose/compose.yaml").read_text())["services"]
    for service in volumes.values():
        for volume in service.get("volumes", []):
            assert not volume.split(":")[1:2] or not volume.split(":")[1].startswith(
                "/opt/sentinel"
            )


def test_a_scorers_image_holds_none_of_the_heavy_packages() -> None:
    assert not locked("api") & HEAVY
    assert {"numba", "psycopg", "redis", "uvicorn"} <= locked("api")
    assert not locked("dashboard") & {"apache-airflow", "feast", "mlflow", "lightgbm"}
    assert not locked("mlflow") & {"apache-airflow", "feast", "streamlit", "lightgbm"}


WITHOUT = """
import sys

class Absent:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent)
for module in {modules!r}:
    __import__(module)
"""


@pytest.mark.parametrize(
    ("lock", "modules"),
    [
        (
            "api",
            [
                "sentinel.api.server",
                "sentinel.cli.main",
                "sentinel.cli.services",
                "sentinel.ledger.indexer",
                "sentinel.scoring.compile_kernels",
                "sentinel.pipeline.follow",
            ],
        ),
        ("dashboard", ["sentinel.dashboard.live", "sentinel.cli.main", "sentinel.cli.services"]),
        ("mlflow", ["sentinel.pipeline.mlflow_server", "sentinel.cli.main"]),
    ],
)
def test_a_service_runs_with_what_is_in_its_lock(lock: str, modules: list[str]) -> None:
    names = locked(lock) | {"sentinel-fraud"}
    absent = {
        module
        for module, owners in importlib.metadata.packages_distributions().items()
        if not names & {re.sub(r"[-_.]+", "-", owner).lower() for owner in owners}
    }
    assert "pytest" in absent
    code = WITHOUT.format(absent=absent, modules=modules)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, f"requirements/{lock}.in misses something:\n{done.stderr}"
