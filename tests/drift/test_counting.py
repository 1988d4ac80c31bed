"""Vectors become counts of cells: every payment once, in the cell that its value belongs to."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sentinel.drift.bins import MOST_CELLS, Bins, ColumnBins, freeze_bins
from sentinel.drift.counting import count_cells
from sentinel.drift.segments import ALL, Segment, default_segments, members

VALUES = st.one_of(
    st.sampled_from([0.0, 1.0, 2.0, float("nan"), float("inf")]), st.floats(-100, 100, width=32)
)


def cell_of(column: ColumnBins, value: float) -> int:
    """What a cell is, as plainly as it can be said."""
    if np.isnan(value):
        return 0
    if column.kind == "category":
        return column.values.index(value) + 2 if value in column.values else 1
    return 1 + sum(value >= edge for edge in column.values)


@settings(deadline=None, max_examples=60)
@given(
    X=hnp.arrays(np.float32, st.tuples(st.integers(1, 60), st.just(3)), elements=VALUES),
    cells=st.integers(3, MOST_CELLS),
)
def test_every_value_is_counted_in_its_cell(X: np.ndarray, cells: int) -> None:
    bins = freeze_bins(X[:30], ["amount", "age", "code"], categorical=["code"], cells=cells)
    member = np.column_stack((np.ones(len(X), bool), X[:, 0] > 0))
    counted = np.zeros((2, bins.cells), np.uint32)
    count_cells(bins, X, member, counted)
    plain = np.zeros_like(counted)
    for row, belongs in zip(X, member, strict=True):
        for at, column in enumerate(bins.columns):
            plain[belongs, bins.starts[at] + cell_of(column, float(row[at]))] += 1
    assert counted.tolist() == plain.tolist()
    assert all(2 <= column.cells <= max(cells, MOST_CELLS) for column in bins.columns)


def test_cells_of_a_number_hold_about_as_many_payments_each() -> None:
    X = np.random.default_rng(1).lognormal(size=(20_000, 1)).astype(np.float32)
    bins = freeze_bins(X, ["amount"])
    counts = np.zeros((1, bins.cells), np.uint32)
    count_cells(bins, X, np.ones((len(X), 1), bool), counts)
    assert bins.cells == 17
    assert counts[0, 1:].min() > 0.9 * 20_000 / 16
    assert counts[0, 1:].max() < 1.1 * 20_000 / 16


def test_a_value_that_many_payments_share_has_a_cell_of_its_own() -> None:
    rng = np.random.default_rng(2)
    X = np.where(rng.random(10_000) < 0.6, 0.0, rng.lognormal(size=10_000) + 1)
    (column,) = freeze_bins(X.astype(np.float32)[:, None], ["payments_1d"]).columns
    zeros = cell_of(column, 0.0)
    assert cell_of(column, 1.2) != zeros
    assert cell_of(column, -1.0) == zeros  # nothing was below it


def test_a_value_that_the_reference_never_held_is_another_value() -> None:
    bins = freeze_bins(np.array([[3.0], [4.0]], np.float32), ["country"], categorical=["country"])
    counts = np.zeros((1, bins.cells), np.uint32)
    count_cells(bins, np.array([[7.0], [3.0]], np.float32), np.ones((2, 1), bool), counts)
    assert counts.tolist() == [[0, 1, 1, 0]]


def test_codes_are_told_by_the_texts_that_they_stand_for() -> None:
    X = np.repeat(np.array([[2.0], [1.0], [0.0], [3.0]], np.float32), (40, 30, 20, 10), axis=0)
    known = {"country": ("DE", "FR")}
    (column,) = freeze_bins(X, ["country"], categorical=["country"], dictionaries=known).columns
    told = ["unknown", "other values", "not in the dictionary", "DE", "FR", "code 3"]
    assert [column.label(cell) for cell in range(column.cells)] == told
    assert msgspec.json.decode(msgspec.json.encode(column), type=ColumnBins) == column
    parts = default_segments(
        X, ["country"], amount=None, categories=["country"], dictionaries=known
    )
    assert [part.name for part in parts[1:]] == [
        "country is FR",
        "country is DE",
        "country is not in the dictionary",
        "country is code 3",
    ]


def test_a_reference_without_words_has_the_bytes_that_it_had() -> None:
    column = ColumnBins("country", "category", (1.0, 2.0), "d4")
    written = b'{"name":"country","kind":"category","values":[1.0,2.0],"definition":"d4"}'
    assert msgspec.json.encode(column) == written
    assert msgspec.json.decode(written, type=ColumnBins).label(2) == "code 1"


@pytest.mark.parametrize("constant", [0.0, 3.0, -1.5, 1e-42])
def test_a_constant_has_cells_below_and_above_it(constant: float) -> None:
    bins = freeze_bins(np.full((5, 1), constant, np.float32), ["version"])
    (column,) = bins.columns
    assert column.label(2) == f"{np.float32(constant):g}"
    assert column.label(1).startswith("below")
    assert column.label(3).startswith("above")
    live = np.array([[np.nan], [constant - 1], [constant], [constant], [constant + 1]], np.float32)
    counts = np.zeros((1, bins.cells), np.uint32)
    count_cells(bins, live, np.ones((5, 1), bool), counts)
    assert counts.tolist() == [[1, 1, 2, 1]]


def test_infinite_values_are_no_edges_and_are_counted_in_the_outer_cells() -> None:
    X = np.array([[0.0, np.inf], [np.inf, 2.0], [-np.inf, np.nan]], np.float32)
    bins = freeze_bins(X, ["ratio", "code"], categorical=["code"])
    assert msgspec.json.decode(msgspec.json.encode(bins), type=Bins) == bins
    counts = np.zeros((1, bins.cells), np.uint32)
    count_cells(bins, X, np.ones((3, 1), bool), counts)
    assert counts.sum() == 6
    assert counts[0, bins.slice_of("code")].tolist() == [1, 1, 1]
    parts = default_segments(X, ["ratio", "code"], amount="ratio", categories=["code"])
    assert msgspec.json.decode(msgspec.json.encode(parts), type=tuple[Segment, ...]) == parts


def test_counts_that_do_not_fit_are_refused() -> None:
    bins = Bins((ColumnBins("amount", "number", (5.0,)),))
    with pytest.raises(ValueError, match="do not fit"):
        count_cells(
            bins, np.ones((1, 2), np.float32), np.ones((1, 1), bool), np.zeros((1, 3), np.uint32)
        )


def test_segments_are_made_of_the_vector_alone() -> None:
    rng = np.random.default_rng(3)
    X = np.column_stack((rng.lognormal(3, 1, 3000), rng.integers(1, 30, 3000))).astype(np.float32)
    X[:5, 0] = np.nan
    parts = default_segments(X, ["amount", "country"], amount="amount", categories=["country"])
    belongs = members(parts, X, ["amount", "country"])
    assert len(parts) == 10
    assert parts[0] == Segment(ALL)
    assert belongs[:, 0].all()
    bands = belongs[:, 1:4].sum(axis=1)
    assert bands[:5].tolist() == [0] * 5, "an unknown amount is in no band"
    assert (bands[5:] == 1).all(), "each other payment is in one"
