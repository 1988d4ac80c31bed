"""Rows as a file has them, and the lines that are no rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

RowNumbers = npt.NDArray[np.int64]

_SHOWN_CHARACTERS = 2000


@dataclass(frozen=True)
class MalformedLine:
    """A record of a file that is no row of its table.

    Attributes:
        row: Its number, counted from 1 without header.
        line: Its line in the file, counted from 1; 0 = unknown.
        text: What it says, at most 2,000 characters.
        reason: What is wrong with it.
    """

    row: int
    line: int
    text: str
    reason: str

    @classmethod
    def of(cls, row: int, line: int, text: bytes | str, reason: str) -> MalformedLine:
        """The same, of a text of any length."""
        if isinstance(text, bytes):
            text = text[: 4 * _SHOWN_CHARACTERS].decode("utf8", "replace")
        text = text.rstrip("\r\n")[:_SHOWN_CHARACTERS]
        return cls(row, line, text, reason)


@dataclass(frozen=True)
class RawBlock:
    """Rows as the file has them, and the records that are no rows of the table.

    Attributes:
        rows: The readable rows.
        row_numbers: int64, counted from 1 without header.
        malformed: What stands between them and is no row.
    """

    rows: pa.RecordBatch
    row_numbers: RowNumbers
    malformed: tuple[MalformedLine, ...] = ()


def cut(
    rows: pa.RecordBatch,
    numbers: RowNumbers,
    malformed: tuple[MalformedLine, ...],
    chunk_rows: int,
) -> list[RawBlock]:
    """Blocks of at most ``chunk_rows`` rows; the malformed lines go with the first one."""
    if not rows.num_rows:
        return [RawBlock(rows, numbers, malformed)] if malformed else []
    return [
        RawBlock(
            rows.slice(start, chunk_rows),
            numbers[start : start + chunk_rows],
            () if start else malformed,
        )
        for start in range(0, rows.num_rows, chunk_rows)
    ]
