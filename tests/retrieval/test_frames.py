"""Data frames of every type ask by the same ids as payments and imports have."""

from __future__ import annotations

import decimal
import uuid
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sentinel.domain import InvalidQuery
from sentinel.features.plan.parts import RequestFeature
from sentinel.features.plan.plan import Plan
from sentinel.ingest.guard import Guard
from sentinel.ingest.tokens import TokenField, TokenRules, Tokens
from sentinel.retrieval.entity_frame import rows_as_of
from sentinel.retrieval.frame_values import arrow_table

AT = pd.Timestamp("2024-03-10 10:00", tz="UTC")
PLAN = Plan(
    views=(),
    request=(
        RequestFeature("mcc", "category", "mcc"),
        RequestFeature("present", "category", "present"),
        RequestFeature("age", "number", "age"),
    ),
)
LONG = 1234567890123456789


def asked(name: str, column: Any, guard: Guard | None = None) -> list[Any]:
    frame = pd.DataFrame({"event_timestamp": [AT] * len(column), name: column})
    found: list[Any] = (
        rows_as_of(frame, "event_timestamp", [], PLAN, guard).columns[name].to_pylist()
    )
    return found


@pytest.mark.parametrize(
    ("column", "ids"),
    [
        ([LONG, 17], [str(LONG), "17"]),
        (pd.array([LONG, None], "Int64"), [str(LONG), None]),
        ([17.0, float("nan")], ["17", None]),
        (np.array([17, 18], np.float32), ["17", "18"]),
        (["17", 17], ["17", "17"]),
        (["17.0", 17.0, np.int32(17), decimal.Decimal("17.00"), " 17 "], ["17"] * 5),
        ([LONG, "a", None, pd.NA, float("nan"), pd.NaT], [str(LONG), "a", None, None, None, None]),
        ([1, True, 1.0, "True"], ["1", "true", "1", "True"]),
        ([uuid.UUID(int=7), "x"], [str(uuid.UUID(int=7)), "x"]),
        (pd.Series(["a", "b", None, "a"], dtype="category"), ["a", "b", None, "a"]),
        (pd.Series([7, 8, 7], dtype="category"), ["7", "8", "7"]),
        (pd.Series(["7", 7, None], dtype="category"), ["7", "7", None]),
        (pd.Series([" a", "b"], dtype="string"), ["a", "b"]),
        ([True, False], ["true", "false"]),
        (np.array([2**64 - 1], np.uint64), [str(2**64 - 1)]),
    ],
)
def test_ids_are_the_same_whatever_the_type(column: Any, ids: list[str | None]) -> None:
    assert asked("card_id", column) == ids


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([17.0, 1234567890123456789.0], "card_id.*row 1.*lost digits"),
        (["a", "1.2345678901234568e+18"], "card_id.*row 1.*lost digits"),
        (np.array([2**24 + 2], np.float32), "row 0.*lost digits"),
        (["a", [1]], "card_id.*row 1.*list"),
        (["a", 4111111111111111], r"card_id.*411111\*+1111.*row 1.*card number"),
        (["a\nb"], "row 0.*control character"),
    ],
)
def test_what_is_no_id_is_named_by_column_and_row(column: Any, message: str) -> None:
    with pytest.raises(InvalidQuery, match=message):
        asked("card_id", column)


@pytest.mark.parametrize(
    ("name", "column", "values"),
    [
        ("mcc", ["5411", 5732], ["5411", "5732"]),
        ("mcc", [5411.0, None], ["5411", None]),
        ("mcc", pd.array([5411, None], "Int64"), ["5411", None]),
        ("present", [True, False], ["true", "false"]),
        ("present", [True, "False", None], ["true", "false", None]),
        ("age", ["41", 42, 43.5, None, True], [41.0, 42.0, 43.5, None, 1.0]),
        ("age", ["41", " 42 "], [41.0, 42.0]),
        ("age", pd.array([True, None], "boolean"), [1.0, None]),
    ],
)
def test_attributes_are_read_as_the_plan_wants_them(
    name: str, column: Any, values: list[Any]
) -> None:
    assert asked(f"attributes.{name}", column) == values


def test_text_that_is_no_number_is_named() -> None:
    for column in (["41", "old"], [41, "old"]):
        with pytest.raises(InvalidQuery, match=r"attributes\.age.*'old' in row 1.*number"):
            asked("attributes.age", column)


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([1710064800], "whole numbers.*unit='s'"),
        ([1710064800000], "whole numbers.*unit='ms'"),
        (np.array([1710064800000000]), "whole numbers.*unit='us'"),
        ([1710064800.5], "numbers.*unit='s'"),
        (pd.array([1710064800], "Int64"), "whole numbers"),
        ([AT, 1710064800], "row 1"),
        (["1710064800"], "whole numbers"),
        (["2024-03-10", None], "no time in row 1"),
        (["soon"], "no timestamps"),
    ],
)
def test_numbers_are_no_times(times: Any, message: str) -> None:
    frame = pd.DataFrame({"card_id": ["17"] * len(times), "event_timestamp": times})
    with pytest.raises(InvalidQuery, match=message):
        rows_as_of(frame, "event_timestamp", ["card_id"])


@pytest.mark.parametrize("times", [["20240310"], ["2024-03-10T10:00:00+01:00"], [AT.date()]])
def test_times_in_words_are_times(times: Any) -> None:
    frame = pd.DataFrame({"card_id": ["17"], "event_timestamp": times})
    assert len(rows_as_of(frame, "event_timestamp", ["card_id"])) == 1


def test_answers_carry_columns_of_several_types_as_text() -> None:
    frame = pd.DataFrame({"card_id": ["17", 17, None], "n": [1, 2, 3], "x": [b"a", [1], 2.0]})
    assert arrow_table(frame).to_pydict() == {
        "card_id": ["17", "17", None],
        "n": [1, 2, 3],
        "x": ["61", "[1]", "2"],
    }


def test_tokens_are_made_of_frames_and_pass_unchanged() -> None:
    tokens = Tokens(b"sixteen bytes and more")
    guard = Guard(TokenRules({"card_id": TokenField()}), tokens)
    token = tokens.of("4111111111111111")
    column = ["4111 1111 1111 1111", 4111111111111111, token, None]
    assert asked("card_id", column, guard) == [token, token, token, None]
