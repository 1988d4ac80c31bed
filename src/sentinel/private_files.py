"""Files that a process makes are for their owner alone."""

from __future__ import annotations

import os


def keep_files_private() -> None:
    """Let this process and its children make files and folders for their owner alone.

    Every way in calls it first: the command line, processes that run by themselves, tasks of
    Airflow.
    """
    os.umask(0o077)
