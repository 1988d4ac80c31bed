"""The ledgers that tests are given."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sentinel.ledger.base import Ledger
from sentinel.ledger.sqlite import SqliteLedger
from tests.ledger.backends import Backend, PostgresBackend, SqliteBackend
from tests.ledger.material import fill, new_ledger


@pytest.fixture
def postgres(postgres_url: str) -> PostgresBackend:
    return PostgresBackend(postgres_url)


@pytest.fixture(params=["sqlite", "postgres"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    """Each backend in turn."""
    if request.param == "sqlite":
        return SqliteBackend(tmp_path)
    made: Backend = request.getfixturevalue("postgres")
    return made


@pytest.fixture
def ledger(backend: Backend) -> Iterator[Ledger]:
    """An empty ledger of each backend in turn, to append to."""
    with backend.open_writer() as opened:
        yield opened


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[SqliteLedger]:
    """A ledger with a little of everything, see `fill`."""
    with new_ledger(tmp_path) as ledger:
        fill(ledger)
        yield ledger
