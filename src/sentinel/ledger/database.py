"""Which PostgreSQL database holds a ledger, and how to name it without its password."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from sentinel.domain import ConfigurationError

if TYPE_CHECKING:
    from sentinel.settings import Settings

_SCHEMES: Final = ("postgresql", "postgres", "postgresql+psycopg")
_SECRET_OPTIONS: Final = ("password", "sslpassword")


def is_url(text: str) -> bool:
    """Whether a text names a database, not a file."""
    return "://" in text


@dataclass(frozen=True, kw_only=False)
class Database:
    """A PostgreSQL database that holds a ledger.

    >>> database = Database("postgresql://scorer:secret@db.internal:5432/sentinel")
    >>> database.shown
    'postgresql://scorer@db.internal:5432/sentinel'
    >>> database
    Database(namespace='sentinel', ...)

    Attributes:
        url: Where it is; may hold a password.
        namespace: The schema of the ledger's tables.
        retry_seconds: How long an append goes on trying while the database is gone.
        connect_seconds: Longest wait for a connection.
        statement_seconds: Longest a statement may take.

    Raises:
        ConfigurationError: The URL is of something else.
    """

    url: str = field(repr=False)
    namespace: str = "sentinel"
    retry_seconds: float = 30.0
    connect_seconds: int = 5
    statement_seconds: float = 60.0

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
        except ValueError:
            parts = urlsplit("")
        hosts = parts.netloc.rpartition("@")[2].split(",")  # libpq knows several
        ports = [host.rpartition("]")[2].partition(":")[2] for host in hosts]
        if parts.scheme not in _SCHEMES or not all(p.isdigit() or not p for p in ports):
            raise ConfigurationError(
                f"ledger.url begins with {self.url.partition('://')[0][:20]!r} or cannot be read. "
                "Write it as postgresql://user@host:5432/database, percent-encode what is special "
                "in a password, or leave it empty for SQLite in the workspace."
            )

    @property
    def shown(self) -> str:
        """The URL without its password, fit for messages, logs and command lines."""
        parts = urlsplit(self.url)
        user, _, host = parts.netloc.rpartition("@")
        user = user.partition(":")[0]
        options = [pair for pair in parse_qsl(parts.query) if pair[0] not in _SECRET_OPTIONS]
        return urlunsplit(
            (
                "postgresql",
                f"{user}@{host}" if user else host,
                parts.path,
                urlencode(options, quote_via=quote),
                "",
            )
        )

    @property
    def password(self) -> str:
        """The password that the URL holds; empty: none."""
        parts = urlsplit(self.url)
        options = dict(parse_qsl(parts.query))
        in_front = parts.netloc.rpartition("@")[0].partition(":")[2]
        return unquote(in_front) or options.get("password", "")


def database_of(settings: Settings) -> Database:
    """The database that `ledger.url` names.

    Raises:
        ConfigurationError: The URL is of something else.
    """
    ledger = settings.ledger
    return Database(
        ledger.url,
        ledger.namespace,
        ledger.retry_seconds,
        ledger.connect_seconds,
        ledger.statement_seconds,
    )
