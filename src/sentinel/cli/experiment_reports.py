"""What is known of an experiment, for people. Tables and pictures fit 80 columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.table import Table

from sentinel.cli.policy_reports import money

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sentinel.experiments.estimates import PrecisionEstimate
    from sentinel.experiments.judgement import ExperimentState, Judgement, Look
    from sentinel.pipeline.experiment_judging import Settled
    from sentinel.settings import MoneySettings

WIDTH: Final = 51
"""Columns of a picture; the middle one is one half."""
_LOOKS: Final = 8


def status_report(console: Console, status: ExperimentState, settings: MoneySettings) -> None:
    """An experiment: its verdict, figures, picture, and what is estimated."""
    experiment, said = status.experiment, status.judgement
    state = "runs" if status.running else "ended"
    console.print(
        f"Experiment {experiment.name} {state}: {experiment.kind}, version {experiment.version}"
        + (f", {status.share:.1%} of the cards." if status.running and status.share else "."),
        soft_wrap=True,
        markup=False,
        highlight=False,
    )
    if status.not_served:
        console.print(status.not_served, soft_wrap=True, markup=False, highlight=False)
    if not status.running:
        console.print(f"{status.ended_why} ({status.ended_by})", soft_wrap=True, markup=False)
    if said is None:
        console.print(
            "It shares no payments with the champion by chance, so nothing says which one is "
            "better. Start its version as a challenger to know.",
            soft_wrap=True,
        )
        return
    console.print(f"\n[bold]{said.verdict.upper()}[/] {said.why}\n")
    if said.looks:
        console.print(_figures(said, settings))
        console.print(
            "\nThe challenger's part of the frauds that only one catches, by mature day.\n"
            "The interval holds however often one looks; in the middle, both are worth\n"
            "the same.\n"
        )
        for line in picture(said.looks):
            console.print(line, markup=False, highlight=False)
        console.print()
    console.print(_left_out(said))
    _estimates(console, said)


def picture(looks: Sequence[Look]) -> list[str]:
    """Lines of intervals by day, with a ruler above.

    Args:
        looks: Oldest first.
    """
    every = max(1, -(-len(looks) // _LOOKS))
    shown = list(looks[::-1][::every])[::-1]
    ruler = [" "] * WIDTH
    for at, word in ((0, "0 %"), (WIDTH // 2 - 1, "50 %"), (WIDTH - 5, "100 %")):
        ruler[at : at + len(word)] = word
    lines = ["         " + "".join(ruler)]
    for look in shown:
        row = [" "] * WIDTH
        low, high = _column(look.low), _column(look.high)
        row[low : high + 1] = "─" * (high + 1 - low)
        row[low], row[high] = "├", "┤"
        if row[WIDTH // 2] == " ":
            row[WIDTH // 2] = "┊"
        if look.part is not None:
            row[_column(look.part)] = "●"
        seen = f"{look.champion} : {look.challenger}"
        lines.append(f"day {look.day:>4} " + "".join(row) + f" {seen}")
    return lines


def settled_report(console: Console, settled: Sequence[Settled]) -> None:
    """What became of the experiments that run."""
    if not settled:
        console.print("No challenger runs.")
        return
    table = Table()
    for name in ("experiment", "verdict", "done", "why"):
        table.add_column(name, overflow="fold")
    for one in settled:
        table.add_row(one.name, one.verdict, one.action, one.why)
    console.print(table)


def _column(part: float) -> int:
    return round(part * (WIDTH - 1))


def _figures(said: Judgement, settings: MoneySettings) -> Table:
    last = said.looks[-1]
    table = Table(title="On mature payments", title_justify="left")
    table.add_column("")
    table.add_column("", justify="right")
    table.add_row("days", f"{said.days:.1f}")
    table.add_row("payments, mature or not", f"{said.payments:,}")
    table.add_row("of them decided by the challenger", f"{said.decided:,}")
    if said.budget is not None:
        table.add_row("alerts that each may raise", f"{1_000 * said.budget:.1f} of 1,000")
    table.add_row("frauds only the champion catches, seen", f"{last.champion:,}")
    table.add_row("frauds only the challenger catches, seen", f"{last.challenger:,}")
    part = "-" if last.part is None else f"{last.part:.0%}"
    table.add_row("the challenger's part, weighted", f"{part} ({last.low:.0%} to {last.high:.0%})")
    table.add_row("frauds it would catch more, estimate", f"{said.extra_frauds:+,.0f}")
    table.add_row("their amounts, estimate", money(said.extra_minor, settings))
    if said.days_missing is not None:
        table.add_row("days missing, as it is going", f"{said.days_missing:.0f}")
    return table


def _left_out(said: Judgement) -> Table:
    table = Table(title="What does not count", title_justify="left")
    table.add_column("")
    table.add_column("", justify="right")
    table.add_row(
        "frauds of payments that are not mature",
        f"{said.immature_champion} : {said.immature_challenger}",
    )
    table.add_row("further frauds of the same cards", f"{said.repeated:,}")
    table.add_row("reported after the payment was mature", f"{said.late:,}")
    table.add_row("degraded decisions", f"{said.degraded:,}")
    table.add_row(
        "disagreements that both models stopped",
        f"{said.agreed:,} of {said.disagreements:,}",
    )
    return table


def _estimates(console: Console, said: Judgement) -> None:
    rows = [("champion", said.champion_precision), ("challenger", said.challenger_precision)]
    found = [(who, one) for who, one in rows if one is not None]
    if not found:
        return
    table = Table(title="Estimates before labels; they decide nothing", title_justify="left")
    for name in ("", "precision of alerts", "from"):
        table.add_column(name)
    for who, one in found:
        table.add_row(who, _range(one), _source(one))
    console.print(table)


def _range(one: PrecisionEstimate) -> str:
    return f"{one.precision:.0%} ({one.low:.0%} to {one.high:.0%})"


def _source(one: PrecisionEstimate) -> str:
    if one.method == "probabilities":
        return "probabilities"
    return f"and {one.known} of control group"
