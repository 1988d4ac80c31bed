"""The SQLite backend: what goes wrong with files, and what Sentinel says then."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sentinel.domain import LedgerUnavailable, WorkspaceError
from sentinel.ledger.sqlite import CHECKPOINT_BYTES, Checkpointer, SqliteLedger
from sentinel.log.entries import GroupKind


def _append(ledger: SqliteLedger, payload: bytes = b"x" * 500, n: int = 1) -> None:
    for _ in range(n):
        ledger.append(GroupKind.DECISIONS, 1, 10, payload)


def test_time_does_not_run_backwards_along_the_log(tmp_path: Path) -> None:
    with SqliteLedger.open_writer(tmp_path / "ledger.db") as ledger:
        ledger.append(GroupKind.DECISIONS, 1, 10, b"x")
        with pytest.raises(ValueError, match="runs backwards: 9 after 10"):
            ledger.append(GroupKind.DECISIONS, 1, 9, b"x")
        assert ledger.last_sequence() == 1


def test_a_file_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE theirs (a)")
    other.close()
    for opening in (SqliteLedger.open_writer, SqliteLedger.open_reader):
        with pytest.raises(WorkspaceError, match="no Sentinel ledger"):
            opening(path)


def test_a_text_file_is_no_ledger(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.write_text("hello " * 1_000)
    for opening in (SqliteLedger.open_writer, SqliteLedger.open_reader):
        with pytest.raises(WorkspaceError, match="not a SQLite database"):
            opening(path)
    assert path.read_text().startswith("hello")


def test_a_ledger_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    SqliteLedger.open_writer(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 2")
    connection.close()
    for opening in (SqliteLedger.open_writer, SqliteLedger.open_reader):
        with pytest.raises(WorkspaceError, match="has format 2, this Sentinel reads 1"):
            opening(path)


def test_a_first_start_that_was_cut_short_starts_again(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.touch()
    with pytest.raises(WorkspaceError, match="cut short"):
        SqliteLedger.open_reader(path)
    with SqliteLedger.open_writer(path) as ledger:
        _append(ledger)


def test_a_ledger_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    paths = [tmp_path / str(number) / "ledger.db" for number in range(50)]

    def read_as_soon_as_it_is_there(path: Path) -> int:
        while not path.exists():
            pass
        with SqliteLedger.open_reader(path) as ledger:
            return ledger.last_sequence()

    with ThreadPoolExecutor(1) as reading:
        for path in paths:
            read = reading.submit(read_as_soon_as_it_is_there, path)
            SqliteLedger.open_writer(path).close()
            assert read.result() == 0
    assert not list(tmp_path.glob("*/.*"))


def test_what_a_start_cut_short_left_is_not_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    partial = SqliteLedger.open_writer(tmp_path / ".ledger.db.partial")
    _append(partial)
    for suffix in ("", "-wal"):
        shutil.copy(f"{partial.path}{suffix}", f"{partial.path}{suffix}.copy")
    partial.close()
    for suffix in ("", "-wal"):
        Path(f"{partial.path}{suffix}.copy").replace(f"{partial.path}{suffix}")
    with SqliteLedger.open_writer(path) as ledger:
        assert ledger.last_sequence() == 0


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "workspace").touch()
    with pytest.raises(WorkspaceError, match="Cannot write in the folder"):
        SqliteLedger.open_writer(tmp_path / "workspace" / "ledger.db")


def test_a_damaged_ledger_says_so(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with SqliteLedger.open_writer(path) as ledger:
        _append(ledger, b"x" * 3_000, 50)
    content = bytearray(path.read_bytes())
    content[4096:] = os.urandom(len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises((WorkspaceError, LedgerUnavailable), match="damaged"):
        list(SqliteLedger.open_reader(path).groups())


def test_a_locked_ledger_says_so(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with SqliteLedger.open_writer(path) as ledger:
        _append(ledger)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerUnavailable, match="another process holds a lock"):
            _append(ledger)
        other.execute("ROLLBACK")
        other.close()
        _append(ledger)
        assert ledger.last_sequence() == 2


def test_a_crash_of_the_writer_frees_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    script = textwrap.dedent(
        """
        import os, sys
        from pathlib import Path
        from sentinel.ledger.sqlite import SqliteLedger
        ledger = SqliteLedger.open_writer(Path(sys.argv[1]))
        os.kill(os.getpid(), 9)
        """
    )
    assert subprocess.run([sys.executable, "-c", script, str(path)]).returncode == -9
    SqliteLedger.open_writer(path).close()


def test_a_reader_works_after_the_writer_crashed(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    script = textwrap.dedent(
        """
        import os, sys
        from pathlib import Path
        from sentinel.log.entries import GroupKind
        from sentinel.ledger.sqlite import SqliteLedger
        ledger = SqliteLedger.open_writer(Path(sys.argv[1]))
        for i in range(5):
            ledger.append(GroupKind.DECISIONS, 1, i, b"x")
        os.kill(os.getpid(), 9)
        """
    )
    subprocess.run([sys.executable, "-c", script, str(path)])
    with SqliteLedger.open_reader(path) as reader:
        assert len(list(reader.groups())) == 5


def test_the_write_ahead_log_stays_small_without_help(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with SqliteLedger.open_writer(path) as ledger:
        _append(ledger, b"x" * 100_000, 4 * CHECKPOINT_BYTES // 100_000)
        assert path.with_name("ledger.db-wal").stat().st_size < 2 * CHECKPOINT_BYTES


def test_a_checkpointer_moves_groups_into_the_file_beside_the_writer(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with SqliteLedger.open_writer(path) as ledger:
        _append(ledger, b"x" * 100_000, 20)
        before = path.stat().st_size
        checkpointer = Checkpointer(path)
        checkpointer.run()
        assert path.stat().st_size >= before + 20 * 100_000
        _append(ledger)
        checkpointer.close()
        assert len(list(ledger.groups())) == 21


_FULL_DISK = """
import resource, sys
from pathlib import Path
from sentinel.domain import LedgerUnavailable
from sentinel.log.entries import GroupKind
from sentinel.ledger.sqlite import SqliteLedger

