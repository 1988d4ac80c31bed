"""Keys of a snapshot come back as they went in, whatever their number and lengths."""

from __future__ import annotations

from itertools import chain

import msgspec
import pytest

from sentinel.state.snapshot_file import _decoded_keys

LENGTHS = (0, 1, 31, 32, 255, 256, 65_535, 65_536)


@pytest.mark.parametrize("number", [0, 1, 15, 16, 4095, 4096, 4097, 70_000])
def test_any_number_of_keys_is_read(number: int) -> None:
    keys = [f"entity-{i}-é" for i in range(number)]
    assert [*chain(*_decoded_keys(msgspec.msgpack.encode(keys)))] == keys


def test_keys_of_any_length_are_read() -> None:
    keys = ["k" * length for length in LENGTHS] * 3
    assert [*chain(*_decoded_keys(msgspec.msgpack.encode(keys)))] == keys
