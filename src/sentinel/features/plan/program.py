"""A plan laid out for the kernel: one flat int64 array and the shape of each view's record.

A record is a row of int64 words:

    word 0          format version (0: never written)
    word 1          position: log entries applied so far
    word 2          newest event time, microseconds
    rings           ring buffers of tiles, one ring per (hop, filter) of the view
    last times      newest event time per filter, for time_since_last
    distinct sets   (time, hash) pairs, newest first

A tile holds ``count | frauds << 32`` and, as far as the ring's features need them, the sum of
amounts, the sum of squares in two limbs (low 40 bits and the rest), minimum and maximum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from sentinel.features.plan.functions import (
    AMOUNT,
    FIELD_RANGE,
    FIELD_SQUARES,
    FIELD_SUM,
    FUNCTIONS,
    Section,
)
from sentinel.features.plan.parts import Aggregate, View
from sentinel.features.plan.plan import Plan
from sentinel.log import labels

RECORD_FORMAT: Final = 1
HEADER_WORDS: Final = 3
RECORD_WARNING_BYTES: Final = 4096

# Columns of an encoded event; offsets, positions and distinct hashes follow (see `event_width`).
EVENT_TIME: Final = 0
EVENT_AMOUNT: Final = 1
EVENT_KIND: Final = 2
EVENT_FILTERS: Final = 3
EVENT_VIEWS: Final = 4

# What an encoded event asks for: read and add a transaction, only score one, read without one,
# count a fraud, take one back.
KIND_ADD: Final = 0
KIND_PEEK: Final = 1
KIND_READ: Final = 2
KIND_FRAUD: Final = labels.KIND_FRAUD
KIND_RETRACT: Final = labels.KIND_RETRACT

# What the kernel reports of an event, in the upper bits of each view's position word.
FLAG_LATE: Final = 1
FLAG_EXPIRED: Final = 2
FLAG_SHIFT: Final = 56
POSITION_MASK: Final = (1 << FLAG_SHIFT) - 1

# Sections of the program; its first words are (start, rows) of each.
SECTION_VIEWS: Final = 0
SECTION_RINGS: Final = 1
SECTION_WINDOWS: Final = 2
SECTION_OUTPUTS: Final = 3
SECTION_LASTS: Final = 4
SECTION_DISTINCTS: Final = 5
SECTION_DISTINCT_OUTPUTS: Final = 6
SECTION_REQUEST: Final = 7
SECTION_RATIOS: Final = 8
SECTIONS: Final = 9

# Columns of the rows of each section. "First, end" are row numbers of another section, the end
# not included; words are counted from the beginning of a record; unused columns are 0.
#
#   VIEWS             words of a record; first, end of its RINGS, WINDOWS, LASTS and DISTINCTS;
#                     first, end of its places in a vector; unused
#   RINGS             first word, hop, tiles, words of a tile, bit of the filter (-1: none),
#                     fields of a tile; two unused
#   WINDOWS           row of RINGS, length, offset, fields; first, end of its OUTPUTS
#   OUTPUTS           what is computed (OUT_...), place in a vector, unused
#   LASTS             word, bit of the filter, length, hop, place in a vector, unused
#   DISTINCTS         first word, capacity, column of hashes; first, end of DISTINCT_OUTPUTS; unused
#   DISTINCT_OUTPUTS  length, hop, place in a vector, capacity
#   REQUEST           what is computed (REQUEST_...), place in a vector, column of given values
#   RATIOS            place of the numerator (-1: the amount) and of the denominator, own place
WIDTHS: Final = (12, 8, 6, 3, 6, 6, 4, 3, 3)

REQUEST_GIVEN: Final = 0
REQUEST_AMOUNT: Final = 1
REQUEST_HOUR: Final = 2
REQUEST_WEEKDAY: Final = 3

_REQUEST_CODES: Final = {
    "amount": REQUEST_AMOUNT,
    "hour_of_day": REQUEST_HOUR,
    "day_of_week": REQUEST_WEEKDAY,
    "category": REQUEST_GIVEN,
    "number": REQUEST_GIVEN,
}


def tile_words(fields: int) -> int:
    """Words of one tile with those fields."""
    return (
        1
        + bool(fields & FIELD_SUM)
        + 2 * bool(fields & (FIELD_SQUARES | FIELD_RANGE))
        + (2 if fields & FIELD_SQUARES and fields & FIELD_RANGE else 0)
    )


@dataclass(frozen=True)
class Program:
    """A plan in the kernel's terms.

    Attributes:
        plan: What it was made from.
        code: int64, the sections of this module one after another.
        record_words: int64 words of a record, by view.
    """

    plan: Plan
    code: npt.NDArray[np.int64]
    record_words: tuple[int, ...]

    @property
    def n_features(self) -> int:
        return len(self.plan.feature_names)

    @property
    def n_given(self) -> int:
        """Request features whose value comes encoded with the event."""
        return sum(1 for f in self.plan.request if f.kind in ("category", "number"))

    @property
    def event_width(self) -> int:
        """int64 words of an encoded event."""
        return EVENT_VIEWS + 2 * len(self.plan.views) + len(self.plan.distinct_columns)

    def warnings(self) -> list[str]:
        """One line for each view whose record is large."""
        return [
            f"View {view.name!r} needs {words * 8:,} bytes per entity, more than "
            f"{RECORD_WARNING_BYTES:,}: use longer hops or fewer windows."
            for view, words in zip(self.plan.views, self.record_words, strict=True)
            if words * 8 > RECORD_WARNING_BYTES
        ]


class _Builder:
    """Collects the rows of every section while views are laid out one after another."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.rows: list[list[list[int]]] = [[] for _ in range(SECTIONS)]
        self.out = 0
        self.record_words: list[int] = []

    def view(self, view: View) -> None:
        rows = self.rows
        starts = [len(rows[s]) for s in (SECTION_RINGS, SECTION_WINDOWS, SECTION_LASTS)]
        starts.append(len(rows[SECTION_DISTINCTS]))
        first_out = self.out
        outputs = {aggregate.name: first_out + i for i, aggregate in enumerate(view.aggregates)}
        self.out += len(view.aggregates)
        words = HEADER_WORDS
        words = self._rings(view, outputs, words)
        words = self._lasts(view, outputs, words)
        words = self._distincts(view, outputs, words)
        self.record_words.append(words)
        ends = [len(rows[s]) for s in (SECTION_RINGS, SECTION_WINDOWS, SECTION_LASTS)]
        ends.append(len(rows[SECTION_DISTINCTS]))
        bounds = [edge for pair in zip(starts, ends, strict=True) for edge in pair]
        rows[SECTION_VIEWS].append([words, *bounds, first_out, self.out, 0])

    @staticmethod
    def _of(section: Section, view: View) -> list[Aggregate]:
        """The aggregates that a section of the view's record holds."""
        return [a for a in view.aggregates if FUNCTIONS[a.function].section is section]

    def _filter_bit(self, aggregate: Aggregate) -> int:
        return self.plan.filter_sets.index(aggregate.filters) if aggregate.filters else -1

    def _rings(self, view: View, outputs: dict[str, int], words: int) -> int:
        rings: dict[tuple[int, int], list[Aggregate]] = {}
        for aggregate in self._of(Section.RINGS, view):
            kind = (aggregate.hop_us, self._filter_bit(aggregate))
            rings.setdefault(kind, []).append(aggregate)
        for (hop, bit), members in sorted(rings.items()):
            fields = 0
            for aggregate in members:
                fields |= FUNCTIONS[aggregate.function].fields
            tiles = max(-(-(a.window_us + a.offset_us) // hop) + 1 for a in members)
            width = tile_words(fields)
            ring = len(self.rows[SECTION_RINGS])
            self.rows[SECTION_RINGS].append([words, hop, tiles, width, bit, fields, 0, 0])
            words += tiles * width
            windows: dict[tuple[int, int], list[Aggregate]] = {}
            for aggregate in members:
                windows.setdefault((aggregate.window_us, aggregate.offset_us), []).append(aggregate)
            for (length, offset), sharing in windows.items():
                first = len(self.rows[SECTION_OUTPUTS])
                needed = 0
                for aggregate in sharing:
                    needed |= FUNCTIONS[aggregate.function].fields
                    self.rows[SECTION_OUTPUTS].append(
                        [FUNCTIONS[aggregate.function].code, outputs[aggregate.name], 0]
                    )
                self.rows[SECTION_WINDOWS].append(
                    [ring, length, offset, needed, first, len(self.rows[SECTION_OUTPUTS])]
                )
        return words

    def _lasts(self, view: View, outputs: dict[str, int], words: int) -> int:
        for aggregate in self._of(Section.LASTS, view):
            self.rows[SECTION_LASTS].append(
                [
                    words,
                    self._filter_bit(aggregate),
                    aggregate.window_us,
                    aggregate.hop_us,
                    outputs[aggregate.name],
                    0,
                ]
            )
            words += 1
        return words

    def _distincts(self, view: View, outputs: dict[str, int], words: int) -> int:
        columns: dict[str, list[Aggregate]] = {}
        for aggregate in self._of(Section.DISTINCTS, view):
            columns.setdefault(aggregate.column, []).append(aggregate)
        for column, members in columns.items():
            capacity = max(a.capacity for a in members)
            first = len(self.rows[SECTION_DISTINCT_OUTPUTS])
            for a in members:
                self.rows[SECTION_DISTINCT_OUTPUTS].append(
                    [a.window_us, a.hop_us, outputs[a.name], a.capacity]
                )
            self.rows[SECTION_DISTINCTS].append(
                [
                    words,
                    capacity,
                    self.plan.distinct_columns.index(column),
                    first,
                    len(self.rows[SECTION_DISTINCT_OUTPUTS]),
                    0,
                ]
            )
            words += 2 * capacity
        return words

    def request(self) -> None:
        given = 0
        for feature in self.plan.request:
            code = _REQUEST_CODES[feature.kind]
            self.rows[SECTION_REQUEST].append([code, self.out, given])
            given += code == REQUEST_GIVEN
            self.out += 1

    def ratios(self) -> None:
        index = {name: i for i, name in enumerate(self.plan.feature_names)}
        for ratio in self.plan.ratios:
            numerator = -1 if ratio.numerator == AMOUNT else index[ratio.numerator]
            self.rows[SECTION_RATIOS].append([numerator, index[ratio.denominator], self.out])
            self.out += 1

    def code(self) -> npt.NDArray[np.int64]:
        code: list[int] = [0] * (2 * SECTIONS)
        for section, rows in enumerate(self.rows):
            code[2 * section : 2 * section + 2] = [len(code), len(rows)]
            for row in rows:
                if len(row) != WIDTHS[section]:
                    raise AssertionError(f"section {section} takes rows of {WIDTHS[section]}")
                code.extend(row)
        return np.array(code, dtype=np.int64)


def compile_program(plan: Plan) -> Program:
    """Lay a plan out for the kernel."""
    builder = _Builder(plan)
    for view in plan.views:
        builder.view(view)
    builder.request()
    builder.ratios()
    return Program(plan=plan, code=builder.code(), record_words=tuple(builder.record_words))
