"""An attribute is a number if all files say so, whatever the first of them looks like."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sentinel.sources.attributes import infer_types
from sentinel.sources.mapping_file import AttributesTable
from sentinel.sources.readers import columns_of, find_files
from tests.sources.csv_worlds import written


def types_of(path: Path, *columns: str) -> list[str]:
    """Types of the columns, all of them attributes."""
    found = columns_of(find_files(path))
    names = {name: name for name in found.types}
    types, _ = infer_types(AttributesTable(), names, found.types, found.files)
    return [types[column] for column in columns]


@pytest.mark.parametrize(
    ("first", "second", "kind"),
    [
        ("", "3.5", "number"),
        (None, "3.5", "number"),
        ("1", "3.5", "number"),
        ("1", "n/a", "category"),
        ("n/a", "1", "category"),
        ("1", "007", "category"),
        ("", "", "category"),
    ],
)
def test_types_come_from_all_files(
    tmp_path: Path, first: str | None, second: str, kind: str
) -> None:
    written(tmp_path, "ref,age\n" + ("" if first is None else f"p1,{first}\n"), "in/1.csv")
    written(tmp_path, f"ref,age\np2,{second}\n", "in/2.csv")
    assert types_of(tmp_path / "in", "age") == [kind]


def test_ten_thousand_rows_of_a_long_file_are_looked_at(tmp_path: Path) -> None:
    rows = ["p,1,7\n"] * 9_999 + ["p,x,7\n"] + ["p,1,x\n"] * 5
    path = written(tmp_path, "ref,early,late\n" + "".join(rows))
    assert types_of(path, "early", "late") == ["category", "number"]


def test_json_and_parquet_are_looked_at_alike(tmp_path: Path) -> None:
    path = written(tmp_path, '{"n": 1.10, "code": "007", "flag": true}\n', "a.jsonl")
    assert types_of(path, "n", "code", "flag") == ["number", "category", "category"]
    folder = tmp_path / "in"
    folder.mkdir()
    pq.write_table(pa.table({"v": [1], "w": [1], "text": ["5"]}), folder / "a.parquet")
    pq.write_table(pa.table({"v": ["2.5"], "w": ["x"], "text": ["6"]}), folder / "b.parquet")
    assert types_of(folder, "v", "w", "text") == ["number", "category", "category"]
