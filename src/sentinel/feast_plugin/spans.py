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
_SPAN: Final = re.compile(r"(\d+)(d|h|m|s|us)")


def microseconds(span: timedelta) -> int:
    """A time span as whole microseconds, exactly.

    >>> microseconds(timedelta(days=7))
    604800000000
    """
    return span // timedelta(microseconds=1)


def format_span(span_us: int) -> str:
    """The shortest text of a span: a whole number of the largest unit that divides it.

    >>> format_span(604_800_000_000), format_span(90_000_000), format_span(0)
    ('7d', '90s', '0s')
    """
    if span_us == 0:
        return "0s"
    unit = next(name for name, size in _UNITS_US.items() if span_us % size == 0)
    return f"{span_us // _UNITS_US[unit]}{unit}"


def parse_span(text: str) -> int | None:
    """Microseconds of a text such as `format_span` makes; None if it is not one.

    >>> parse_span("7d"), parse_span("a week")
    (604800000000, None)
    """
    match = _SPAN.fullmatch(text)
    return int(match[1]) * _UNITS_US[match[2]] if match else None
