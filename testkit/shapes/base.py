"""What a shape is: a kind of public file, drawn with fraud whose true probability is known."""

from __future__ import annotations

import dataclasses
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from testkit.shapes.streams import Flags, Floats, Ints

TEST_SHARE: Final = 0.32
"""Share of the payments, the latest, that are kept to test on."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawing:
    """A file's content and the truth behind it, in time order. All arrays are (n,).

    Attributes:
        columns: Header to values as the file spells them; ``""`` is a column without a name.
        seconds: int64, time of each payment since the start of the span.
        fraud: bool, the truth.
        chance: float64, the probability the truth was drawn with: the best possible score.
        keep: Further arrays that the writer of the files needs, by name.
    """

    columns: Mapping[str, pa.Array]
    seconds: Ints
    fraud: Flags
    chance: Floats
    keep: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.fraud)

    def part(self, start: int, end: int) -> Drawing:
        """Some of the payments."""
        return Drawing(
            columns={name: values[start:end] for name, values in self.columns.items()},
            seconds=self.seconds[start:end],
            fraud=self.fraud[start:end],
            chance=self.chance[start:end],
            keep={name: values[start:end] for name, values in self.keep.items()},
        )

    def split(self) -> tuple[Drawing, Drawing]:
        """History, and what comes after it; payments of one moment stay together."""
        moment = self.seconds[int(len(self) * (1 - TEST_SHARE))]
        at = int(np.searchsorted(self.seconds, moment))
        return self.part(0, at), self.part(at, len(self))

    def renamed(self, names: Mapping[str, str]) -> Drawing:
        """The same with other headers."""
        columns = {names.get(name, name): values for name, values in self.columns.items()}
        return dataclasses.replace(self, columns=columns)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A kind of file.

    Attributes:
        name: As the examples call it.
        draw: Rows and seed to a drawing.
        write: A drawing, a folder and the stem of its files to the files, payments first.
        label: The column of the verdict; None if labels have a file of their own.
        truth: Flag of `sentinel propose` to the right answer, where a file with unknown column
            names makes it ask; columns by their true names.
        leaks: Columns that are known too late, and tell it.
        late: Columns that are known too late as well, but may be used to say when.
        rows: Payments that are enough to learn from and to test on.
        days: Days that the payments span.
        windowless: Whether a model without windows is enough, as the file names no entity.
        label_delay_days: From a payment to the label of it that is declared.
        example: The file in ``examples/mappings``.
    """

    name: str
    draw: Callable[[int, int], Drawing]
    write: Callable[[Drawing, Path, str], list[Path]]
    label: str | None
    truth: Mapping[str, str]
    leaks: tuple[str, ...] = ()
    late: tuple[str, ...] = ()
    rows: int = 80_000
    days: float = 180.0
    windowless: bool = False
    label_delay_days: float = 7.0
    stem: str = "payments"

    @property
    def example(self) -> str:
        return f"{self.name}.toml"


def unknown_names(columns: Sequence[str]) -> dict[str, str]:
    """Names that say nothing, by column: no two letters together, which could mean something.

    >>> unknown_names(["amount", "time"])
    {'amount': 'col_a', 'time': 'col_b'}
    """
    letters = string.ascii_lowercase

    def name(place: int) -> str:
        again, letter = divmod(place, len(letters))
        return f"col_{letters[letter]}{again + 1 if again else ''}"

    return {column: name(place) for place, column in enumerate(columns)}


def write_csv(
    path: Path, columns: Mapping[str, pa.Array], *, delimiter: str = ",", header: str | None = None
) -> Path:
    """Write columns as they are; what needs quotes has them in its text already."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = delimiter.join(map(quoted, columns)) if header is None else header
    texts = [values.cast(pa.string()).fill_null("") for values in columns.values()]
    lines = pc.binary_join_element_wise(*texts, delimiter).to_pylist()
    path.write_text("\n".join([line, *lines, ""]), encoding="utf8")
    return path


def quoted(text: str) -> str:
    """Text as a CSV file has it: in quotes where it holds a comma."""
    return f'"{text}"' if "," in text else text


def pick(values: Sequence[str], codes: npt.NDArray[Any]) -> pa.Array:
    """Texts by their numbers; a negative number is nothing."""
    indices = pa.array(codes, pa.int32(), mask=np.asarray(codes) < 0)
    return pa.DictionaryArray.from_arrays(indices, pa.array(list(values), pa.string())).cast(
        pa.string()
    )


def moments(start: datetime, seconds: Ints, pattern: str) -> pa.Array:
    """Times as text."""
    origin = np.datetime64(start.replace(tzinfo=None), "s")
    return pc.strftime(pa.array(origin + seconds.astype("timedelta64[s]")), format=pattern)


def utc(year: int, month: int, day: int) -> datetime:
    """Midnight of a day."""
    return datetime(year, month, day, tzinfo=UTC)


def drawn(rng: np.random.Generator, chance: Floats) -> Flags:
    """The truth, drawn with its probability."""
    return rng.random(len(chance)) < chance


def digits(rng: np.random.Generator, rows: int, length: int) -> list[str]:
    """Texts of random hexadecimal digits."""
    raw = rng.bytes(rows * ((length + 1) // 2)).hex()
    step = 2 * ((length + 1) // 2)
    return [raw[i * step : i * step + length] for i in range(rows)]
