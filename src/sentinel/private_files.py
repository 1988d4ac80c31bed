"""Files for their owner alone: what a process makes, and secrets in a workspace."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path
from typing import Final

_SECRET_BYTES: Final = 32


def keep_files_private() -> None:
    """Let this process and its children make files and folders for their owner alone.

    Every way in calls it first: the command line, processes that run by themselves, tasks of
    Airflow.
    """
    os.umask(0o077)


def made_secret(path: Path) -> bytes:
    """A new secret in a file of mode 0600; that of another process if one was quicker.

    Raises:
        OSError: It cannot be made.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(secrets.token_hex(_SECRET_BYTES).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(partial, path)  # unlike a rename, leaves one that is there
    finally:
        partial.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return path.read_bytes().strip()
