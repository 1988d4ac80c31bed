"""The function library that Redis runs for a plan: its views' layouts, then our two Lua files.

The layout is part of the library, so a call carries no more than a view's number, and a replica
that takes over knows everything. A library is named by a digest of its text: scorers of two plans
or of two versions use one Redis side by side.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from importlib.resources import files
from typing import Final

from sentinel.features.plan.functions import FIELD_RANGE, FIELD_SQUARES, FIELD_SUM
from sentinel.features.plan.program import (
    SECTION_DISTINCT_OUTPUTS,
    SECTION_DISTINCTS,
    SECTION_LASTS,
    SECTION_RINGS,
    SECTION_VIEWS,
    SECTION_WINDOWS,
    WIDTHS,
    Program,
)

VALUE_FORMAT: Final = 1
"""Of what a record's key holds; part of the key."""

RECENT: Final = 32
"""How many changes of a record are remembered by their ids."""

MOST_LOGGED: Final = 4_096
"""Changes of a record that its fence takes; with one more the fence falls."""

TOKEN_BYTES: Final = 16
FENCE_BYTES: Final = TOKEN_BYTES + 16
"""Of a fence: its token, the position at which and the time when it was put up."""

CHANGE_HEADER_WORDS: Final = 5
"""id, time, amount, kind, filters; the hashes of distinct values follow."""


class Library:
    """The functions for a plan.

    Attributes:
        program: The compiled plan.
        name: Of the library, and the beginning of its functions' names.
        text: What FUNCTION LOAD takes.
        record_bytes: Of a record without what follows it, by view.
        change_bytes: Of an encoded change.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.record_bytes = tuple(8 * words for words in program.record_words)
        self.change_bytes = 8 * (CHANGE_HEADER_WORDS + len(program.plan.distinct_columns))
        here = files("sentinel.state")
        parts = [here.joinpath(f"redis_{name}.lua").read_text() for name in ("functions", "marks")]
        body = "\n".join([self._layout(), *parts])
        self.name = f"sentinel_{hashlib.sha256(body.encode()).hexdigest()[:16]}"
        self.text = f"#!lua name={self.name}\nlocal NAME = '{self.name}'\n{body}"

    def function(self, name: str) -> bytes:
        """The full name of a function."""
        return f"{self.name}_{name}".encode()

    @cached_property
    def head_bytes(self) -> tuple[int, ...]:
        """Bytes of a record and the ids behind it, by view: where a fence begins."""
        return tuple(size + 8 * RECENT for size in self.record_bytes)

    def _layout(self) -> str:
        views = ",\n".join(self._view(v) for v in range(len(self.record_bytes)))
        return (
            f"local RECENT, MOST_LOGGED = {RECENT}, {MOST_LOGGED}\n"
            f"local VIEWS = {{\n[0] = {views or '{}'}\n}}"
        )

    def _rows(self, section: int, first: int, end: int) -> list[list[int]]:
        code, width = self.program.code, WIDTHS[section]
        start = int(code[2 * section])
        return [
            code[start + row * width : start + (row + 1) * width].tolist()
            for row in range(first, end)
        ]

    def _view(self, number: int) -> str:
        (view,) = self._rows(SECTION_VIEWS, number, number + 1)
        rings = self._rows(SECTION_RINGS, view[1], view[2])
        spans = self._rows(SECTION_WINDOWS, view[3], view[4])
        lasts = self._rows(SECTION_LASTS, view[5], view[6])
        distincts = self._rows(SECTION_DISTINCTS, view[7], view[8])
        first_ring = view[1]
        # Of the spans only how far back they reach matters here.
        reaches = sorted(
            {(span[1] + span[2], rings[span[0] - first_ring][1]) for span in spans}, reverse=True
        )
        return (
            f"{{bytes = {self.record_bytes[number]}, change = {self.change_bytes}, "
            f"rings = {{{', '.join(map(_ring, rings))}}}, "
            f"spans = {{{', '.join(f'{{{reach}, {hop}}}' for reach, hop in reaches)}}}, "
            f"lasts = {{{', '.join(map(_last, lasts))}}}, "
            f"distincts = {{{', '.join(map(self._distinct, distincts))}}}}}"
        )

    def _distinct(self, row: list[int]) -> str:
        outputs = self._rows(SECTION_DISTINCT_OUTPUTS, row[3], row[4])
        windows = ", ".join(f"{{{window}, {hop}}}" for window, hop, _, _ in outputs)
        return (
            f"{{at = {8 * row[0]}, capacity = {row[1]}, column = {8 * row[2]}, "
            f"windows = {{{windows}}}}}"
        )


def _ring(row: list[int]) -> str:
    words, hop, tiles, width, bit, fields = row[:6]
    flags = "".join(
        f", {name} = true"
        for name, field in (("sum", FIELD_SUM), ("squares", FIELD_SQUARES), ("range", FIELD_RANGE))
        if fields & field
    )
    return (
        f"{{at = {8 * words}, hop = {hop}, tiles = {tiles}, width = {8 * width}, "
        f"{_filter(bit)}{flags}}}"
    )


def _last(row: list[int]) -> str:
    words, bit, window, hop = row[:4]
    return f"{{at = {8 * words}, window = {window}, hop = {hop}, {_filter(bit)}}}"


def _filter(bit: int) -> str:
    """A filter's bit as the half of 32 bits it is in (0: no filter) and its mask there."""
    return f"half = {0 if bit < 0 else bit // 32 + 1}, mask = {1 if bit < 0 else 1 << bit % 32}"
