"""Alerts for people who look at a terminal."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from sentinel.alerts.store import Acknowledgement
    from sentinel.pipeline.raised_alerts import Listing


def alerts_report(console: Console, listing: Listing) -> None:
    """A table of alerts, what each says, who is on them, and who cannot be told."""
    if not listing.alerts:
        console.print("No alert fires.")
    else:
        table = Table(box=None, pad_edge=False, show_edge=False)
        for column in ("alert", "state", "since (UTC)", "severity"):
            table.add_column(column, no_wrap=column != "alert", overflow="fold")
        for one in listing.alerts:
            table.add_row(one.name, one.state, _clock(one.since_us), one.severity)
        console.print(table)
        for one in listing.alerts:
            name = f"{one.name} {one.subject}".strip()
            if one.state != "resolved":
                console.print(f"\n[bold]{escape(name)}[/]  {escape(one.summary)}", soft_wrap=True)
                console.print(f"  docs/runbooks/{one.name}.md", markup=False, soft_wrap=True)
            if one.acknowledged is not None:
                said = f"  {acknowledged_line(one.acknowledged)}"
                console.print(said, markup=False, soft_wrap=True)
    for channel, problem in listing.problems.items():
        said = f"\nNot told by {channel} as they should: {problem}"
        console.print(said, markup=False, soft_wrap=True)


def acknowledged_line(made: Acknowledgement) -> str:
    """Who is on an alert, and until when."""
    return (
        f"{made.by} is on {made.name} since {_clock(made.at_us)} UTC (until {_clock(made.until_us)}"
        f" at most): {made.why}"
    )


def _clock(us: int) -> str:
    return f"{datetime.fromtimestamp(us / 1e6, UTC):%Y-%m-%d %H:%M}"
