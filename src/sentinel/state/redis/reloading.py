"""Putting a record in place anew from the log, while scorers go on appending to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sentinel.features.plan.program import KIND_ADD
from sentinel.state.redis.effects import Effects, step_of
from sentinel.state.redis.layout import (
    EPOCH_SHIFT,
    EVENT_ID,
    EVENT_NUMBER,
    EVENT_SESSION,
    FIELDS_AT,
    KIND_BITS,
    KIND_VOID,
    Record,
    epoch_start,
)
from sentinel.state.redis.records import Stored

_KIND_MASK = (1 << KIND_BITS) - 1


class ReplayedRecord(NamedTuple):
    """A record as the log has it.

    Attributes:
        words: int64, the folded record.
        through: The log entry through which it is folded.
        holds: Whether a transaction with a certain id hash is in the log up to there.
    """

    words: npt.NDArray[np.int64]
    through: int
    holds: Callable[[int], bool]


class Reloaded(NamedTuple):
    """A record that was put in place anew.

    Attributes:
        position: Of the record from then on.
        sequence: The log entry through which it is the log's.
    """

    position: int
    sequence: int


Replayed = Callable[[Sequence[Record]], Sequence[ReplayedRecord]]
"""Reads the log up to its end, once for all of the records."""


def reload_records(
    effects: Effects,
    records: Sequence[Record],
    replayed: Replayed,
    rebuilt: Callable[[Record], int] = lambda _: 0,
) -> Iterator[tuple[Record, Reloaded | None]]:
    """Put records in place anew: as the log has them, and the events of their tails that it lacks.

    Args:
        effects: The records.
        records: Which.
        replayed: Reads the log. One reading may be long where it holds voids.
        rebuilt: The highest position at which a record was put in place before: a server that took
            over may have missed that, and no position may name two events.

    Yields:
        Each record, once it was looked at, and what it is now; None if it has changed too much
        meanwhile: try again.

    Raises:
        StateUnavailable, LedgerUnavailable: Nothing of a record was changed, or all of it.
    """
    # Bases are read before the log, so that what they hold is in the log by then. Tails are read
    # after the log: an event that comes later still is not in what was read of the log.
    bases = [_base_position(value) for value in effects.records.stored(records)]
    for record, before, found in zip(records, bases, replayed(records), strict=True):
        yield record, _reload(effects, record, before, found, rebuilt(record))


def _reload(
    effects: Effects, record: Record, before: int, found: ReplayedRecord, rebuilt: int
) -> Reloaded | None:
    (value,) = effects.records.stored([record])
    if _base_position(value) != before:
        return None
    seen, epoch = 0, effects.records.epoch
    dropped: list[int] = []
    if value is not None:
        seen = value.position + len(value.tail)
        epoch = value.position >> EPOCH_SHIFT
        dropped = [value.position + 1 + place for place in _in_log(value, found)]
    epoch = max(epoch, rebuilt >> EPOCH_SHIFT)
    through = step_of(found.through, label=True)
    kept = effects.records.reload(record, before, seen, dropped, found.words, epoch + 1, through)
    if kept < 0:
        return None
    return Reloaded(epoch_start(epoch + 1) + kept, found.through)


def _base_position(value: Stored | None) -> int:
    """Where the base of a record stands; -1 if there is no record."""
    return -1 if value is None else value.position


def _in_log(value: Stored, found: ReplayedRecord) -> list[int]:
    """Places in the tail of what the log holds, of events that are void, and of their voids."""
    places = []
    voided: set[int] = set()
    last_step = step_of(found.through, label=True)
    for place, event in enumerate(value.tail.tolist()):
        kind, count = event[EVENT_NUMBER] & _KIND_MASK, event[EVENT_NUMBER] >> KIND_BITS
        if kind == KIND_VOID:
            voided |= {place, event[FIELDS_AT] - value.position - 1}
        elif event[EVENT_SESSION] == 0:
            if count <= last_step:
                places.append(place)
        elif kind == KIND_ADD and found.holds(event[EVENT_ID]):
            places.append(place)
    return sorted({*places, *(place for place in voided if place >= 0)})
