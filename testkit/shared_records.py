"""Shared records as several scorers use them, for tests: each client has its own connection."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from sentinel.features.plan.plan import Plan
from sentinel.features.plan.program import Program, compile_program
from sentinel.state.redis.effects import Effects
from sentinel.state.redis.features import SharedFeatures
from sentinel.state.redis.layout import Record
from sentinel.state.redis.records import Records
from sentinel.state.redis.reloading import Reloaded, ReplayedRecord, reload_records
from sentinel.state.redis.wire import Wire

_prefixes = itertools.count()


def reload_record(
    effects: Effects,
    record: Record,
    replayed: Callable[[int, str], ReplayedRecord],
    rebuilt: int = 0,
) -> Reloaded | None:
    """Put one record in place anew; see `reload_records`."""
    ((_, found),) = reload_records(
        effects, [record], lambda records: [replayed(*one) for one in records], lambda _: rebuilt
    )
    return found


class SharedRecords:
    """Records of a plan under a prefix of their own.

    Attributes:
        program: The compiled plan.

    Args:
        plan: The plan.
        url: Of the server, or of a node of the cluster.
        timeout_seconds: Longest time for one exchange.
    """

    def __init__(self, plan: Plan, url: str, timeout_seconds: float = 20.0) -> None:
        self.program: Program = compile_program(plan)
        self.url = url
        self.prefix = f"records{next(_prefixes)}"
        self.timeout_seconds = timeout_seconds
        self._open = ExitStack()

    def records(self, timeout_seconds: float | None = None) -> Records:
        """Another connection."""
        wire = Wire(self.url, timeout_seconds=timeout_seconds or self.timeout_seconds)
        records = Records(self.program, wire, prefix=self.prefix)
        self._open.callback(records.close)
        return records

    def features(self, cache_bytes: int = 1 << 20) -> SharedFeatures:
        """Another scorer's way to them."""
        return SharedFeatures(self.records(), cache_bytes=cache_bytes)

    def effects(self) -> Effects:
        """Another scorer's thread that looks after them."""
        return Effects(self.records())

    def close(self) -> None:
        """Drop the records and all connections."""
        self.records().drop()
        self._open.close()


@contextmanager
def shared_records(plan: Plan, url: str) -> Iterator[SharedRecords]:
    """Records of a plan, dropped afterwards."""
    shared = SharedRecords(plan, url)
    try:
        yield shared
    finally:
        shared.close()
