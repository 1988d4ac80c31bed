"""The state of another plan, replayed in a process of its own while this one decides.

    python -m sentinel.scoring.state_beside --ledger LEDGER --index INDEX --plan PLAN --state FOLDER

Replaying a million entries takes a processor for a minute, and the interpreter with it. Where that
happens beside payments, another process does it in spare time and leaves a snapshot, from which
the scorer goes on. The process ends early when the one that started it is gone.
"""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from sentinel.arrow_alone import keep_pandas_out
from sentinel.domain import SentinelError
from sentinel.features.plan.plan import Plan
from sentinel.features.plan.program import compile_program
from sentinel.ledger.base import Ledger
from sentinel.ledger.index import LedgerIndex
from sentinel.ledger.open import DEFAULT_NAMESPACE, named_on_command_line, open_named
from sentinel.ledger.timeline import LogOf
from sentinel.private_files import keep_files_private
from sentinel.scoring.recovery import recover
from sentinel.settings import Settings
from sentinel.spare_time import lower_priority
from sentinel.state.embedded import sound_snapshot
from sentinel.telemetry.log_setup import set_up_as_child
from sentinel.telemetry.safe_errors import shown

log = logging.getLogger(__name__)

FEW_ENTRIES: Final = 20_000
"""A scorer replays so many itself: starting a process takes longer."""


def make_snapshot(settings: Settings, plan: Plan, ledger: Ledger) -> None:
    """Have a process write a snapshot of a plan's state, unless a recent one is there. Waits.

    If the process fails, a warning says why, and whoever opens the state replays the log itself.

    Args:
        settings: The deployment; its ledger has an index.
        plan: Which plan.
        ledger: The log, to see whether a snapshot is of it.
    """
    least = max(ledger.last_sequence() - FEW_ENTRIES, 0)
    folder = settings.state_dir
    if not least or sound_snapshot(compile_program(plan), folder, LogOf(ledger), least=least):
        return
    path = folder / f"{plan.hash}.{os.getpid()}.plan.json"
    named, environment = named_on_command_line(settings)
    command = [sys.executable, "-m", __name__, *named, "--index", str(settings.index_path)]
    command += ["--plan", str(path), "--state", str(folder), "--parent", str(os.getpid())]
    try:
        plan.save(path)
        ended = subprocess.run(
            command, env=dict(environment), stderr=subprocess.PIPE, text=True, check=False
        )
    except OSError as error:
        log.warning("State is replayed in this process: no other could be started (%s).", error)
        return
    finally:
        path.unlink(missing_ok=True)
    if ended.returncode:
        log.warning(
            "State is replayed in this process: the one beside it ended with %d. %s",
            ended.returncode,
            ended.stderr[-2000:].strip(),
        )


def main() -> None:
    """Run as a process."""
    keep_files_private()
    keep_pandas_out()
    set_up_as_child("state-beside")
    parser = argparse.ArgumentParser(prog=__name__, description=__doc__)
    parser.add_argument("--ledger", required=True, help="SQLite file or URL of the ledger")
    parser.add_argument("--namespace", default=DEFAULT_NAMESPACE, help="PostgreSQL schema")
    parser.add_argument("--index", type=Path, required=True, help="SQLite file of the index")
    parser.add_argument("--plan", type=Path, required=True, help="the plan, as JSON")
    parser.add_argument("--state", type=Path, required=True, help="folder of snapshots")
    parser.add_argument("--parent", type=int, required=True, help="end when this process is gone")
    arguments = parser.parse_args()

    def go_on(_done: int, _all: int) -> None:
        if os.getppid() != arguments.parent:
            sys.exit("the scorer is gone")

    try:
        ledger = open_named(arguments.ledger, arguments.namespace)
        index = LedgerIndex(arguments.index, ledger)
        index.catch_up()  # labels may be about transactions that are not indexed yet
        lower_priority()  # only now: others wait while this one writes into the index
        program = compile_program(Plan.load(arguments.plan))
        state = recover(
            program,
            ledger,
            arguments.state,
            index.transaction,
            progress=go_on,
            threads=1,  # another processor stays free for payments
        )
        state.freeze(copy=False).write(arguments.state, leisurely=True)
    except (SentinelError, OSError) as error:
        sys.exit(shown(error))


if __name__ == "__main__":
    main()
