"""Log entries as Arrow batches, and vectors as bits."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sentinel.domain import ENTITY_COLUMNS, Entry, Label, Transaction, Void
from sentinel.log.schema import (
    ATTRIBUTE_PREFIX,
    KIND_LABEL,
    KIND_TRANSACTION,
    KIND_VOID,
    LOG_SCHEMA,
    UNTRACKED,
    UNTRACKED_SEPARATOR,
)
from testkit.oracle import Value

Bits = npt.NDArray[np.uint32]

_KINDS: Final = {Label: KIND_LABEL, Void: KIND_VOID}


def batch_of(entries: Sequence[Entry]) -> pa.RecordBatch:
    """A log batch; attributes that no entry has get no column."""
    columns: dict[str, list[object]] = {name: [] for name in LOG_SCHEMA.names}
    names: dict[str, None] = {}
    for entry in entries:
        known = {name: getattr(entry, name, None) for name in LOG_SCHEMA.names}
        known["kind"] = _KINDS.get(type(entry), KIND_TRANSACTION)
        for name, value in known.items():
            columns[name].append(value)
        if isinstance(entry, Transaction):
            names.update(dict.fromkeys(entry.attributes))
    arrays = [pa.array(columns[item.name], item.type) for item in LOG_SCHEMA]
    schema = LOG_SCHEMA
    if any(isinstance(entry, Transaction) and entry.untracked for entry in entries):
        views = [UNTRACKED_SEPARATOR.join(getattr(entry, "untracked", ())) for entry in entries]
        arrays.append(pa.array([some or None for some in views], pa.string()))
        schema = schema.append(pa.field(UNTRACKED, pa.string()))
    for name in names:
        values = [
            entry.attributes.get(name) if isinstance(entry, Transaction) else None
            for entry in entries
        ]
        text = any(isinstance(value, str) for value in values)
        arrays.append(pa.array(values, pa.string() if text else pa.float64()))
        schema = schema.append(pa.field(ATTRIBUTE_PREFIX + name, arrays[-1].type))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def batches_of(entries: Sequence[Entry], cuts: Iterable[int] = ()) -> list[pa.RecordBatch]:
    """A log as batches, cut before the entries with those numbers."""
    edges = sorted({0, len(entries), *(cut for cut in cuts if 0 < cut < len(entries))})
    return [batch_of(entries[a:b]) for a, b in itertools.pairwise(edges)]


def keys_of(transaction: Transaction) -> dict[str, str]:
    """The known identifiers of a transaction."""
    return {
        column: value
        for column in ENTITY_COLUMNS
        if (value := getattr(transaction, column)) is not None
    }


def bits_of(vectors: npt.NDArray[np.float32]) -> Bits:
    """The bit patterns of float32 values, one pattern for all NaNs."""
    bits = np.ascontiguousarray(vectors, dtype=np.float32).view(np.uint32).copy()
    bits[np.isnan(vectors)] = 0x7FC00000
    return bits


def bits_of_values(vectors: Sequence[Sequence[Value]], n_features: int) -> Bits:
    """The same of an oracle's answers."""
    numbers = [[np.nan if v is None else v for v in vector] for vector in vectors]
    with np.errstate(over="ignore"):
        return bits_of(np.array(numbers, dtype=np.float32).reshape(len(vectors), n_features))
