"""Which columns say when, and how they write it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import product
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sentinel.propose import names
from sentinel.propose.profile import ColumnProfile, TableProfile
from sentinel.propose.roles import Answers, Question, Roles, Time

DEFAULT_START: Final = "2024-01-01"
UNIT_SECONDS: Final = {
    "s": 1.0,
    "ms": 1e-3,
    "us": 1e-6,
    "ns": 1e-9,
    "min": 60.0,
    "h": 3_600.0,
    "d": 86_400.0,
}
UNIT_WORDS: Final = {"s": "seconds", "min": "minutes", "h": "hours", "d": "days"}

_TRIED: Final = 400
_ISO: Final = (
    r"^\d{4}-\d{1,2}-\d{1,2}([T ]\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?)?\s?(Z|UTC|[+-]\d{2}(:?\d{2})?)?$"
)
_DATES: Final = (
    *("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%Y.%m.%d"),
    *("%d.%m.%y", "%d/%m/%y", "%m/%d/%y", "%d-%b-%Y", "%d %b %Y", "%b %d, %Y", "%d-%b-%y"),
    *("%d %B %Y", "%B %d, %Y", "%Y%m%d", "%a %b %d %Y", "%Y-%m-%d", "%d%b%Y"),
)
_CLOCKS: Final = (
    *("", "%H:%M:%S", "%H:%M", "%H:%M:%S.%f", "%I:%M:%S %p", "%I:%M %p", "%H.%M", "%H:%M:%S%z"),
    *("%H%M%S", "%H%M"),
)
_EPOCHS: Final = (("s", 9.4e8, 2.1e9), ("ms", 9.4e11, 2.1e12), ("us", 9.4e14, 2.1e15))
_WITHIN: Final = re.compile(r"^\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?$")


def time_of(profile: TableProfile, column: str) -> Time | None:
    """How a column writes times that name day and month by themselves; None if it does not."""
    key = ("time", column)
    if key not in profile.remembered:
        profile.remembered[key] = _time_of(profile, column)
    found: Time | None = profile.remembered[key]
    return found


def _time_of(profile: TableProfile, column: str) -> Time | None:
    known = profile.columns[column]
    if known.type == "time":
        return Time((column,), "iso", reason="a column of times")
    if not known.given or known.type in ("nested", "boolean", "empty"):
        return None
    texts = _some(profile, column)
    if known.type == "text":
        return _text_time(column, texts)
    if known.type in ("integer", "number") and known.low > 0:
        if known.type == "integer" and known.lengths in ((8, 8), (14, 14), (12, 12)):
            for pattern in ("%Y%m%d", "%Y%m%d%H%M%S", "%Y%m%d%H%M"):
                if _all_fit(texts, pattern):
                    return Time((column,), pattern, reason=f"written as {pattern}")
        for unit, low, high in _EPOCHS:
            if low <= known.low and known.high <= high and known.high > known.low:
                return Time((column,), "epoch", unit, reason=f"{unit} since 1970 by its range")
    return None


def has_clock(time: Time) -> bool:
    """Whether a format tells the time of day."""
    if isinstance(time.format, tuple):
        return any("%H" in part or "%I" in part for part in time.format)
    return time.format in ("iso", "epoch") or "%H" in time.format or "%I" in time.format


def choose_time(roles: Roles, answers: Answers) -> None:
    """Decide which column is the time of the payment, or ask."""
    profile = roles.profile
    if answers.time:
        roles.time = _as_told(profile, answers)
        if roles.time is None:
            _ask_unit(roles, answers.time[0], told=True)
        return
    found = {name: time for name in profile.columns if (time := time_of(profile, name))}
    found = {n: t for n, t in found.items() if profile.columns[n].share_given > 0.98}
    parts = _calendar_parts(profile)
    if parts is not None:
        roles.time = parts
        return
    joined = _date_and_clock(profile, found)
    if joined is not None:
        roles.time = joined
        return
    if found:
        _best_of(roles, found, answers)
        return
    counters = _counters(profile)
    named = [name for name in counters if names.has(name, names.TIME)]
    candidates = named if len(named) == 1 else counters
    if len(candidates) == 1:
        _counted(roles, candidates[0], answers)
    elif candidates:
        _ask_column(roles, candidates, "counts that never fall")
    else:
        every = [n for n, c in profile.columns.items() if c.numeric or c.type == "text"][:6]
        _ask_column(roles, every, "no column holds times that can be told by themselves")


def moments(profile: TableProfile, time: Time) -> npt.NDArray[np.float64]:
    """The sample's times in seconds since 1970; NaN where one cannot be read."""
    key = ("moments", time.columns, time.format, time.unit, time.start)
    if key not in profile.remembered:
        profile.remembered[key] = _moments(profile, time)
    found: npt.NDArray[np.float64] = profile.remembered[key]
    return found


