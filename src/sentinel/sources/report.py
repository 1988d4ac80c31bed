"""What became of an import: every row and every label that was read, counted once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sentinel.ingest.cards import masked
from sentinel.sources.near_ids import in_words
from sentinel.sources.observed import Observations

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


_MANY_REJECTED: Final = 0.05
"""Share of the rows of which a person should know before going on."""


@dataclass
class ImportReport:
    """Counts of an import. Complete once all log batches have been taken.

    Attributes:
        source: Name of the source.
        read, accepted: Transactions.
        rejected: Rejected transactions by code.
        known: Transactions that the ledger has already.
        repeated: Transactions that are in an earlier file as they are, where files overlap.
        labels_read, labels_accepted: Labels.
        labels_rejected: Rejected labels by code.
        labels_known: Labels that the ledger has already.
        labels_undecided: Labels without a verdict yet.
        labels_not_arrived: Labels that arrive after now, and are left out of the log.
        labels_unmatched: Labels, accepted or without a time, about transactions that neither
            the import nor the ledger has.
        unmatched_ids: Some of the transaction ids that these name.
        nearly_matched: One of these, and the transaction whose id is nearly the same; None if
            there is none, or if few labels are unmatched.
        reasons: For each code the reason of the first reject, with the row that it is about.
        observed: What was noticed in accepted rows.
        notes: Warnings of the source itself, such as files without rows.
        look_alikes: Fields of which one value in ten looks like a card number, by chance.
        first_event_us, last_event_us: Time span of the accepted transactions.
        frauds: Accepted transactions whose latest arrived label says fraud.
        logged: Entries given out, transactions and labels.
        rejects_path: The file of rejected rows, if there is one.
        refused_above: The share of rejects that it went beyond, so that nothing of it is in the
            log; None if it was not refused for that.
    """

    source: str
    read: int = 0
    accepted: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    known: int = 0
    repeated: int = 0
    labels_read: int = 0
    labels_accepted: int = 0
    labels_rejected: dict[str, int] = field(default_factory=dict)
    labels_known: int = 0
    labels_undecided: int = 0
    labels_not_arrived: int = 0
    labels_unmatched: int = 0
    unmatched_ids: tuple[str, ...] = ()
    nearly_matched: tuple[str, str] | None = None
    reasons: dict[str, str] = field(default_factory=dict)
    observed: Observations = field(default_factory=Observations)
    notes: tuple[str, ...] = ()
    look_alikes: tuple[str, ...] = ()
    first_event_us: int | None = None
    last_event_us: int | None = None
    frauds: int = 0
    logged: int = 0
    rejects_path: Path | None = None
    refused_above: float | None = None

    @property
    def fraud_share(self) -> float:
        """Share of the accepted transactions that are known to be fraud, 0 to 1."""
        return self.frauds / self.accepted if self.accepted else 0.0

    @property
    def rejected_share(self) -> float:
        """Share of what was read that was rejected, 0 to 1; of labels where nothing else was
        read. Rows that the ledger has already were accepted once.
        """
        if self.read:
            return sum(self.rejected.values()) / self.read
        return sum(self.labels_rejected.values()) / self.labels_read if self.labels_read else 0.0

    def check(self) -> None:
        """Raise ``AssertionError`` unless all that was read is accounted for, of both kinds."""
        transactions = self.accepted + sum(self.rejected.values()) + self.known + self.repeated
        labels = self.labels_accepted + self.labels_not_arrived + sum(self.labels_rejected.values())
        labels += self.labels_known + self.labels_undecided
        if (transactions, labels) != (self.read, self.labels_read):
            raise AssertionError(
                f"{self.read} transactions and {self.labels_read} labels were read, "
                f"but {transactions} and {labels} accounted for"
            )

    def warnings(self) -> list[str]:
        """What a person should look at, one sentence each."""
        told = [*self.notes, *self.observed.warnings()]
        if self.rejected_share > _MANY_REJECTED:
            told.insert(
                0,
                f"{self.rejected_share:.0%} of the rows were rejected and are not in the log; the "
                "reasons are below, and with each row in the rejects file",
            )
        told += [
            f"{field}: one value in ten looks like a card number, as among any such numbers; they "
            "are kept, and from now on the API takes them, too"
            for field in self.look_alikes
        ]
        if self.labels_unmatched:
            some = ", ".join(repr(masked(name)) for name in self.unmatched_ids)
            pair = self.nearly_matched
            advice = in_words(pair) if pair else "are these the ids of the payments?"
            told.insert(
                0,
                f"{self.labels_unmatched:,} of {self.labels_read:,} labels are about "
                f"payments that neither this import nor the ledger has, such as {some}; {advice}",
            )
        return told

    def first_reasons(self) -> list[str]:
        """For each code of a reject the first row that has it, most frequent codes first."""
        counts = Counter(self.rejected) + Counter(self.labels_rejected)
        return [
            f"{code} ({count:,}): {self.reasons[code]}"
            for code, count in counts.most_common()
            if code in self.reasons
        ]

    def render(self) -> RenderableType:
        """The report for people."""
        title, accepted = f"Import of {self.source}", "accepted"
        if self.refused_above is not None:
            title += ", refused: nothing of it is in the log"
            accepted = "would have been accepted"
        table = Table(title=title, show_header=False)
        table.add_column(style="bold")
        table.add_column(justify="right", overflow="fold")
        table.add_row("transactions read", f"{self.read:,}")
        table.add_row(accepted, f"{self.accepted:,}")
        _add_rejected(table, self.rejected)
        if self.known:
            table.add_row("known already", f"{self.known:,}")
        if self.repeated:
            table.add_row("repeated in a later file", f"{self.repeated:,}")
        table.add_row("labels read", f"{self.labels_read:,}")
        table.add_row(accepted, f"{self.labels_accepted:,}")
        _add_rejected(table, self.labels_rejected)
        if self.labels_known:
            table.add_row("known already", f"{self.labels_known:,}")
        if self.labels_undecided:
            table.add_row("not decided yet", f"{self.labels_undecided:,}")
        table.add_row("not arrived yet", f"{self.labels_not_arrived:,}")
        if self.labels_unmatched:
            table.add_row("labels about no known payment", f"{self.labels_unmatched:,}")
        if self.first_event_us is not None and self.last_event_us is not None:
            table.add_row("from", moment(self.first_event_us))
            table.add_row("to", moment(self.last_event_us))
        if self.accepted:
            # Labels that the ledger has already are not read again.
            told = "fraud by the new labels" if self.labels_known else "known to be fraud"
            table.add_row(told, f"{self.frauds:,} ({self.fraud_share:.3%})")
        if self.refused_above is not None:
            shares = f"{self.rejected_share:.1%} (at most {self.refused_above:.1%})"
            table.add_row("rejected share", shares)
        after = [Text(f"warning: {sentence}", style="yellow") for sentence in self.warnings()]
        if self.rejects_path is not None:
            after += [Text(f"first {reason}") for reason in self.first_reasons()]
            after.append(Text(f"rejected rows are in {self.rejects_path}"))
        return Group(table, *after)


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
