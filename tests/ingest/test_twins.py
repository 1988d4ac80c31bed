"""A value alone and the same value in a column become the same."""

from __future__ import annotations

import datetime as dt
import decimal
import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sentinel.ingest.card_columns import ColumnJudge, shaped_and_right
from sentinel.ingest.cards import holds_card_number, is_card_value, looks_at_cards
from sentinel.ingest.columns import (
    category_column,
    id_column,
    id_flaws,
    number_column,
    text_flaws,
)
from sentinel.ingest.guard import Guard
from sentinel.ingest.tokens import TokenField, TokenRules, Tokens
from sentinel.ingest.values import (
    BadValue,
    attribute_of,
    id_of,
    normal_category,
    number_of,
    text_flaw,
)
from tests.ingest.nasty import floats, text

TOKENS = Tokens(b"a secret of sixteen")
GUARDS = [
    Guard(),
    Guard(TokenRules({name: TokenField() for name in ("card_id", "ip_address")}), TOKENS),
]


def one(read: Callable[..., Any], *given: Any) -> Any:
    """What a scalar reader says: a value, or what is wrong."""
    try:
        return read(*given)
    except BadValue as error:
        return error.flaw


def column_says(guard: Guard, field: str, column: pa.Array) -> list[Any]:
    ids, flaws = guard.id_column(field, [column])
    said: list[Any] = ids.to_pylist()
    for flaw, rows in reversed(flaws):
        for row in np.flatnonzero(rows):
            said[row] = flaw
    return said


@given(st.lists(text, max_size=8), st.sampled_from(["card_id", "ip_address"]))
@example([" 4111111111111111", "4111.1111.1111.1111", "4111111111111111=2912"], "card_id")
@example(["0" * 127 + ".0", "0" * 20 + "17.0", "9" * 200], "card_id")
def test_ids_as_text(texts: list[str], field: str) -> None:
    for guard in GUARDS:
        singles = [one(guard.id, field, t) for t in texts]
        assert column_says(guard, field, pa.array(texts, pa.string())) == singles


@given(st.lists(floats, max_size=8))
def test_ids_that_were_decimal_numbers(numbers: list[float]) -> None:
    guard = GUARDS[0]
    singles = [one(guard.id, "card_id", n) for n in numbers]
    assert column_says(guard, "card_id", pa.array(numbers, pa.float64())) == singles
    with np.errstate(over="ignore"):
        short = np.array(numbers, np.float32)
    singles = [one(guard.id, "card_id", n) for n in short]
    assert column_says(guard, "card_id", pa.array(short)) == singles


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1234567890123456789, -5, 0, None], pa.int64()),
        ([2**64 - 1, 17], pa.uint64()),
        ([True, False, None], pa.bool_()),
        ([decimal.Decimal("1001.00"), decimal.Decimal("0.50")], pa.decimal128(38, 2)),
        ([decimal.Decimal(12345678901234567890123456789), None], pa.decimal128(38, 0)),
        ([b"\x01\xff", None], pa.binary()),
        ([dt.date(2024, 3, 1)], pa.date32()),
        ([uuid.UUID(int=2**127 + 5), None], pa.uuid()),
        (["a", "a ", None], pa.large_string()),
        ([None, None], pa.null()),
    ],
)
def test_ids_of_any_type(values: list[Any], kind: pa.DataType) -> None:
    column = (
        pa.array([None if v is None else v.bytes for v in values], pa.uuid())
        if kind == pa.uuid()
        else pa.array(values, kind)
    )
    singles = [id_of(value) for value in values]
    assert id_column(column).to_pylist() == singles
    assert id_column(pa.chunked_array([column])).to_pylist() == singles
    assert not list(id_flaws(id_column(column)))


@given(st.lists(text, max_size=8))
def test_categories_as_text(texts: list[str]) -> None:
    column = category_column(pa.array(texts, pa.string()))
    assert column.to_pylist() == [normal_category(t) or None for t in texts]
    bad = np.zeros(len(texts), np.bool_)
    for _, rows in text_flaws(column):
        bad |= rows
    assert bad.tolist() == [text_flaw(normal_category(t)) is not None for t in texts]


@given(st.lists(floats, max_size=8))
def test_categories_that_were_numbers(numbers: list[float]) -> None:
    column = category_column(pa.array(numbers, pa.float64()))
    assert column.to_pylist() == [None if n != n else attribute_of(n, "category") for n in numbers]


@given(st.lists(text, max_size=8))
def test_numbers_as_text(texts: list[str]) -> None:
    values, bad = number_column(pa.array(texts, pa.string()))
    for said, wrong, single in zip(values.to_pylist(), bad.tolist(), texts, strict=True):
        alone = one(number_of, single)
        if wrong:
            assert isinstance(alone, tuple)
        else:
            assert repr(said) == repr(alone)


@given(st.lists(text, max_size=8))
def test_card_numbers_as_text(texts: list[str]) -> None:
    column = pa.array(texts, pa.string())
    shaped, right = shaped_and_right(column)
    assert right.tolist() == [holds_card_number(t) for t in texts]
    assert list(zip(shaped.tolist(), right.tolist(), strict=True)) == [
        looks_at_cards(t) for t in texts
    ]


@given(st.lists(st.one_of(floats, st.integers(10**12, 2**53).map(float)), max_size=8))
@example([4111111111111111.0, 4111111111111112.0, -4111111111111111.0, 378282246310005.0])
def test_card_numbers_as_numbers(numbers: list[float]) -> None:
    right = shaped_and_right(pa.array(numbers, pa.float64()))[1]
    assert right.tolist() == [
        n == n and abs(n) != float("inf") and is_card_value(n) for n in numbers
    ]


def test_one_reference_in_ten_looks_like_a_card_and_loses_nothing() -> None:
    for first in (4_000_000_000_000_000, 4_837_261_958_372_615):
        for rows in (4, 10, 1_000, 20_000):
            ids = pa.array([str(first + 7 * i) for i in range(rows)])
            judge = ColumnJudge()
            found = judge.judge(ids)
            assert not found.any(), (first, rows, judge.shaped, judge.right)


@pytest.mark.parametrize("others", [0, 1, 5, 30])
def test_card_numbers_among_tokens_are_found(others: int) -> None:
    ids = ["4111111111111111", *(f"tok-{i}" for i in range(others))]
    assert ColumnJudge().judge(pa.array(ids)).tolist() == [True, *[False] * others]


def test_card_numbers_with_a_slip_among_them_are_found() -> None:
    ids = pa.array(["4111111111111111", "5555 5555 5555 4444", "4111111111111112"])
    assert ColumnJudge().judge(ids).tolist() == [True, True, False]
