"""How `sentinel drift status` looks on a screen of 80 columns."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from rich.console import Console
from rich.table import Table

from sentinel.drift.label_figures import LabelFigures, day_words
from sentinel.drift.notices import HOUR_US
from sentinel.drift.rows import RecordedChange
from sentinel.pipeline.drift_status import DriftStatus, ModelDrift

_MOST_MODELS: Final = 5
_MOST_CHANGES: Final = 20


def drift_report(out: Console, found: DriftStatus) -> None:
    """Print what is known of drift."""
    if not found.models:
        out.print("No decision was followed yet. `sentinel monitor` follows the log.")
    for model in found.models[:_MOST_MODELS]:
        out.print(_model_words(model), markup=False, soft_wrap=True)
    behind = max(0, found.entries - found.followed)
    out.print(
        f"Followed up to entry {found.followed:,} of {found.entries:,}"
        + (f", {behind:,} behind." if behind else "."),
        soft_wrap=True,
    )
    if found.changes:
        table = Table(title="Changes", title_justify="left")
        for name in ("feature", "segment", "since", "found", "TV", "now"):
            table.add_column(name, justify="right" if name == "TV" else "left", overflow="fold")
        for one in found.changes[:_MOST_CHANGES]:
            change = one.change
            table.add_row(
                change.feature,
                change.segment,
                _hour(change.since_hour),
                _hour(change.at_hour),
                f"{change.total_variation:.2f}",
                _standing(one, found),
            )
        out.print(table)
        if len(found.changes) > _MOST_CHANGES:
            out.print(
                f"These are the latest {_MOST_CHANGES}: `sentinel drift report` writes a page with "
                "more.",
                soft_wrap=True,
            )
    elif any(model.stream.tested_hour >= 0 for model in found.models):
        out.print("No change was found.")
    else:
        out.print("Nothing was tested yet.")
    for notice in found.notices:
        what = "Silence" if notice.kind == "silence" else "Planned"
        out.print(
            f"{what} {notice.id}, {_moment(notice.from_us)} to {_moment(notice.until_us)} UTC, "
            f"{notice.feature} in {notice.segment}, by {notice.by}: {notice.why}",
            markup=False,
            soft_wrap=True,
        )
    for line in _label_lines(found.labels):
        out.print(line, markup=False, soft_wrap=True)
    labels = 0 if found.labels is None else len(found.labels.alarms)
    out.print(f"Alarms that are on: {found.alarms + labels}.")


def _label_lines(found: LabelFigures | None) -> Iterator[str]:
    if found is None:
        yield "Labels were not looked at yet."
        return
    if found.missing:
        yield f"Labels: nothing is tested. {found.missing}"
        return
    yield (
        f"Labels: {found.tested_days} days of payments were held against "
        f"{day_words(found.reference_first_day)} to {day_words(found.reference_last_day)}; "
        f"{'no change was found' if not found.changes else f'{len(found.changes)} changed'}."
    )
    for one in found.changes:
        state = "alarm"
        if one.ended_day is not None:
            state = f"has come back by {day_words(one.ended_day)}"
        elif one.silence:
            state = f"silenced: {one.silence}"
        yield f"  {one.words}; {state}{f'; planned: {one.plan}' if one.plan else ''}"


def _model_words(model: ModelDrift) -> str:
    stream, day = model.stream, model.last_day
    name = f"{stream.model_name} version {stream.model_version}"
    if stream.problem:
        said = f"{name}: nothing is tested, since {stream.problem.rstrip('.')}."
    elif stream.tested_hour < 0:
        said = f"{name}: no hour is over yet."
    else:
        said = f"{name}: tested up to {_hour(stream.tested_hour + 1)} UTC."
    counted = f", of them {day.left_out}" if day.left_out else "."
    return f"{said} Decisions of the last day: {day.decided:,}{counted}"


def _standing(one: RecordedChange, found: DriftStatus) -> str:
    current = found.models[0].stream.id if found.models else 0
    if one.stream != current:
        said = f"of version {one.model_version}"
    elif one.change.ended_hour is not None:
        said = one.change.ended_words
    elif one.silence is not None:
        said = f"silence {one.silence.id}"
    else:
        said = "alarm"
    return said if one.plan is None else f"{said}; planned: {one.plan.why}"


def _hour(hour: int) -> str:
    return _moment(hour * HOUR_US)


def _moment(at_us: int) -> str:
    return time.strftime("%m-%d %H:%M", time.gmtime(at_us / 1e6))
