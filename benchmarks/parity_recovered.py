"""A fresh process: state from a snapshot and the log behind it, then on with the log.

Run by `benchmarks.parity` as ``python -m benchmarks.parity_recovered JSON``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Self

from benchmarks.parity_log import batches, transactions_in
from sentinel.domain import Transaction
from sentinel.features.offline import LabelBook
from sentinel.features.plan.plan import Plan
from sentinel.features.plan.program import compile_program
from sentinel.ledger.sqlite import SqliteLedger
from sentinel.log.entries import Group
from sentinel.scoring.recovery import recover
from testkit.entry_fold import EntryFold, entries_of, labelled_in

MICRO_BATCH = 16


@dataclass(frozen=True)
class Task:
    """What to do.

    Attributes:
        plan, ledger, snapshots: Where things are.
        until: The log ends here while state is recovered; what follows is served.
        vectors: Where float32 vectors of what follows go.
        recovered: Folder for a snapshot of the recovered state.
    """

    plan: Path
    ledger: Path
    snapshots: Path
    until: int
    vectors: Path
    recovered: Path


class _LogSoFar:
    """A ledger as it was when its last entry was ``until``."""

    def __init__(self, ledger: SqliteLedger, until: int) -> None:
        self._ledger = ledger
        self._until = until

    appends_at_once = 0
    appends_on_loop = False

    def last_sequence(self) -> int:
        return self._until

    def last_received_at_us(self) -> int:
        return self._ledger.last_received_at_us()

    def groups(self, after: int = 0) -> Iterator[Group]:
        return self._ledger.groups(after)

    def begin_append(self, *_: object, **__: object) -> bool:
        return False

    def append(self, *_: object, **__: object) -> NoReturn:
        raise AssertionError("recovery appends nothing")

    def close(self) -> None:
        self._ledger.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def run(task: Task) -> None:
    plan = Plan.load(task.plan)
    labelled = labelled_in(batch for _, batch in batches(task.ledger))
    known = transactions_in(task.ledger, labelled)

    def find(transaction_id: str) -> Transaction | None:
        return known.get(transaction_id)

    ledger = SqliteLedger.open_reader(task.ledger)
    state = recover(compile_program(plan), _LogSoFar(ledger, task.until), task.snapshots, find)
    ledger.close()
    if state.sequence != task.until:
        raise AssertionError(f"recovered up to {state.sequence}, not {task.until}")
    state.freeze().write(task.recovered)
    book = LabelBook(fraud=state.fraud)
    online = EntryFold(state.program, state.arena, MICRO_BATCH, book, labelled)
    for transaction_id in sorted(labelled):
        if state.known.holds_id(transaction_id):
            online.encoder.put(0, known[transaction_id])
            book.encoded[transaction_id] = online.encoder.events[0].copy()
    with task.vectors.open("wb") as file:
        for _, batch in batches(task.ledger, after=task.until):
            file.write(online.run(entries_of(batch)).tobytes())


if __name__ == "__main__":
    told = json.loads(sys.argv[1])
    run(Task(until=told.pop("until"), **{name: Path(path) for name, path in told.items()}))
