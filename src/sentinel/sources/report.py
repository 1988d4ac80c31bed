"""What became of an import: every row that was read is accepted or rejected, and counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from rich.table import Table

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass
class ImportReport:
    """Counts of an import. Complete once all log batches have been taken.

    Attributes:
        source: Name of the source.
        read, accepted: Transactions.
        rejected: Rejected transactions by code.
        labels_read, labels_accepted: Labels.
        labels_rejected: Rejected labels by code.
        labels_not_arrived: Labels that arrive after now, and are left out of the log.
        first_event_us, last_event_us: Time span of the accepted transactions.
        frauds: Accepted transactions whose latest arrived label says fraud.
        logged: Entries given out, transactions and labels.
        rejects_path: The file of rejected rows, if there is one.
    """

    source: str
    read: int = 0
    accepted: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    labels_read: int = 0
    labels_accepted: int = 0
    labels_rejected: dict[str, int] = field(default_factory=dict)
    labels_not_arrived: int = 0
    first_event_us: int | None = None
    last_event_us: int | None = None
    frauds: int = 0
    logged: int = 0
    rejects_path: Path | None = None

    @property
    def fraud_share(self) -> float:
        """Share of the accepted transactions that are known to be fraud, 0 to 1."""
        return self.frauds / self.accepted if self.accepted else 0.0

    def check(self) -> None:
        """Raise ``AssertionError`` unless accepted + rejected = read, for both kinds."""
        transactions = self.accepted + sum(self.rejected.values())
        labels = self.labels_accepted + self.labels_not_arrived + sum(self.labels_rejected.values())
        if (transactions, labels) != (self.read, self.labels_read):
            raise AssertionError(
                f"{self.read} transactions and {self.labels_read} labels were read, "
                f"but {transactions} and {labels} accounted for"
            )

    def render(self) -> Table:
        """The report as a table for people."""
        table = Table(title=f"Import of {self.source}", show_header=False)
        table.add_column(style="bold")
        table.add_column(justify="right")
        table.add_row("transactions read", f"{self.read:,}")
        table.add_row("accepted", f"{self.accepted:,}")
        _add_rejected(table, self.rejected)
        table.add_row("labels read", f"{self.labels_read:,}")
        table.add_row("accepted", f"{self.labels_accepted:,}")
        _add_rejected(table, self.labels_rejected)
        table.add_row("not arrived yet", f"{self.labels_not_arrived:,}")
        if self.first_event_us is not None and self.last_event_us is not None:
            table.add_row("from", moment(self.first_event_us))
            table.add_row("to", moment(self.last_event_us))
        table.add_row("known to be fraud", f"{self.frauds:,} ({self.fraud_share:.3%})")
        if self.rejects_path is not None:
            table.add_row("rejected rows are in", str(self.rejects_path))
        return table


def _add_rejected(table: Table, rejected: Mapping[str, int]) -> None:
    table.add_row("rejected", f"{sum(rejected.values()):,}")
    for code, count in sorted(rejected.items(), key=lambda item: (-item[1], item[0])):
        table.add_row(f"  {code}", f"{count:,}")


def moment(time_us: int) -> str:
    """A time for people, UTC.

    >>> moment(1_522_540_831_000_000)
    '2018-04-01 00:00:31 UTC'
    """
    try:
        return f"{_EPOCH + timedelta(microseconds=time_us):%Y-%m-%d %H:%M:%S} UTC"
    except OverflowError:
        return f"{time_us} µs"
