"""A file's rows are all accounted for: read, or reported with line and reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from sentinel.domain import ConfigurationError
from sentinel.sources.readers import CsvLayout, RawBlock, TableFile, find_files

HEADER = "ref,created,amount,customer,shop\n"


def written(folder: Path, text: str | bytes, name: str = "pay.csv") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def row(number: int, shop: str = "Shop") -> str:
    return f"p{number},2024-03-01 10:{number % 60:02d}:00,{number}.50,c{number % 7},{shop}\n"


def blocks(path: Path, layout: CsvLayout | None = None, rows: int = 1000) -> list[RawBlock]:
    (file,) = find_files(path, layout=layout)
    return list(file.blocks(rows))


def refs(read: list[RawBlock]) -> list[str]:
    return [value for block in read for value in block.rows.column(0).to_pylist()]


def test_a_quote_that_is_never_closed_costs_its_own_row_and_names_its_line(tmp_path: Path) -> None:
    text = HEADER + row(1) + row(2, '"5 inch') + row(3) + row(4)
    read = blocks(written(tmp_path, text))
    assert refs(read) == ["p1", "p3", "p4"]
    (broken,) = [line for block in read for line in block.malformed]
    assert (broken.row, broken.line) == (2, 3)
    assert broken.reason.startswith("line 3: the field opens with a quote that is never closed")
    assert [n for block in read for n in block.row_numbers.tolist()] == [1, 3, 4]


def test_rows_between_two_stray_quotes_are_rows(tmp_path: Path) -> None:
    """The second quote closes the first one by the book; what is between them is a table."""
    text = HEADER + row(1) + row(2, '"5 inch') + row(3) + row(4) + row(5, 'wheel 24"') + row(6)
    read = blocks(written(tmp_path, text))
    assert refs(read) == ["p1", "p3", "p4", "p5", "p6"]
    assert [line.line for block in read for line in block.malformed] == [3]


def test_a_value_of_several_lines_is_one_value(tmp_path: Path) -> None:
    text = HEADER + row(1, '"Main St 1\n\n12345, Town"') + row(2)
    read = blocks(written(tmp_path, text))
    assert refs(read) == ["p1", "p2"]
    assert read[0].rows.column("shop")[0].as_py() == "Main St 1\n\n12345, Town"


def test_two_columns_of_one_name_are_refused_until_they_are_named(tmp_path: Path) -> None:
    path = written(tmp_path, "ref,amount,amount\np1,1,2\n")
    with pytest.raises(ConfigurationError, match="columns 2 and 3 both have the name 'amount'"):
        TableFile(path, "csv").schema()
    file = TableFile(path, "csv", CsvLayout(names={3: "amount_eur"}))
    assert file.schema().names == ["ref", "amount", "amount_eur"]
