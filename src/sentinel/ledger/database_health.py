"""Whether a PostgreSQL database answers."""

from __future__ import annotations

from sentinel.domain import Unavailable
from sentinel.ledger.database import Database


def database_health(url: str, *, timeout_seconds: int = 5) -> str:
    """What a database says of itself.

    Args:
        url: Where it is; a password in it is not shown.
        timeout_seconds: How long connecting may take.

    Raises:
        ConfigurationError: It is no address of a PostgreSQL database.
        Unavailable: It does not answer, or does not let this user in.
    """
    import psycopg

    shown = Database(url).shown
    try:
        with psycopg.connect(
            url.replace("postgresql+psycopg:", "postgresql:", 1), connect_timeout=timeout_seconds
        ) as connection:
            found = connection.execute(
                "SELECT current_setting('server_version'), pg_database_size(current_database())"
            ).fetchone()
    except psycopg.Error as error:
        first = str(error).strip().partition("\n")[0]
        raise Unavailable(f"{shown} does not answer: {first}") from error
    if found is None:
        raise Unavailable(f"{shown} answers with nothing")
    version, size = found
    return f"{shown}, PostgreSQL {version}, {size / 1e6:,.1f} MB"
