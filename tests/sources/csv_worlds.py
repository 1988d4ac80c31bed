"""Small CSV files, good and broken, and what a reader makes of them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from sentinel.sources.readers import CsvLayout, MalformedLine, RawBlock, find_files

HEADER = "ref,created,amount,customer,shop\n"


def written(folder: Path, text: str | bytes, name: str = "pay.csv") -> Path:
    """A file with this content, also below folders that are not there yet."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def row(number: int, shop: str = "Shop") -> str:
    """A line of the table under HEADER."""
    return f"p{number},2024-03-01 10:{number % 60:02d}:00,{number}.50,c{number % 7},{shop}\n"


def blocks(path: Path, layout: CsvLayout | None = None, rows: int = 1000) -> list[RawBlock]:
    """Everything in the file or files of a path."""
    return [block for file in find_files(path, layout=layout) for block in file.blocks(rows)]


def values(read: list[RawBlock]) -> list[list[str | None]]:
    """All rows, as lists."""
    return [list(row.values()) for block in read for row in block.rows.to_pylist()]


def firsts(read: list[RawBlock]) -> list[str | None]:
    """The first column."""
    return [row[0] for row in values(read)]


def malformed(read: list[RawBlock]) -> list[MalformedLine]:
    """What is no row."""
    return [line for block in read for line in block.malformed]


def as_csv(rows: Sequence[Sequence[str]], **dialect: object) -> str:
    """The rows as Python's csv module writes them."""
    text = io.StringIO(newline="")
    csv.writer(text, **dialect).writerows(rows)  # type: ignore[arg-type]
    return text.getvalue()
