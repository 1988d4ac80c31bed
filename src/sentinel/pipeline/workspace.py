"""Opening the parts of a workspace that the jobs work on, and keeping two jobs apart."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from sentinel.domain import WorkspaceError
from sentinel.ledger.base import Ledger
from sentinel.ledger.open import open_reader, open_writer
from sentinel.settings import Settings

PROMOTION_WAIT_SECONDS: Final = 10.0
"""How long a promotion waits for who holds its lock only for a moment, such as a follower that is
telling the registry of a rollback."""

_PROMOTION_LOCK: Final = "promotion.lock"


def ledger_writer(settings: Settings) -> Ledger:
    """The ledger, to append to; use it in a ``with`` block.

    Raises:
        WorkspaceError: Another process appends to it, most likely a scorer that runs.
        LedgerUnavailable: The disk is full or failing.
    """
    return open_writer(settings)


def ledger_reader(settings: Settings) -> Ledger:
    """The ledger, to read, whether or not a scorer runs; use it in a ``with`` block.

    Raises:
        WorkspaceError: There is no ledger yet.
        LedgerUnavailable: It cannot be read right now.
    """
    return open_reader(settings)


def open_to_others(workspace: Path) -> list[Path]:
    """Files and folders of a workspace that other users of the machine could read or change.

    Links are left out: they have no mode of their own.
    """
    found = []
    for path in (workspace, *workspace.rglob("*")):
        try:
            mode = path.lstat().st_mode
        except OSError:  # gone meanwhile
            continue
        if mode & 0o077 and not stat.S_ISLNK(mode):
            found.append(path)
    return found


def close_to_others(workspace: Path) -> int:
    """Take from others what rights they have on a workspace's files; returns on how many.

    Raises:
        WorkspaceError: A file belongs to another user.
    """
    found = open_to_others(workspace)
    for path in found:
        try:
            path.chmod(stat.S_IMODE(path.stat().st_mode) & 0o700)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise WorkspaceError(
                f"Other users can read {path}, and it is not ours to change ({error}). Let its "
                f"owner do it: `chmod -R go-rwx {workspace}`."
            ) from None
    return len(found)


@contextmanager
def only_one(path: Path, job: str, *, wait_seconds: float = 0.0) -> Iterator[None]:
    """Hold a lock file, so that no second process does the same job.

    Args:
        path: The lock file.
        job: What it guards, for the message.
        wait_seconds: How long another one may hold it.

    Raises:
        WorkspaceError: Another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, timeout=wait_seconds)
    try:
        lock.acquire()
    except Timeout:
        raise WorkspaceError(
            f"Another process is doing the same: {job}. Wait until it is done, or stop it."
        ) from None
    try:
        yield
    finally:
        lock.release()


def only_promotion(
    settings: Settings, *, wait_seconds: float = PROMOTION_WAIT_SECONDS
) -> AbstractContextManager[None]:
    """Hold this while changing who is champion in the registry, or what is said of a version.

    What is changed is read within: another one may have changed it meanwhile.

    Args:
        settings: The deployment.
        wait_seconds: How long another one may hold it.

    Raises:
        WorkspaceError: Another process holds it, and for longer than that.
    """
    return only_one(
        settings.workspace / _PROMOTION_LOCK,
        "a promotion, a rollback, a signature, a retirement or the start of an experiment",
        wait_seconds=wait_seconds,
    )


@contextmanager
def unless_promoting(settings: Settings) -> Iterator[bool]:
    """Whether nobody holds `only_promotion`; then nobody does within the block."""
    settings.workspace.mkdir(parents=True, exist_ok=True)
    lock = FileLock(settings.workspace / _PROMOTION_LOCK, timeout=0)
    try:
        lock.acquire()
        free = True
    except Timeout:
        free = False
    try:
        yield free
    finally:
        if free:
            lock.release()
