"""The database of the MLflow server: waited for, made where it is missing, brought up to date."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError, SQLAlchemyError

from sentinel.domain import ConfigurationError, Unavailable

log = logging.getLogger(__name__)

SETTING: Final = "SENTINEL_MLFLOW__BACKEND_STORE_URI"
_PAUSE_SECONDS: Final = 0.5
_CONNECT_SECONDS: Final = 5
_LOCK: Final = 0x53454E54_4D4C464C  # any number that is always the same
_DUPLICATES: Final = ("42P04", "23505")  # made by another one just now
# Before a session exists PostgreSQL says what is wrong in words only.
_NEVER_WORKS: Final = ("password authentication failed", "no password supplied", "role", "pg_hba")


def with_driver(uri: str) -> str:
    """The address with the driver that is installed.

    Raises:
        ConfigurationError: It is no address of a database.

    >>> with_driver("postgresql://sentinel@db/mlflow")
    'postgresql+psycopg://sentinel@db/mlflow'
    """
    try:
        url = sa.make_url(uri)
    except ArgumentError:
        # The error would print it, password and all.
        raise ConfigurationError(
            f"{SETTING} is no address of a database. One looks like postgresql://user@host/name."
        ) from None
    if url.drivername in ("postgres", "postgresql"):
        url = url.set(drivername="postgresql+psycopg")
    return url.render_as_string(hide_password=False)


def prepare_database(uri: str, *, wait_seconds: float) -> None:
    """Make the server's database ready: it exists, and has the tables of this MLflow.

    Args:
        uri: From `with_driver`.
        wait_seconds: How long to wait for a database that does not answer yet.

    Raises:
        ConfigurationError: The user may not come in, or may not make the database.
        Unavailable: It does not answer in time.
    """
    url = sa.make_url(uri)
    if not url.drivername.startswith("postgresql"):
        return  # MLflow makes a file itself
    _wait_for(url, wait_seconds)
    with _alone(url):
        _bring_up_to_date(uri)


def _wait_for(url: sa.URL, wait_seconds: float) -> None:
    deadline = time.monotonic() + wait_seconds
    told = False
    while True:
        try:
            _try(url)
            return
        except OperationalError as error:
            if _make_missing(url):
                continue
            reason = _reason(error)
            if any(words in reason for words in _NEVER_WORKS):
                raise ConfigurationError(
                    f"PostgreSQL at {_shown(url)} does not let MLflow in: {reason} Correct "
                    f"{SETTING}."
                ) from None
            if time.monotonic() >= deadline:
                raise Unavailable(
                    f"PostgreSQL at {_shown(url)} does not answer: {reason} See that it runs and "
                    f"that {SETTING} is its address."
                ) from None
            if not told:
                told = True
                log.info("Waiting for PostgreSQL at %s: %s", _shown(url), reason)
        time.sleep(_PAUSE_SECONDS)


def _try(url: sa.URL) -> None:
    with _engine(url).connect() as connection:
        connection.execute(sa.text("SELECT 1"))


def _make_missing(url: sa.URL) -> bool:
    """Make the database, if the server answers and says that there is none; whether it did."""
    name = url.database
    engine = _engine(url.set(database="postgres"))
    try:
        with engine.connect() as connection:
            connection = connection.execution_options(isolation_level="AUTOCOMMIT")
            known = sa.text("SELECT 1 FROM pg_database WHERE datname = :name")
            if not name or connection.execute(known, {"name": name}).first() is not None:
                return False
            quoted = engine.dialect.identifier_preparer.quote_identifier(name)
            connection.execute(sa.text(f"CREATE DATABASE {quoted}"))
    except OperationalError:
        return False  # neither database lets us in; the first error says why
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) in _DUPLICATES:
            return True
        raise ConfigurationError(
            f"PostgreSQL at {_shown(url)} has no database {name!r}, and {url.username} may not "
            f"make one: {_reason(error)} Let an administrator run CREATE DATABASE {name} OWNER "
            f"{url.username}."
        ) from None
    log.info("Made database %s.", name)
    return True


@contextmanager
def _alone(url: sa.URL) -> Iterator[None]:
    """No two servers change the tables at once. The lock ends with the connection."""
    with _engine(url).connect() as connection:
        connection.execute(sa.text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK})
        yield


def _bring_up_to_date(uri: str) -> None:
    from mlflow.db import upgrade

    # What `mlflow db upgrade` does. As a command, the password would be in the process list.
    run: Any = upgrade.callback
    try:
        run(uri)
    except SQLAlchemyError as error:
        raise Unavailable(
            f"The tables of MLflow cannot be made in {_shown(sa.make_url(uri))}: {_reason(error)} "
            "Look at the log of PostgreSQL, and start again."
        ) from None


def _engine(url: sa.URL) -> sa.Engine:
    return sa.create_engine(
        url, poolclass=sa.NullPool, connect_args={"connect_timeout": _CONNECT_SECONDS}
    )


def _shown(url: sa.URL) -> str:
    return f"{url.host or 'localhost'}:{url.port or 5432}/{url.database}"


def _reason(error: SQLAlchemyError) -> str:
    cause = getattr(error, "orig", None) or error
    text = " ".join(str(cause).split())
    return text if text.endswith(".") else f"{text}."
