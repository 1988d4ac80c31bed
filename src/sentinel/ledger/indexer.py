"""Keeps the index up with the ledger, in a process of its own beside the scorer.

    python -m sentinel.ledger.indexer --ledger LEDGER --index INDEX

It ends on SIGTERM or SIGINT, and when the process that started it is gone.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Final

from sentinel.arrow_alone import keep_pandas_out
from sentinel.domain import ConfigurationError, LedgerUnavailable
from sentinel.ledger.index import LedgerIndex
from sentinel.ledger.open import DEFAULT_NAMESPACE, checkpointer_of, named_exists, open_named
from sentinel.private_files import keep_files_private
from sentinel.telemetry.log_setup import set_up_as_child

log = logging.getLogger("sentinel.indexer")

BUSY_SECONDS: Final = 0.2
"""Pause while entries come in: long enough for them to gather, which makes each one cheaper."""
IDLE_SECONDS: Final = 0.25
"""Longest pause, and so the time a new decision may stay unseen after a quiet spell."""
TROUBLE_SECONDS: Final = 2.0
"""Pause after an error that may pass, such as a full disk."""
CHECKPOINT_SECONDS: Final = 1.0
_NICENESS: Final = 5
"""Where processors are short, decisions go first; it still gets a quarter of one."""


def follow(
    ledger: str,
    index_path: Path,
    stop: threading.Event,
    parent: int | None,
    namespace: str = DEFAULT_NAMESPACE,
) -> None:
    """Keep the index up with the ledger until told to stop.

    Args:
        ledger: Path or URL of the ledger; waited for where it does not exist yet.
        index_path: The index; made where it does not exist yet.
        stop: Ends it.
        parent: Ends it, too, once the parent is another process than this; None to go on alone.
        namespace: PostgreSQL schema of the ledger's tables.

    Raises:
        ConfigurationError: Ledger or index is something else, or of another version.
    """
    while not _told_to_stop(stop, 0.0, parent):
        try:
            if named_exists(ledger, namespace):
                _follow_until_trouble(ledger, namespace, index_path, stop, parent)
            elif _told_to_stop(stop, IDLE_SECONDS, parent):
                return
        except LedgerUnavailable as error:
            log.warning("%s Trying again in %g s.", error, TROUBLE_SECONDS)
            if _told_to_stop(stop, TROUBLE_SECONDS, parent):
                return


def _follow_until_trouble(
    named: str, namespace: str, index_path: Path, stop: threading.Event, parent: int | None
) -> None:
    ledger = open_named(named, namespace)
    checkpointer = checkpointer_of(named)
    index: LedgerIndex | None = None
    try:
        index = LedgerIndex(index_path, ledger)
        pause = BUSY_SECONDS
        checkpointed = time.monotonic()
        unchecked = 0
        while True:
            indexed = index.catch_up(limit=50_000)
            unchecked += indexed
            if (
                checkpointer is not None
                and unchecked
                and time.monotonic() - checkpointed >= CHECKPOINT_SECONDS
            ):
                checkpointer.run()
                checkpointed, unchecked = time.monotonic(), 0
            pause = BUSY_SECONDS if indexed else min(pause * 1.25, IDLE_SECONDS)
            if _told_to_stop(stop, pause, parent):
                return
    finally:
        if index is not None:
            index.close()
        if checkpointer is not None:
            checkpointer.close()
        ledger.close()


def _told_to_stop(stop: threading.Event, wait_seconds: float, parent: int | None) -> bool:
    return stop.wait(wait_seconds) or (parent is not None and os.getppid() != parent)


def main() -> None:
    """Run as a process."""
    keep_files_private()
    keep_pandas_out()
    parser = argparse.ArgumentParser(prog="sentinel.ledger.indexer", description=__doc__)
    parser.add_argument("--ledger", required=True, help="SQLite file or URL of the ledger")
    parser.add_argument(
        "--namespace", default=DEFAULT_NAMESPACE, help="PostgreSQL schema of the ledger's tables"
    )
    parser.add_argument("--index", type=Path, required=True, help="SQLite file of the index")
    parser.add_argument(
        "--parent",
        type=int,
        default=os.getppid(),
        help="end when this process is gone (default: the one that starts the indexer)",
    )
    arguments = parser.parse_args()
    set_up_as_child("indexer")
    os.nice(_NICENESS)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        follow(arguments.ledger, arguments.index, stop, arguments.parent, arguments.namespace)
    except ConfigurationError as error:
        sys.exit(f"sentinel.indexer: {error}")


if __name__ == "__main__":
    main()
