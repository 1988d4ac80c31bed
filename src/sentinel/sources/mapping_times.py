"""A mapping's columns of times, read."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentinel.sources.base import DAY_US, Finding
from sentinel.sources.mapping_tables import TimeColumn
from sentinel.sources.observed import Kind, Observed
from sentinel.sources.times import time_column

_1971_US = 365 * DAY_US


def read_times(
    rows: pa.RecordBatch, column: TimeColumn, what: str
) -> tuple[pa.Array, tuple[Finding, ...]]:
    """The times of a batch as a mapping says.

    Args:
        rows: As the source has them.
        column: What the mapping says.
        what: Name of the time, for the reasons.

    Returns:
        int64 microseconds UTC, null where there is none, and findings ``invalid_time``.
    """
    columns = [rows.column(name) for name in column.columns]
    return time_column(
        columns if len(columns) > 1 else columns[0],
        what=what,
        layout=column.format,
        unit=column.unit,
        start=column.start,
        timezone=column.timezone,
        offset=None if column.offset_column is None else rows.column(column.offset_column),
    )


def odd_times(times: pa.Array, column: TimeColumn) -> tuple[Observed, ...]:
    """Whether times lie all at midnight, or all in 1970: then the mapping is hardly right."""
    values = times.drop_null().to_numpy()
    if not len(values):
        return ()
    name = " + ".join(column.columns)
    seen = []
    # Zones are whole quarters of an hour from UTC: elsewhere is no midnight anywhere.
    midnights = 0
    if not (values % (DAY_US // 96)).any():
        local = pc.local_timestamp(pc.cast(pa.array(values), pa.timestamp("us", column.timezone)))
        midnights = int((pc.cast(local, pa.int64()).to_numpy() % DAY_US == 0).sum())
    seen.append(Observed(Kind.MIDNIGHT, name, {"00:00:00": midnights}, len(values)))
    if column.start is None:
        early = int(np.count_nonzero((values >= 0) & (values < _1971_US)))
        seen.append(Observed(Kind.YEAR_1970, name, {"1970": early}, len(values)))
    return tuple(seen)


def time_note(column: TimeColumn) -> str:
    """How a column of times is read, in a few words."""
    formats = column.format if isinstance(column.format, str) else " ".join(column.format)
    if formats == "epoch" or (formats == "iso" and column.unit is not None):
        return f"{column.unit or 's'} since {column.start or '1970'}"
    where = column.timezone
    if column.offset_column is not None:
        where = f"{column.offset_column} hours from UTC"
    return f"{formats}, {where} unless it says otherwise"
