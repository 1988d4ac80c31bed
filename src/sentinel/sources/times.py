"""Times in any form to microseconds UTC, a whole column at a time."""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentinel.domain import ConfigurationError
from sentinel.sources.base import BoolMask, Finding
from sentinel.sources.columns import flat, is_text, mask_of, number_column
from sentinel.sources.time_patterns import digits_in, expanded, guess, pattern_of_each, swapped

TimeUnit = Literal["s", "ms", "us", "ns", "min", "h", "d"]
UNIT_WORDS: Final[dict[TimeUnit, str]] = {
    "s": "seconds",
    "ms": "milliseconds",
    "us": "microseconds",
    "ns": "nanoseconds",
    "min": "minutes",
    "h": "hours",
    "d": "days",
}

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
_ZONE_PATTERN: Final = r"\d[T ].*(Z|z|UTC|GMT|[+-]\d{2}(:?\d{2})?)$"
_COUNT_PATTERN: Final = r"^[+-]?\d+(\.\d*)?([eE]\+?\d{1,2})?$"
_JOINT: Final = "\x1f"  # between the texts of several columns; in none of them
_LARGEST_OFFSET_US: Final = 18 * 3_600_000_000


def time_column(
    column: pa.Array | pa.ChunkedArray | Sequence[pa.Array],
    *,
    what: str = "time",
    layout: str | Sequence[str] = "iso",
    unit: TimeUnit | None = None,
    start: str | None = None,
    timezone: str = "UTC",
    offset: pa.Array | None = None,
) -> tuple[pa.Array, tuple[Finding, ...]]:
    """Times in microseconds UTC, and the rows whose time cannot be read.

    Args:
        column: Arrow timestamps or dates, numbers, or text; or a list of columns that say the
            time together.
        what: Name of the column, for the reasons.
        layout: Of text: ``iso``, ``epoch``, or a strptime pattern such as ``%d.%m.%Y %H:%M``. A
            list is one for each column, or, of one column, several to be tried in order.
        unit: Of numbers; None = seconds, where the layout is ``epoch``.
        start: The moment at which the count of numbers is 0; None = 1970-01-01 UTC.
        timezone: Of times that do not name theirs (IANA name). A repeated hour counts
            as its first occurrence, a skipped one as the moment of the jump.
        offset: Hours from UTC, row by row, of times that do not name theirs.

    Returns:
        int64 microseconds, null where there is none, and findings ``invalid_time``.

    Raises:
        ConfigurationError: The time zone is unknown, or the column holds numbers and nothing
            says what they count.

    >>> times, findings = time_column(pa.array(["1970-01-01T01:00:00", "soon", None]),
    ...                               timezone="Europe/Berlin")
    >>> times.to_pylist(), findings[0].reason_of(1)
    ([0, None, None], "the time 'soon' is not an ISO 8601 time such as 2024-03-01T12:30:00Z")
    >>> time_column(pa.array([1, 25]), unit="h", start="2024-01-01")[0].to_pylist()
    [1704070800000000, 1704157200000000]
    """
    check_timezone(timezone)
    columns = [flat(item) for item in column] if isinstance(column, Sequence) else [flat(column)]
    layouts = (layout,) if isinstance(layout, str) else tuple(layout)
    origin = 0 if start is None else check_start(start, timezone, "start")
    zone = _Zone(timezone, None if offset is None else _offsets(flat(offset)))
    if len(columns) > 1:
        return _together(columns, layouts, zone, what)
    values = columns[0]
    times, given, reasons = pa.nulls(len(values), pa.int64()), mask_of(pc.is_valid(values)), {}
    for form in layouts:
        if form in ("iso", "epoch"):
            found, reason = _without_pattern(values, form, unit, origin, zone, what)
        else:
            found = _by_pattern(_part_text(values, form), expanded(form), zone)
            reason = {}
        times = pc.coalesce(times, found)
        reasons = reason if len(layouts) == 1 else {}
        if not times.null_count:
            break
    if is_text(values.type):
        given &= ~mask_of(pc.equal(pc.utf8_trim_whitespace(values), ""))
    elif pa.types.is_floating(values.type):
        given &= ~mask_of(pc.is_nan(values))
    return _with_findings(times, given, values, layouts, unit, what, reasons, zone)


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
    found = _from_iso(pa.array([start.strip()]), _Zone(timezone, None))[0].as_py()
    if found is None:
        raise ConfigurationError(
            f"{where}: {start!r} is no date or time; write it such as 2024-01-01 or "
            "2024-01-01T12:30:00Z."
        )
    return int(found)


