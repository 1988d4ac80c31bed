"""Lengths of time as short text, ``7d`` or ``90s``, for tags and for people."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

_UNITS_US: Final = {
    "d": 86_400_000_000,
    "h": 3_600_000_000,
    "m": 60_000_000,
    "s": 1_000_000,
    "us": 1,
}
_TEXT: Final = re.compile(r"(\d+)(d|h|m|s|us)")


def microseconds(duration: timedelta) -> int:
    """A length of time as whole microseconds, exactly.

    >>> microseconds(timedelta(days=7))
    604800000000
    """
    return duration // timedelta(microseconds=1)


def format_duration(us: int) -> str:
    """The shortest text of a length of time: a whole number of the largest unit that divides it.

    >>> format_duration(604_800_000_000), format_duration(90_000_000), format_duration(0)
    ('7d', '90s', '0s')
    """
    if us == 0:
        return "0s"
    unit = next(name for name, size in _UNITS_US.items() if us % size == 0)
    return f"{us // _UNITS_US[unit]}{unit}"


def parse_duration(text: str) -> int | None:
    """Microseconds of a text such as `format_duration` makes; None if it is not one.

    >>> parse_duration("7d"), parse_duration("a week")
    (604800000000, None)
    """
    match = _TEXT.fullmatch(text)
    return int(match[1]) * _UNITS_US[match[2]] if match else None
