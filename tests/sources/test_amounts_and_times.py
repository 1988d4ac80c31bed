"""Amounts become whole minor units and times microseconds UTC: exactly, or not at all."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.domain import MAX_AMOUNT_MINOR, ConfigurationError
from sentinel.sources.amounts import amount_column
from sentinel.sources.columns import id_column
from sentinel.sources.times import time_column

minor_amounts = st.integers(-MAX_AMOUNT_MINOR, MAX_AMOUNT_MINOR)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def as_text(minor: int, scale: int) -> str:
    return str(Decimal(minor).scaleb(-scale))


@given(st.lists(minor_amounts, min_size=1), st.integers(0, 4))
def test_every_legal_amount_survives_as_text_float_and_decimal(
    amounts: list[int], scale: int
) -> None:
    text = [as_text(minor, scale) for minor in amounts]
    decimals = pa.array([Decimal(item) for item in text], pa.decimal128(30, 6))
    for column in (pa.array(text), pa.array([float(item) for item in text]), decimals):
        read, findings = amount_column(column, scale=scale)
        assert read.to_pylist() == amounts
        assert findings == ()


@given(minor_amounts, st.integers(0, 3), st.integers(1, 9))
def test_a_decimal_beyond_the_scale_is_refused_never_rounded(
    minor: int, scale: int, digit: int
) -> None:
    # One more decimal than allowed, as text and, where a float can show it, as a float.
    text = as_text(minor // 1_000 * 10 + digit, scale + 1)
    for column in (pa.array([text]), pa.array([float(text)])):
        read, findings = amount_column(column, scale=scale)
        assert read.to_pylist() == [None]
        assert [finding.code for finding in findings] == ["amount_precision"]
        assert f"at most {scale} are allowed" in findings[0].reason_of(0)


@given(minor_amounts, st.sampled_from([(".", ","), (",", "."), (",", " "), (".", "'")]))
def test_amounts_are_read_with_the_separators_that_are_declared(
    minor: int, separators: tuple[str, str]
) -> None:
    point, group = separators
    written = f"{Decimal(minor).scaleb(-2):,.2f}"
    written = written.translate({ord(","): group, ord("."): point})
    read, findings = amount_column(
        pa.array([written]), scale=2, decimal_point=point, thousands=group
    )
    assert read.to_pylist() == [minor]
    assert findings == ()


@pytest.mark.parametrize(
    ("written", "code"),
    [
        ("12.5", "invalid_amount"),  # a group of one digit: surely an English 12.5
        ("1.23.456", "invalid_amount"),
        ("12 pieces", "invalid_amount"),
        ("1,5,0", "invalid_amount"),
    ],
)
def test_a_separator_in_the_wrong_place_is_no_number(written: str, code: str) -> None:
    read, findings = amount_column(pa.array([written]), scale=2, decimal_point=",", thousands=".")
    assert read.to_pylist() == [None]
    assert [finding.code for finding in findings] == [code]


def test_nan_infinity_and_words_are_no_amounts_and_null_is_missing() -> None:
    floats, found = amount_column(pa.array([float("nan"), float("inf"), None, 0.0]), scale=2)
    assert floats.to_pylist() == [None, None, None, 0]
    assert [(item.code, item.rows.tolist()) for item in found] == [
        ("invalid_amount", [True, True, False, False])
    ]
    texts, found = amount_column(pa.array(["nan", "1e", "", "-0"]), scale=2)
    assert texts.to_pylist() == [None, None, None, 0]
    assert found[0].rows.tolist() == [True, True, False, False]


@pytest.mark.parametrize("column", [[10**12 + 1], [-(10**12) - 1], ["1000000000001"], [1e300]])
def test_an_amount_beyond_the_bound_is_too_large(column: list[object]) -> None:
    read, findings = amount_column(pa.array(column), scale=0)
    assert read.to_pylist() == [None]
    assert [item.code for item in findings] == ["amount_too_large"]


@given(
    st.lists(
        st.datetimes(datetime(1971, 1, 1), datetime(2037, 1, 1)),  # noqa: DTZ001 - naive on purpose
        min_size=1,
    ),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"]),
)
def test_local_times_are_read_as_the_time_zone_database_says(
    moments: list[datetime], zone: str
) -> None:
    """Text and timestamps agree with the standard library, which takes the first of two."""
    expected = []
    for moment in moments:
        aware = moment.replace(tzinfo=ZoneInfo(zone), fold=0)
        there_and_back = aware.astimezone(UTC).astimezone(ZoneInfo(zone))
        if there_and_back.replace(tzinfo=None) != moment:
            return  # an hour that the clock skipped; see the next test
        expected.append((aware.astimezone(UTC) - EPOCH) // timedelta(microseconds=1))
    for column in (
        pa.array([moment.isoformat(" ") for moment in moments]),
        pa.array(moments, pa.timestamp("us")),
        pa.array([moment.isoformat() for moment in moments]),
    ):
        times, findings = time_column(column, timezone=zone)
        assert times.to_pylist() == expected
        assert findings == ()


def test_a_skipped_hour_is_the_moment_of_the_jump_and_a_repeated_one_the_first() -> None:
    times, _ = time_column(
        pa.array(["2023-03-26 02:30:00", "2023-10-29 02:30:00", "2023-10-29 02:30:00+01:00"]),
        timezone="Europe/Berlin",
    )
    jump = int(datetime(2023, 3, 26, 1, tzinfo=UTC).timestamp())
    first = int(datetime(2023, 10, 29, 0, 30, tzinfo=UTC).timestamp())
    assert [time // 1_000_000 for time in times.to_pylist()] == [jump, first, first + 3_600]


@given(st.integers(0, 4_000_000_000_000_000))
def test_epochs_are_exact_in_every_unit(time_us: int) -> None:
    for unit, divisor in (("s", 1_000_000), ("ms", 1_000), ("us", 1)):
        whole = time_us // divisor
        for column in (pa.array([whole]), pa.array([str(whole)])):
            times, _ = time_column(column, layout="epoch", unit=unit)  # type: ignore[arg-type]
            assert times.to_pylist() == [whole * divisor]
    nanoseconds, _ = time_column(pa.array([time_us * 1_000]), unit="ns")
    assert nanoseconds.to_pylist() == [time_us]


def test_a_pattern_reads_its_own_form_only() -> None:
    times, findings = time_column(
        pa.array(["31.12.2023 23:00", "2023-12-31 23:00"]), layout="%d.%m.%Y %H:%M"
    )
    assert times.to_pylist() == [1704063600000000, None]
    assert "is not of the form '%d.%m.%Y %H:%M'; format =" in findings[0].reason_of(1)


@pytest.mark.parametrize(
    ("layout", "text", "both"),
    [
        ("%d/%m/%Y", "05/15/2025", True),
        ("%m/%d/%Y", "15/05/2025", True),
        ("%d/%m/%Y", "2025-05-15", False),
    ],
)
def test_a_day_where_the_month_is_expected_casts_doubt_on_what_was_read(
    layout: str, text: str, both: bool
) -> None:
    times, findings = time_column(pa.array(["03/04/2025", text]), layout=layout)
    assert times.null_count == 1
    assert ("rows where both are 12 or less are misread" in str(findings[0].reason_of(1))) is both


def test_an_unusable_pattern_and_an_unknown_zone_are_errors_of_the_set_up() -> None:
    with pytest.raises(ConfigurationError, match="IANA name"):
        time_column(pa.array(["2023-01-01"]), timezone="Mars/Olympus")
    with pytest.raises(ConfigurationError, match="strptime"):
        time_column(pa.array(["2023-01-01"]), layout="%Y-%Q")


def test_ids_keep_leading_zeros_and_lose_decimal_points() -> None:
    assert id_column(pa.array(["007", " x "])).to_pylist() == ["007", "x"]
    assert id_column(pa.array([7.0, np.nan, 7.5])).to_pylist() == ["7", None, "7.5"]
    assert id_column(pa.array(["a", "a"]).dictionary_encode()).to_pylist() == ["a", "a"]
