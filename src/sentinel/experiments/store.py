"""Where versions of the line-up are kept, and what scorers have stopped or let grow beside them.

See `sentinel.documents.store` for the versions, `sentinel.experiments.stops`, and
`sentinel.experiments.growth`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from sentinel.documents.open_store import migrate_documents, open_documents
from sentinel.documents.store import Change, DocumentStore, Kind
from sentinel.domain import LedgerUnavailable
from sentinel.experiments.growth import Growth, with_steps
from sentinel.experiments.lineup import NO_LINE_UP, LineUp, decode_line_up
from sentinel.experiments.stops import Stop, without_stopped

if TYPE_CHECKING:
    from sentinel.experiments.postgres_growths import Growths
    from sentinel.experiments.postgres_stops import Stops
    from sentinel.settings import Settings


LINE_UPS: Final = Kind(
    what="line-up",
    list_verb="sentinel experiment history",
    decode=decode_line_up,
    file="line-up.db",
    application_id=0x534E544C,  # "SNTL"
    table="line_up_versions",
    version_table="line_up_schema",
    migrations=Path(__file__).with_name("migrations"),
    revisions=("0001", "0002", "0003"),
)


class LineUpStore:
    """The versions of a deployment's line-up. All methods are safe from any thread, and wait.

    `read` and `history` leave out what guardrails have stopped beside the versions, and have the
    shares that canaries have grown to.

    Args:
        documents: The versions.
        stops: What guardrails have stopped; None where scorers write the line-up themselves.
        growths: Steps of canaries; None likewise.
    """

    def __init__(
        self,
        documents: DocumentStore[LineUp],
        stops: Stops | None = None,
        growths: Growths | None = None,
    ) -> None:
        self._documents = documents
        self._stops = stops
        self._growths = growths

    def latest(self) -> int:
        """See `DocumentStore`."""
        return self._documents.latest()

    def stored(self) -> LineUp | None:
        """The newest version as it is stored, with what was stopped; None if there is none."""
        return self._documents.read()

    def in_force(self, stored: LineUp) -> LineUp:
        """The newest version with all steps and without what was stopped; it has its number."""
        if self._growths is not None:
            stored = with_steps(stored, self._growths.of(stored.experiments))
        stops = () if self._stops is None else self._stops.of(stored.experiments)
        return without_stopped(stored, stops)

    def read(self) -> LineUp | None:
        """What holds: see `stored` and `in_force`."""
        stored = self.stored()
        return None if stored is None else self.in_force(stored)

    def history(self, most: int, before: int | None = None) -> list[LineUp]:
        """The latest versions, newest first; see `DocumentStore`.

        What was stopped or has grown stands first, as the version that the next change will write.
        """
        found = self._documents.history(most, before)
        if before is None and found:
            now = self.in_force(found[0])
            if now != found[0]:
                now = msgspec.structs.replace(now, version=found[0].version + 1)
                return [now, *found][:most]
        return found

    def add(self, change: Change[LineUp]) -> LineUp | None:
        """See `DocumentStore`. What was stopped or has grown is a version of its own before it."""

        def write_what_is_beside(before: LineUp | None) -> LineUp | None:
            now = None if before is None else self.in_force(before)
            return None if now == before else now

        if self._stops is not None:
            self._documents.add(write_what_is_beside)
        return self._documents.add(change)

    def stop(self, stop: Stop) -> None:
        """Stop an experiment where this process may not write the line-up.

        Raises:
            LedgerUnavailable: The line-up is in a file, which has no stops beside it, or the
                database cannot be used.
        """
        if self._stops is None:
            raise LedgerUnavailable("A line-up in a file has no stops beside it.")
        self._stops.add(stop)

    def grow(self, growth: Growth) -> None:
        """Note a canary's step where this process may not write the line-up.

        Raises:
            LedgerUnavailable: The line-up is in a file, which has no steps beside it, or the
                database cannot be used.
        """
        if self._growths is None:
            raise LedgerUnavailable("A line-up in a file has no steps beside it.")
        self._growths.add(growth)

    def close(self) -> None:
        """Release it."""
        self._documents.close()
        for beside in (self._stops, self._growths):
            if beside is not None:
                beside.close()


def open_line_ups(settings: Settings) -> LineUpStore:
    """The versions of a deployment's line-up. Nothing is made or reached before it is asked.

    Raises:
        ConfigurationError: `ledger.url` is of no database.
    """
    documents = open_documents(settings, LINE_UPS)
    if not settings.ledger.url:
        return LineUpStore(documents)
    from sentinel.experiments.postgres_growths import Growths
    from sentinel.experiments.postgres_stops import Stops
    from sentinel.ledger.database import database_of

    database = database_of(settings)
    return LineUpStore(documents, Stops(database), Growths(database))


def migrate_line_ups(settings: Settings) -> None:
    """See `migrate_documents`."""
    migrate_documents(settings, LINE_UPS)


def judged_against_champion(settings: Settings, version: str) -> tuple[str, ...]:
    """Experiments for which a version waits before it becomes champion.

    They are those of challengers, which are judged against the champion; not one of the version
    itself. None where `experiments.hold_promotion` is off.

    Raises:
        ConfigurationError, LedgerUnavailable, WorkspaceError: The line-up cannot be read.
    """
    if not settings.experiments.hold_promotion:
        return ()
    store = open_line_ups(settings)
    try:
        line_up = store.read() or NO_LINE_UP
    finally:
        store.close()
    return tuple(
        one.name
        for one in line_up.experiments
        if one.kind == "challenger" and one.version != version
    )


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
