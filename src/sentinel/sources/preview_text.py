"""A preview for people: columns as rows, and no line longer than 80 characters."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sentinel.ingest.cards import masked
from sentinel.log.schema import ATTRIBUTE_PREFIX
from sentinel.sources.base import ColumnUse
from sentinel.sources.preview import Preview
from sentinel.sources.report import moment

_FAMILY: Final = 8  # columns of one name and use, with a number behind, that are shown as one
_SHOWN_FILES: Final = 5
_SHOWN_PAYMENTS: Final = 2
_SHOWN_ATTRIBUTES: Final = 6
_EXAMPLE_CHARACTERS: Final = 24
_REFUSED_SHARE: Final = 0.5


def render_preview(seen: Preview) -> RenderableType:
    """The preview: files, columns, what a sample became, first payments, warnings."""
    about = seen.description
    more = len(about.files) - _SHOWN_FILES
    lines = [
        *about.files[:_SHOWN_FILES],
        *([f"... and {more:,} more files"] if more > 0 else []),
        *about.notes,
        f"labels: {about.labels}",
        f"money: {seen.scale} decimals",
    ]
    if seen.row_count is not None:
        lines.append(f"about {seen.row_count:,} rows")
    warnings = [Text(f"warning: {text}", style="yellow") for text in seen.warnings]
    return Group(
        *map(Text, lines),
        Text(),
        _columns(about.source, about.columns, seen.examples),
        Text(),
        _payments(seen),
        Text(),
        _sample(seen),
        *([Text()] if warnings else []),
        *warnings,
    )


def _columns(
    source: str, columns: Sequence[ColumnUse], examples: dict[str, tuple[str, ...]]
) -> Table:
    table = Table(title=f"{source}: columns", box=None, padding=(0, 2, 0, 0), title_justify="left")
    table.add_column("column", max_width=22, overflow="fold")
    table.add_column("becomes", max_width=22, overflow="fold")
    table.add_column("type, note and examples", overflow="fold")
    for name, use in _families([use for use in columns if use.becomes or use.note != "not used"]):
        shown = ", ".join(_short(text) for text in examples.get(use.column, ()))
        about = ", ".join(filter(None, (use.type, use.note)))
        cell = Text(about, style="dim")
        if shown:
            cell.append(f"\n{shown}", style="none")
        table.add_row(Text(name), Text(_becomes(use)), cell)
    unused = [name for name, _ in _families([u for u in columns if u.note == "not used"])]
    if unused:
        table.caption = Text(f"not used: {', '.join(unused)}")
        table.caption_justify = "left"
    return table


def _becomes(use: ColumnUse) -> str:
    """What a column becomes; attributes of the same name are just that."""
    if not use.becomes:
        return "-"
    parts = []
    for part in use.becomes.split(", "):
        name = part.removeprefix(ATTRIBUTE_PREFIX)
        own = part.startswith(ATTRIBUTE_PREFIX) and name == use.column
        parts.append("attribute" if own else part)
    return ", ".join(parts)


def _families(columns: Sequence[ColumnUse]) -> list[tuple[str, ColumnUse]]:
    """Columns with what they are called; many that differ by a number only are one."""
    groups: list[list[ColumnUse]] = []
    keys: list[tuple[str, str, str, str]] = []
    for use in columns:
        stem = re.sub(r"\d+$", "", use.column)
        becomes = re.sub(r"\d+$", "", use.becomes)
        key = (stem, becomes, use.type, use.note)
        if keys and keys[-1] == key and stem != use.column:
            groups[-1].append(use)
        else:
            groups.append([use])
            keys.append(key)
    found: list[tuple[str, ColumnUse]] = []
    for group in groups:
        if len(group) < _FAMILY:
            found += [(use.column, use) for use in group]
        else:
            name = f"{group[0].column} ... {group[-1].column} ({len(group)})"
            found.append((name, group[0]))
    return found


def _payments(seen: Preview) -> RenderableType:
    """The first rows, each a column of the table."""
    rows = seen.rows.slice(0, _SHOWN_PAYMENTS).to_pylist()
    if not rows:
        return Text("There are no rows.")
    names = seen.rows.schema.names
    attributes = [name for name in names if name.startswith(ATTRIBUTE_PREFIX)]
    shown = [name for name in names if name not in attributes[_SHOWN_ATTRIBUTES:]]
    table = Table(
        title="first rows as the log would have them",
        box=None,
        padding=(0, 2, 0, 0),
        title_justify="left",
        show_header=False,
    )
    table.add_column(max_width=24, overflow="fold", style="dim")
    for _ in rows:
        table.add_column(max_width=26, overflow="fold")
    for name in shown:
        if any(row[name] is not None for row in rows):
            field = name.removeprefix(ATTRIBUTE_PREFIX)
            table.add_row(Text(field), *(Text(_cell(name, row[name])) for row in rows))
    if any(seen.findings[: len(rows)]):
        reasons = [Text(masked(reason or "")) for reason in seen.findings[: len(rows)]]
        table.add_row(Text("rejected because"), *reasons)
    return table


def _sample(seen: Preview) -> RenderableType:
    """What became of the rows that were looked at."""
    sample = seen.sample
    parts: list[RenderableType] = []
    table = Table(
        title=f"of a sample of {sample.read:,} rows",
        box=None,
        padding=(0, 2, 0, 0),
        title_justify="left",
        show_header=False,
    )
    table.add_column()
    table.add_column(justify="right")
    table.add_column(overflow="fold")
    rejected = sample.rejected.total()
    share = f"{rejected / sample.read:.1%} of them" if sample.read and rejected else ""
    if sample.read:
        table.add_row("accepted", f"{sample.accepted:,}")
        table.add_row("rejected", f"{rejected:,}", share)
        for code, count in sample.rejected.most_common():
            table.add_row(f"  {code}", f"{count:,}", Text(sample.reasons.get(code, "")))
        known = sample.frauds_accepted
        share = f"{known / sample.accepted:.3%} of the accepted rows" if sample.accepted else ""
        table.add_row("  called fraud", f"{known:,}", share)
    said = f"{sample.frauds / sample.labels:.3%} of the labels" if sample.labels else ""
    table.add_row("labels", f"{sample.labels:,}")
    table.add_row("  saying fraud", f"{sample.frauds:,}", said)
    if sample.labels_undecided:
        table.add_row("  not decided yet", f"{sample.labels_undecided:,}")
    for code, count in sample.labels_rejected.most_common():
        table.add_row(f"  {code}", f"{count:,}", Text(sample.reasons.get(code, "")))
    if sample.unmatched:
        looked = "" if sample.all_compared else "that was looked at"
        table.add_row("  about no payment", f"{sample.unmatched:,}", looked)
    parts.append(table)
    if sample.refusal is not None:
        parts.append(Text(f"An import would be refused: {sample.refusal}.", style="bold red"))
    elif sample.read and rejected / sample.read > _REFUSED_SHARE:
        parts.append(
            Text(
                "An import would be refused: more than half of the rows are rejected.",
                style="bold red",
            )
        )
    return Group(*parts)


def _short(text: str) -> str:
    return text if len(text) <= _EXAMPLE_CHARACTERS else text[: _EXAMPLE_CHARACTERS - 3] + "..."


def _cell(name: str, value: object) -> str:
    if value is None:
        return "-"
    if name.endswith("_us") and isinstance(value, int | np.integer):
        return moment(int(value))
    return masked(str(value))
