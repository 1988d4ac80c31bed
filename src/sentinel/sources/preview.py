"""What an import would do, shown on the first rows, before anything is written."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

import numpy as np
import pyarrow as pa
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sentinel.ingest.cards import masked
from sentinel.schema import ATTRIBUTE_PREFIX, KIND_LABEL
from sentinel.sources.base import Description, Source
from sentinel.sources.door import with_masks
from sentinel.sources.report import moment
from sentinel.sources.validate import CardJudges, check_labels, check_transactions

_SHOWN_ATTRIBUTES = 6


@dataclass(frozen=True)
class Preview:
    """What a source understood, and what its first rows become.

    Attributes:
        description: Columns, labels and warnings.
        rows: The first rows in canonical form, those with findings included.
        findings: For each of these rows the reason why it would be rejected, or None.
        scale: Decimals of one unit of money.
        row_count: About how many rows there are, if known.
    """

    description: Description
    rows: pa.RecordBatch
    findings: tuple[str | None, ...]
    scale: int
    row_count: int | None

    def render(self) -> RenderableType:
        """The preview for people."""
        about = self.description
        lines = [
            *about.files[:5],
            *([f"... and {len(about.files) - 5} more files"] if len(about.files) > 5 else []),
            *about.notes,
            f"labels: {about.labels}",
            f"money: {self.scale} decimals",
        ]
        if self.row_count is not None:
            lines.append(f"about {self.row_count:,} rows")
        columns = Table("column", "type", "becomes", "note", title=f"{about.source}: columns")
        for use in about.columns:
            columns.add_row(use.column, use.type, use.becomes or "-", use.note)
        warnings = [Text(f"warning: {text}", style="yellow") for text in about.warnings]
        return Group(*map(Text, lines), columns, self._rows_table(), *warnings)

    def _rows_table(self) -> Table:
        names = self.rows.schema.names
        attributes = [name for name in names if name.startswith(ATTRIBUTE_PREFIX)]
        shown = [name for name in names if name not in attributes[_SHOWN_ATTRIBUTES:]]
        table = Table(title=f"first {self.rows.num_rows} rows as the log would have them")
        for name in shown:
            table.add_column(name.removeprefix(ATTRIBUTE_PREFIX))
        table.add_column("rejected because")
        for row, reason in zip(self.rows.to_pylist(), self.findings, strict=True):
            table.add_row(*(_cell(name, row[name]) for name in shown), reason or "")
        return table


def preview(source: Source, rows: int = 10, *, now_us: int) -> Preview:
    """Read the first rows of a source and check them, as an import would.

    Args:
        source: Where transactions come from.
        rows: How many rows to show.
        now_us: The clock, microseconds UTC.

    >>> from sentinel.sources import open_source
    >>> seen = preview(open_source("simulator", customers=50, days=2), 3, now_us=2 * 10**15)
    >>> seen.rows.num_rows, seen.findings
    (3, (None, None, None))
    """
    kept: list[pa.RecordBatch] = []
    reasons: list[str | None] = []
    schema: pa.Schema | None = None
    cards = CardJudges([*source.no_cards, *source.token_fields])
    for chunk in islice(source.raw_batches(max(rows, 1)), 3):
        if schema is not None and chunk.rows.schema != schema:
            break
        schema = chunk.rows.schema
        if chunk.kind == KIND_LABEL:
            checked = check_labels(chunk, delay_us=source.label_delay_us)
        else:
            checked = check_transactions(
                chunk, now_us=now_us, label_delay_us=source.label_delay_us, cards=cards
            )
        kept.append(with_masks(chunk.rows, source.token_fields))
        for row in range(chunk.rows.num_rows):
            index = int(checked.first[row])
            reasons.append(None if index < 0 else checked.findings[index].reason_of(row))
        if len(reasons) >= rows:
            break
    if schema is None:
        empty = pa.RecordBatch.from_pydict({"transaction_id": pa.array([], pa.string())})
        return Preview(source.describe(), empty, (), source.scale, source.row_count())
    table = pa.Table.from_batches(kept, schema).slice(0, rows).combine_chunks()
    batches = table.to_batches()
    first = batches[0] if batches else pa.RecordBatch.from_pylist([], schema)
    return Preview(
        source.describe(), first, tuple(reasons[:rows]), source.scale, source.row_count()
    )


def _cell(name: str, value: object) -> str:
    if value is None:
        return "-"
    if name.endswith("_us") and isinstance(value, int | np.integer):
        return moment(int(value))
    return masked(str(value))
