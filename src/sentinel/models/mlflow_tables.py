"""The tables of a new MLflow database, made at once.

MLflow makes them by its migrations, one after the other, which takes seconds of a processor. What
comes out is always the same for one version of MLflow, so it is kept here as SQL.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import sqlite3
from importlib.metadata import version
from pathlib import Path
from typing import Final

TABLES: Final = Path(__file__).with_name("mlflow_tables.sql")
_OF: Final = "-- MLflow "
_ALLOWED: Final = re.compile(r"(?<= IN \()'[^)]*'(?=\))")


def make_tables(database: Path) -> bool:
    """Make a database with the tables of the installed MLflow where there is none.

    Nobody sees it half made, and one that another process made meanwhile is left alone.

    Args:
        database: File of the database; its folder is there.

    Returns:
        Whether the tables were made. If not, the next steps are MLflow's: the file is there
        already, or cannot be made, or the installed MLflow is another one than that whose tables
        are kept here.
    """
    if database.exists():
        return False
    tables = TABLES.read_text(encoding="utf-8")
    if tables.partition("\n")[0] != _OF + version("mlflow"):
        return False
    partial = database.with_name(f".{database.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        with contextlib.closing(sqlite3.connect(partial)) as connection:
            connection.executescript(tables)
        os.link(partial, database)  # unlike a rename, leaves one that is there
    except (OSError, sqlite3.Error):
        return False
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()
    return True


def tables_of(database: Path) -> str:
    """What to keep as `TABLES`: all that a database of the installed MLflow holds, as SQL.

    Of the values that a column may have, MLflow keeps a set, whose order is another one each time.
    """
    with contextlib.closing(sqlite3.connect(database)) as connection:
        tables = "\n".join([_OF + version("mlflow"), *connection.iterdump(), ""])
    return _ALLOWED.sub(lambda found: ", ".join(sorted(found[0].split(", "))), tables)
