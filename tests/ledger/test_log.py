"""The log reads as it was written, whatever groups it came in."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sentinel.domain import AttributeValue, Entry, InputError, Transaction
from sentinel.ledger.base import Ledger
from sentinel.ledger.log import MOST_ATTRIBUTES, append_import, read_log
from sentinel.log.entries import GroupKind
from sentinel.log.schema import LOG_SCHEMA, attribute_columns
from tests.features.logs import batch_of
from tests.ledger.backends import Backend
from tests.ledger.material import (
    NOON_US,
    append_all,
    append_decisions,
    append_history,
    append_labels,
    entries_from,
    label,
    logs,
    transaction,
)

Drawn = list[tuple[GroupKind, list[Entry]]]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=logs(), max_rows=st.integers(1, 8), data=st.data())
def test_entries_come_back_as_they_went_in(
    backend: Backend, drawn: Drawn, max_rows: int, data: st.DataObject
) -> None:
    with backend.empty() as ledger:
        entries = append_all(ledger, drawn)
        after = data.draw(st.integers(0, len(entries)))
        until = data.draw(st.one_of(st.none(), st.integers(0, len(entries) + 1)))
        read = []
        for first_sequence, batch in read_log(ledger, after, until, max_rows):
            assert 1 <= batch.num_rows <= max_rows
            assert batch.schema.names[: len(LOG_SCHEMA)] == LOG_SCHEMA.names
            read += entries_from(first_sequence, batch)
    expected = list(enumerate(entries, start=1))
    last = len(entries) if until is None else until
    assert read == [(sequence, e) for sequence, e in expected if after < sequence <= last]


def test_small_groups_are_joined(ledger: Ledger) -> None:
    for i in range(20):
        append_decisions(ledger, [transaction(i, NOON_US + i)])
        if i % 5 == 0:
            append_labels(ledger, [label(i, f"tx-{i}", NOON_US + i)])
    batches = list(read_log(ledger))
    assert [batch.num_rows for _, batch in batches] == [24]


def test_payments_that_name_ever_other_attributes_make_no_wide_batches(ledger: Ledger) -> None:
    payments = []
    for i in range(7):
        attributes: dict[str, AttributeValue] = {f"a{i}_{n}": float(n) for n in range(400)}
        payments.append(transaction(i, NOON_US + i, attributes=attributes | {"mcc": 1.0}))
    append_decisions(ledger, payments)
    found = []
    for first_sequence, batch in read_log(ledger):
        assert len(attribute_columns(batch.schema)) <= MOST_ATTRIBUTES
        found += [entry for _, entry in entries_from(first_sequence, batch)]
    assert found == payments


def test_a_large_import_is_read_in_parts(ledger: Ledger) -> None:
    append_history(ledger, [transaction(i, NOON_US + i) for i in range(25)])
    parts = [(first, batch.num_rows) for first, batch in read_log(ledger, max_rows=10)]
    assert parts == [(1, 10), (11, 10), (21, 5)]


def test_a_number_stays_a_number_beside_text_of_the_same_name(ledger: Ledger) -> None:
    values: list[str | float | None] = [1.0, None, 2.5, "seven", None, 3.0]
    append_decisions(
        ledger,
        [transaction(i, NOON_US, attributes={"x": v}) for i, v in enumerate(values)],
    )
    columns = [batch.column("attributes.x") for _, batch in read_log(ledger)]
    assert [column.to_pylist() for column in columns] == [[1.0, None, 2.5], ["seven", None], [3.0]]
    assert [column.type for column in columns] == [pa.float64(), pa.string(), pa.float64()]


def test_history_enters_a_running_log_at_its_end(ledger: Ledger) -> None:
    append_decisions(ledger, [transaction(1, NOON_US)])
    late = [transaction(i, NOON_US - 10 + i, event_time_us=i) for i in range(2, 15)]
    imported = append_history(ledger, late)
    rows = [e for first, b in read_log(ledger, after=1) for _, e in entries_from(first, b)]
    assert imported.first_sequence == 2
    assert imported.clamped == 8
    assert [e.received_at_us - NOON_US for e in rows] == [0] * 9 + [1, 2, 3, 4]
    assert [e.event_time_us for e in rows if isinstance(e, Transaction)] == list(range(2, 15))


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (pa.RecordBatch.from_pylist([], LOG_SCHEMA), "empty"),
        (batch_of([transaction(1, 5), transaction(2, 4)]), "received_at_us decreases"),
        (batch_of([transaction(1, 5)]).drop_columns(["ip_address"]), "no column 'ip_address'"),
        (
            batch_of([transaction(1, 5)]).append_column("mcc", pa.array([1.0])),
            "name it attributes.mcc",
        ),
        (
            batch_of([transaction(1, 5)]).append_column("attributes.n", pa.array([1])),
            "'attributes.n' is int64; attributes are string or double",
        ),
        (
            batch_of([transaction(1, 5)]).set_column(
                4, LOG_SCHEMA.field(4), pa.array([None], pa.int64())
            ),
            "'amount_minor' has nulls; every transaction needs one",
        ),
        (
            batch_of([label(1, "tx-1", 5)]).set_column(
                LOG_SCHEMA.get_field_index("verdict"), "verdict", pa.array([None], pa.string())
            ),
            "'verdict' has nulls; every label needs one",
        ),
        (
            batch_of([transaction(1, 5)]).set_column(
                0, LOG_SCHEMA.field(0), pa.array([2], pa.int8())
            ),
            "'kind' is 0",
        ),
    ],
)
def test_a_batch_that_is_no_log_is_refused_whole(
    ledger: Ledger, batch: pa.RecordBatch, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        append_import(ledger, batch)
    assert ledger.last_sequence() == 0


def test_a_reader_follows_the_log(backend: Backend, ledger: Ledger) -> None:
    append_history(ledger, [transaction(1, NOON_US)])
    with backend.open_reader() as reader:
        assert [first for first, _ in read_log(reader)] == [1]
        append_decisions(ledger, [transaction(2, NOON_US)])
        assert [first for first, _ in read_log(reader, after=1)] == [2]