def _moments(profile: TableProfile, time: Time) -> npt.NDArray[np.float64]:
    if len(time.columns) == 1 and time.format == "epoch":
        begin = _begin(time.start)
        return profile.numbers(time.columns[0]) * UNIT_SECONDS[time.unit or "s"] + begin
    texts = [profile.texts(name) for name in time.columns]
    if isinstance(time.format, tuple):
        padded = [_padded(t, f) for t, f in zip(texts, time.format, strict=True)]
        text = pc.binary_join_element_wise(*padded, " ")
        return _parsed(text, " ".join(time.format))
    return _parsed(texts[0], time.format)


def _begin(start: str) -> float:
    if not start:
        return 0.0
    since = np.datetime64(start, "s") - np.datetime64("1970-01-01T00:00:00", "s")
    return float(since / np.timedelta64(1, "s"))


def _parsed(text: pa.Array, pattern: str) -> npt.NDArray[np.float64]:
    from sentinel.sources.times import time_column

    times, _ = time_column(text, layout=pattern)
    filled = pc.cast(times, pa.float64(), safe=False)
    return np.asarray(filled.to_numpy(zero_copy_only=False), np.float64) / 1e6


def _padded(text: pa.Array, pattern: str) -> pa.Array:
    """Digits that lost leading zeros, as wide as their pattern needs them."""
    width = {"%m": 2, "%d": 2, "%H": 2, "%M": 2, "%H%M": 4, "%H%M%S": 6, "%Y%m%d": 8}.get(pattern)
    text = pc.replace_substring_regex(text, r"^(\d+)\.0+$", r"\1")
    return pc.utf8_lpad(text, width, "0") if width else text


