"""Times in any form to microseconds UTC, a whole column at a time."""

from __future__ import annotations

import zoneinfo
from functools import lru_cache
from typing import Final, Literal

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentinel.domain import ConfigurationError
from sentinel.sources.base import BoolMask, Finding
from sentinel.sources.columns import flat, is_text, mask_of, number_column

TimeUnit = Literal["s", "ms", "us", "ns", "min", "h", "d"]

UNIT_US: Final[dict[str, float]] = {
    "d": 86_400_000_000,
    "h": 3_600_000_000,
    "min": 60_000_000,
    "s": 1_000_000,
    "ms": 1_000,
    "us": 1,
    "ns": 0.001,
}
_LARGEST_US: Final = 4_102_444_800_000_000 * 100  # far beyond any clock, far below 2^63
_ISO_PATTERN: Final = r"^\d{4}-\d{1,2}-\d{1,2}"
_ZONE_PATTERN: Final = r"\d[T ].*(Z|z|UTC|[+-]\d{2}(:?\d{2})?)$"


def time_column(
    column: pa.Array | pa.ChunkedArray,
    *,
    what: str = "time",
    layout: str = "iso",
    unit: TimeUnit = "s",
    timezone: str = "UTC",
) -> tuple[pa.Array, tuple[Finding, ...]]:
    """Times in microseconds UTC, and the rows whose time cannot be read.

    Args:
        column: Arrow timestamps or dates, numbers since 1970, or text.
        what: Name of the column, for the reasons.
        layout: Of text: ``iso``, ``epoch``, or a strptime pattern such as ``%d.%m.%Y %H:%M``.
        unit: Of numbers since 1970-01-01 UTC.
        timezone: Of times that do not name theirs (IANA name). A repeated hour counts
            as its first occurrence, a skipped one as the moment of the jump.

    Returns:
        int64 microseconds, null where there is none, and findings ``invalid_time``.

    Raises:
        ConfigurationError: The time zone is unknown.

    >>> times, findings = time_column(pa.array(["1970-01-01T01:00:00", "soon", None]),
    ...                               timezone="Europe/Berlin")
    >>> times.to_pylist(), findings[0].reason_of(1)
    ([0, None, None], "the time 'soon' is not an ISO 8601 time such as 2024-03-01T12:30:00Z")
    """
    check_timezone(timezone)
    values = flat(column)
    if pa.types.is_timestamp(values.type) or pa.types.is_date(values.type):
        return _from_timestamps(values, timezone), ()
    if is_text(values.type) and layout != "epoch":
        text = pc.utf8_trim_whitespace(pc.cast(values, pa.string()))
        text = pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)
        times = _from_text(text, layout, timezone)
        bad = mask_of(pc.and_(pc.is_valid(text), pc.is_null(times)))
        allowed = (
            "an ISO 8601 time such as 2024-03-01T12:30:00Z"
            if layout == "iso"
            else f"of the form {layout!r}"
        )
    else:
        times, bad = _from_numbers(values, unit)
        allowed = f"a number of {unit} since 1970"
    if not bad.any():
        return times, ()
    reasons: list[str | None] = [None] * len(values)
    for row in np.flatnonzero(bad).tolist():
        reasons[row] = f"the {what} {values[row].as_py()!r} is not {allowed}"
    return times, (Finding("invalid_time", bad, reasons),)


