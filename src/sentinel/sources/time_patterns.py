"""Patterns of times: their parts, the zeros that belong to them, and guesses for a hint."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import Final

from sentinel.domain import ConfigurationError

_WIDTHS: Final = {"%Y": 4, "%m": 2, "%d": 2, "%H": 2, "%I": 2, "%M": 2, "%S": 2, "%y": 2, "%j": 3}
_OTHER_NAMES: Final = {
    "%T": "%H:%M:%S",
    "%F": "%Y-%m-%d",
    "%D": "%m/%d/%y",
    "%R": "%H:%M",
    "%e": "%d",
    "%k": "%H",
    "%l": "%I",
    "%h": "%b",
}
_CLOCK: Final = frozenset("HIMSpfzZ")
_YEARS: Final = frozenset("YyGcx")
_PIECE: Final = re.compile(r"%-?[A-Za-z%]")

_DATES: Final = (
    "%Y-%m-%d",
    "%Y/%m/%d",
    "%d.%m.%Y",
    "%d.%m.%y",
    "%Y%m%d",
    "%d-%b-%Y",
    "%d %b %Y",
    "%b %d, %Y",
    "%d %B %Y",
)
_SLASHES: Final = ("%m/%d/%Y", "%d/%m/%Y", "%m/%d/%y", "%d/%m/%y", "%m-%d-%Y", "%d-%m-%Y")
_CLOCKS: Final = ("", "%H:%M:%S", "%H:%M", "%I:%M:%S %p", "%I:%M %p", "%H:%M:%S.%f", "%H%M%S")
_COUNTS: Final = {10: "s", 13: "ms", 16: "us", 19: "ns"}


def expanded(pattern: str) -> str:
    """A pattern in the directives that the reader knows.

    >>> expanded("%F %T")
    '%Y-%m-%d %H:%M:%S'
    """
    return _PIECE.sub(lambda found: _OTHER_NAMES.get(found.group(), found.group()), pattern)


def check_patterns(patterns: Sequence[str], where: str, *, alternatives: bool = False) -> None:
    """Raise ``ConfigurationError`` unless the patterns say a year, together or each.

    Args:
        patterns: ``iso``, ``epoch`` and strptime patterns.
        where: Name of the key, for the message.
        alternatives: Each is for the whole time; else each is for one part of it.
    """
    whole = patterns if alternatives else ["".join(patterns)]
    for pattern in whole:
        text = expanded(pattern)
        if text in ("iso", "epoch") or (not alternatives and "iso" in patterns):
            continue
        if "%" not in text:
            raise ConfigurationError(
                f"{where}: unknown format {text!r}; allowed: iso, epoch, or a strptime pattern "
                "such as %d.%m.%Y %H:%M:%S."
            )
        if not any(item.group()[-1] in _YEARS for item in _PIECE.finditer(text)):
            raise ConfigurationError(
                f"{where}: the pattern {text!r} says no year (%Y or %y); "
                "name the column of the date, too."
            )


def pattern_of_each(pattern: str, columns: int, where: str) -> tuple[str, ...]:
    """One pattern for the joined text of several columns, as a pattern for each column.

    Raises:
        ConfigurationError: It cannot be told which column holds which part.

    >>> pattern_of_each("%Y%m%d%H%M%S", 2, "time.format")
    ('%Y%m%d', '%H%M%S')
    >>> pattern_of_each("%Y%m%d %H:%M", 4, "time.format")
    ('%Y', '%m', '%d', '%H:%M')
    """
    text = expanded(pattern)
    found = [item for item in _PIECE.finditer(text) if item.group() != "%%"]
    ends = [item.start() for item in found[1:]] + [len(text)]
    pieces = [text[item.start() : end] for item, end in zip(found, ends, strict=True)]
    clock = [item.group()[-1] in _CLOCK for item in found]
    pairs = list(pairwise(clock))
    for apart in (
        [True for _ in pairs],  # each part has its column
        [now != before for before, now in pairs],  # a date and a time of day
        [not (before and now) for before, now in pairs],  # parts of the date, and a time of day
        [before or now for before, now in pairs],  # a date, and the parts of the time of day
    ):
        parts = pieces[:1]
        for piece, new in zip(pieces[1:], apart, strict=True):
            if new:
                parts.append(piece)
            else:
                parts[-1] += piece
        if len(parts) == columns:
            return tuple(part.strip(" T") for part in parts)
    raise ConfigurationError(
        f"{where}: it cannot be told which of the {columns} columns holds which part of "
        f'{pattern!r}; give a list with one pattern for each column, such as ["%Y%m%d", "%H%M%S"].'
    )


def digits_in(pattern: str) -> int:
    """Digits of a pattern that consists of parts of fixed width only; else 0.

    >>> digits_in("%H%M%S"), digits_in("%d.%m.%Y")
    (6, 0)
    """
    parts = _PIECE.findall(pattern)
    if "".join(parts) != pattern or any(part not in _WIDTHS for part in parts):
        return 0
    return sum(_WIDTHS[part] for part in parts)


def swapped(pattern: str) -> str:
    """A pattern with day and month the other way round; "" if it has not both as numbers.

    >>> swapped("%d/%m/%Y %H:%M"), swapped("%d %b %Y")
    ('%m/%d/%Y %H:%M', '')
    """
    both = "%d" in pattern and "%m" in pattern
    return pattern.translate(str.maketrans("md", "dm")) if both else ""


def guess(texts: Sequence[str]) -> str:
    """What to write in the mapping so that these texts are times; "" without an idea.

    >>> guess(["1709287205123"])
    'as a count it needs unit = "ms"'
    >>> guess(["31.12.2023 10:00"])
    'format = "%d.%m.%Y %H:%M" reads it'
    >>> guess(["1/5/2019"])
    'format = "%m/%d/%Y" or "%d/%m/%Y" reads it: say whether the month or the day is first'
    """
    if not texts:
        return ""
    counts = {re.sub(r"\.0*$", "", text).lstrip("+-") for text in texts}
    if all(text.isdecimal() for text in counts):
        lengths = {len(text) for text in counts}
        for pattern, length in (("%Y%m%d", 8), ("%Y%m%d%H%M%S", 14), ("%Y%m%d%H%M", 12)):
            if lengths == {length} and all(_reads(text, pattern) for text in counts):
                return f'format = "{pattern}" reads it'
        unit = _COUNTS.get(max(lengths))
        if unit is not None:
            return f'as a count it needs unit = "{unit}"'
        return 'as a count it needs a unit, such as unit = "h", and usually a start'
    fitting = [
        pattern for pattern in _candidates() if all(_reads(text, pattern) for text in texts[:50])
    ]
    if not fitting:
        return ""
    other = swapped(fitting[0])
    if other in fitting:
        return (
            f'format = "{fitting[0]}" or "{other}" reads it: '
            "say whether the month or the day is first"
        )
    return f'format = "{fitting[0]}" reads it'


def _candidates() -> list[str]:
    return [
        f"{day}{joint}{clock}" if clock else day
        for day in (*_DATES, *_SLASHES)
        for clock in _CLOCKS
        for joint in ((" ", "T") if clock else ("",))
    ]


def _reads(text: str, pattern: str) -> bool:
    try:
        return 1971 <= datetime.strptime(text.strip(), pattern).year <= 2100  # noqa: DTZ007
    except ValueError:
        return False
