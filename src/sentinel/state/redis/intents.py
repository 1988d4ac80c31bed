"""Intents: which records a group is about to change, kept in Redis until the group is durable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from sentinel.state.redis.layout import Record


class Touched(NamedTuple):
    """A record that a group changes, and by which transactions.

    Attributes:
        view, key: The record.
        ids: Hashes of the transactions' ids.
    """

    view: int
    key: str
    ids: list[int]


def intent_of(rows_of: Mapping[Record, list[int]], ids: list[int]) -> bytes:
    """What is kept of a group before it changes records.

    Args:
        rows_of: The rows that name each record.
        ids: Hashes of the rows' transaction ids.
    """
    return msgspec.msgpack.encode(
        [(view, key, [ids[row] for row in rows]) for (view, key), rows in rows_of.items()]
    )


def touched_by(intent: bytes) -> list[Touched]:
    """The records of an intent, as `Records.intents` gives it."""
    return [
        Touched(*item)
        for item in msgspec.msgpack.decode(intent, type=list[tuple[int, str, list[int]]])
    ]
