"""Where versions of the line-up are kept; see `sentinel.documents.store`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from sentinel.documents.store import DocumentStore, Kind, migrate_documents, open_documents
from sentinel.experiments.lineup import NO_LINE_UP, LineUp, decode_line_up

if TYPE_CHECKING:
    from sentinel.ledger.schema import Tables
    from sentinel.settings import Settings


def line_up_tables() -> Tables:
    """The table of versions beside a ledger in PostgreSQL."""
    from sentinel.ledger.schema import Tables

    return Tables(
        what="line-up",
        folder=Path(__file__).with_name("migrations"),
        version_table="line_up_schema",
        versions=("0001",),
    )


LINE_UPS: Final = Kind(
    what="line-up",
    list_verb="sentinel experiment history",
    decode=decode_line_up,
    file="line-up.db",
    application_id=0x534E544C,  # "SNTL"
    table="line_up_versions",
    tables=line_up_tables,
)


def open_line_ups(settings: Settings) -> DocumentStore[LineUp]:
    """The versions of a deployment's line-up; see `open_documents`."""
    return open_documents(settings, LINE_UPS)


def migrate_line_ups(settings: Settings) -> None:
    """See `migrate_documents`."""
    migrate_documents(settings, LINE_UPS)


def change_line_up(
    settings: Settings,
    change: Callable[[LineUp], LineUp],
    *,
    by: str,
    why: str,
    at_us: int,
) -> LineUp:
    """Make another version of the line-up.

    Args:
        settings: The deployment.
        change: From the line-up that holds to the next one.
        by, why: Who does it, and why.
        at_us: When, microseconds UTC.

    Returns:
        The version that holds from now on.

    Raises:
        ConfigurationError, NotFound: What ``change`` raises.
        LedgerUnavailable, WorkspaceError: See `DocumentStore`.
    """
    store = open_line_ups(settings)
    try:
        made = store.add(
            lambda before: msgspec.structs.replace(
                change(before or NO_LINE_UP), by=by, why=why, at_us=at_us
            )
        )
    finally:
        store.close()
    assert made is not None  # a change makes one, or raises
    return made
