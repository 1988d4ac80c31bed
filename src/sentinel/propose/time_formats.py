"""How a column of times is written, and its times in seconds."""

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
from sentinel.propose.profile import TableProfile
from sentinel.propose.roles import Time

UNIT_SECONDS: Final = {
    "s": 1.0,
    "ms": 1e-3,
    "us": 1e-6,
    "ns": 1e-9,
    "min": 60.0,
    "h": 3_600.0,
    "d": 86_400.0,
}
_TRIED: Final = 400
_STARTS: Final = 20
"""Texts of which every pattern that fits one is tried on the others."""
_SOME: Final = 0.2
_LONGEST: Final = 40
"""Characters of a text that may be a time."""
MISREAD: Final = 0.02
"""Share of rows whose cell may be broken: `31.02.2026`, or what a spreadsheet leaves behind."""
_ISO: Final = (
    r"^\d{4}-\d{1,2}-\d{1,2}([T ]\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?)?\s?(Z|UTC|[+-]\d{2}(:?\d{2})?)?$"
)
_ZONE: Final = r":\d{2}([.,]\d+)?\s?(Z|UTC|[+-]\d{2}(:?\d{2})?)$"
_DATES: Final = (
    *("%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%Y.%m.%d"),
    *("%d.%m.%y", "%d/%m/%y", "%m/%d/%y", "%d-%b-%Y", "%d %b %Y", "%b %d, %Y", "%d-%b-%y"),
    *("%d %B %Y", "%B %d, %Y", "%Y%m%d", "%a %b %d %Y", "%Y-%m-%d", "%d%b%Y"),
    *("%Y年%m月%d日", "%Y년 %m월 %d일", "%Y년%m월%d일"),
)
_CLOCKS: Final = (
    *("", "%H:%M:%S", "%H:%M", "%H:%M:%S.%f", "%I:%M:%S %p", "%I:%M %p", "%H.%M", "%H:%M:%S%z"),
    *("%H.%M.%S", "%H%M%S", "%H%M", "%H時%M分%S秒", "%H時%M分", "%H时%M分%S秒", "%H时%M分"),
)
_EPOCHS: Final = (("s", 9.4e8, 2.1e9), ("ms", 9.4e11, 2.1e12), ("us", 9.4e14, 2.1e15))


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
    texts = some_texts(profile, column)
    if known.type == "text":
        return _text_time(column, texts) or _broken_time(profile, column)
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


def names_no_zone(profile: TableProfile, time: Time) -> bool:
    """Whether times of day are told, and neither they nor the user say in which zone."""
    if time.timezone or time.unit or time.format == "epoch" or not has_clock(time):
        return False
    if time.format != "iso":
        return "%z" not in "".join(time.format) and "%Z" not in "".join(time.format)
    if profile.columns[time.columns[0]].type == "time":
        return False  # what a typed column means is said by its type
    texts = some_texts(profile, time.columns[-1])
    return not any(re.search(_ZONE, text) for text in texts) and any(":" in t for t in texts)


def ambiguous(time: Time) -> tuple[str, ...]:
    """Patterns that fit a single column's texts equally well, if there are several."""
    if len(time.columns) == 1 and isinstance(time.format, tuple):
        return time.format
    return ()


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


def moments(profile: TableProfile, time: Time) -> npt.NDArray[np.float64]:
    """The sample's times in seconds since 1970; NaN where one cannot be read."""
    key = ("moments", time.columns, time.format, time.unit, time.start)
    if key not in profile.remembered:
        profile.remembered[key] = _moments(profile, time)
    found: npt.NDArray[np.float64] = profile.remembered[key]
    return found


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


def sorted_share(profile: TableProfile, time: Time) -> float:
    """Share of the sample's rows whose time is not before that of the row above."""
    seconds = moments(profile, time)
    seconds = seconds[np.isfinite(seconds)]
    return float((np.diff(seconds) >= 0).mean()) if len(seconds) > 1 else 0.0


def varies(profile: TableProfile, time: Time) -> bool:
    """Whether the times are of the day, not all midnight."""
    seconds = moments(profile, time)
    seconds = seconds[np.isfinite(seconds)]
    return bool(len(seconds) and (seconds % 86_400 != seconds[0] % 86_400).any())


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


def some_texts(profile: TableProfile, column: str) -> list[str]:
    """Some hundred different values of a column."""
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
    if not texts or not re.search(r"\d", texts[0]) or max(map(len, texts)) > _LONGEST:
        return None
    fitting = [pattern for pattern in _patterns(texts[0]) if _all_fit(texts, pattern)]
    if not fitting:
        return None
    return Time((column,), fitting[0] if len(fitting) == 1 else tuple(fitting), reason="")


def _broken_time(profile: TableProfile, column: str) -> Time | None:
    """Texts of which nearly all rows fit, though some cells are broken."""
    counted = pc.value_counts(pc.drop_null(profile.texts(column).slice(0, 20_000)))
    words = counted.field("values").to_pylist()
    counts = counted.field("counts").to_numpy(zero_copy_only=False)
    order = np.argsort(-counts, kind="stable")
    usual = [words[i] for i in order[:_TRIED]]
    if not usual or not _fits_any(usual[0]):
        return None
    time = _text_time(column, [text for text in usual if _fits_any(text)])
    if time is None:
        return None
    forms = (time.format,) if isinstance(time.format, str) else time.format
    kept = []
    for pattern in forms:
        read = np.array([_reads(text, pattern) for text in words])
        if counts[read].sum() >= (1.0 - MISREAD) * counts.sum():
            kept.append(pattern)
    if not kept:
        return None
    return Time((column,), kept[0] if len(kept) == 1 else tuple(kept), reason=time.reason)


def partly(profile: TableProfile, column: str) -> tuple[tuple[str, float], ...]:
    """The patterns that read some of a column's texts, if none reads all of them.

    Returns:
        At most three, each with the share of the rows that it reads, the largest first; none that
        reads less than a fifth.
    """
    known = profile.columns[column]
    if known.type != "text" or known.lengths[1] > _LONGEST:
        return ()
    counted = pc.value_counts(pc.drop_null(profile.texts(column)))
    step = max(1, len(counted) // _TRIED)
    words = counted.field("values").to_pylist()[::step]
    counts = counted.field("counts").to_numpy(zero_copy_only=False)[::step]
    shares: dict[str, float] = {}
    for text in words[:: max(1, len(words) // _STARTS)]:
        for pattern in ("iso",) if re.match(_ISO, text) else _patterns(text):
            if pattern not in shares:
                read = np.array([_reads(word, pattern) for word in words])
                shares[pattern] = float(counts[read].sum() / counts.sum())
    found = sorted(shares, key=lambda pattern: -shares[pattern])[:3]
    return tuple((pattern, shares[pattern]) for pattern in found if shares[pattern] >= _SOME)


def unread_text(profile: TableProfile, time: Time, other: str = "") -> str:
    """A text of the sample that a time's format cannot read; "" if there is none.

    Args:
        profile: Of the table.
        time: In one column of text.
        other: A pattern that reads the text; "" = any text.
    """
    texts = profile.texts(time.columns[0])
    unread = pa.array(~np.isfinite(moments(profile, time)))
    for text in pc.unique(pc.drop_null(texts.filter(unread))).to_pylist()[:_TRIED]:
        if not other or _reads(text, other):
            return str(text)
    return ""


def _fits_any(text: str) -> bool:
    return bool(re.match(_ISO, text)) or next(_patterns(text), None) is not None


def _reads(text: str, pattern: str) -> bool:
    return bool(re.match(_ISO, text)) if pattern == "iso" else _all_fit([text], pattern)


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
