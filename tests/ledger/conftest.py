"""The ledgers that the contract is checked on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from sentinel.ledger.base import Ledger
from sentinel.ledger.sqlite import SqliteLedger
from tests.ledger.material import fill, new_ledger


class Backend(Protocol):
    """A place for one ledger."""

    def open_writer(self) -> Ledger: ...

    def open_reader(self) -> Ledger: ...


class SqliteBackend:
    def __init__(self, folder: Path) -> None:
        self.path = folder / "ledger.db"

    def open_writer(self) -> Ledger:
        return SqliteLedger.open_writer(self.path)

    def open_reader(self) -> Ledger:
        return SqliteLedger.open_reader(self.path)


BACKENDS: dict[str, Callable[[Path], Backend]] = {
    "sqlite": SqliteBackend,
}


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    return BACKENDS[request.param](tmp_path)


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[SqliteLedger]:
    """A ledger with a little of everything, see `fill`."""
    with new_ledger(tmp_path) as ledger:
        fill(ledger)
        yield ledger
