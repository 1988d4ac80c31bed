"""Words in columns: those that mean "nothing", true or false, and how often each is there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from sentinel.ingest.values import NOTHING_SPELLINGS, NOTHING_WORDS
from sentinel.sources.columns import category_column, is_text

__all__ = ["NOTHING_WORDS", "boolean_column", "counted", "nothing_words"]

_SPELLINGS: Final = pa.array(sorted(NOTHING_SPELLINGS))


def nothing_words(values: pa.Array) -> pa.Array:
    """The values that are words for "nothing"; null elsewhere, and in columns without text.

    >>> nothing_words(pa.array(["d7", "NA", " null", None])).to_pylist()
    [None, 'NA', 'null', None]
    """
    nothing = pa.scalar(None, pa.string())
    if not is_text(values.type):
        return pa.nulls(len(values), pa.string())
    text = pc.utf8_trim_whitespace(values)
    return pc.if_else(pc.is_in(text, _SPELLINGS), text, nothing)


def counted(values: pa.Array) -> dict[str, int]:
    """How many rows hold each text; nulls are left out.

    >>> counted(pa.array(["a", None, "a"]))
    {'a': 2}
    """
    if values.null_count == len(values):
        return {}
    pairs: Sequence[dict[str, object]] = pc.value_counts(values.drop_null()).to_pylist()
    return {str(pair["values"]): int(str(pair["counts"])) for pair in pairs}


TRUE_WORDS: Final = ("true", "t", "yes", "y", "on", "1")
FALSE_WORDS: Final = ("false", "f", "no", "n", "off", "0")


def boolean_column(values: pa.Array) -> tuple[pa.Array, dict[str, int]]:
    """Truth as the categories "true" and "false", and the words that are neither.

    >>> truth, strange = boolean_column(pa.array(["Yes", "no", "maybe", None]))
    >>> truth.to_pylist(), strange
    (['true', 'false', None, None], {'maybe': 1})
    """
    words = pc.utf8_lower(category_column(values))
    yes, no = pc.is_in(words, pa.array(TRUE_WORDS)), pc.is_in(words, pa.array(FALSE_WORDS))
    nothing = pa.scalar(None, pa.string())
    truth = pc.if_else(yes, "true", pc.if_else(no, "false", nothing))
    return truth, counted(pc.if_else(pc.is_null(truth), words, nothing))
