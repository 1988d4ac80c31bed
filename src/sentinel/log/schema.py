"""The columnar form of the log: one Arrow schema for everything that reads or writes it in bulk.

A log batch is a ``pyarrow.RecordBatch`` whose rows are log entries in log order: transactions,
labels and voids together. A row's ``sequence`` is the batch's first sequence plus its row number.

Columns that are always there (see ``LOG_SCHEMA``); those of the other kinds are null:

    kind             int8     0 = transaction, 1 = label, 2 = void (see `sentinel.domain.Void`)
    transaction_id   string
    received_at_us   int64    when Sentinel learnt of the entry; never decreases along the log
    event_time_us    int64    transactions
    amount_minor     int64    transactions
    customer_id ... ip_address  string, transactions; null = unknown
    label_id, verdict, origin   string, labels; verdict is "fraud" or "legitimate"

two that only batches have which need them:

    arrived_at_us               int64; when an imported entry arrived at its source, where that was
                                before the end of the log, so that received_at_us was raised to it;
                                null = at received_at_us
    untracked                   string, transactions; entities whose records do not hold it, each as
                                its keys with + between (card_id, customer_id+merchant_id; names of
                                views in older logs), with commas between; null = none, as
                                everywhere without it

and then any number of attribute columns named ``attributes.NAME``, of type ``string`` (a
category) or ``float64`` (a number), null = not given. Attribute columns may differ from batch
to batch.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from sentinel.domain import ENTITY_COLUMNS

KIND_TRANSACTION: Final = 0
KIND_LABEL: Final = 1
KIND_VOID: Final = 2

ATTRIBUTE_PREFIX: Final = "attributes."

ARRIVED: Final = "arrived_at_us"
UNTRACKED: Final = "untracked"
UNTRACKED_SEPARATOR: Final = ","

LOG_SCHEMA: Final = pa.schema(
    [
        pa.field("kind", pa.int8(), nullable=False),
        pa.field("transaction_id", pa.string(), nullable=False),
        pa.field("received_at_us", pa.int64(), nullable=False),
        pa.field("event_time_us", pa.int64()),
        pa.field("amount_minor", pa.int64()),
        *(pa.field(name, pa.string()) for name in ENTITY_COLUMNS),
        pa.field("label_id", pa.string()),
        pa.field("verdict", pa.string()),
        pa.field("origin", pa.string()),
    ]
)


def attribute_columns(schema: pa.Schema) -> tuple[str, ...]:
    """Names of the attribute columns of a log batch, without their prefix, in column order."""
    return tuple(
        name.removeprefix(ATTRIBUTE_PREFIX)
        for name in schema.names
        if name.startswith(ATTRIBUTE_PREFIX)
    )
