"""The indexer as a process: it follows, it is light, and it ends when it should."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sentinel.ledger.index import LedgerIndex
from sentinel.ledger.sqlite import SqliteLedger
from tests.ledger.material import NOON_US, append_decisions, append_history, new_ledger, transaction

Start = Callable[[Path], subprocess.Popen[bytes]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts the indexer of a folder's ledger; what still runs after the test is ended."""
    with contextlib.ExitStack() as started:

        def one(folder: Path) -> subprocess.Popen[bytes]:
            indexer = subprocess.Popen(
                [
                    *(sys.executable, "-m", "sentinel.ledger.indexer"),
                    *("--ledger", str(folder / "ledger.db"), "--index", str(folder / "index.db")),
                ],
                stderr=subprocess.PIPE,
            )
            started.enter_context(indexer)
            started.callback(indexer.kill)
            return indexer

        yield one


def _until(condition: Callable[[], bool], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def test_it_follows_the_ledger_until_terminated(tmp_path: Path, start: Start) -> None:
    with new_ledger(tmp_path) as ledger:
        append_history(ledger, [transaction(0, NOON_US)])
        indexer = start(tmp_path)
        index = LedgerIndex(tmp_path / "index.db", ledger)
        _until(lambda: index.indexed_through == 1)
        append_decisions(ledger, [transaction(i, NOON_US) for i in range(1, 50)])
        _until(lambda: index.indexed_through == 50)
        indexer.send_signal(signal.SIGTERM)
        _, errors = indexer.communicate(timeout=300)
        assert (indexer.returncode, errors) == (0, b"")
        index.close()


def test_killed_at_random_it_goes_on_where_it_was(tmp_path: Path, start: Start) -> None:
    with new_ledger(tmp_path) as ledger:
        for i in range(6):
            indexer = start(tmp_path)
            for j in range(20):
                append_decisions(ledger, [transaction(100 * i + j, NOON_US)])
            time.sleep(0.1 * i)
            indexer.kill()
            indexer.communicate()
        index = LedgerIndex(tmp_path / "index.db", ledger)
        index.catch_up()
        assert len(index.decisions_page(limit=1000).decisions) == 120
        index.close()


def test_it_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    new_ledger(tmp_path).close()
    script = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-m', 'sentinel.ledger.indexer',\n"
        "    '--ledger', sys.argv[1], '--index', sys.argv[2]])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    index = tmp_path / "index.db"
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "ledger.db"), str(index)],
        stdout=subprocess.PIPE,
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    _until(index.exists)
    parent.kill()
    parent.communicate()
    _until(lambda: not _running(child))


def _running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_it_loads_what_it_needs_and_no_more(tmp_path: Path) -> None:
    with new_ledger(tmp_path) as ledger:
        append_decisions(ledger, [transaction(1, NOON_US)])
    script = (
        "import sys; from pathlib import Path\n"
        "import sentinel.ledger.indexer\n"
        "from sentinel.ledger.index import LedgerIndex\n"
        "from sentinel.ledger.sqlite import SqliteLedger\n"
        "index = LedgerIndex(Path(sys.argv[2]), SqliteLedger.open_reader(Path(sys.argv[1])))\n"
        "assert index.catch_up() == 1\n"
        "heavy = {'pandas', 'pyarrow', 'numba', 'pydantic', 'feast', 'mlflow'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)\n"
    )
    paths = [str(tmp_path / "ledger.db"), str(tmp_path / "index.db")]
    result = subprocess.run([sys.executable, "-c", script, *paths], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_it_waits_for_a_ledger_that_is_not_there_yet(tmp_path: Path, start: Start) -> None:
    indexer = start(tmp_path)
    time.sleep(0.5)
    with new_ledger(tmp_path) as ledger:
        append_decisions(ledger, [transaction(1, NOON_US)])
        index = LedgerIndex(tmp_path / "index.db", ledger)
        _until(lambda: index.indexed_through == 1)
        index.close()
    indexer.terminate()
    indexer.communicate(timeout=300)
    assert indexer.returncode == 0


@pytest.mark.parametrize("broken", ["ledger.db", "index.db"])
def test_a_file_of_another_kind_ends_it_with_a_word(
    tmp_path: Path, start: Start, broken: str
) -> None:
    with new_ledger(tmp_path) as ledger:
        append_decisions(ledger, [transaction(1, NOON_US)])
    for suffix in ("", "-wal", "-shm"):
        (tmp_path / (broken + suffix)).unlink(missing_ok=True)
    (tmp_path / broken).write_text("hello " * 1_000)
    indexer = start(tmp_path)
    _, errors = indexer.communicate(timeout=300)
    assert indexer.returncode == 1
    assert b"not a SQLite database" in errors
    assert b"Traceback" not in errors


def test_a_checkpoint_leaves_what_was_read_in_place(tmp_path: Path, start: Start) -> None:
    with new_ledger(tmp_path) as ledger:
        append_decisions(ledger, [transaction(1, NOON_US)])
        indexer = start(tmp_path)
        _until((tmp_path / "index.db").exists)
        before = ledger.path.stat().st_size
        for i in range(2, 60):
            append_decisions(ledger, [transaction(i, NOON_US)])
        _until(lambda: ledger.path.stat().st_size > before)
        with SqliteLedger.open_reader(ledger.path) as reader:
            assert len(list(reader.groups())) == 59
        os.kill(indexer.pid, signal.SIGINT)
        indexer.communicate(timeout=300)
        assert indexer.returncode == 0
