"""Reading the payload of an IMPORT group. Loaded only where such a group turns up."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from sentinel.domain import ENTITY_COLUMNS, Label, Transaction, Verdict
from sentinel.log.entries import Group
from sentinel.log.schema import ATTRIBUTE_PREFIX, KIND_LABEL
from sentinel.spare_time import Between, go_on

_TRANSACTION_COLUMNS = (
    "transaction_id",
    "event_time_us",
    "received_at_us",
    "amount_minor",
    *ENTITY_COLUMNS,
)
_LABEL_COLUMNS = ("label_id", "transaction_id", "verdict", "received_at_us", "origin")

_LISTED_AT_ONCE: Final = 64


def read_import(group: Group, columns: Collection[str] | None = None) -> pa.RecordBatch:
    """The log batch of an IMPORT group, its rows received when the log says so.

    Args:
        group: The group.
        columns: Columns to decode, and with them ``received_at_us``; None: all.
    """
    with pa.ipc.open_stream(group.payload) as reader:
        names = reader.schema.names
        if columns is None or set(names) <= set(columns):
            batch = reader.read_next_batch()
        else:
            wanted = {*columns, "received_at_us"}
            fields = [place for place, name in enumerate(names) if name in wanted]
            options = pa.ipc.IpcReadOptions(included_fields=fields)
            with pa.ipc.open_stream(group.payload, options=options) as few:
                batch = few.read_next_batch()
    batch = batch.replace_schema_metadata(None)
    if group.floor_us == 0 or batch.column("received_at_us")[0].as_py() >= group.floor_us:
        return batch
    at = batch.schema.get_field_index("received_at_us")
    raised = pc.max_element_wise(batch.column(at), pa.scalar(group.floor_us, pa.int64()))
    return batch.set_column(at, batch.schema.field(at), raised)


def imported_rows(
    group: Group,
) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
    """The index rows of an IMPORT group.

    Returns:
        Transactions (sequence, transaction_id, event_time_us, received_at_us, amount_minor,
        entity ids) and labels (sequence, label_id, transaction_id, verdict, received_at_us,
        origin).
    """
    batch = read_import(group)
    is_label = batch.column("kind").to_numpy(zero_copy_only=False) == KIND_LABEL
    if not is_label.any():
        return list(_rows(batch, group.first_sequence, None, _TRANSACTION_COLUMNS)), []
    transactions = _rows(batch, group.first_sequence, ~is_label, _TRANSACTION_COLUMNS)
    labels = _rows(batch, group.first_sequence, is_label, _LABEL_COLUMNS)
    return list(transactions), list(labels)


def _rows(
    batch: pa.RecordBatch, first_sequence: int, mask: Any, names: tuple[str, ...]
) -> Iterator[tuple[Any, ...]]:
    columns = batch.select(list(names))
    sequences = range(first_sequence, first_sequence + batch.num_rows)
    if mask is not None:
        columns = columns.filter(pa.array(mask))
        sequences = (first_sequence + mask.nonzero()[0]).tolist()
    # Through NumPy: several times quicker than to_pylist, and null becomes None for text.
    values = [column.to_numpy(zero_copy_only=False).tolist() for column in columns.columns]
    return zip(sequences, *values, strict=True)


def imported_entries(group: Group) -> Iterator[Transaction | Label]:
    """The entries of an IMPORT group in log order, transactions with their attributes."""
    return batch_entries(read_import(group))


def batch_entries(batch: pa.RecordBatch) -> Iterator[Transaction | Label]:
    """The entries of a log batch in order, transactions with their attributes."""
    names = batch.schema.names
    attributes = [name for name in names if name.startswith(ATTRIBUTE_PREFIX)]
    for values in batch.to_pylist():
        if values["kind"] == KIND_LABEL:
            yield Label(
                label_id=values["label_id"],
                transaction_id=values["transaction_id"],
                verdict=Verdict(values["verdict"]),
                received_at_us=values["received_at_us"],
            )
            continue
        given = {
            name.removeprefix(ATTRIBUTE_PREFIX): values[name]
            for name in attributes
            if values[name] is not None
        }
        fields = {name: values[name] for name in _TRANSACTION_COLUMNS}
        yield Transaction(**fields, attributes=given)


def imported_transaction(group: Group, row: int) -> Transaction:
    """One transaction of an IMPORT group, with its attributes.

    Args:
        group: The group.
        row: Its row in the group's batch, from 0.
    """
    return imported_transactions(group, [row])[0]


def imported_transactions(
    group: Group, rows: Sequence[int], between: Between = go_on
) -> list[Transaction]:
    """Some transactions of an IMPORT group, with their attributes; the group is decoded once.

    Args:
        group: The group.
        rows: Their rows in the group's batch, from 0.
        between: Called between two pieces of the work.
    """
    found = []
    taken = read_import(group).take(pa.array(rows, pa.int64()))
    # Arrow lets no other thread run Python while it makes a list, so it makes short ones.
    for first in range(0, len(rows), _LISTED_AT_ONCE):
        for values in taken.slice(first, _LISTED_AT_ONCE).to_pylist():
            attributes = {
                name.removeprefix(ATTRIBUTE_PREFIX): value
                for name, value in values.items()
                if name.startswith(ATTRIBUTE_PREFIX) and value is not None
            }
            known = {name: values[name] for name in _TRANSACTION_COLUMNS}
            found.append(Transaction(**known, attributes=attributes))
        between()
    return found
