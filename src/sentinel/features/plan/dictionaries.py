"""Dictionaries of categories, learned from the log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from sentinel.domain import ENTITY_COLUMNS
from sentinel.ingest.values import as_text
from sentinel.log.schema import ATTRIBUTE_PREFIX

MAX_CATEGORIES: Final = 100


def learn_dictionaries(
    batches: Iterable[pa.RecordBatch],
    columns: Sequence[str],
    *,
    max_categories: int = MAX_CATEGORIES,
) -> dict[str, tuple[str, ...]]:
    """The most frequent values of categorical columns.

    The same log gives the same dictionaries, however it is cut into batches: most frequent
    first, ties in alphabetical order, missing values not counted.

    Args:
        batches: Log batches (see `sentinel.log.schema`).
        columns: Attributes or identifiers, see `category_columns`.
        max_categories: Rarer values than the first so many share the code for unknown ones.

    >>> batch = pa.RecordBatch.from_pydict({"attributes.channel": ["pos", "web", "web", None]})
    >>> learn_dictionaries([batch], ["channel", "country"])
    {'channel': ('web', 'pos'), 'country': ()}
    """
    counts: dict[str, Counter[str]] = {column: Counter() for column in columns}
    for batch in batches:
        for column, counter in counts.items():
            name = column if column in ENTITY_COLUMNS else ATTRIBUTE_PREFIX + column
            at = batch.schema.get_field_index(name)
            if at < 0:
                continue
            for entry in pc.value_counts(batch.column(at)).to_pylist():
                if entry["values"] is not None:
                    counter[as_text(entry["values"])] += entry["counts"]
    return {column: _most_frequent(counter, max_categories) for column, counter in counts.items()}


def _most_frequent(counter: Counter[str], most: int) -> tuple[str, ...]:
    return tuple(sorted(counter, key=lambda value: (-counter[value], value))[:most])