@dataclass(frozen=True)
class _Zone:
    """Where times are that do not say it: in a zone, or row by row so far from UTC."""

    name: str
    offsets_us: pa.Array | None

    def moments(self, naive: pa.Array) -> pa.Array:
        """Naive timestamps as microseconds UTC."""
        naive = pc.cast(naive, pa.timestamp("us"), safe=False)
        if self.offsets_us is not None:
            return pc.subtract(pc.cast(naive, pa.int64()), self.offsets_us)
        here = pc.assume_timezone(naive, self.name, ambiguous="earliest", nonexistent="latest")
        return pc.cast(here, pa.int64())


_Reasons = dict[int, str]


def _with_findings(
    times: pa.Array,
    given: BoolMask,
    values: pa.Array,
    layouts: Sequence[str],
    unit: TimeUnit | None,
    what: str,
    reasons: _Reasons,
    zone: _Zone,
) -> tuple[pa.Array, tuple[Finding, ...]]:
    bad = given & mask_of(pc.is_null(times))
    if not bad.any():
        return times, ()
    rows = np.flatnonzero(bad).tolist()
    shown = {row: str(values[row].as_py()).replace(_JOINT, " ") for row in rows}
    hints = _hints([shown[row] for row in rows])
    offsets = zone.offsets_us
    said: list[str | None] = [None] * len(values)
    for row in rows:
        if row in reasons:
            said[row] = reasons[row]
        elif offsets is not None and not offsets[row].is_valid:
            said[row] = f"the {what} {shown[row]!r} has no offset from UTC of -18 to 18 hours"
        else:
            text = f"the {what} {shown[row]!r} is not {_allowed(layouts, unit)}"
            hint = hints.get(_shape(shown[row]), "")
            if any(f'"{swapped(layout)}"' in hint for layout in layouts if swapped(layout)):
                hint += (
                    ". If the file has both orders of day and month, rows where both are 12 or "
                    "less are misread: write them in one order first"
                )
            said[row] = f"{text}; {hint}" if hint else text
    return times, (Finding("invalid_time", bad, said),)


def _hints(texts: list[str]) -> dict[str, str]:
    """What the mapping would need for texts of each shape; a shape has 9 for every digit."""
    by_shape: dict[str, list[str]] = {}
    for text in texts[:200]:
        by_shape.setdefault(_shape(text), []).append(text.strip())
    return {shape: guess(some) for shape, some in list(by_shape.items())[:20]}


def _shape(text: str) -> str:
    return re.sub(r"\d", "9", text.strip())


def _allowed(layouts: Sequence[str], unit: TimeUnit | None) -> str:
    forms = []
    for layout in layouts:
        if layout == "iso":
            forms.append("an ISO 8601 time such as 2024-03-01T12:30:00Z")
            if unit is not None:
                forms.append(f"a number of {UNIT_WORDS[unit]}")
        elif layout == "epoch":
            forms.append(f"a number of {UNIT_WORDS[unit or 's']}")
        else:
            forms.append(f"of the form {layout!r}")
    return " or ".join(forms)


