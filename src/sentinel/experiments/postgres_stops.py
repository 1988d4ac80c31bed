"""Stops of experiments in the schema of a ledger; see `sentinel.experiments.stops`."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from sentinel.experiments.lineup import MOST_TEXT, Experiment
from sentinel.experiments.stops import Stop
from sentinel.ledger.connections import Connection
from sentinel.ledger.database import Database
from sentinel.ledger.tables_beside import TablesBeside

log = logging.getLogger(__name__)

_warned: set[str] = set()  # a process has one ledger, and opens its line-up often


class Stops:
    """Stops in the schema of a ledger. All methods are safe from any thread, and wait.

    Args:
        database: The ledger's.
    """

    def __init__(self, database: Database) -> None:
        self._tables = TablesBeside(database, "line_up_stops")
        self._shown = database.shown

    def of(self, experiments: Iterable[Experiment]) -> tuple[Stop, ...]:
        """Stops of these experiments, in the order in which they came; none while there is no
        table, or no right to read it, which a warning says once.

        Raises:
            LedgerUnavailable: The database cannot be used right now.
        """
        runs = [(one.name, one.started_at_us) for one in experiments]
        if not runs:
            return ()

        def ask(connection: Connection) -> tuple[Stop, ...]:
            if not self._tables.are_made(connection):
                return ()
            if not self._may_read(connection):
                return ()
            rows = connection.execute(
                self._tables.named(
                    "SELECT name, started_at_us, why, at_us FROM {ns}.line_up_stops "
                    "JOIN unnest(%s::text[], %s::bigint[]) AS run (name, started_at_us) "
                    "USING (name, started_at_us) ORDER BY at_us, name"
                ),
                ([name for name, _ in runs], [started for _, started in runs]),
            )
            return tuple(
                Stop(name=name, started_at_us=started, why=why, at_us=at)
                for name, started, why, at in rows
            )

        return self._tables.run(ask, "read the stops of experiments in")

    def _may_read(self, connection: Connection) -> bool:
        """Whether this role may read stops: the line-up is followed without them if it may not."""
        readable = self._tables.may_be_read(connection)
        if not readable and self._shown not in _warned:
            _warned.add(self._shown)
            log.warning(
                "Stops of experiments in %s cannot be read: this role has no right to. Run "
                "`sentinel ledger migrate` as the role that owns the ledger. What a guardrail "
                "stops goes on in other scorers until then.",
                self._shown,
            )
        return readable

    def add(self, stop: Stop) -> None:
        """Stop an experiment; nothing if it was stopped already.

        Raises:
            LedgerUnavailable: The database cannot be used, or has no table of stops.
        """

        def put(connection: Connection) -> None:
            connection.execute(
                self._tables.named(
                    "INSERT INTO {ns}.line_up_stops VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING"
                ),
                (stop.name, stop.started_at_us, stop.why[:MOST_TEXT], stop.at_us),
            )

        self._tables.run(put, "stop an experiment in")

    def close(self) -> None:
        """Release the connections."""
        self._tables.close()