def _some(profile: TableProfile, column: str) -> list[str]:
    values = pc.unique(pc.drop_null(profile.texts(column).slice(0, 20_000))).to_pylist()
    step = max(1, len(values) // _TRIED)
    return [str(value) for value in values[::step]]


def _all_fit(texts: Sequence[str], pattern: str) -> bool:
    if not texts:
        return False
    years = []
    for text in texts:
        try:
            years.append(datetime.strptime(text, pattern).year)  # noqa: DTZ007
        except ValueError:
            return False
    return all(1900 <= year <= 2100 for year in years)


def _text_time(column: str, texts: Sequence[str]) -> Time | None:
    if texts and all(re.match(_ISO, text) for text in texts):
        return Time((column,), "iso", reason="written as " + texts[0])
    if not texts or not re.search(r"\d", texts[0]) or max(map(len, texts)) > 40:
        return None
    fitting = [pattern for pattern in _patterns(texts[0]) if _all_fit(texts, pattern)]
    if not fitting:
        return None
    return Time((column,), fitting[0] if len(fitting) == 1 else tuple(fitting), reason="")


def _patterns(text: str) -> Iterator[str]:
    """Patterns that could fit one text, the usual ones first."""
    for date, clock, between in product(_DATES, _CLOCKS, (" ", "T", "")):
        if not clock and between != " ":
            continue
        if between == "" and clock and not (date == "%Y%m%d" and clock in ("%H%M%S", "%H%M")):
            continue
        pattern = date + between + clock if clock else date
        try:
            datetime.strptime(text, pattern)  # noqa: DTZ007
        except ValueError:
            continue
        yield pattern


def ambiguous(time: Time) -> tuple[str, ...]:
    """Patterns that fit a single column's texts equally well, if there are several."""
    if len(time.columns) == 1 and isinstance(time.format, tuple):
        return time.format
    return ()


def _as_told(profile: TableProfile, answers: Answers) -> Time | None:
    """The time as the user says; None if its unit is still missing."""
    columns = answers.time
    reason = "as you said"
    if answers.time_unit:
        start = answers.start
        if not start and profile.columns[columns[0]].low < 9e8:
            start = default_start(profile, columns[0], answers.time_unit)
        return Time(columns, "epoch", answers.time_unit, start, answers.timezone, reason)
    if answers.time_format:
        return Time(columns, answers.time_format, "", "", answers.timezone, reason)
    if len(columns) > 1:
        parts = _calendar_parts(profile, columns)
        if parts is not None:
            return parts
        return Time(columns, "iso", timezone=answers.timezone, reason=reason)
    found = time_of(profile, columns[0])
    if found is None:
        unit = unit_by_name(columns[0])
        if unit:
            start = answers.start or default_start(profile, columns[0], unit)
            return Time(columns, "epoch", unit, start, reason=reason)
        return None
    return Time(columns, _first(found.format), found.unit, answers.start, answers.timezone, reason)


def _first(pattern: str | tuple[str, ...]) -> str:
    return pattern if isinstance(pattern, str) else pattern[0]


def unit_by_name(name: str) -> str:
    """The unit that a count's name tells, if it does.

    >>> unit_by_name("hours_since_start"), unit_by_name("step")
    ('h', '')
    """
    words = set(names.words_of(name))
    for unit, known in (
        ("s", {"second", "seconds", "sec", "secs"}),
        ("min", {"minute", "minutes", "mins"}),
        ("h", {"hour", "hours", "hr", "hrs"}),
        ("d", {"day", "days"}),
    ):
        if words & known:
            return unit
    return ""


def _best_of(roles: Roles, found: dict[str, Time], answers: Answers) -> None:
    """One of several columns of times, by order in the file, by name and by what they hold."""
    profile = roles.profile
    clocked = {n: t for n, t in found.items() if has_clock(t) and _varies(profile, t)}
    pool = clocked or found
    texts = {n: t for n, t in pool.items() if t.format != "epoch"}
    pool = texts or pool
    early = {n: t for n, t in pool.items() if not names.has(n, names.EARLIER | names.LATER)}
    named_event = {n: t for n, t in early.items() if names.has(n, names.EVENT_TIME)}
    candidates = list(named_event or early or pool)
    why = "the only column of times" if len(found) == 1 else "by its name and values"
    if len(candidates) > 1:
        ordered = [n for n in candidates if _sorted_share(profile, pool[n]) > 0.999]
        if ordered:
            candidates, why = ordered, "the file is in its order"
    if len(candidates) > 1 and ordered_earliest(profile, pool, candidates):
        candidates = [ordered_earliest(profile, pool, candidates)]
        why = "the earliest of the times in whose order the file is"
    if len(candidates) > 1:
        _ask_column(roles, candidates, "several columns hold times")
        return
    name = candidates[0]
    time = pool[name]
    fitting = ambiguous(time)
    if fitting:
        if answers.time_format:
            time = Time((name,), answers.time_format, reason=why)
        else:
            roles.questions.append(
                Question(
                    "time format",
                    f"Does {name!r} give the day or the month first ({_example(roles, name)})?",
                    tuple((f"--time-format '{p}'", "") for p in fitting[:3]),
                )
            )
            return
    reason = why if not time.reason or len(found) > 1 else f"{why}, {time.reason}"
    roles.time = Time(time.columns, time.format, time.unit, "", answers.timezone, reason)


def _example(roles: Roles, name: str) -> str:
    values = roles.profile.columns[name].examples
    return values[0] if values else ""


def ordered_earliest(profile: TableProfile, pool: dict[str, Time], candidates: list[str]) -> str:
    """The column that is never later than any other candidate in whose order the file is."""
    times = {n: moments(profile, pool[n]) for n in candidates}
    if any(_sorted_share(profile, pool[n]) < 0.98 for n in candidates):
        return ""
    for name, own in times.items():
        others = [other for n, other in times.items() if n != name]
        if all(np.nanmean(own <= other) > 0.999 for other in others):
            return name
    return ""


def _sorted_share(profile: TableProfile, time: Time) -> float:
    seconds = moments(profile, time)
    seconds = seconds[np.isfinite(seconds)]
    return float((np.diff(seconds) >= 0).mean()) if len(seconds) > 1 else 0.0


def _varies(profile: TableProfile, time: Time) -> bool:
    """Whether the times are of the day, not all midnight."""
    seconds = moments(profile, time)
    seconds = seconds[np.isfinite(seconds)]
    return bool(len(seconds) and (seconds % 86_400 != seconds[0] % 86_400).any())


def _counters(profile: TableProfile) -> list[str]:
    """Columns of numbers that never fall from row to row and are no mere row counters."""
    found = []
    for name, column in profile.columns.items():
        counts = column.numeric and column.whole > 0.999 and column.low >= 0
        if not counts or column.share_given < 1 or column.falls:
            continue
        named = names.has(name, names.TIME)
        if named or (column.distinct > 3 and not column.steady and not column.unique):
            found.append(name)
    return found


def _counted(roles: Roles, name: str, answers: Answers) -> None:
    unit = answers.time_unit or unit_by_name(name)
    if not unit:
        _ask_unit(roles, name)
        return
    start = answers.start or default_start(roles.profile, name, unit)
    roles.time = Time((name,), "epoch", unit, start, answers.timezone, _counted_reason(unit))


def default_start(profile: TableProfile, name: str, unit: str) -> str:
    """A moment of 0 that keeps the last payment in the past."""
    years = profile.columns[name].high * UNIT_SECONDS[unit] / (366 * 86_400)
    return DEFAULT_START if years < 1 else f"{max(1970, 2024 - int(years)):04d}-01-01"


def _counted_reason(unit: str) -> str:
    return f"counts {UNIT_WORDS.get(unit, unit)} and never falls"


def _ask_unit(roles: Roles, name: str, *, told: bool = False) -> None:
    roles.pending.add(name)
    column = roles.profile.columns[name]
    span = column.high - column.low
    asked = f"--time {quoted(name)} " if told else ""
    flags = tuple(
        (
            f"{asked}--time-unit {unit}",
            _span_words(span * UNIT_SECONDS[unit]),
        )
        for unit in ("s", "min", "h", "d")
        if 600 < span * UNIT_SECONDS[unit] < 40 * 365 * 86_400
    )
    roles.questions.append(
        Question(
            "time unit",
            f"What does {name!r} count ({column.low:,.0f} to {column.high:,.0f})?",
            flags,
        )
    )


def _span_words(seconds: float) -> str:
    for unit, size in (("years", 365 * 86_400), ("days", 86_400), ("hours", 3_600)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {unit} of history"
    return f"{seconds / 60:,.0f} minutes of history"


def _ask_column(roles: Roles, candidates: Sequence[str], why: str) -> None:
    roles.pending.update(candidates if len(candidates) <= 3 else ())
    roles.questions.append(
        Question(
            "time",
            f"Which column is the time of the payment ({why})?",
            tuple((f"--time {quoted(name)}", _example(roles, name)) for name in candidates[:6]),
        )
    )


def quoted(name: str) -> str:
    """A column's name as a word of a shell command."""
    return name if re.fullmatch(r"[\w.-]+", name) else "'" + name.replace("'", "'\\''") + "'"


def _calendar_parts(profile: TableProfile, told: Sequence[str] = ()) -> Time | None:
    """Year, month, day and perhaps a clock in columns of their own, side by side."""
    columns = [profile.columns[name] for name in told] if told else [*profile.columns.values()]
    for i in range(len(columns) - 2):
        year, month, day = columns[i : i + 3]
        if not (_range(year, 1970, 2100) and _range(month, 1, 12) and _range(day, 1, 31)):
            continue
        if day.high <= 12 or year.distinct > 130:
            continue
        used, formats = [year.name, month.name, day.name], ["%Y", "%m", "%d"]
        if i + 3 < len(columns):
            clock = _clock_format(profile, columns[i + 3])
            if clock:
                used.append(columns[i + 3].name)
                formats.append(clock)
        return Time(tuple(used), tuple(formats), reason="year, month and day side by side")
    return None


def _range(column: ColumnProfile, low: float, high: float) -> bool:
    whole = column.type == "integer" and column.share_given == 1
    return whole and low <= column.low and column.high <= high


def _clock_format(profile: TableProfile, column: ColumnProfile) -> str:
    if column.type != "text" or not column.given:
        return ""
    texts = _some(profile, column.name)
    if not texts or not all(_WITHIN.match(text) for text in texts):
        return ""
    return {1: "%H:%M", 2: "%H:%M:%S"}[texts[0].count(":")]


def _date_and_clock(profile: TableProfile, found: dict[str, Time]) -> Time | None:
    """A date and a time of day in two neighbouring columns."""
    order = list(profile.columns)
    for name, time in found.items():
        if time.format == "epoch" or isinstance(time.format, tuple) or _varies(profile, time):
            continue
        if names.has(name, names.EARLIER | names.LATER):
            continue
        for place in (order.index(name) + 1, order.index(name) - 1):
            if not 0 <= place < len(order):
                continue
            beside = profile.columns[order[place]]
            clock = _clock_format(profile, beside) or _digits_clock(beside)
            if clock:
                date = "%Y-%m-%d" if time.format == "iso" else time.format
                why = "date and time of day side by side"
                return Time((name, beside.name), (date, clock), reason=why)
    return None


def _digits_clock(column: ColumnProfile) -> str:
    """HHMMSS as a number whose leading zeros may be lost."""
    if column.type != "integer" or not names.has(column.name, {"time", "hour", "clock"}):
        return ""
    if column.low < 0 or column.high >= 240_000:
        return ""
    return "%H%M%S" if column.high >= 2_400 else "%H%M"


def history_days(profile: TableProfile, time: Time) -> float:
    """Days from the first payment of the sample to the last."""
    seconds = moments(profile, time)
    seconds = seconds[np.isfinite(seconds)]
    return float((seconds.max() - seconds.min()) / 86_400) if len(seconds) else 0.0


def resolution_seconds(profile: TableProfile, time: Time) -> float:
    """The step in which times are told: a second, minute, hour or day."""
    seconds = moments(profile, time)
    seconds = seconds[np.isfinite(seconds)]
    for step in (86_400.0, 3_600.0, 60.0):
        if len(seconds) and not (np.mod(seconds - seconds.min(), step) > 1e-6).any():
            return step
    return 1.0
