"""From a transaction to the numbers the kernel reads: one at a time, and a batch at once.

`EventEncoder.put` and `encode_batch` are twins: the same transaction gives the same event.
"""

from __future__ import annotations

import math
import operator
import struct
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import xxhash

from sentinel.domain import ENTITY_COLUMNS, AttributeValue, Transaction
from sentinel.features.arena import KEY_SEPARATOR, Arena
from sentinel.features.kernel.words import NO_RECORD
from sentinel.features.plan.functions import AMOUNT
from sentinel.features.plan.parts import Filter
from sentinel.features.plan.plan import UNKNOWN_CATEGORY_CODE, Plan
from sentinel.features.plan.program import KIND_ADD, KIND_READ, Program
from sentinel.ingest.values import as_text

_NAN: Final = float("nan")
_UNKNOWN: Final = float(UNKNOWN_CATEGORY_CODE)
_HASHES_KEPT: Final = 1 << 16
_FLOAT32_OVERFLOW: Final = 2.0**128 - 2.0**103  # rounds to infinity, like all above it

_COMPARE: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}

_entities: Final = operator.attrgetter(*ENTITY_COLUMNS)


def text_hash(text: str) -> int:
    """64-bit hash of a value counted distinct, signed and never 0 (XXH3, seed 0)."""
    value = xxhash.xxh3_64_intdigest(text.encode())
    return (value - (1 << 64) if value >= 1 << 63 else value) or 1


def is_boolean(text: str) -> bool:
    """Whether text is true or false in any letter case; histories of long ago have "True"."""
    return len(text) in (4, 5) and text.lower() in ("true", "false")


def category_codes(categories: tuple[str, ...]) -> dict[str, int]:
    """The code of each text of a dictionary; one that was learned from "True" knows "true", too.

    >>> category_codes(("pos", "True"))
    {'pos': 1, 'True': 2, 'true': 2}
    """
    codes = {text: code for code, text in enumerate(categories, 1)}
    for text, code in list(codes.items()):
        if is_boolean(text):
            codes.setdefault(text.lower(), code)
    return codes


def column_value(transaction: Transaction, column: str) -> AttributeValue | int:
    """A transaction's value of an identifier, an attribute or the amount; NaN is unknown."""
    if column in ENTITY_COLUMNS:
        identifier: str | None = getattr(transaction, column)
        return identifier
    if column == AMOUNT:
        return transaction.amount_minor
    value = transaction.attributes.get(column)
    return None if value != value else value


def satisfies(transaction: Transaction, conditions: tuple[Filter, ...]) -> bool:
    """Whether all conditions hold; an unknown value satisfies none."""
    for condition in conditions:
        value = column_value(transaction, condition.column)
        if value is None:
            return False
        if isinstance(condition.value, str):
            text, wanted = as_text(value), condition.value
            if is_boolean(wanted):
                text, wanted = text.lower(), wanted.lower()
            if not _COMPARE[condition.operator](text, wanted):
                return False
        elif isinstance(value, str) or not _COMPARE[condition.operator](value, condition.value):
            return False
    return True


def _packable(value: float) -> float:
    """The value, or infinity where no float32 is as large; packing it rounds it."""
    return value if abs(value) < _FLOAT32_OVERFLOW else math.copysign(math.inf, value)


def unknown_entities(
    plan: Plan, known: Sequence[Container[str]], transactions: Iterable[Transaction]
) -> int:
    """How many records transactions would make.

    Args:
        plan: The plan.
        known: By view, the keys that have a record.
        transactions: Which.
    """
    unknown: set[tuple[int, str]] = set()
    views = [(i, view.keys, known[i]) for i, view in enumerate(plan.views)]
    for transaction in transactions:
        for i, columns, held in views:
            parts = [getattr(transaction, column) for column in columns]
            if None not in parts:
                key = parts[0] if len(parts) == 1 else KEY_SEPARATOR.join(parts)
                if key not in held:
                    unknown.add((i, key))
    return len(unknown)


