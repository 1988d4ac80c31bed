"""Ids of a whole log as one column: as many as there are."""

from __future__ import annotations

import pyarrow as pa

from sentinel.models.dataset import codes_of, rows_of
from sentinel.pipeline.history import ids_of


def test_ids_of_a_whole_log_are_not_bound_to_two_gigabytes() -> None:
    """Offsets of 64 bits, from many chunks, of none, and of what a null is in."""
    parts = [pa.array(["a", None, "日本"]), pa.array([], pa.string()), pa.array(["b", "a"])]
    ids = ids_of(pa.chunked_array(parts))
    assert ids.type == pa.large_string()
    assert ids.to_pylist() == ["a", None, "日本", "b", "a"]
    assert ids_of(pa.chunked_array([], pa.string())).type == pa.large_string()


def test_labels_find_their_rows_and_cards_their_numbers_among_them() -> None:
    ids = ids_of(pa.chunked_array([pa.array(["t1", "t2"]), pa.array(["t3"])]))
    labels = ids_of(pa.chunked_array([pa.array(["t3", "t9", "t1"])]))
    assert rows_of(ids, labels).tolist() == [2, -1, 0]
    cards = ids_of(pa.chunked_array([pa.array(["k1", None]), pa.array(["k2", "k1"])]))
    assert codes_of(cards).tolist() == [0, -1, 1, 0]
