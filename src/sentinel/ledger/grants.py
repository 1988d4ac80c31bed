"""What a scorer may do with a ledger in PostgreSQL: read it, and add to it.

Its tables belong to the role that migrates them. A scorer that connects as another one can change
or delete nothing of the log, whatever runs in it.
"""

from __future__ import annotations

from typing import Final

import psycopg
from psycopg import sql

from sentinel.domain import ConfigurationError
from sentinel.ledger.connections import connect
from sentinel.ledger.database import Database
from sentinel.ledger.postgres_errors import cannot_open

_ADDED_TO: Final = (
    "groups",
    "transactions",
    "labels",
    "tokens",
    "state_rebuilds",
    "label_effects",
    "line_up_stops",
    "line_up_growths",
)
_DRIFT: Final = (
    "drift_progress",
    "drift_streams",
    "drift_hours",
    "drift_tallies",
    "drift_changes",
    "drift_notices",
    "drift_requested",
    "drift_labels",
)
"""The record of drift: the monitor writes it, and scorers show it (`GET /drift`)."""
_READ: Final = (
    "alembic_version",
    "access_version",
    "access_keys",
    "access_state",
    "policy_schema",
    "policy_versions",
    "line_up_schema",
    "line_up_versions",
    "drift_schema",
    *_DRIFT,
)
_NOTED_IN: Final = ("access_uses",)
"""When a key was last used, by key: the only rows that a scorer writes again."""


_MONITOR_READS: Final = (
    "alembic_version",
    "groups",
    "transactions",
    "labels",
    "policy_schema",
    "policy_versions",
    "line_up_schema",
    "line_up_versions",
    "line_up_stops",
    "line_up_growths",
    "state_rebuilds",
    "label_effects",
    "drift_schema",
)

Rights = tuple[tuple[str, tuple[str, ...]], ...]


def grant_to_monitor(database: Database, role: str) -> None:
    """Let a role read a ledger, its policy and line-up, and write the record of drift alone.

    What else the role has in the schema is taken.

    Args:
        database: The ledger's, by the role that owns the tables. They are up to date.
        role: That the monitor connects as.

    Raises:
        ConfigurationError, WorkspaceError, LedgerUnavailable: See `grant_to_scorers`.
    """
    rights = (
        ("SELECT", _MONITOR_READS),
        ("SELECT, INSERT, UPDATE, DELETE", _DRIFT),
    )
    _grant(database, role, rights, "ledger.monitor_role", "the monitor")


def grant_to_scorers(database: Database, role: str) -> None:
    """Let a role read a ledger, its keys, policy, line-up and drift, and add to the ledger
    and to what guardrails have stopped and canaries have grown to.

    What else the role has in the schema is taken.

    Args:
        database: The ledger's, by the role that owns the tables. They are up to date.
        role: That scorers connect as.

    Raises:
        ConfigurationError: It is the owner itself, or may do everything anyway.
        WorkspaceError: There is no such role, or this user may not grant.
        LedgerUnavailable: The database cannot be used right now.
    """
    rights = (
        ("SELECT, INSERT", _ADDED_TO),
        ("SELECT", _READ),
        ("SELECT, INSERT, UPDATE", _NOTED_IN),
    )
    _grant(database, role, rights, "ledger.scorer_role", "scorers")


def _grant(database: Database, role: str, rights: Rights, setting: str, whom: str) -> None:
    """Give a role these rights in the schema, and no others."""
    name, namespace = sql.Identifier(role), database.namespace
    try:
        with connect(database) as connection, connection.transaction():
            found = connection.execute(
                "SELECT rolsuper OR pg_has_role(%s, current_user, 'USAGE') FROM pg_roles "
                "WHERE rolname = %s",
                (role, role),
            ).fetchone()
            if found == (True,):
                raise ConfigurationError(
                    f"{setting} is {role}, which owns the ledger's tables or is a "
                    f"superuser. Name a role of its own for {whom}."
                )
            schema = sql.Identifier(namespace)
            take = sql.SQL("REVOKE ALL ON ALL TABLES IN SCHEMA {} FROM {}").format(schema, name)
            connection.execute(take)
            use = sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(schema, name)
            connection.execute(use)
            for what, tables in rights:
                named = sql.SQL(", ").join(sql.Identifier(namespace, table) for table in tables)
                give = sql.SQL("GRANT {} ON {} TO {}").format(sql.SQL(what), named, name)
                connection.execute(give)
    except psycopg.Error as error:
        raise cannot_open(error, database) from error
