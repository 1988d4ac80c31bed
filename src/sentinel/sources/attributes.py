"""Which columns of a table become attributes, and whether each is a category or a number."""

from __future__ import annotations

from collections.abc import Container, Mapping
from fnmatch import fnmatchcase
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from sentinel.sources.base import AttributeType
from sentinel.sources.columns import mask_of, number_column
from sentinel.sources.mapping_file import AttributesTable
from sentinel.sources.readers import RawBlock, TableFile

_SAMPLE_ROWS: Final = 10_000


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
    file: TableFile,
) -> dict[str, AttributeType]:
    """Attribute types: as the mapping or the file says; of text files, as the first rows look.

    Args:
        table: What the mapping says.
        attribute_of: Column to attribute name.
        types: Columns of the data.
        file: Where first rows are read.
    """
    sample: RawBlock | None = None
    found: dict[str, AttributeType] = {}
    for column, attribute in attribute_of.items():
        kind = types[column]
        if column in table.types or attribute in table.types:
            declared = table.types.get(column) or table.types[attribute]
            found[attribute] = "number" if declared == "number" else "category"
        elif file.format == "csv":
            if sample is None:
                sample = next(file.blocks(_SAMPLE_ROWS, list(attribute_of)), None)
            found[attribute] = (
                "category" if sample is None else looks_like(sample.rows.column(column))
            )
        else:
            numeric = (
                pa.types.is_integer(kind)
                or pa.types.is_floating(kind)
                or pa.types.is_decimal(kind)
                or pa.types.is_boolean(kind)
            )
            found[attribute] = "number" if numeric else "category"
    return found


def looks_like(column: pa.Array) -> AttributeType:
    """Number if all texts are; but "007" is a code.

    >>> looks_like(pa.array(["1", "2.5"])), looks_like(pa.array(["007", "12"]))
    ('number', 'category')
    """
    _, bad = number_column(column)
    given = mask_of(pc.is_valid(column))
    padded = mask_of(pc.match_substring_regex(column, r"^\s*[+-]?0\d"))
    return "number" if given.any() and not bad.any() and not padded.any() else "category"