def _without_pattern(
    values: pa.Array, layout: str, unit: TimeUnit | None, origin: int, zone: _Zone, what: str
) -> tuple[pa.Array, _Reasons]:
    """Timestamps, counts and ISO texts."""
    if pa.types.is_timestamp(values.type) or pa.types.is_date(values.type):
        return _from_timestamps(values, zone), {}
    if pa.types.is_null(values.type):
        return pa.nulls(len(values), pa.int64()), {}
    if not is_text(values.type):
        if layout == "iso" and unit is None:
            some = [str(item) for item in values.drop_null()[:20].to_pylist()]
            hint = guess(some) or "give unit or format"
            raise ConfigurationError(
                f"The {what} column holds numbers such as {', '.join(some[:3]) or values.type}, "
                f"and nothing says what they count: {hint}. Allowed: unit = ns, us, ms, s, min, h "
                'or d (with start, where the count does not begin in 1970), format = "epoch", or '
                "a pattern such as %Y%m%d."
            )
        return _from_counts(values, unit or "s", origin, what)
    text = _trimmed(values)
    if layout == "epoch":
        return _from_counts(text, unit or "s", origin, what)
    times = _from_iso(text, zone)
    if unit is None or not times.null_count:
        return times, {}
    counted, reasons = _from_counts(text, unit, origin, what)
    return pc.coalesce(times, counted), reasons


def _trimmed(values: pa.Array) -> pa.Array:
    text = pc.utf8_trim_whitespace(pc.cast(values, pa.string()))
    return pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)


def _from_timestamps(values: pa.Array, zone: _Zone) -> pa.Array:
    if pa.types.is_date(values.type) or values.type.tz is None:
        return zone.moments(values)
    return pc.cast(pc.cast(values, pa.timestamp("us", "UTC"), safe=False), pa.int64())


def _from_counts(
    values: pa.Array, unit: TimeUnit, origin: int, what: str
) -> tuple[pa.Array, _Reasons]:
    factor = UNIT_US[unit]
    whole = None
    if pa.types.is_integer(values.type):
        whole = pc.cast(values, pa.int64(), safe=False)
    elif is_text(values.type):
        counts = pc.match_substring_regex(values, _COUNT_PATTERN)
        values = pc.if_else(counts, values, pa.scalar(None, pa.string()))
        if pc.all(pc.match_substring_regex(values, r"^\d{1,18}$"), skip_nulls=True).as_py():
            whole = pc.cast(values, pa.int64())
    if whole is not None:  # exact beyond 2^53
        missing = mask_of(pc.is_null(whole))
        numbers = np.asarray(pc.fill_null(whole, 0).to_numpy(zero_copy_only=False), np.int64)
        beyond = np.abs(numbers.astype(np.float64)) * factor > _LARGEST_US
        numbers = np.where(beyond, 0, numbers)
        times = numbers // 1_000 if unit == "ns" else numbers * int(factor)
    else:
        floats, _ = number_column(values)
        missing = mask_of(pc.is_null(floats))
        reals = np.nan_to_num(floats.to_numpy(zero_copy_only=False)) * factor
        beyond = np.abs(reals) > _LARGEST_US
        times = np.rint(np.where(beyond, 0.0, reals)).astype(np.int64)
    beyond &= ~missing
    reasons: _Reasons = {}
    for row in np.flatnonzero(beyond).tolist():
        text = str(values[row].as_py())
        finer = _finer(float(text), unit)
        hint = f'; did you mean unit = "{finer}"?' if finer else ""
        since = "1970" if not origin else "the start"
        reasons[row] = (
            f"the {what} {text!r} is too large for a number of {UNIT_WORDS[unit]} since "
            f"{since}{hint}"
        )
    return pa.array(times + origin, pa.int64(), mask=missing | beyond), reasons


def _finer(count: float, unit: TimeUnit) -> TimeUnit | None:
    """The first finer unit in which a count is a moment of these decades."""
    units = list(UNIT_US)
    for finer in units[units.index(unit) + 1 :]:
        if abs(count) * UNIT_US[finer] < 4_102_444_800_000_000:
            return finer  # type: ignore[return-value]
    return None


