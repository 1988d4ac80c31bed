"""The line-up for people. Tables fit 80 columns."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

from sentinel.experiments.lineup import Experiment, LineUp


def line_up_report(console: Console, line_up: LineUp) -> None:
    """The experiments that run."""
    if not line_up.experiments:
        console.print(
            "No experiment runs: the champion decides on everything. `sentinel experiment start "
            "NAME --version N --shadow --why ...` lets another version look on.",
            soft_wrap=True,
            markup=False,
        )
        return
    table = Table(title=f"Line-up, version {line_up.version}", title_justify="left")
    for name in ("experiment", "role", "version", "takes", "since (UTC)", "by"):
        table.add_column(name, overflow="fold")
    for one in line_up.experiments:
        table.add_row(one.name, one.kind, one.version, takes(one), _time(one.started_at_us), one.by)
    console.print(table, markup=False)


def history_report(console: Console, versions: Sequence[LineUp]) -> None:
    """Versions of the line-up."""
    table = Table(title="Versions of the line-up", title_justify="left")
    for name in ("", "when (UTC)", "by", "runs", "why"):
        table.add_column(name, overflow="fold")
    for one in versions:
        runs = ", ".join(f"{e.name} ({e.kind} {e.version})" for e in one.experiments)
        table.add_row(str(one.version), _time(one.at_us), one.by, runs or "nothing", one.why)
    console.print(table, markup=False)


def takes(experiment: Experiment) -> str:
    """Which payments an experiment takes right now, in words."""
    if experiment.kind == "segment":
        return f"where {experiment.condition}"
    if experiment.kind == "shadow":
        return "scores all" if experiment.sample == 1 else f"scores {_percent(experiment.sample)}"
    now = experiment.share_at(time.time_ns() // 1000)
    grows = f", grows to {_percent(experiment.share)}" if now < experiment.share else ""
    return f"{_percent(now)} of cards{grows}"


def _percent(share: float) -> str:
    return f"{100 * share:g} %"


def _time(at_us: int) -> str:
    return f"{datetime.fromtimestamp(at_us / 1e6, UTC):%Y-%m-%d %H:%M}"
