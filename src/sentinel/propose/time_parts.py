"""A time that stands in several columns side by side."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import numpy as np

from sentinel.propose import names
from sentinel.propose.column_profile import ColumnProfile
from sentinel.propose.profile import TableProfile
from sentinel.propose.roles import Time
from sentinel.propose.time_formats import MISREAD, some_texts, time_of, varies

_LEAST_CLOCKS: Final = 100
"""Numbers from which their digits tell that they are times of day."""
_WITHIN: Final = (
    (re.compile(r"^\d{1,2}:\d{2}$"), "%H:%M"),
    (re.compile(r"^\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?$"), "%H:%M:%S"),
    (re.compile(r"^\d{1,2}\.\d{2}\.\d{2}$"), "%H.%M.%S"),
)


def calendar_parts(profile: TableProfile, told: Sequence[str] = ()) -> Time | None:
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


def date_and_clock(profile: TableProfile, found: dict[str, Time]) -> Time | None:
    """A date and a time of day in two neighbouring columns."""
    order = list(profile.columns)
    for name, time in found.items():
        if time.format == "epoch" or isinstance(time.format, tuple) or varies(profile, time):
            continue
        if names.has(name, names.EARLIER | names.LATER):
            continue
        for place in (order.index(name) + 1, order.index(name) - 1):
            if not 0 <= place < len(order):
                continue
            beside = profile.columns[order[place]]
            clock = _clock_format(profile, beside) or _digits_clock(profile, beside)
            if clock:
                date = "%Y-%m-%d" if time.format == "iso" else time.format
                why = "date and time of day side by side"
                return Time((name, beside.name), (date, clock), reason=why)
    return None


def told_date_and_clock(profile: TableProfile, told: Sequence[str]) -> Time | None:
    """A date and a time of day in two columns that somebody named, in either order."""
    if len(told) != 2:
        return None
    for name, other in (tuple(told), tuple(reversed(told))):
        time, beside = time_of(profile, name), profile.columns[other]
        if time is None or time.format == "epoch" or isinstance(time.format, tuple):
            continue
        clock = _clock_format(profile, beside) or _digits_clock(profile, beside)
        if clock:
            date = "%Y-%m-%d" if time.format == "iso" else time.format
            return Time((name, other), (date, clock), reason="as you said")
    return None


def _range(column: ColumnProfile, low: float, high: float) -> bool:
    whole = column.type == "integer" and column.share_given == 1
    return whole and low <= column.low and column.high <= high


def _clock_format(profile: TableProfile, column: ColumnProfile) -> str:
    if column.type != "text" or not column.given:
        return ""
    texts = some_texts(profile, column.name)
    if not texts:
        return ""
    most = (1.0 - MISREAD) * len(texts)
    fits = (form for within, form in _WITHIN if sum(map(bool, map(within.match, texts))) >= most)
    return next(fits, "")


def _digits_clock(profile: TableProfile, column: ColumnProfile) -> str:
    """HHMMSS as a number whose leading zeros may be lost.

    A number that is called a time is one; another one if its last digits never count beyond 59
    and all hours but a few come: numbers of another kind have other digits there.
    """
    if column.type != "integer" or column.low < 0 or column.high >= 240_000:
        return ""
    pattern = "%H%M%S" if column.high >= 2_400 else "%H%M"
    if names.has(column.name, {"time", "hour", "clock"}):
        return pattern
    numbers = profile.numbers(column.name)
    numbers = numbers[np.isfinite(numbers)]
    if len(numbers) < _LEAST_CLOCKS:
        return ""
    tails = [numbers % 100] if pattern == "%H%M" else [numbers % 100, numbers // 100 % 100]
    if any((tail > 59).mean() > MISREAD or len(np.unique(tail)) < 30 for tail in tails):
        return ""
    hours = numbers // (100 if pattern == "%H%M" else 10_000)
    return pattern if len(np.unique(hours)) >= 12 else ""
