"""A payment that is imported and the same payment sent are the same bytes in the log."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sentinel.api.routes.payment_bodies import ReadingRules
from sentinel.api.routes.payment_reading import read_payment
from sentinel.domain import ENTITY_COLUMNS, InvalidTransaction, Transaction
from sentinel.ingest.guard import Guard
from sentinel.ingest.tokens import TokenRules
from sentinel.log.schema import ATTRIBUTE_PREFIX
from sentinel.sources import log_batches
from sentinel.sources.mapping import MappingSource
from sentinel.sources.mapping_file import parse_mapping
from tests.ingest.nasty import text

AT_US = 1_700_000_000_000_000
NOW_US = 1_800_000_000_000_000

# One look at one value and one look at a column may differ over card numbers, and over nothing
# else: these fields are said to hold none.
KINDS: dict[str, tuple[pa.DataType, str | None]] = {
    "word": (pa.string(), "category"),
    "note": (pa.string(), None),
    "said_number": (pa.string(), "number"),
    "mcc": (pa.int64(), "category"),
    "ratio": (pa.float64(), "category"),
    "count": (pa.int64(), None),
    "score": (pa.float64(), "number"),
    "plain": (pa.float64(), None),
    "present": (pa.bool_(), "category"),
    "flag": (pa.bool_(), "number"),
    "seen": (pa.bool_(), None),
}
EXEMPT = ("transaction_id", *ENTITY_COLUMNS, *(ATTRIBUTE_PREFIX + name for name in KINDS))
READING = ReadingRules(
    frozenset(name for name, (_, kind) in KINDS.items() if kind == "number"),
    frozenset(name for name, (_, kind) in KINDS.items() if kind == "category"),
    Guard(TokenRules(exempt=EXEMPT)),
)
MAPPING = {
    "name": "shop",
    "files": {"path": "payments.parquet"},
    "id": "ref",
    "time": {"column": "at", "format": "epoch", "unit": "us"},
    "amount": {"column": "amount", "unit": "minor"},
    "entities": {name: name for name in ENTITY_COLUMNS},
    "attributes": {
        "include": list(KINDS),
        "exempt": ["ref", *ENTITY_COLUMNS, *KINDS],
        "types": {name: kind for name, (_, kind) in KINDS.items() if kind} | {"note": "category"},
    },
}
numbers = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from(
    [0.0, 5411.0, -0.0, 2.0**53, 1e22, 0.1]
)
VALUES: dict[pa.DataType, st.SearchStrategy[Any]] = {
    pa.string(): text,
    pa.int64(): st.integers(-(2**53), 2**53),
    pa.float64(): numbers,
    pa.bool_(): st.booleans(),
}
rows = st.fixed_dictionaries(
    {
        "ref": st.tuples(text, st.uuids()).map(lambda parts: f"{parts[1]}{parts[0]}") | text,
        "amount": st.integers(-(10**12), 10**12),
        **{name: st.none() | text for name in ENTITY_COLUMNS},
        **{name: st.none() | VALUES[kind] for name, (kind, _) in KINDS.items()},
    }
)


def imported(folder: Path, payments: list[dict[str, Any]]) -> dict[str, Transaction]:
    """What an import makes of payments, by id; those that it rejects are not there."""
    kinds = {"ref": pa.string(), "amount": pa.int64()}
    kinds |= {name: pa.string() for name in ENTITY_COLUMNS}
    kinds |= {name: kind for name, (kind, _) in KINDS.items()}
    table = pa.table(
        {name: pa.array([p[name] for p in payments], kind) for name, kind in kinds.items()}
    ).append_column("at", pa.array([AT_US] * len(payments)))
    pq.write_table(table, folder / "payments.parquet")
    source = MappingSource(parse_mapping(MAPPING, "test"), folder)
    found = {}
    for batch in log_batches(source, now_us=NOW_US):
        for row in batch.to_pylist():
            attributes = {
                name: row[ATTRIBUTE_PREFIX + name]
                for name in KINDS
                if row.get(ATTRIBUTE_PREFIX + name) is not None
            }
            fields = {name: row[name] for name in Transaction.__struct_fields__[:-1]}
            found[row["transaction_id"]] = Transaction(**fields, attributes=attributes)
    return found


def sent(payment: dict[str, Any]) -> Transaction | None:
    """What the API makes of a payment; None if it refuses it."""
    body = {
        "transaction_id": payment["ref"],
        "amount_minor": payment["amount"],
        **{name: payment[name] for name in ENTITY_COLUMNS if (payment[name] or "").strip()},
        "attributes": {name: payment[name] for name in KINDS},
    }
    try:
        return read_payment(json.dumps(body).encode(), AT_US, READING)
    except InvalidTransaction:
        return None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("payments")


@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(payments=st.lists(rows, min_size=1, max_size=25))
def test_imported_and_sent_are_equal_bytes(folder: Path, payments: list[dict[str, Any]]) -> None:
    live = [sent(payment) for payment in payments]
    by_id: dict[str, Transaction] = {}
    for transaction in live:
        if transaction is not None:
            by_id.setdefault(transaction.transaction_id, transaction)
    history = imported(folder, payments)
    assert history.keys() == by_id.keys()
    for identifier, transaction in by_id.items():
        assert msgspec.msgpack.encode(history[identifier]) == msgspec.msgpack.encode(transaction)
