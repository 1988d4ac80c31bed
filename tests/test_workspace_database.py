"""Small files of a workspace are made whole, by whoever needs them first."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sentinel.workspace_database import WorkspaceDatabase

TABLES = "".join(f"CREATE TABLE t{number} (a INTEGER PRIMARY KEY) STRICT;" for number in range(20))


def test_threads_that_need_a_file_at_the_same_moment_make_one(tmp_path: Path) -> None:
    for attempt in range(5):
        file = WorkspaceDatabase(
            tmp_path / f"{attempt}.db", 0x534E5458, 1, TABLES, "notes", "notes"
        )
        together = threading.Barrier(4)

        def add(
            number: int, file: WorkspaceDatabase = file, at: threading.Barrier = together
        ) -> None:
            at.wait()
            file.make()
            with file.open("rw") as connection:
                assert connection is not None
                connection.execute("INSERT INTO t19 VALUES (?)", (number,))

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(add, range(4)))
        with file.open("ro") as connection:
            assert connection is not None
            assert connection.execute("SELECT count(*) FROM t19").fetchone() == (4,)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{n}.db" for n in range(5)]
