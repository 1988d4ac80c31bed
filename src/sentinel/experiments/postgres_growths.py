"""Steps of canaries in the schema of a ledger; see `sentinel.experiments.growth`."""

from __future__ import annotations

from collections.abc import Iterable

from sentinel.experiments.growth import Growth
from sentinel.experiments.lineup import Experiment
from sentinel.ledger.connections import Connection
from sentinel.ledger.database import Database
from sentinel.ledger.tables_beside import TablesBeside


class Growths:
    """Steps in the schema of a ledger. All methods are safe from any thread, and wait.

    Args:
        database: The ledger's.
    """

    def __init__(self, database: Database) -> None:
        self._tables = TablesBeside(database, "line_up_growths")

    def of(self, experiments: Iterable[Experiment]) -> tuple[Growth, ...]:
        """Steps of the canaries among these experiments, in their order; none while there is no
        table, or no right to read it.

        Raises:
            LedgerUnavailable: The database cannot be used right now.
        """
        runs = [
            (one.name, one.started_at_us)
            for one in experiments
            if one.canary is not None and one.canary.grew_at_us is not None
        ]
        if not runs:
            return ()

        def ask(connection: Connection) -> tuple[Growth, ...]:
            if not self._tables.are_made(connection) or not self._tables.may_be_read(connection):
                return ()
            rows = connection.execute(
                self._tables.named(
                    "SELECT name, started_at_us, step, at_us FROM {ns}.line_up_growths "
                    "JOIN unnest(%s::text[], %s::bigint[]) AS run (name, started_at_us) "
                    "USING (name, started_at_us) ORDER BY at_us, name, step"
                ),
                ([name for name, _ in runs], [started for _, started in runs]),
            )
            return tuple(
                Growth(name=name, started_at_us=started, step=step, at_us=at)
                for name, started, step, at in rows
            )

        return self._tables.run(ask, "read the steps of canaries in")

    def add(self, growth: Growth) -> None:
        """Note a step; nothing if it was noted already.

        Raises:
            LedgerUnavailable: The database cannot be used, or has no table of steps.
        """

        def put(connection: Connection) -> None:
            connection.execute(
                self._tables.named(
                    "INSERT INTO {ns}.line_up_growths VALUES (%s, %s, %s, %s) "
                    "ON CONFLICT DO NOTHING"
                ),
                (growth.name, growth.started_at_us, growth.step, growth.at_us),
            )

        self._tables.run(put, "note the step of a canary in")

    def close(self) -> None:
        """Release the connections."""
        self._tables.close()
