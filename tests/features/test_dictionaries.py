"""Dictionaries of categories depend on the log alone."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from sentinel.domain import Transaction
from sentinel.features.plan.dictionaries import learn_dictionaries
from tests.features.logs import batches_of

VALUES = st.sampled_from(["a", "b", "5411", 5411.0, 0.5, None])


def _transaction(number: int, value: str | float | None) -> Transaction:
    return Transaction(
        transaction_id=f"t{number}",
        event_time_us=number,
        received_at_us=number,
        amount_minor=1,
        merchant_id="m1" if number % 2 else None,
        attributes={} if value is None else {"mcc": value},
    )


@given(st.lists(VALUES, max_size=30), st.lists(st.integers(0, 30), max_size=3), st.integers(1, 3))
def test_most_frequent_first_then_by_the_alphabet_however_the_log_is_cut(
    values: list[str | float | None], cuts: list[int], most: int
) -> None:
    # A batch's attribute column is of one type, so texts and numbers are cut apart.
    log = [_transaction(i, value) for i, value in enumerate(values)]
    apart = [i for i in range(1, len(values)) if type(values[i]) is not type(values[i - 1])]
    batches = batches_of(log, [*cuts, *apart])
    texts = ["5411" if v == 5411.0 else str(v) for v in values if v is not None]
    by_hand = sorted(set(texts), key=lambda text: (-texts.count(text), text))
    assert learn_dictionaries(batches, ["mcc"], max_categories=most) == {
        "mcc": tuple(by_hand[:most])
    }


def test_identifiers_can_be_categories() -> None:
    batches = batches_of([_transaction(i, None) for i in range(5)])
    assert learn_dictionaries(batches, ["merchant_id", "mcc"]) == {
        "merchant_id": ("m1",),
        "mcc": (),
    }
    assert learn_dictionaries(list[pa.RecordBatch](), ["mcc"]) == {"mcc": ()}
