"""Lists that are decoded in pieces: what they hold is what a decoder makes of the whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.api.json_lists import PIECE_BYTES, list_pieces
from sentinel.api.large import LARGE_BYTES
from sentinel.api.problems import ProblemError
from sentinel.api.routes.payment_bodies import ReadingRules
from sentinel.api.routes.payment_reading import read_payments
from sentinel.domain import InvalidTransaction

RECEIVED_US = 1_700_000_000_000_000
READING = ReadingRules()

texts = st.sampled_from(["", "a", "},{", '"},{"', "}, {", "]}", "\\", 'x"', "é", "{", "[{},{}]"])
values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(texts, values, max_size=3)
spaces = st.sampled_from(["", " ", "\n\t", " \r\n "])


def elements_of(pieces: Iterator[bytes] | None) -> list[Any] | None:
    """What the pieces hold together; None where one of them is no JSON list."""
    if pieces is None:
        return None
    found: list[Any] = []
    try:
        for piece in pieces:
            found += msgspec.json.decode(piece, type=list[Any])
    except msgspec.DecodeError:
        return None
    return found


@given(rows=st.lists(objects, max_size=12), space=spaces, least=st.integers(0, 40))
def test_pieces_that_are_lists_hold_the_rows_of_the_whole(
    rows: list[dict[str, Any]], space: str, least: int
) -> None:
    body = json.dumps({"rows": rows}, separators=(f"{space},{space}", f"{space}:{space}"))
    body = space + body.replace("{", "{" + space, 1) + space
    found = elements_of(list_pieces(body.encode(), "rows", least))
    assert found is None or found == rows


@given(
    rows=st.lists(st.dictionaries(st.sampled_from("ab"), st.integers(0, 9)), min_size=1),
    least=st.integers(0, 40),
)
def test_rows_without_lists_and_braces_in_texts_need_no_other_way(
    rows: list[dict[str, int]], least: int
) -> None:
    assert elements_of(list_pieces(json.dumps({"rows": rows}).encode(), "rows", least)) == rows


@given(
    rows=st.lists(objects, min_size=1, max_size=6),
    at=st.integers(0, 400),
    put=st.sampled_from(["", "}", "{", "]", "[", ",", '"', '],"rows":[', '],"x":[', "},{"]),
    least=st.integers(0, 40),
)
def test_what_is_no_such_body_is_never_taken_for_one(
    rows: list[dict[str, Any]], at: int, put: str, least: int
) -> None:
    body = json.dumps({"rows": rows})
    at %= len(body)
    broken = (body[:at] + put + body[at + 1 :]).encode()
    found = elements_of(list_pieces(broken, "rows", least))
    if found is not None:
        assert msgspec.json.decode(broken) == {"rows": found}


def test_a_long_list_comes_in_many_pieces() -> None:
    rows = [{"n": n, "text": "x" * 50} for n in range(5_000)]
    body = json.dumps({"rows": rows}).encode()
    pieces = list(list_pieces(body, "rows") or ())
    assert len(pieces) > 0.9 * len(body) / PIECE_BYTES
    assert max(map(len, pieces)) < 1.1 * PIECE_BYTES
    assert elements_of(iter(pieces)) == rows


def batch_of(count: int, text: str) -> list[dict[str, Any]]:
    return [
        {"transaction_id": f"t{n}", "amount_minor": n, "attributes": {"note": f"{text}{n}"}}
        for n in range(count)
    ]


@pytest.mark.parametrize("text", ["plain", "},{", '"},{"a":"', "}]}"])
def test_a_large_batch_is_read_as_its_payments_are(text: str) -> None:
    rows = batch_of(3_000, text)
    body = json.dumps({"transactions": rows}).encode()
    assert len(body) >= LARGE_BYTES
    pauses: list[None] = []
    read = read_payments(body, RECEIVED_US, READING, 3_000, lambda: pauses.append(None))
    small = [
        read_payments(json.dumps({"transactions": [row]}).encode(), RECEIVED_US, READING, 1)[0]
        for row in rows
    ]
    assert read == small
    assert len(pauses) > 40


def test_a_large_batch_with_a_bad_payment_or_too_many_is_refused_as_a_small_one_is() -> None:
    rows = batch_of(3_000, "plain")
    with pytest.raises(InvalidTransaction, match="more than 2,999"):
        read_payments(json.dumps({"transactions": rows}).encode(), RECEIVED_US, READING, 2_999)
    rows[1_234]["amount_minor"] = "x"
    with pytest.raises(InvalidTransaction, match=r"transactions\[1234\]"):
        read_payments(json.dumps({"transactions": rows}).encode(), RECEIVED_US, READING, 3_000)
    body = json.dumps({"transactions": rows}).encode()
    with pytest.raises(ProblemError, match="not JSON"):
        read_payments(body[:-1], RECEIVED_US, READING, 3_000)
