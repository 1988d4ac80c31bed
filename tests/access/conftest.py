"""The places that keep keys, each in turn."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from sentinel.access.keys import Pepper
from sentinel.access.postgres import PostgresKeys
from sentinel.access.sqlite import SqliteKeys
from sentinel.access.store import KeyStore
from sentinel.ledger.database import Database

_numbers = itertools.count()


@pytest.fixture
def pepper() -> Pepper:
    return Pepper(b"0123456789abcdef")


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[KeyStore]:
    """An empty store of each kind in turn."""
    made: KeyStore
    if request.param == "sqlite":
        made = SqliteKeys(tmp_path / "keys.db")
    else:
        url: str = request.getfixturevalue("postgres_url")
        made = PostgresKeys(Database(url, f"keys_{next(_numbers)}"))
    yield made
    made.close()
