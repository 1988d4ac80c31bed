"""Rows of materialized tables: the newest of each entity, and those that were known at a time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sentinel.retrieval.view_table import ViewTable

EVENT_TIMESTAMP = "event_timestamp"
_ROW = "__row"
_MOMENT = "__moment_us"


def newest_rows(
    table: ViewTable,
    keys: Sequence[str],
    features: Sequence[str],
    start: datetime | None,
    end: datetime | None,
    *,
    all_rows: bool = False,
) -> pa.Table:
    """The last row of each entity within a time range, or all of them.

    Args:
        table: Where from.
        keys: Entity columns.
        features: Columns wanted.
        start, end: The range, both included; None where it is open.
        all_rows: Older rows as well.
    """
    columns = [*keys, EVENT_TIMESTAMP, *features]
    rows = table.rows(columns)
    if rows is None:
        return pa.table({name: pa.nulls(0) for name in columns})
    wanted = ", ".join(f'"{name}"' for name in columns)
    entity = ", ".join(f'"{key}"' for key in keys)
    newest = (
        f"QUALIFY row_number() OVER (PARTITION BY {entity} ORDER BY {EVENT_TIMESTAMP} DESC) = 1"
    )
    query = f"""
        SELECT {wanted} FROM rows
        WHERE ($start IS NULL OR epoch_us({EVENT_TIMESTAMP}) >= $start)
          AND ($end IS NULL OR epoch_us({EVENT_TIMESTAMP}) <= $end)
        {"" if all_rows else newest}
        ORDER BY {EVENT_TIMESTAMP}, {entity}
    """
    with duckdb.connect() as database:
        database.execute("SET TimeZone = 'UTC'")
        database.register("rows", rows)
        found: pa.Table = database.execute(
            query, {"start": _microseconds(start), "end": _microseconds(end)}
        ).to_arrow_table()
    return found


def rows_known_at(
    table: ViewTable,
    keys: Sequence[str],
    features: Sequence[str],
    asked: pa.Table,
    moments_us: npt.NDArray[np.int64],
    ttl: timedelta | None,
) -> pa.Table:
    """For each row asked for, the entity's last row that is not later, null where there is none.

    Args:
        table: Where from.
        keys: Entity columns.
        features: Columns wanted.
        asked: The rows' entity columns, as text.
        moments_us: Their times.
        ttl: Rows that are older than this at the time count as none; None or 0 if rows never age.

    Returns:
        The features in the order of the rows.
    """
    rows = table.rows([*keys, EVENT_TIMESTAMP, *features])
    if rows is None:
        return pa.table({name: pa.nulls(asked.num_rows) for name in features})
    placed = asked.append_column(_ROW, pa.array(np.arange(asked.num_rows)))
    placed = placed.append_column(_MOMENT, pa.array(moments_us))
    same = " AND ".join(f'asked."{key}" = rows."{key}"' for key in keys)
    fresh = f"epoch_us(rows.{EVENT_TIMESTAMP}) >= asked.{_MOMENT} - $ttl"
    wanted = ", ".join(f'CASE WHEN {fresh} THEN rows."{f}" END AS "{f}"' for f in features)
    query = f"""
        SELECT {wanted} FROM asked ASOF LEFT JOIN rows
        ON {same} AND asked.{_MOMENT} >= epoch_us(rows.{EVENT_TIMESTAMP})
        ORDER BY asked.{_ROW}
    """
    ttl_us = ttl // timedelta(microseconds=1) if ttl else 2**62
    with duckdb.connect() as database:
        database.execute("SET TimeZone = 'UTC'")
        database.register("rows", rows)
        database.register("asked", placed)
        found: pa.Table = database.execute(query, {"ttl": ttl_us}).to_arrow_table()
    return found


def _microseconds(moment: datetime | None) -> int | None:
    if moment is None:
        return None
    return round(moment.timestamp() * 1_000_000)