def check_timezone(timezone: str) -> None:
    """Raise ``ConfigurationError`` unless the IANA time zone is known."""
    try:
        zoneinfo.ZoneInfo(timezone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigurationError(
            f"The time zone {timezone!r} is unknown; use an IANA name such as Europe/Berlin."
        ) from None


def check_start(start: str, timezone: str, where: str) -> int:
    """The moment at which a count of time is 0, in microseconds UTC.

    Raises:
        ConfigurationError: It is no ISO 8601 date or time.

    >>> check_start("2024-01-01", "UTC", "time.start")
    1704067200000000
    """
    text = pa.array([start.strip()])
    found = _from_text(text, "iso", timezone)[0].as_py()
    if found is None:
        raise ConfigurationError(
            f"{where}: {start!r} is no date or time; write it such as 2024-01-01 or "
            "2024-01-01T12:30:00Z."
        )
    return int(found)


def _from_timestamps(values: pa.Array, timezone: str) -> pa.Array:
    if pa.types.is_date(values.type) or values.type.tz is None:
        naive = pc.cast(values, pa.timestamp("us"), safe=False)
        values = pc.assume_timezone(naive, timezone, ambiguous="earliest", nonexistent="latest")
    return pc.cast(pc.cast(values, pa.timestamp("us", "UTC"), safe=False), pa.int64())


def _from_numbers(values: pa.Array, unit: TimeUnit) -> tuple[pa.Array, BoolMask]:
    factor = UNIT_US[unit]
    whole = None
    if pa.types.is_integer(values.type):
        whole = pc.cast(values, pa.int64(), safe=False)
    elif is_text(values.type):
        text = pc.utf8_trim_whitespace(pc.cast(values, pa.string()))
        if pc.all(pc.match_substring_regex(text, r"^\d{1,18}$"), skip_nulls=True).as_py():
            whole = pc.cast(text, pa.int64())
    if whole is not None:  # exact beyond 2^53
        missing = mask_of(pc.is_null(whole))
        numbers = np.asarray(pc.fill_null(whole, 0).to_numpy(zero_copy_only=False), np.int64)
        bad = np.abs(numbers.astype(np.float64)) * factor > _LARGEST_US
        numbers = np.where(bad, 0, numbers)
        times = numbers // 1_000 if unit == "ns" else numbers * int(factor)
    else:
        floats, bad = number_column(values)
        missing = mask_of(pc.is_null(floats)) & ~bad
        reals = np.nan_to_num(floats.to_numpy(zero_copy_only=False)) * factor
        bad = bad | (np.abs(reals) > _LARGEST_US)
        times = np.rint(np.where(bad, 0.0, reals)).astype(np.int64)
    return pa.array(times, pa.int64(), mask=missing | bad), bad & ~missing


def _from_text(text: pa.Array, layout: str, timezone: str) -> pa.Array:
    pattern = _ISO_PATTERN if layout == "iso" else r"\d"
    text = pc.if_else(pc.match_substring_regex(text, pattern), text, pa.scalar(None, pa.string()))
    if layout == "iso":
        zoned = pc.match_substring_regex(text, _ZONE_PATTERN)
        moment = "CASE WHEN zoned THEN try_cast(text AS TIMESTAMPTZ) END"
        naive = "CASE WHEN NOT zoned THEN try_cast(text AS TIMESTAMP) END"
        parameters: list[str] = []
    else:
        has_zone = "%z" in layout or "%Z" in layout
        zoned = pa.array(np.full(len(text), has_zone))
        read = "try_strptime(text, ?)"
        moment, naive = (read, "NULL") if has_zone else ("NULL", read)
        parameters = [layout]
    try:
        with _connection().cursor() as cursor:
            cursor.execute("SET TimeZone = 'UTC'")
            cursor.register("input", pa.table({"text": text, "zoned": zoned}))
            read_times = cursor.execute(
                f"SELECT epoch_us({moment}::TIMESTAMPTZ) AS moment, "
                f"epoch_us({naive}::TIMESTAMP) AS naive FROM input",
                parameters,
            ).to_arrow_table()
    except duckdb.Error as error:
        raise ConfigurationError(
            f"The time format {layout!r} cannot be used ({error}); "
            "use iso, epoch, or a strptime pattern such as %Y-%m-%d %H:%M:%S."
        ) from error
    local = pc.cast(pc.cast(flat(read_times.column("naive")), pa.int64()), pa.timestamp("us"))
    return pc.coalesce(
        pc.cast(flat(read_times.column("moment")), pa.int64()), _from_timestamps(local, timezone)
    )


@lru_cache(maxsize=1)
def _connection() -> duckdb.DuckDBPyConnection:
    return duckdb.connect(config={"memory_limit": "512MB"})
