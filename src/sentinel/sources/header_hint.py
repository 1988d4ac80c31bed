"""Where the header of a CSV file is, if it is not its first line."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from itertools import islice
from typing import Final

from sentinel.sources.byte_streams import utf8_blocks
from sentinel.sources.table_file import TableFile

_BYTES: Final = 64 << 10
_LINES: Final = 200
_DELIMITERS: Final = (",", ";", "\t", "|")


def header_hint(file: TableFile, wanted: Sequence[str]) -> str:
    """What to do about columns that a file lacks, where its first lines tell; else "".

    Args:
        file: The file.
        wanted: Columns that it should have.
    """
    skipped = file.layout.skip_lines
    if not len(file.schema()) and skipped:
        return f" Nothing is left of it after files.skip_lines = {skipped}."
    if not len(file.schema()):
        return " The file is empty: it has neither a header nor rows."
    if file.format != "csv" or not wanted:
        return ""
    blocks = utf8_blocks(file.path, file.member, file.layout.encoding, _BYTES, _BYTES)
    try:
        start = next(blocks, b"").decode("utf8", "replace")
    finally:
        blocks.close()
    delimiters = dict.fromkeys([*([file.layout.delimiter or ","]), *_DELIMITERS])
    for number, line in enumerate(islice(start.splitlines(), _LINES)):
        if any(set(wanted) <= set(_fields(line, each, file)) for each in delimiters):
            if number > skipped:
                return f" Line {number + 1} looks like the header: set files.skip_lines = {number}."
            return ""
    return ""


def _fields(line: str, delimiter: str, file: TableFile) -> list[str]:
    if len(delimiter) > 1:
        return line.split(delimiter)
    quote = file.layout.quote or '"'
    return next(csv.reader([line], delimiter=delimiter, quotechar=quote), [])
