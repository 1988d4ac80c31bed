"""How online learners did, for people. Tables fit 80 columns."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.table import Table

from sentinel.pipeline.online_figures import LEARNERS

if TYPE_CHECKING:
    from sentinel.pipeline.online_figures import OnlineFigures
    from sentinel.pipeline.online_learning import Learnt

SHOWN_DAYS: Final = 14
_DAY_SECONDS: Final = 86_400


def online_report(console: Console, learnt: Learnt) -> None:
    """Average precision of every learner: by day, over all days, and differences."""
    state, figures = learnt.state, learnt.figures
    console.print(
        f"Learners beside version {state.base}: {state.next_day - state.first_day} days, the next "
        f"one is {_day(state.next_day)}. Known by now: {figures.payments:,} of their payments, "
        f"{figures.frauds:,} frauds among them.",
        soft_wrap=True,
        highlight=False,
    )
    if not figures.average_precision:
        console.print(_why_none(figures))
        return
    # The champion of some days only is among these, and not among those of all days.
    said = {name for one in figures.days for name in one.average_precision}
    names = [name for name in LEARNERS if name in said]
    days = Table(title="Average precision by day", title_justify="left")
    for column in ("day", "payments", "frauds", *names):
        days.add_column(column, justify="left" if column == "day" else "right")
    for one in figures.days[-SHOWN_DAYS:]:
        found = [
            f"{one.average_precision[name]:.3f}" if name in one.average_precision else "-"
            for name in names
        ]
        days.add_row(_day(one.day), f"{one.payments:,}", f"{one.frauds:,}", *found)
    console.print(days)
    table = Table(title="Over all days", title_justify="left")
    table.add_column("learner")
    table.add_column("average precision")
    for name, estimate in figures.average_precision.items():
        table.add_row(name, str(estimate))
    for name, estimate in figures.better_by.items():
        table.add_row(name, f"{estimate.value:+.3f} [{estimate.low:+.3f}, {estimate.high:+.3f}]")
    console.print(table)
    console.print(f"All days: {learnt.place.folder / 'figures.json'}", soft_wrap=True)


def _why_none(figures: OnlineFigures) -> str:
    if not figures.payments:
        return "No figures yet: the truth of what was scored has not matured."
    one = "no fraud" if not figures.frauds else "nothing but fraud"
    return f"No figures: {one} is known among what was scored, so there is nothing to tell apart."


def _day(day: int) -> str:
    return f"{datetime.fromtimestamp(day * _DAY_SECONDS, UTC):%Y-%m-%d}"
