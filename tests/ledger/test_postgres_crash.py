"""Several processes append to PostgreSQL while it, or one of them, is killed: nothing is lost."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import pytest

from sentinel.domain import LedgerUnavailable
from sentinel.ledger.database import Database
from sentinel.ledger.postgres import PostgresLedger
from sentinel.log.entries import entries_of
from testkit.servers import Postgres
from tests.ledger.backends import PostgresBackend
from tests.ledger.material import NOON_US
from tests.ledger.test_postgres import decide

_WRITER = """
import os, sys
from sentinel.ledger.database import Database
from sentinel.log.entries import GroupKind, encode_group
from sentinel.ledger.postgres import PostgresLedger
from tests.ledger.material import NOON_US, decision_group, transaction

url, namespace, first, groups, stop = sys.argv[1:]
number = int(first)
ledger = PostgresLedger.open_writer(Database(url, namespace, retry_seconds=60.0), exclusive=False)
os.write(1, b"ready\\n")
for i in range(int(groups)):
    if os.path.exists(stop):
        break
    size = 1 + i % 3
    decided = [transaction(number + j, NOON_US + number % 1000) for j in range(size)]
    payload = encode_group(decision_group(decided))
    os.write(1, b"try %d %d\\n" % (number, size))
    done = ledger.append(GroupKind.DECISIONS, size, decided[-1].received_at_us, payload)
    os.write(1, b"ack %d %d %d\\n" % (number, size, done.first_sequence))
    number += size
"""


class Writer:
    """A process that appends groups of transactions with numbers of its own."""

    def __init__(self, database: Database, place: int, folder: Path, groups: int) -> None:
        self.first = 1_000_000 * (place + 1)
        self._output = folder / f"writer-{place}-{time.monotonic_ns()}"
        arguments = (database.url, database.namespace, self.first, groups, folder / "stop")
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _WRITER, *map(str, arguments)], stdout=output
            )

    def lines(self, word: str) -> list[tuple[int, ...]]:
        """What it wrote: numbers after ``try`` (first, size) or ``ack`` (and sequence)."""
        text = self._output.read_text()
        found = (line.split() for line in text.splitlines(keepends=True) if line.endswith("\n"))
        return [tuple(map(int, numbers)) for start, *numbers in found if start == word]

    def wait_ready(self) -> None:
        while not self._output.read_text().startswith("ready"):
            assert self.process.poll() is None
            time.sleep(0.02)


def check(database: Database, writers: list[Writer], *, unanswered: int) -> int:
    """Hold the log against what writers were told; returns the number of its entries.

    Args:
        database: The ledger's.
        writers: All that wrote.
        unanswered: How many groups may be in the log although their writer was not told.
    """
    with PostgresLedger.open_reader(database) as ledger:
        groups = list(ledger.groups())
    end, time_us = 0, 0
    found: dict[int, int] = {}
    of_writer: dict[int, list[int]] = defaultdict(list)
    for group in groups:
        assert group.first_sequence == end + 1, "a hole or an overlap"
        end += group.entries
        assert (group.received_at_us >= time_us, group.floor_us) == (True, time_us)
        time_us = group.received_at_us
        for sequence, entry in enumerate(entries_of(group), group.first_sequence):
            number = int(entry.transaction_id.removeprefix("tx-"))
            assert number not in found, "twice"
            found[number] = sequence
            of_writer[number // 1_000_000].append(number)
    for numbers in of_writer.values():
        assert numbers == sorted(numbers), "another order than the writer's"
    told: set[int] = set()
    for writer in writers:
        for first, size, sequence in writer.lines("ack"):
            for place in range(size):
                assert found[first + place] == sequence + place, "lost, or elsewhere"
                told.add(first + place)
    silent = [number for number in found if number not in told]
    tried = {first for writer in writers for first, _ in writer.lines("try")}
    assert sum(number in tried for number in silent) <= unanswered
    return end


def test_processes_append_at_once_without_hole_or_duplicate(
    postgres: PostgresBackend, tmp_path: Path
) -> None:
    writers = [Writer(postgres.database, place, tmp_path, 90) for place in range(3)]
    for writer in writers:
        assert writer.process.wait(300) == 0
    assert check(postgres.database, writers, unanswered=0) == 3 * 180


def test_killed_writers_leave_whole_groups(postgres: PostgresBackend, tmp_path: Path) -> None:
    postgres.open_shared().close()
    chance = random.Random(5)
    writers = [Writer(postgres.database, place, tmp_path, 1_000_000) for place in range(3)]
    for writer in writers:
        writer.wait_ready()
    for writer in writers:
        time.sleep(chance.uniform(0.1, 0.5))
        writer.process.kill()
        writer.process.wait()
    with postgres.open_writer() as last:
        time.sleep(0.2)  # a statement that was under way may still be carried out
        assert check(postgres.database, writers, unanswered=3) == last.last_sequence() > 3


@pytest.mark.slow
def test_postgres_is_killed_under_load_and_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    chance = random.Random(11)
    with Postgres(tmp_path / "server") as server:
        database = Database(server.make_database("ledger"))
        PostgresLedger.open_writer(database, exclusive=False).close()
        writers = [Writer(database, place, tmp_path, 1_000_000) for place in range(3)]
        for writer in writers:
            writer.wait_ready()
        with PostgresLedger.open_reader(database) as reader:
            for _ in range(3):
                time.sleep(chance.uniform(0.4, 1.2))
                server.kill()
                with pytest.raises(LedgerUnavailable, match=r"does not answer|57P0"):
                    reader.last_sequence()
                time.sleep(chance.uniform(0.0, 0.5))
                server.start()
                assert reader.last_sequence() > 0, "a reader comes back by itself"
            server.restart()
            time.sleep(1.0)
        (tmp_path / "stop").touch()
        for writer in writers:
            assert writer.process.wait(300) == 0, "a writer gave up"
        acknowledged = sum(size for writer in writers for _, size, _ in writer.lines("ack"))
        assert check(database, writers, unanswered=0) == acknowledged > 100


def test_a_database_that_stays_away_is_given_up_in_time(tmp_path: Path) -> None:
    with Postgres(tmp_path / "server", settings={"fsync": "off"}) as server:
        database = Database(server.make_database("ledger"), retry_seconds=1.0)
        with PostgresLedger.open_writer(database, exclusive=True) as ledger:
            decide(ledger, 1)
            server.kill()
            started = time.monotonic()
            with pytest.raises(LedgerUnavailable, match="does not answer"):
                decide(ledger, 2)
            assert time.monotonic() - started >= 1.0
            server.start()
            assert decide(ledger, 2, at=NOON_US + 1).first_sequence == 2