class EventEncoder:
    """Encodes single transactions into rows of preallocated arrays.

    Attributes:
        events: int64 (capacity, event_width), the kernel's events.
        given: float32 (capacity, n_given), category codes and numbers, NaN = unknown.
        known_only: Rows that make no records: a view whose record does not exist is null.
        left_out: Row and view of each record that was not made for that reason.
        notes_new: Whether records that are made are noted.
        new_records: Row and view of each.
    """

    def __init__(self, program: Program, arena: Arena, capacity: int = 1) -> None:
        plan = program.plan
        self.program = program
        self.arena = arena
        self.events: npt.NDArray[np.int64] = np.zeros(
            (capacity, program.event_width), dtype=np.int64
        )
        self.given: npt.NDArray[np.float32] = np.full(
            (capacity, program.n_given), np.nan, dtype=np.float32
        )
        self._event_buffer = self.events.data.cast("B")
        self._given_buffer = self.given.data.cast("B") if program.n_given else None
        self._event_struct = struct.Struct(f"<{program.event_width}q")
        self._given_struct = struct.Struct(f"<{program.n_given}f")
        self._n_views = len(plan.views)
        self._no_positions = (0,) * self._n_views
        self.known_only: Collection[int] = ()
        self.notes_new = False
        self.new_records: list[tuple[int, int]] = []
        self.left_out: list[tuple[int, int]] = []
        self._untracked_as = tuple(view.untracked_as for view in plan.views)
        self._views = tuple(
            (
                i,
                ENTITY_COLUMNS.index(view.keys[0]),
                tuple(ENTITY_COLUMNS.index(key) for key in view.keys[1:]),
                self.arena.keys[i],
            )
            for i, view in enumerate(plan.views)
        )
        self._filters = tuple((1 << bit, f) for bit, f in enumerate(plan.filter_sets))
        self._distinct = tuple(
            (column, ENTITY_COLUMNS.index(column) if column in ENTITY_COLUMNS else -1)
            for column in plan.distinct_columns
        )
        self._hashes: dict[str, int] = {}
        self._given = tuple(
            (
                f.column,
                f.column not in ENTITY_COLUMNS and f.column != AMOUNT,
                {text: float(code) for text, code in category_codes(f.categories).items()}
                if f.kind == "category"
                else None,
            )
            for f in plan.request
            if f.kind in ("category", "number")
        )

    @property
    def capacity(self) -> int:
        return len(self.events)

    def put(self, row: int, transaction: Transaction, kind: int = KIND_ADD) -> None:
        """Encode a transaction into a row.

        KIND_ADD makes records for entities seen for the first time, other kinds make none.
        """
        entities = _entities(transaction)
        offsets: list[int] = []
        for view, first, others, known in self._views:
            text = entities[first]
            for other in others:
                more = entities[other]
                text = None if text is None or more is None else text + KEY_SEPARATOR + more
            if text is None:
                offsets.append(NO_RECORD)
                continue
            offset = known.get(text)
            if offset is None:
                offset = self._unknown(row, transaction, view, text, kind)
            offsets.append(offset)
        if transaction.untracked:
            for view, names in enumerate(self._untracked_as):
                if not names.isdisjoint(transaction.untracked):
                    offsets[view] = NO_RECORD
        bits = 0
        for bit, conditions in self._filters:
            if satisfies(transaction, conditions):
                bits |= bit
        hashes = []
        for column, entity in self._distinct:
            value = entities[entity] if entity >= 0 else column_value(transaction, column)
            if value is None:
                hashes.append(0)
            else:
                text = value if type(value) is str else as_text(value)
                hashes.append(self._hashes.get(text) or self._hash(text))
        self._event_struct.pack_into(
            self._event_buffer,
            row * self._event_struct.size,
            transaction.event_time_us,
            transaction.amount_minor,
            kind,
            bits,
            *offsets,
            *self._no_positions,
            *hashes,
        )
        if self._given_buffer is not None:
            self._given_struct.pack_into(
                self._given_buffer, row * self._given_struct.size, *self._given_values(transaction)
            )

    def _unknown(self, row: int, transaction: Transaction, view: int, text: str, kind: int) -> int:
        """Where the record of an entity begins that the arena does not know."""
        if transaction.untracked and not self._untracked_as[view].isdisjoint(transaction.untracked):
            return NO_RECORD
        if kind != KIND_ADD:
            return self.arena.find(view, text)
        if row in self.known_only:
            self.left_out.append((row, view))
            return NO_RECORD
        offset = self.arena.locate(view, text)
        if self.notes_new:
            self.new_records.append((row, view))
        return offset

    def put_query(self, row: int, keys: Mapping[str, str], now_us: int) -> None:
        """Encode a question for the state of entities at a time; makes no records.

        Args:
            row: Row to write.
            keys: Entity column to key; views whose columns are not all named answer null.
            now_us: Time of the question, microseconds.
        """
        event = self.events[row]
        event[:] = 0
        event[0], event[2] = now_us, KIND_READ
        for i, view in enumerate(self.program.plan.views):
            if all(key in keys for key in view.keys):
                text = KEY_SEPARATOR.join(keys[key] for key in view.keys)
                event[4 + i] = self.arena.find(i, text)
            else:
                event[4 + i] = NO_RECORD
        self.given[row] = np.nan

    def _hash(self, text: str) -> int:
        """`text_hash`, remembered: most entities come again."""
        if len(self._hashes) >= _HASHES_KEPT:
            self._hashes.clear()
        value = self._hashes[text] = text_hash(text)
        return value

    def _given_values(self, transaction: Transaction) -> list[float]:
        values = []
        attribute = transaction.attributes.get
        for column, is_attribute, codes in self._given:
            value = attribute(column) if is_attribute else column_value(transaction, column)
            if value is None or value != value:
                values.append(_NAN)
            elif codes is not None:
                text = value if type(value) is str else as_text(value)
                values.append(codes.get(text, _UNKNOWN))
            else:
                values.append(_NAN if isinstance(value, str) else _packable(value))
        return values
