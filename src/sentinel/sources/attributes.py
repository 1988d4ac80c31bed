"""Which columns of a table become attributes, and whether each is a category or a number."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Final, Literal

import pyarrow as pa
import pyarrow.compute as pc

from sentinel.sources.base import AttributeType
from sentinel.sources.columns import flat, is_text, mask_of
from sentinel.sources.mapping_file import AttributesTable
from sentinel.sources.number_text import read_numbers
from sentinel.sources.readers import TableFile
from sentinel.sources.words import nothing_words

_Look = Literal["number", "category", "otherwise"]
"""How a column looks; ``otherwise``: as numbers with the other decimal point."""

_NO_NUMBERS: Final = r"(?i)^\s*([+-]?0\d|true\s*$|false\s*$|[+-]?\d{17,}\s*$)"
_SAMPLE_ROWS: Final = 10_000
_LEAST_ROWS: Final = 200
_ALL_SAMPLE_ROWS: Final = 200_000


def choose_attributes(
    table: AttributesTable, types: Mapping[str, pa.DataType], used: Container[str]
) -> tuple[dict[str, str], dict[str, str]]:
    """The columns that become attributes.

    Args:
        table: What the mapping says.
        types: Columns of the data.
        used: Columns that are something else already; kept only where included by name.

    Returns:
        Column to attribute name, and column to the reason why it cannot be one.
    """
    chosen: dict[str, str] = {}
    unusable: dict[str, str] = {}
    for name, kind in types.items():
        pattern = any(fnmatchcase(name, item) for item in table.include)
        if name not in table.include and (not pattern or name in used):
            continue
        if any(fnmatchcase(name, item) for item in table.exclude):
            continue
        if pa.types.is_nested(kind) or pa.types.is_temporal(kind):
            unusable[name] = f"not used: a {kind} is neither category nor number"
            continue
        chosen[name] = table.rename.get(name, name)
    return chosen, unusable


def infer_types(
    table: AttributesTable,
    attribute_of: Mapping[str, str],
    types: Mapping[str, pa.DataType],
    files: Sequence[TableFile],
) -> tuple[dict[str, AttributeType], list[str]]:
    """Attribute types: as the mapping or the files say; of text, as the first rows look.

    Args:
        table: What the mapping says.
        attribute_of: Column to attribute name.
        types: Columns of the data.
        files: All of them: the first rows of each are read where a column is text.

    Returns:
        Attribute to its type, and the columns of text that would be numbers with the other
        decimal point.
    """
    found: dict[str, AttributeType] = {}
    open_columns: list[str] = []
    schemas = [file.schema() for file in files]
    for column, attribute in attribute_of.items():
        if column in table.types or attribute in table.types:
            declared = table.types.get(column) or table.types[attribute]
            found[attribute] = "number" if declared == "number" else "category"
        elif _is_number(types[column]):
            found[attribute] = "number"
        elif all(not file.is_text for file in files) and not _is_mixed(column, schemas):
            found[attribute] = "category"
        else:
            found[attribute] = "category"
            open_columns.append(column)
    seen = _first_looks(table, open_columns, files)
    for column, looks in seen.items():
        found[attribute_of[column]] = "number" if looks == {"number"} else "category"
    return found, [column for column, looks in seen.items() if looks == {"otherwise"}]


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    )


def _is_mixed(column: str, schemas: Sequence[pa.Schema]) -> bool:
    """Whether some files have a column as text and others as numbers."""
    there = [schema.field(column).type for schema in schemas if column in schema.names]
    return len({_is_number(kind) for kind in there}) > 1


def _first_looks(
    table: AttributesTable, columns: Sequence[str], files: Sequence[TableFile]
) -> dict[str, set[_Look]]:
    """How the first rows of each file look, for the columns that say something there."""
    seen: dict[str, set[_Look]] = {column: set() for column in columns}
    if not columns or not files:
        return seen
    rows = max(_LEAST_ROWS, min(_SAMPLE_ROWS, _ALL_SAMPLE_ROWS // len(files)))
    for file in files:
        there = set(file.schema().names)
        wanted = [column for column in columns if column in there]
        sample = file.first_rows(rows, wanted) if wanted else None
        if sample is None:
            continue
        for column in wanted:
            values = flat(sample.column(column))
            if _is_number(values.type):
                seen[column].add("number")
            elif is_text(values.type) and _says_something(values):
                seen[column].add(_look(table, values))
    return seen


def _look(table: AttributesTable, values: pa.Array) -> _Look:
    if looks_like(values, table.decimal, table.thousands) == "number":
        return "number"
    other = "," if table.decimal == "." else "."
    return "otherwise" if looks_like(values, other) == "number" else "category"


def _says_something(values: pa.Array) -> bool:
    return bool(pc.any(pc.greater(pc.utf8_length(pc.utf8_trim_whitespace(values)), 0)).as_py())


def looks_like(column: pa.Array, decimal_point: str = ".", thousands: str = "") -> AttributeType:
    """Number if all texts are; but "007" is a code, and true and false are words.

    Words for "nothing" do not count.

    >>> looks_like(pa.array(["1", "NA"])), looks_like(pa.array(["007", "12"]))
    ('number', 'category')
    >>> looks_like(pa.array(["1,5"])), looks_like(pa.array(["1,5"]), ",")
    ('category', 'number')
    """
    if is_text(column.type):
        said = pc.is_null(nothing_words(column))
        column = pc.if_else(said, column, pa.scalar(None, column.type))
    _, bad = read_numbers(column, decimal_point, thousands)
    given = mask_of(pc.is_valid(column))
    words = mask_of(pc.match_substring_regex(column, _NO_NUMBERS))
    return "number" if given.any() and not bad.any() and not words.any() else "category"