def _together(
    columns: list[pa.Array], layouts: Sequence[str], zone: _Zone, what: str
) -> tuple[pa.Array, tuple[Finding, ...]]:
    """One time of several columns."""
    if layouts == ("iso",):
        parts = [_part_text(columns[0], "%Y-%m-%d")]
        parts += [_part_text(item, "%H:%M:%S") for item in columns[1:]]
        joint = " "
    else:
        if len(layouts) == 1:
            layouts = pattern_of_each(layouts[0], len(columns), f"the format of the {what}")
        layouts = ["%Y-%m-%d" if form == "iso" else expanded(form) for form in layouts]
        parts = [_part_text(item, form) for item, form in zip(columns, layouts, strict=True)]
        joint = _JOINT
    there = np.stack([mask_of(pc.is_valid(part)) for part in parts])
    text = pc.binary_join_element_wise(
        *parts, joint, null_handling="replace", null_replacement="(nothing)"
    )
    text = pc.if_else(pa.array(there.any(axis=0)), text, pa.scalar(None, pa.string()))
    if joint == " ":
        times = _from_iso(text, zone)
    else:
        times = _by_pattern(text, _JOINT.join(layouts), zone)
    shown = layouts if joint == " " else (" ".join(layouts),)
    given = mask_of(pc.is_valid(text))
    return _with_findings(times, given, text, shown, None, what, {}, zone)


def _part_text(values: pa.Array, pattern: str) -> pa.Array:
    """A column as text of a pattern; digits that lost their leading zeros get them back."""
    kind = values.type
    if pa.types.is_time(kind):
        since = pc.cast(pc.cast(values, pa.time64("us"), safe=False), pa.int64())
        values = pc.cast(since, pa.timestamp("us"))
    if pa.types.is_temporal(kind):
        if pa.types.is_timestamp(kind) and kind.tz is not None:
            values = pc.local_timestamp(values)
        return pc.strftime(pc.cast(values, pa.timestamp("s"), safe=False), format=pattern)
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        floats = pc.cast(values, pa.float64(), safe=False)
        whole = pc.equal(floats, pc.floor(floats))  # of NaN: false
        counts = pc.cast(pc.if_else(whole, floats, 0.0), pa.int64(), safe=False)
        values = pc.if_else(whole, pc.cast(counts, pa.string()), pa.scalar(None, pa.string()))
    text = _trimmed(values)
    width = digits_in(pattern)
    if not width:
        return text
    text = pc.replace_substring_regex(text, r"^(\d+)\.0*$", r"\1")
    digits = pc.match_substring_regex(text, r"^\d+$")
    return pc.if_else(digits, pc.utf8_lpad(text, width, "0"), text)


def _offsets(values: pa.Array) -> pa.Array:
    """Hours from UTC, such as 5.75, "+05:45" or "UTC-3", in microseconds; null if unreadable."""
    if is_text(values.type):
        text = pc.utf8_upper(_trimmed(values))
        text = pc.replace_substring_regex(text, "^(UTC|GMT)", "")
        text = pc.if_else(pc.is_in(text, pa.array(["", "Z"])), "0", text)
        text = pc.replace_substring_regex(text, "^[\u2212\u2013]", "-")
        parts = pc.extract_regex(text, r"^(?P<sign>[+-]?)(?P<h>\d{1,2}):?(?P<m>[0-5]\d)$")
        clock = pc.match_substring_regex(text, r"^([+-]?\d{1,2}:[0-5]\d|[+-]\d{3,4})$")
        hours = pc.cast(pc.if_else(clock, parts.field("h"), "0"), pa.float64())
        minutes = pc.cast(pc.if_else(clock, parts.field("m"), "0"), pa.float64())
        exact = pc.add(hours, pc.divide(minutes, 60.0))
        exact = pc.if_else(pc.equal(parts.field("sign"), "-"), pc.negate(exact), exact)
        plain, _ = number_column(text)
        numbers = pc.if_else(clock, exact, plain)
    else:
        numbers, _ = number_column(values)
    offsets = pc.round(pc.multiply(numbers, 3_600_000_000.0))
    fine = pc.less_equal(pc.abs(offsets), float(_LARGEST_OFFSET_US))
    return pc.cast(pc.if_else(fine, offsets, pa.scalar(None, pa.float64())), pa.int64())


