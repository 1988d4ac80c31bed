"""What a column holds: its figures, taken in batch by batch in bounded memory."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from sentinel.ingest.card_columns import ColumnJudge
from sentinel.ingest.cards import card_digits, looks_at_cards
from sentinel.ingest.issuers import has_check_digit
from sentinel.propose.sketch import Sketch
from sentinel.sources.columns import NUMBER_PATTERN, flat, id_column, is_text, mask_of

Type = Literal["empty", "boolean", "integer", "number", "text", "time", "nested"]
NOTHING_WORDS: Final = (
    *("na", "n/a", "#n/a", "null", "none", "nan", "nil", "\\n", "(null)", "<na>"),
    # What spreadsheets leave where a formula failed.
    *("#ref!", "#value!", "#div/0!", "#name?", "#num!", "#null!", "#error!", "#nv", "#yok"),
)
BOOLEAN_WORDS: Final = ("0", "1", "true", "false", "t", "f", "yes", "no", "y", "n")
_VALUES_KEPT: Final = 1_000
_ODD: Final = 0.002
"""Share of values that are no numbers in a column of numbers: broken cells."""
_ODD_WORDS: Final = 20
"""Different ones that are kept."""
_ODD_OF: Final = 500
"""Values from which so few are told from another kind of column."""
_LUHN_TRIED: Final = 1_000
_CARD_LIKE: Final = "[0-9](?:[^0-9A-Za-z]{0,3}[0-9]){11}"
_FRACTION: Final = re.compile(r"[-+]?[0-9]{0,12}\.[0-9]+")


@dataclass(frozen=True)
class ColumnProfile:
    """One column.

    Attributes:
        name: As the file has it.
        place: Its position, from 0.
        type: What its values are.
        rows: Rows of the table.
        nulls: Rows without a value (words for nothing not included).
        nothing: Words for nothing, and how often each stands there.
        distinct: Different values; beyond 16,384 an estimate.
        unique: No value was seen twice (beyond 16,384 values: among a sample of them).
        typical_count: How often the value of a typical row recurs in the column.
        values: Every value with its count, most frequent first; empty beyond 1,000 of them.
        low, high: Range of numbers.
        decimals: Most digits behind the decimal point.
        whole, zeros, negatives: Shares of the numbers.
        falls: Share of the rows whose number is lower than the one before.
        steady: Each number is one more than the one before: a row counter.
        luhn: Share of the values that are card numbers by their check digit.
        card_like: Values that would be taken for raw card numbers were found, more than chance
            makes.
        by_chance: Such values were found, and no more than chance makes.
        padded: Some values are digits behind a leading zero.
        lengths: Shortest and longest value, in characters.
        examples: Some values.
        odd: Broken cells: values that are no numbers in a column where nearly all are.
        odd_words: What they hold; some of it if `odd_words_left_out`.
        odd_words_left_out: Whether there were more different ones.
    """

    name: str
    place: int
    type: Type
    rows: int
    nulls: int = 0
    nothing: Mapping[str, int] = field(default_factory=dict)
    distinct: int = 0
    unique: bool = False
    typical_count: float = 0.0
    values: tuple[tuple[str, int], ...] = ()
    low: float = 0.0
    high: float = 0.0
    decimals: int = 0
    whole: float = 0.0
    zeros: float = 0.0
    negatives: float = 0.0
    falls: float = 1.0
    steady: bool = False
    luhn: float = 0.0
    card_like: bool = False
    by_chance: bool = False
    padded: bool = False
    lengths: tuple[int, int] = (0, 0)
    examples: tuple[str, ...] = ()
    odd: int = 0
    odd_words: tuple[str, ...] = ()
    odd_words_left_out: bool = False

    @property
    def given(self) -> int:
        """Rows that have a value."""
        return self.rows - self.nulls - sum(self.nothing.values())

    @property
    def share_given(self) -> float:
        """The same as a share of all rows."""
        return self.given / self.rows if self.rows else 0.0

    @property
    def numeric(self) -> bool:
        """Whether all values are numbers."""
        binary = self.type == "boolean" and {value for value, _ in self.values} <= {"0", "1"}
        return bool(binary or self.type in ("integer", "number"))

    @property
    def constant(self) -> bool:
        """Whether there is at most one value and no row without it."""
        return bool(self.rows > 1 and self.distinct <= 1 and self.given in (0, self.rows))


class ColumnProfiler:
    """The running figures of one column."""

    def __init__(self, name: str, place: int, rows_before: int) -> None:
        self.name, self.place = name, place
        self.rows = self.nulls = rows_before
        self.nothing: dict[str, int] = {}
        self.sketch = Sketch()
        self.counter: dict[str, int] | None = {}
        self.kinds: set[str] = set()
        self.given = self.numbers = self.wholes = self.zeros = self.negatives = self.falls = 0
        self.nested = 0
        self.decimals = 0
        self.low, self.high = np.inf, -np.inf
        self.last: float | None = None
        self.steady = True
        self.luhn, self.luhn_tried = 0, 0.0
        self.cards, self.whole_cards = ColumnJudge(), ColumnJudge()
        self.padded = False
        self.lengths = (1 << 30, 0)
        self.odd_words: dict[str, None] = {}

    def missing(self, rows: int) -> None:
        self.rows += rows
        self.nulls += rows

    def add(self, column: pa.Array) -> pa.Array:
        """Take in values; they come back as trimmed text."""
        text = self._text(flat(column))
        self.rows += len(text)
        encoded = text.dictionary_encode()
        values: pa.Array = encoded.dictionary
        indices = encoded.indices
        given = mask_of(pc.is_valid(indices))
        places = np.asarray(pc.fill_null(indices, 0).to_numpy(zero_copy_only=False), np.int64)
        counts = np.bincount(places[given], minlength=len(values)).astype(np.int64)
        nothing = mask_of(pc.is_in(pc.utf8_lower(values), pa.array(NOTHING_WORDS)))
        for i in np.flatnonzero(nothing).tolist():
            word = values[i].as_py()
            self.nothing[word] = self.nothing.get(word, 0) + int(counts[i])
        self.nulls += int((~given).sum())
        if nothing.any():
            # A word for nothing is no value for what follows, and is none in the sample.
            absent = np.isin(places, np.flatnonzero(nothing)) & given
            text = pc.if_else(pa.array(absent), pa.scalar(None, pa.string()), text)
            given = given & ~absent
        if given.any():
            self._figures(values, counts, places, given, ~nothing)
        return text

    def _text(self, column: pa.Array) -> pa.Array:
        kind = column.type
        if pa.types.is_nested(kind):
            self.kinds.add("nested")
            shown = [None if item is None else str(item) for item in column.to_pylist()]
            return pa.array(shown, pa.string())
        if pa.types.is_temporal(kind):
            self.kinds.add("time")
            return pc.cast(column, pa.string())
        if pa.types.is_boolean(kind):
            return pc.cast(column, pa.string())
        if is_text(kind):
            return id_column(column)
        return id_column(column)

    def _figures(
        self,
        values: pa.Array,
        counts: npt.NDArray[np.int64],
        places: npt.NDArray[np.int64],
        given: npt.NDArray[np.bool_],
        real: npt.NDArray[np.bool_],
    ) -> None:
        words = values.filter(pa.array(real))
        weights = counts[real]
        listed = words.to_pylist()
        self.given += int(weights.sum())
        self.sketch.add(hashes_of(words), weights)
        self._count(listed, weights)
        sizes = pc.min_max(pc.utf8_length(words)).as_py()
        self.lengths = (min(self.lengths[0], sizes["min"]), max(self.lengths[1], sizes["max"]))
        numbers = numbers_of(words)
        known = np.isfinite(numbers)
        self.numbers += int(weights[known].sum())
        if known.any():
            self._number_figures(words, numbers, weights, known)
            of_value = np.full(len(values), np.nan)
            of_value[real] = numbers
            self._order(of_value[places[given]])
        if not known.all():
            for place in np.flatnonzero(~known)[: _ODD_WORDS + 1].tolist():
                if len(self.odd_words) > _ODD_WORDS:
                    break
                self.odd_words.setdefault(listed[place])
            nested = mask_of(pc.match_substring_regex(words, r"^[\[{].*[\]}]$"))
            self.nested += int(weights[nested].sum())
        if self.lengths[1] >= 11:
            self._luhn(words)

    def _count(self, words: list[str], weights: npt.NDArray[np.int64]) -> None:
        if self.counter is None:
            return
        for word, weight in zip(words, weights.tolist(), strict=True):
            self.counter[word] = self.counter.get(word, 0) + weight
        if len(self.counter) > _VALUES_KEPT:
            self.kept = list(self.counter)[:5]
            self.counter = None

    def _number_figures(
        self,
        words: pa.Array,
        numbers: npt.NDArray[np.float64],
        weights: npt.NDArray[np.int64],
        known: npt.NDArray[np.bool_],
    ) -> None:
        good, weight = numbers[known], weights[known]
        self.low, self.high = min(self.low, good.min()), max(self.high, good.max())
        whole = good == np.floor(good)
        self.wholes += int(weight[whole].sum())
        self.zeros += int(weight[good == 0].sum())
        self.negatives += int(weight[good < 0].sum())
        if not whole.all():
            point = pc.find_substring(words, ".").to_numpy(zero_copy_only=False)
            length = pc.utf8_length(words).to_numpy(zero_copy_only=False)
            behind = np.where((point >= 0) & known, length - point - 1, 0)
            self.decimals = max(self.decimals, int(behind.max()))
        if not self.padded:
            self.padded = bool(mask_of(pc.match_substring_regex(words, r"^-?0\d")).any())

    def _order(self, numbers: npt.NDArray[np.float64]) -> None:
        if self.last is not None:
            numbers = np.concatenate([[self.last], numbers])
        steps = np.diff(numbers)
        self.falls += int((steps < 0).sum())
        self.steady = self.steady and bool((steps == 1).all())
        self.last = float(numbers[-1])

    def _luhn(self, words: pa.Array) -> None:
        suspects = words.filter(pc.match_substring_regex(words, _CARD_LIKE))
        some = suspects.slice(0, _LUHN_TRIED).to_pylist()
        looks = [_looks_at_cards(text) for text in some]
        # As many others were passed over as there are in all for each suspect that was tried.
        self.luhn_tried += len(words) * len(some) / len(suspects) if len(suspects) else len(words)
        self.luhn += sum(right for _, _, right in looks)
        self.cards.add(sum(shaped for shaped, _, _ in looks), sum(right for _, right, _ in looks))
        # An import reads numbers as such: the decimals of 2.530102014541626 are no card's digits.
        whole = [
            look
            for text, look in zip(some, looks, strict=True)
            if _FRACTION.fullmatch(text) is None
        ]
        self.whole_cards.add(sum(look[0] for look in whole), sum(look[1] for look in whole))

    def finish(self) -> ColumnProfile:
        values: tuple[tuple[str, int], ...] = ()
        if self.counter is not None:
            values = tuple(sorted(self.counter.items(), key=lambda item: (-item[1], item[0])))
        examples = tuple(value for value, _ in values[:5]) or tuple(getattr(self, "kept", ()))
        numbers = max(self.numbers, 1)
        judge = self.whole_cards if self._is_of_numbers() else self.cards
        return ColumnProfile(
            name=self.name,
            place=self.place,
            type=self._type(values),
            rows=self.rows,
            nulls=self.nulls,
            nothing=dict(self.nothing),
            distinct=min(self.sketch.distinct(), self.given),
            unique=not self.sketch.repeats and self.given > 0,
            typical_count=self.sketch.typical_count(),
            values=values,
            low=float(self.low) if self.numbers else 0.0,
            high=float(self.high) if self.numbers else 0.0,
            decimals=self.decimals,
            whole=self.wholes / numbers,
            zeros=self.zeros / numbers,
            negatives=self.negatives / numbers,
            falls=self.falls / numbers if self._is_of_numbers() else 1.0,
            steady=self.steady and self.numbers == self.rows > 1,
            luhn=self.luhn / self.luhn_tried if self.luhn_tried else 0.0,
            card_like=not judge.by_chance,
            by_chance=judge.by_chance and self.cards.right > 0,
            padded=self.padded,
            lengths=self.lengths if self.given else (0, 0),
            examples=examples,
            odd=self.given - self.numbers if self._is_of_numbers() else 0,
            odd_words=tuple(self.odd_words)[:_ODD_WORDS] if self._is_of_numbers() else (),
            odd_words_left_out=len(self.odd_words) > _ODD_WORDS,
        )

    def _is_of_numbers(self) -> bool:
        """Whether all values are numbers, but for a few broken cells among many."""
        odd = self.given - self.numbers
        return odd == 0 or (self.given >= _ODD_OF and odd <= max(1.0, _ODD * self.given))

    def _type(self, values: tuple[tuple[str, int], ...]) -> Type:
        if not self.given:
            return "empty"
        if "nested" in self.kinds or self.nested > 0.9 * self.given:
            return "nested"
        if "time" in self.kinds:
            return "time"
        if 1 <= len(values) <= 2 and all(v.lower() in BOOLEAN_WORDS for v, _ in values):
            return "boolean"
        if self._is_of_numbers():
            return "integer" if self.wholes == self.numbers else "number"
        return "text"


def numbers_of(text: pa.Array) -> npt.NDArray[np.float64]:
    """Texts as numbers; NaN where a text is none."""
    try:
        parsed = pc.cast(text, pa.float64())
    except pa.ArrowInvalid:
        good = pc.match_substring_regex(text, NUMBER_PATTERN)
        clean = pc.if_else(good, pc.utf8_ltrim(text, "+"), pa.scalar(None, pa.string()))
        parsed = pc.cast(clean, pa.float64())
    filled = pc.fill_null(parsed, float("nan"))
    return np.asarray(filled.to_numpy(zero_copy_only=False), np.float64)


def hashes_of(texts: pa.Array) -> npt.NDArray[np.uint64]:
    """A 64-bit hash of each text."""
    values = pc.cast(texts, pa.binary()).to_pylist()
    return np.fromiter(map(xxhash.xxh3_64_intdigest, values), np.uint64, len(values))


def _looks_at_cards(text: str) -> tuple[bool, bool, bool]:
    """Whether a value may be a card number, is one, or is one of 12 digits or more."""
    shaped, right = looks_at_cards(text)
    digits = card_digits(text)
    short = digits is not None and len(digits) == 12 and digits[0] in "56"
    return shaped, right, right or (short and has_check_digit(digits or ""))
