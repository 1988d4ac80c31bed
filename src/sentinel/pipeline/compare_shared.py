"""The records that scorers share against the log itself, word by word."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Final

import numpy as np

from sentinel.features.plan.plan import Plan
from sentinel.features.plan.program import KIND_ADD, Program, compile_program
from sentinel.features.voids import StateFold
from sentinel.ledger.base import Ledger
from sentinel.ledger.log import read_log, whole_log
from sentinel.ledger.open import open_shared
from sentinel.log.schema import KIND_TRANSACTION
from sentinel.settings import Settings
from sentinel.state.known_ids import KnownIds
from sentinel.state.redis.effects import Effects, step_of
from sentinel.state.redis.layout import (
    EVENT_ID,
    EVENT_NUMBER,
    EVENT_SESSION,
    FIELDS_AT,
    KIND_BITS,
    KIND_VOID,
    Record,
)
from sentinel.state.redis.records import Records, Stored
from sentinel.state.redis.wire import Wire

_TIMEOUT_SECONDS: Final = 30.0
_AT_ONCE: Final = 500
_PASSES: Final = 3
_FOLLOWED_SECONDS: Final = 30.0
_SHOWN: Final = 10
_POSITION: Final = 1


@dataclass(frozen=True)
class SharedComparison:
    """What was found.

    Attributes:
        records: Compared.
        differing: Of them that are not what the log says.
        behind: Entries of the log that no follower has brought in yet.
        examples: (view, entity key) of some that differ.
    """

    records: int
    differing: int
    behind: int
    examples: tuple[tuple[str, str], ...]


def compare_shared(settings: Settings, plan: Plan) -> SharedComparison | None:
    """Compare every shared record of a plan with a fold of the log.

    While scorers are at work, records that differ are looked at again with the log that is there
    by then; events under way are left out.

    Returns:
        What was found; None if Redis does not hold the state of this plan.

    Raises:
        StateUnavailable, LedgerUnavailable: They cannot be read right now.
    """
    program = compile_program(plan)
    wire = Wire(settings.state.redis_url, timeout_seconds=_TIMEOUT_SECONDS)
    records = Records(program, wire, prefix=settings.state.redis_prefix)
    with closing(records), open_shared(settings) as ledger:
        if records.loaded() is None:
            return None
        behind = _wait_for_follower(records, ledger.last_sequence())
        compared, differing = 0, None
        for _ in range(_PASSES):
            found, wrong = _compare(program, ledger, Effects(records), differing)
            compared = max(compared, found)
            differing = wrong
            if not wrong:
                break
            _wait_for_follower(records, ledger.last_sequence())
    shown = [(plan.views[view].name, key) for view, key in (differing or [])[:_SHOWN]]
    return SharedComparison(compared, len(differing or []), behind, tuple(shown))


def _wait_for_follower(records: Records, until: int) -> int:
    deadline = time.monotonic() + _FOLLOWED_SECONDS
    while (behind := until - records.followed()) > 0 and time.monotonic() < deadline:
        time.sleep(0.1)
    return max(behind, 0)


def _compare(
    program: Program, ledger: Ledger, effects: Effects, wanted: list[Record] | None
) -> tuple[int, list[Record]]:
    """How many records were compared, and those that differ.

    The records are read before the log, so that what a base holds is in the log by then.
    """
    values: dict[Record, Stored] = {}
    for part in effects.records.every() if wanted is None else _parts(wanted):
        for record, value in zip(part, effects.records.stored(part), strict=True):
            if value is not None:
                values[record] = value
    through = ledger.last_sequence()
    fold, known = StateFold(program, whole_log(ledger)), KnownIds()
    fold.book.scan(batch for _, batch in read_log(ledger, until=through))
    for _, batch in read_log(ledger, until=through):
        fold.step(batch, vectors=False)
        ids, kinds = (batch.column(name).to_pylist() for name in ("transaction_id", "kind"))
        known.add(i for i, kind in zip(ids, kinds, strict=True) if kind == KIND_TRANSACTION)
    fold.finish()
    if wanted is None:
        everywhere = [(view, key) for view, keys in enumerate(fold.arena.keys) for key in keys]
        wanted = list(dict.fromkeys([*values, *everywhere]))
    differing = []
    for view, key in wanted:
        expected = fold.arena.record(view, key).copy()
        found = np.zeros_like(expected)
        value = values.get((view, key))
        if value is not None:
            found = effects.folded(view, _without_unsettled(value, known, through))
        expected[_POSITION] = found[_POSITION] = 0
        if (found != expected).any():
            differing.append((view, key))
    return len(wanted), differing


def _without_unsettled(value: Stored, known: KnownIds, through: int) -> Stored:
    """The record without the events that the log does not hold: each made its own void."""
    tail = value.tail.copy()
    last_step = step_of(through, label=True)
    for place, event in enumerate(tail):
        kind = event[EVENT_NUMBER] & ((1 << KIND_BITS) - 1)
        if event[EVENT_SESSION] == 0:
            under_way = event[EVENT_NUMBER] >> KIND_BITS > last_step
        else:
            under_way = kind == KIND_ADD and not known.holds(int(event[EVENT_ID]))
        if under_way:
            event[EVENT_NUMBER] |= KIND_VOID
            event[FIELDS_AT] = value.position + 1 + place
    return value._replace(tail=tail)


def _parts(records: Sequence[Record]) -> Iterator[list[Record]]:
    for start in range(0, len(records), _AT_ONCE):
        yield list(records[start : start + _AT_ONCE])
