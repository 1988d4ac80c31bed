"""What all tests share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests import bytecode, debian, workers

ROOT = Path(__file__).resolve().parent.parent

bytecode.keep_in_a_folder()

# `make test ARGS=...` hands its own arguments to every make below it; a test's make has its own.
for _handed_on in ("ARGS", "MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS"):
    os.environ.pop(_handed_on, None)

# Compiled kernels make a first example slow, so no profile has a deadline. CI draws the same
# examples every time: a failure there can be repeated, and luck decides nothing.
_SLOW_IS_FINE = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile("dev", deadline=None, suppress_health_check=_SLOW_IS_FINE)
settings.register_profile(
    "ci", settings.get_profile("dev"), derandomize=True, database=None, print_blob=True
)
settings.register_profile("thorough", settings.get_profile("dev"), max_examples=2_000)
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if "CI" in os.environ else "dev")
)


def pytest_configure(config: pytest.Config) -> None:
    """Markers, in one place: an unknown one is an error."""
    config.addinivalue_line("markers", "slow: takes more than ten seconds")
    config.addinivalue_line("markers", "browser: opens a page in Chromium")
    config.pluginmanager.register(workers.Plugin(), "sentinel-workers")
    if not hasattr(config, "workerinput"):
        bytecode.forget_temporary_modules()
    if not Path(os.environ["PATH"]).name.startswith(debian.PREFIX):
        folder = debian.path_of_a_bare_machine()
        if folder is not None:
            os.environ["PATH"] = str(folder)
            config.add_cleanup(lambda: shutil.rmtree(folder))


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def handbook_path() -> Path:
    """The Fraud Detection Handbook's raw data as one Parquet file (1,754,155 rows)."""
    named = os.environ.get("HANDBOOK_PARQUET")
    beside = [ROOT / "data", ROOT.parent / "shared" / "data"]
    for path in [Path(named)] if named else [folder / "handbook_raw.parquet" for folder in beside]:
        if path.is_file():
            return path
    pytest.skip("no Handbook data: set HANDBOOK_PARQUET or put data/handbook_raw.parquet here")


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database. Its server syncs nothing, which is quick; crashes are tested on another."""
    from testkit.servers import Postgres  # loads the clients of all servers

    folder = tmp_path_factory.mktemp("postgres")
    with Postgres(folder, settings={"fsync": "off", "synchronous_commit": "off"}) as server:
        yield server.make_database("ledger")
