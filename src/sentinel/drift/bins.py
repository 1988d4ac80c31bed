"""Bins of each column of a vector, frozen from the payments that a model learnt from.

A column's histogram is a run of *cells*. The first counts unknown values (NaN). A number's other
cells lie between edges: about as many payments in each, and a value that many payments share has a
cell of its own. A category's second cell counts *other* values, among them those that the reference
never held; each further cell is one of the most frequent codes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from sentinel.domain import ModelFormatError
from sentinel.features.plan.plan import UNKNOWN_CATEGORY_CODE

MOST_CELLS: Final = 32
"""Cells of one column, at most."""
CELLS: Final = 17
"""Cells of a number unless said otherwise: unknown, and sixteen with as many payments each."""
SCORE: Final = "score"
"""The column after the features: the calibrated probability of the model."""
BINS_FORMAT: Final = 1


class ColumnBins(msgspec.Struct, frozen=True):
    """The cells of one column.

    Attributes:
        name: The feature.
        kind: Whether cells lie between ``values``, or are equal to one of them.
        values: Rising, float32. Of a number: edges; a value on an edge belongs above it. Of a
            category: codes.
        definition: Hash of the feature's definition; empty if there is none.
        words: Of a category: what each of the ``values`` stands for. References that were frozen
            before there were words have none, and their hash must stay.
    """

    name: str
    kind: Literal["number", "category"]
    values: tuple[float, ...]
    definition: str = ""
    words: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET

    @property
    def cells(self) -> int:
        """How many cells it has, that of unknown values included."""
        return len(self.values) + 2

    def label(self, cell: int) -> str:
        """What a cell holds, in words.

        >>> column = ColumnBins("amount", "number", (5.0, 20.0))
        >>> [column.label(cell) for cell in range(column.cells)]
        ['unknown', 'below 5', '5 to 20', '20 and above']
        """
        if cell == 0:
            return "unknown"
        if self.kind == "category":
            return "other values" if cell == 1 else self.code_words(self.values[cell - 2])
        if not self.values:
            return "known"
        if cell == 1:
            return f"below {self.values[0]:g}"
        low = self.values[cell - 2]
        if cell == self.cells - 1:
            constant = self.cells == 4 and _edges_around(self.values[0])[1:] == (low,)
            return f"above {self.values[0]:g}" if constant else f"{low:g} and above"
        high = self.values[cell - 1]
        return f"{low:g}" if _edges_around(low) == (low, high) else f"{low:g} to {high:g}"

    def code_words(self, code: float) -> str:
        """What a code of a category stands for; the code where that is not known."""
        if self.words and code in self.values:
            return self.words[self.values.index(code)]
        return f"code {code:g}"


class Bins(msgspec.Struct, frozen=True, dict=True):
    """The cells of all columns, one after the other.

    Attributes:
        columns: In the order of the vector; the last is `SCORE`.
        format: Version of this layout.
    """

    columns: tuple[ColumnBins, ...]
    format: int = BINS_FORMAT

    def __post_init__(self) -> None:
        if self.format != BINS_FORMAT:
            raise ModelFormatError(
                f"The bins of a drift reference have format {self.format}, this version reads "
                f"{BINS_FORMAT}. Train the model anew, or use the version that wrote them."
            )

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(column.name for column in self.columns)

    @cached_property
    def starts(self) -> npt.NDArray[np.int32]:
        """int32 (columns + 1,): the cells of column c are ``starts[c]:starts[c + 1]``."""
        sizes = [column.cells for column in self.columns]
        return np.concatenate(([0], np.cumsum(sizes))).astype(np.int32)

    @cached_property
    def cells(self) -> int:
        """Cells of all columns together."""
        return int(self.starts[-1])

    @cached_property
    def is_category(self) -> npt.NDArray[np.bool_]:
        """Which columns hold codes: bool (columns,)."""
        return np.array([column.kind == "category" for column in self.columns], np.bool_)

    @cached_property
    def values(self) -> npt.NDArray[np.float32]:
        """float32 (columns, MOST_CELLS - 1): edges or codes, then infinity."""
        table = np.full((len(self.columns), MOST_CELLS - 1), np.inf, np.float32)
        for row, column in enumerate(self.columns):
            table[row, : len(column.values)] = column.values
        return table

    def slice_of(self, name: str) -> slice:
        """The cells of a column.

        Raises:
            KeyError: If there is no such column.
        """
        if name not in self.names:
            raise KeyError(name)
        at = self.names.index(name)
        return slice(int(self.starts[at]), int(self.starts[at + 1]))


def freeze_bins(
    X: npt.NDArray[np.float32],
    names: Sequence[str],
    *,
    categorical: Sequence[str] = (),
    dictionaries: Mapping[str, Sequence[str]] | None = None,
    definitions: Sequence[str] = (),
    cells: int = CELLS,
) -> Bins:
    """Choose the cells of each column by the rows of a reference.

    Args:
        X: float32 (n, columns), NaN = unknown.
        names: Of the columns.
        categorical: Names of those that hold codes.
        dictionaries: Of those, by name: code 1 is the first text.
        definitions: Hash of each column's definition; may be left out.
        cells: Of a number, that of unknown values included; from 3 to `MOST_CELLS`.

    >>> X = np.array([[1, 2], [2, 2], [3, 7], [4, np.nan]], np.float32)
    >>> bins = freeze_bins(X, ["amount", "country"], categorical=["country"], cells=3)
    >>> [column.values for column in bins.columns]
    [(3.0,), (2.0, 7.0)]
    """
    if not 3 <= cells <= MOST_CELLS:
        raise ValueError(f"A column has 3 to {MOST_CELLS} cells, not {cells}.")
    columns = []
    for at, name in enumerate(names):
        # An infinite value belongs to the outer cells, or to a category's others; no edge is there.
        known = X[:, at][np.isfinite(X[:, at])]
        words: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
        if name in categorical:
            kind: Literal["number", "category"] = "category"
            values = _frequent(known, MOST_CELLS - 2)
            if dictionary := (dictionaries or {}).get(name):
                words = tuple(text_of(code, dictionary) for code in values)
        else:
            kind, values = "number", _edges(known, cells - 1)
        definition = definitions[at] if at < len(definitions) else ""
        columns.append(ColumnBins(name, kind, values, definition, words))
    return Bins(tuple(columns))


def text_of(code: float, dictionary: Sequence[str]) -> str:
    """What a code of a category stands for.

    Args:
        code: From 1 on, else it is that of all texts that the dictionary does not hold.
        dictionary: Texts in the order of their codes; empty if they are not known.

    >>> [text_of(code, ["DE", "FR"]) for code in (0, 2, 3)]
    ['not in the dictionary', 'FR', 'code 3']
    """
    if dictionary and code == UNKNOWN_CATEGORY_CODE:
        return "not in the dictionary"
    known = 1 <= code <= len(dictionary)
    return dictionary[int(code) - 1] if known else f"code {code:g}"


def _frequent(known: npt.NDArray[np.float32], most: int) -> tuple[float, ...]:
    """The most frequent codes, rising."""
    codes, counts = np.unique(known, return_counts=True)
    chosen = np.sort(codes[np.argsort(-counts, kind="stable")[:most]])
    return tuple(map(float, chosen))


def _edges(known: npt.NDArray[np.float32], parts: int) -> tuple[float, ...]:
    """Edges between about equal parts; a value of more than half a part has one of its own.

    A constant has values below and above it.
    """
    if not known.size:
        return ()
    values, counts = np.unique(known, return_counts=True)
    if len(values) == 1:
        return _edges_around(float(values[0]) + 0.0)[: parts - 1]
    if len(values) <= parts:
        return tuple(map(float, values[1:]))
    part = known.size / parts
    chosen: list[float] = []
    filled = 0
    for at, (value, count) in enumerate(zip(values.tolist(), counts.tolist(), strict=True)):
        alone = count >= part
        if at and filled and (alone or filled >= part) and len(chosen) < parts - 1:
            chosen.append(value)
            filled = 0
        filled += count
        if alone and at + 1 < len(values) and len(chosen) < parts - 1:
            chosen.append(float(values[at + 1]))
            filled = 0
    return tuple(edge for edge in chosen if math.isfinite(edge))


def _edges_around(value: float) -> tuple[float, ...]:
    """Edges that part a value from all others; one if none lies above it.

    Smaller than the smallest normal number nothing is told from zero: libraries may have the
    processor take such numbers for it.

    >>> _edges_around(3.0)
    (3.0, 3.000000238418579)
    """
    with np.errstate(over="ignore"):
        above = np.nextafter(np.float32(value), np.float32(np.inf))
    if 0 <= above < np.finfo(np.float32).tiny:
        above = np.finfo(np.float32).tiny
    return tuple(edge for edge in (value, float(above)) if math.isfinite(edge))
