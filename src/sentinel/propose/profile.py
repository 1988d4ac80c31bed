"""What a table holds: its columns' figures and a fair sample of its rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sentinel.propose.column_profile import ColumnProfile, ColumnProfiler, numbers_of
from sentinel.sources.columns import flat

SAMPLE_ROWS: Final = 200_000
SAMPLE_CELLS: Final = 8_000_000
_LAST_ROWS: Final = 3
_MIX: Final = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class TableProfile:
    """A table.

    Attributes:
        name: For people.
        rows: All rows that were read.
        columns: The columns in the file's order, by name.
        sample: Up to 200,000 rows as text, in the file's order; all rows of a smaller table.
        sample_rows: int64, the sampled rows' numbers, from 0.
        last_rows: The last rows with their numbers, from 0: column to trimmed text.
        remembered: What was worked out of the sample before, by what it is.
    """

    name: str
    rows: int
    columns: Mapping[str, ColumnProfile]
    sample: pa.Table
    sample_rows: npt.NDArray[np.int64]
    last_rows: tuple[tuple[int, Mapping[str, str | None]], ...] = ()
    remembered: dict[tuple[object, ...], Any] = field(default_factory=dict, repr=False)

    @property
    def complete(self) -> bool:
        """Whether the sample holds every row."""
        return bool(self.sample.num_rows == self.rows)

    def texts(self, column: str) -> pa.Array:
        """A column of the sample: trimmed text, null where nothing is given."""
        return flat(self.sample.column(column))

    def numbers(self, column: str) -> npt.NDArray[np.float64]:
        """A column of the sample as numbers; NaN where there is none."""
        key = ("numbers", column)
        if key not in self.remembered:
            self.remembered[key] = numbers_of(self.texts(column))
        found: npt.NDArray[np.float64] = self.remembered[key]
        return found

    def read_numbers(self, column: str, decimal: str, thousands: str) -> None:
        """Have `numbers` read a column of text by its separators from now on."""
        text = self.texts(column)
        if thousands:
            text = pc.replace_substring(text, thousands, "")
        if decimal != ".":
            text = pc.replace_substring(text, decimal, ".")
        self.remembered["numbers", column] = numbers_of(text)


class TableProfiler:
    """Takes in a table's rows, batch by batch.

    Args:
        name: Name of the table, for people.
        sample_rows: Most rows of the sample; default: by the number of columns.
    """

    def __init__(self, name: str, sample_rows: int | None = None) -> None:
        self._name = name
        self._columns: dict[str, ColumnProfiler] = {}
        self._rows = 0
        self._most = sample_rows
        self._limit = np.uint64(2**64 - 1)
        self._parts: list[pa.Table] = []
        self._ranks: list[npt.NDArray[np.uint64]] = []
        self._numbers: list[npt.NDArray[np.int64]] = []
        self._last: list[tuple[int, Mapping[str, str | None]]] = []

    @property
    def rows(self) -> int:
        """Rows so far."""
        return self._rows

    def add(self, batch: pa.RecordBatch) -> None:
        """Take in rows; columns that are new get a profile of their own."""
        texts: dict[str, pa.Array] = {}
        for name in batch.schema.names:
            column = self._columns.get(name)
            if column is None:
                column = self._columns[name] = ColumnProfiler(name, len(self._columns), self._rows)
            texts[name] = column.add(batch.column(batch.schema.get_field_index(name)))
        for name, column in self._columns.items():
            if name not in texts:
                column.missing(batch.num_rows)
        self._sample(texts, batch.num_rows)
        start = max(0, batch.num_rows - _LAST_ROWS)
        ends = {name: column.slice(start).to_pylist() for name, column in texts.items()}
        for place in range(batch.num_rows - start):
            cells = {name: values[place] for name, values in ends.items()}
            self._last.append((self._rows + start + place, cells))
        del self._last[:-_LAST_ROWS]
        self._rows += batch.num_rows

    def finish(self) -> TableProfile:
        """The profile of all rows taken in."""
        names = list(self._columns)
        sample, numbers = self._compacted()
        columns = {name: column.finish() for name, column in self._columns.items()}
        if len(numbers) == self._rows:
            # The sample holds every row, so that a single value that comes twice can be seen.
            for name, column in columns.items():
                if column.unique and pc.count_distinct(sample.column(name)).as_py() < column.given:
                    columns[name] = replace(column, unique=False)
        return TableProfile(
            self._name, self._rows, columns, sample.select(names), numbers, tuple(self._last)
        )

    def _sample(self, texts: dict[str, pa.Array], rows: int) -> None:
        most = self._most or max(1_000, min(SAMPLE_ROWS, SAMPLE_CELLS // max(1, len(texts))))
        numbers = np.arange(self._rows, self._rows + rows, dtype=np.int64)
        ranks = _mixed(numbers)
        kept = np.flatnonzero(ranks <= self._limit)
        if not len(kept):
            return
        part = pa.table(texts)
        self._parts.append(part if len(kept) == rows else part.take(pa.array(kept)))
        self._ranks.append(ranks[kept])
        self._numbers.append(numbers[kept])
        if 2 * sum(len(ranks) for ranks in self._ranks) > 3 * most:
            self._trim(most)

    def _trim(self, most: int) -> None:
        table, numbers = self._compacted()
        ranks = np.concatenate(self._ranks)
        if len(ranks) > most:
            self._limit = np.partition(ranks, most - 1)[most - 1]
            kept = np.flatnonzero(ranks <= self._limit)
            table, numbers, ranks = table.take(pa.array(kept)), numbers[kept], ranks[kept]
        self._parts, self._ranks, self._numbers = [table], [ranks], [numbers]

    def _compacted(self) -> tuple[pa.Table, npt.NDArray[np.int64]]:
        if not self._parts:
            empty = {name: pa.array([], pa.string()) for name in self._columns}
            return pa.table(empty), np.empty(0, np.int64)
        table = pa.concat_tables(self._parts, promote_options="default").combine_chunks()
        return table, np.concatenate(self._numbers)


def _mixed(numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """Row numbers as evenly spread 64-bit ranks (splitmix64)."""
    x = numbers.astype(np.uint64) * _MIX + _MIX
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