def _from_iso(text: pa.Array, zone: _Zone) -> pa.Array:
    times = _iso_times(text, zone)
    rest = mask_of(pc.and_(pc.is_valid(text), pc.is_null(times)))
    rest &= mask_of(pc.match_substring_regex(text, r"^\d{4}-?\d{1,2}-?\d{1,2}[ Tt]"))
    if not rest.any():
        return times
    # Rarer spellings of ISO 8601: 20240301T123000Z, a comma, small letters, [Europe/Berlin].
    again = pc.if_else(pa.array(rest), text, pa.scalar(None, pa.string()))
    for old, new in (
        (r"^(\d{4})(\d{2})(\d{2})[Tt ]", r"\1-\2-\3T"),
        (r"T(\d{2})(\d{2})(\d{2})", r"T\1:\2:\3"),
        (r"\[[^\]]*\]$", ""),
        (r"(\d)t(\d)", r"\1T\2"),
        (r"z$", "Z"),
        (r",(\d+)", r".\1"),
        (r"\s+([+-]\d{2})", r"\1"),
        (r"T(\d{2})($|Z|[+-])", r"T\1:00\2"),
    ):
        again = pc.replace_substring_regex(again, old, new)
    return pc.coalesce(times, _iso_times(again, zone))


def _iso_times(text: pa.Array, zone: _Zone) -> pa.Array:
    dated = pc.match_substring_regex(text, _ISO_PATTERN)
    text = pc.if_else(dated, text, pa.scalar(None, pa.string()))
    zoned = pc.match_substring_regex(text, _ZONE_PATTERN)
    moment = "CASE WHEN zoned THEN try_cast(text AS TIMESTAMPTZ) END"
    naive = "CASE WHEN NOT zoned THEN try_cast(text AS TIMESTAMP) END"
    return _read(text, zoned, moment, naive, [], zone)


def _by_pattern(text: pa.Array, pattern: str, zone: _Zone) -> pa.Array:
    text = pc.if_else(pc.match_substring_regex(text, r"\d"), text, pa.scalar(None, pa.string()))
    if "%z" in pattern:
        text = pc.replace_substring_regex(text, "[zZ]$", "+0000")
    if "%p" in pattern:
        text = pc.replace_substring_regex(text, r"(?i)\b([ap])\.\s?m\.", r"\1m")
    has_zone = "%z" in pattern or "%Z" in pattern
    read = "try_strptime(text, ?)"
    moment, naive = (read, "NULL") if has_zone else ("NULL", read)
    zoned = pa.array(np.full(len(text), has_zone))
    return _read(text, zoned, moment, naive, [pattern], zone)


def _read(
    text: pa.Array, zoned: pa.Array, moment: str, naive: str, parameters: list[str], zone: _Zone
) -> pa.Array:
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
            f"The time format {' '.join(parameters)!r} cannot be used ({error}); "
            "use iso, epoch, or a strptime pattern such as %Y-%m-%d %H:%M:%S."
        ) from error
    local = pc.cast(pc.cast(flat(read_times.column("naive")), pa.int64()), pa.timestamp("us"))
    moments = pc.cast(flat(read_times.column("moment")), pa.int64())
    return pc.coalesce(moments, zone.moments(local))


@lru_cache(maxsize=1)
def _connection() -> duckdb.DuckDBPyConnection:
    return duckdb.connect(config={"memory_limit": "512MB"})
