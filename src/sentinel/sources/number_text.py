"""Numbers of attributes, as the mapping says that text writes them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sentinel.sources.amount_text import without_groups
from sentinel.sources.columns import NUMBER_PATTERN, flat, is_text, mask_of, number_column

BoolMask = npt.NDArray[np.bool_]


def read_numbers(
    column: pa.Array | pa.ChunkedArray, decimal_point: str = ".", thousands: str = ""
) -> tuple[pa.Array, BoolMask]:
    """Numbers as float64, and a mask of what is there but is none; see `number_column`.

    Columns that are no text need no separators. Text with another point than the declared one is
    no number: with ``,`` as the point, ``1.234`` may be more than a thousand.

    Args:
        column: Of any type.
        decimal_point, thousands: Of text.

    >>> values, bad = read_numbers(pa.array(["-12,5", "1.234,5", "7", "1.5", "", None]), ",")
    >>> values.to_pylist(), bad.tolist()
    ([-12.5, 1234.5, 7.0, None, None, None], [False, False, False, True, False, False])
    """
    values = flat(column)
    if not is_text(values.type) or (decimal_point == "." and not thousands):
        return number_column(values)
    text = pc.utf8_trim_whitespace(pc.cast(values, pa.string()))
    digits, fine = without_groups(
        pc.replace_substring_regex(text, "^[+-]", ""), decimal_point, thousands
    )
    below = pc.starts_with(text, "-")
    signed = pc.if_else(below, pc.binary_join_element_wise("-", digits, ""), digits)
    misread = mask_of(pc.match_substring_regex(text, NUMBER_PATTERN)) & ~fine
    plain = pc.if_else(pa.array(fine), signed, text)
    numbers, bad = number_column(pc.if_else(pa.array(misread), pa.scalar(None, pa.string()), plain))
    return numbers, bad | misread