path = Path(sys.argv[1])
ledger = SqliteLedger.open_writer(path)
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
appended = 0
try:
    while True:
        ledger.append(GroupKind.DECISIONS, 1, appended, b"%06d" % appended + b"x" * 6_000)
        appended += 1
except LedgerUnavailable as error:
    print(error)
assert ledger.last_sequence() == appended
assert len(list(ledger.groups())) == appended
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
if sys.argv[2] == "go on":
    again = ledger.append(GroupKind.DECISIONS, 1, appended, b"%06d" % appended)
    assert again.first_sequence == appended + 1
    appended += 1
print(appended, flush=True)
import os
import shutil
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("then", ["go on", "crash"])
def test_a_file_that_cannot_grow_appends_nothing_and_loses_nothing(
    tmp_path: Path, then: str
) -> None:
    path = tmp_path / "ledger.db"
    result = subprocess.run(
        [sys.executable, "-c", _FULL_DISK, str(path), then], capture_output=True, text=True
    )
    assert result.returncode == -9, result.stderr
    message, appended = result.stdout.splitlines()
    assert "Cannot append a group to" in message
    assert "disk" in message
    with SqliteLedger.open_reader(path) as reader:
        numbers = [int(group.payload[:6]) for group in reader.groups()]
    assert numbers == list(range(int(appended)))
    assert len(numbers) > 10


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk_says_so_and_can_be_freed(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        ballast = disk / "ballast"
        ballast.write_bytes(b"x" * 400_000)
        with SqliteLedger.open_writer(disk / "ledger.db") as ledger:
            with pytest.raises(LedgerUnavailable, match="the disk is full; free some space"):
                _append(ledger, n=10_000)
            appended = ledger.last_sequence()
            assert len(list(ledger.groups())) == appended
            ballast.unlink()
            _append(ledger)
            assert ledger.last_sequence() == appended + 1
        with SqliteLedger.open_reader(disk / "ledger.db") as reader:
            assert len(list(reader.groups())) == appended + 1
    finally:
        subprocess.run(["umount", str(disk)], check=True)


_READ_ONLY = """
import os, sys
from pathlib import Path
from sentinel.domain import WorkspaceError
from sentinel.log.entries import GroupKind
from sentinel.ledger.sqlite import SqliteLedger

if os.geteuid() == 0:
    os.setuid(65534)  # root may write anything
path = Path(sys.argv[1]) / "ledger.db"
with SqliteLedger.open_writer(path) as ledger:
    ledger.append(GroupKind.DECISIONS, 1, 1, b"x")
path.chmod(0o444)
for _ in range(2):
    try:
        SqliteLedger.open_writer(path)
    except WorkspaceError as error:
        print(error)
with SqliteLedger.open_reader(path) as reader:
    assert len(list(reader.groups())) == 1
"""


def test_a_read_only_ledger_says_so_and_can_be_read() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        result = subprocess.run(
            [sys.executable, "-c", _READ_ONLY, folder], capture_output=True, text=True
        )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("read-only; make it writable") == 2
