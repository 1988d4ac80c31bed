"""What the columns of a table look like, and whether a line looks like a row of it."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from typing import Final

_SAMPLE_ROWS: Final = 200
_FEW_SHAPES: Final = 20
_FEW_WORDS: Final = 20
_NUMBER: Final = re.compile(r"[+-]?[\d.,]*\d[.,]?([eE][+-]?\d+)?")
_DATE: Final = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([ T].*)?|\d{1,2}:\d{2}(:.*)?")


class Looks:
    """The looks of a table's columns, learnt from rows that are beyond doubt.

    Args:
        delimiter, quote: One ASCII character each; no quote: "".
        width: Fields of a row.
    """

    def __init__(self, delimiter: str, quote: str, width: int) -> None:
        self._delimiter = delimiter
        self._quote = quote
        self._width = width
        self._sample: list[list[str]] = []
        self._classes: list[str] = []
        self._shapes: list[set[str]] = []
        self._words: list[set[str]] = []

    @property
    def wanted(self) -> int:
        """Rows that would make the looks clearer."""
        return _SAMPLE_ROWS - len(self._sample)

    @property
    def known(self) -> bool:
        """Whether there was any row to learn from."""
        return bool(self._sample)

    def learn(self, lines: Iterable[bytes]) -> None:
        """Learn from rows that stand on one line each."""
        self.learn_fields(self.split(line) for line in lines)

    def learn_fields(self, rows: Iterable[list[str]]) -> None:
        """Learn from rows that are divided into fields already."""
        self._sample.extend(fields for fields in rows if len(fields) == self._width)
        if self._sample:
            columns = list(zip(*self._sample, strict=True))
            self._classes = [class_of(column) for column in columns]
            self._shapes = [{_shape(value) for value in column} for column in columns]
            words = [set(column) - {""} for column in columns]
            self._words = [some if len(some) <= _FEW_WORDS else set() for some in words]

    def fit(self, values: Iterable[tuple[int, str]]) -> tuple[int, int]:
        """How many values are such as their columns have, of those that could be told."""
        fitting = telling = 0
        for column, value in values if self._classes else ():
            value = value.strip(self._quote or None)
            if self._classes[column] == "text":
                # Another text than those seen so far says nothing.
                known = value in self._words[column]
                fitting, telling = fitting + known, telling + known
            elif value.strip() or "" not in self._shapes[column]:
                fitting, telling = fitting + self._fits(column, value), telling + 1
        return fitting, telling

    def _fits(self, column: int, value: str) -> bool:
        kind, shapes = self._classes[column], self._shapes[column]
        if kind != "code":
            return class_of((value,)) == kind
        if len(shapes) <= _FEW_SHAPES:
            return _shape(value) in shapes
        return class_of((value,)) in ("code", "number")

    def cut(self, line: bytes) -> list[str]:
        """The fields of a line if quotes were text."""
        return line.decode("utf8", "replace").rstrip("\r\n").split(self._delimiter)

    def split(self, line: bytes) -> list[str]:
        """The fields of a line."""
        text = line.decode("utf8", "replace").rstrip("\r\n")
        if not self._quote or self._quote not in text:
            return text.split(self._delimiter)
        reader = csv.reader([text], delimiter=self._delimiter, quotechar=self._quote)
        try:
            return next(reader, [])
        except csv.Error:  # a field that is longer than the module allows
            return []


def class_of(values: Sequence[str]) -> str:
    """number, date, code (digits and letters without blanks) or text: what most values are."""
    given = [value.strip() for value in values if value.strip()]
    for kind, pattern in (("date", _DATE), ("number", _NUMBER)):
        if given and sum(bool(pattern.fullmatch(value)) for value in given) >= 0.9 * len(given):
            return kind
    if given and all(
        " " not in value and any(character.isdigit() for character in value) for value in given
    ):
        return "code"
    return "text"


def _shape(value: str) -> str:
    """What a code looks like: runs of letters as "a", runs of digits as "9".

    >>> _shape("tx-0017b")
    'a-9a'
    """
    return re.sub(r"[^\W\d_]+", "a", re.sub(r"\d+", "9", value.strip()))
