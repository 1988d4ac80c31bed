"""Whose MLflow server answers at a workspace's own address: its own, or another workspace's.

Two workspaces with one port would register their models into one registry, and follow each other's
champion. Each marks its database with a word of its own, which the server that keeps it shows.
"""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
from pathlib import Path
from typing import Any, Final

import httpx

from sentinel.domain import ConfigurationError
from sentinel.models.registry_place import MlflowPlace, keeps_mlflow, mlflow_place
from sentinel.settings import Settings

_TAG: Final = "sentinel.workspace"
_DEFAULT: Final = "0"
"""The experiment that every database of MLflow has."""
_TIMEOUT: Final = httpx.Timeout(4.0)
_SECONDS: Final = 10.0
_READ: Final = "SELECT value FROM experiment_tags WHERE key = ? AND experiment_id = ?"
_WRITE: Final = (
    "INSERT OR REPLACE INTO experiment_tags (key, value, experiment_id) VALUES (?, ?, ?)"
)


def check_own_server(settings: Settings) -> None:
    """See that what answers at the workspace's own address is no server of another workspace.

    A workspace whose settings name a server, or a database or bucket for it, shares it on purpose:
    nothing is asked then. Nor where nothing answers, or what does is not understood.

    Args:
        settings: The deployment.

    Raises:
        ConfigurationError: It is another one's.
    """
    shown = _shown_by_server(settings) if keeps_mlflow(settings) else None
    if shown is None:
        return
    database = settings.workspace.resolve() / "mlflow.db"
    if database.exists():
        try:
            own = _mark(database)
        except sqlite3.Error:
            return
        shown = _shown_by_server(settings)
        if shown is None or shown == own:
            return
    _, _, theirs = shown.partition(" ")
    whose = f" ({Path(theirs).parent})" if theirs else ""
    raise ConfigurationError(
        f"The MLflow server at {settings.tracking_uri} belongs to another workspace{whose}, not to "
        f"{settings.workspace.resolve()}: the two would register models into each other. Set "
        "SENTINEL_MLFLOW__PORT to a port of this workspace's own, or stop the other server; to "
        "share one, name it with SENTINEL_MLFLOW__TRACKING_URI."
    )


def own_place(settings: Settings) -> MlflowPlace:
    """Where the MLflow of a deployment is, which is not another workspace's.

    Raises:
        ConfigurationError: What answers is another workspace's server.
        Unavailable: See `mlflow_place`.
    """
    check_own_server(settings)
    return mlflow_place(settings)


def _mark(database: Path) -> str:
    """The word of a database and where it lies, made where it has none or was copied from another.

    Raises:
        sqlite3.Error: The database cannot be read or written, or has no tables.
    """
    with contextlib.closing(sqlite3.connect(database, timeout=_SECONDS)) as connection:
        found = connection.execute(_READ, (_TAG, _DEFAULT)).fetchone()
        if found is not None and found[0].partition(" ")[2] == str(database):
            return str(found[0])
        mark = f"{secrets.token_hex(8)} {database}"
        with connection:
            connection.execute(_WRITE, (_TAG, mark, _DEFAULT))
        return mark


def _shown_by_server(settings: Settings) -> str | None:
    """The mark that a server shows, empty if it has none; None if no server of MLflow answers."""
    url = f"{settings.tracking_uri.rstrip('/')}/api/2.0/mlflow/experiments/get"
    try:
        answer = httpx.get(url, params={"experiment_id": _DEFAULT}, timeout=_TIMEOUT)
        if answer.status_code != httpx.codes.OK:
            return None
        tags: list[dict[str, Any]] = answer.json()["experiment"].get("tags", [])
        return next((str(tag["value"]) for tag in tags if tag["key"] == _TAG), "")
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError, AttributeError):
        return None
