"""Every way to compute the vectors of a log. A new engine is one line in ``ENGINES``."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from sentinel.domain import Label, Transaction
from sentinel.features.arena import Arena
from sentinel.features.encode_batch import encode_batch
from sentinel.features.kernel.fold import fold
from sentinel.features.kernel.sweep import finish_rows, fold_view
from sentinel.features.offline import LabelBook, OfflineFold
from sentinel.features.plan.plan import Plan
from sentinel.features.plan.program import EVENT_KIND, KIND_FRAUD, compile_program
from sentinel.ledger.base import Appended
from sentinel.state.embedded import EmbeddedState, restore
from testkit.entry_fold import EntryFold
from testkit.oracle import Oracle
from testkit.redis_fold import RedisFold
from testkit.shared_records import shared_records
from tests.features.logs import batch_of, batches_of
from tests.state.shared_redis import shared_redis

Entry = Transaction | Label
Vectors = npt.NDArray[np.float32]
Engine = Callable[[Plan, Sequence[Entry], random.Random], Vectors]
"""Vectors of a log's transactions in log order; the randomness cuts the log into pieces."""


def _cuts(log: Sequence[Entry], chance: random.Random) -> list[int]:
    return [chance.randrange(len(log) + 1) for _ in range(chance.randrange(4))]


def offline(plan: Plan, log: Sequence[Entry], chance: random.Random) -> Vectors:
    """Backfill in batches."""
    folding = OfflineFold(compile_program(plan), threads=1)
    batches = batches_of(log, _cuts(log, chance))
    folding.book.scan(batches)
    return np.concatenate(list(folding.run(batches)))


def offline_in_parts(plan: Plan, log: Sequence[Entry], chance: random.Random) -> Vectors:
    """The share of the work that each thread of a backfill does, one after another.

    (The threads themselves only start on long batches; see `test_fold`.)
    """
    program = compile_program(plan)
    folding = _PartsFold(program, threads=1)
    folding.parts = chance.choice([2, 3])
    batches = batches_of(log, _cuts(log, chance))
    folding.book.scan(batches)
    return np.concatenate(list(folding.run(batches)))


class _PartsFold(OfflineFold):
    parts = 2

    def _run_views(
        self, events: npt.NDArray[np.int64], out: Vectors, rows: npt.NDArray[np.int64]
    ) -> None:
        for view in range(len(self.program.plan.views)):
            for part in reversed(range(self.parts)):
                fold_view(
                    self.arena.words, self.program.code, view, part, self.parts, events, out, rows
                )


def one_at_a_time(plan: Plan, log: Sequence[Entry], chance: random.Random) -> Vectors:
    """Serving, a request after the other."""
    return EntryFold(compile_program(plan)).run(log)


def micro_batches(plan: Plan, log: Sequence[Entry], chance: random.Random) -> Vectors:
    """Serving under load: what comes together is folded together."""
    return EntryFold(compile_program(plan), capacity=chance.randrange(2, 9)).run(log)


def embedded(plan: Plan, log: Sequence[Entry], chance: random.Random) -> Vectors:
    """What a scorer asks: the state of its process, group after group, label after label."""
    state = EmbeddedState.empty(compile_program(plan))
    found = [np.empty((0, state.program.n_features), dtype=np.float32)]
    known: dict[str, Transaction] = {}
    for sequence, entries in _groups(log, chance):
        appended = Appended(sequence, 0)
        labels = [entry for entry in entries if isinstance(entry, Label)]
        transactions = [entry for entry in entries if isinstance(entry, Transaction)]
        if labels:
            state.apply_labels(labels, appended, known)
            continue
        reading = state.add(transactions)
        state.settle(reading.ticket, transactions, appended)
        known.update((t.transaction_id, t) for t in transactions)
        found.append(reading.vectors)
    assert state.sequence == len(log)
    return np.concatenate(found)


def _groups(log: Sequence[Entry], chance: random.Random) -> Iterator[tuple[int, Sequence[Entry]]]:
    """Neighbours of one kind, a few at a time, with the sequence of the first."""
    sequence = 1
    for run in _runs(log):
        while run:
            size = chance.randrange(1, 6)
            yield sequence, run[:size]
            sequence += len(run[:size])
            run = run[size:]


def columnar_online(plan: Plan, log: Sequence[Entry], chance: random.Random) -> Vectors:
    """Events encoded as a batch, folded as a micro-batch."""
    program = compile_program(plan)
    arena = Arena(program)
    found = [np.empty((0, program.n_features), dtype=np.float32)]
    online = EntryFold(program, arena, capacity=4)
    for batch in _runs(log):
        if isinstance(batch[0], Label):
            online.run(batch)
            continue
        transactions = [entry for entry in batch if isinstance(entry, Transaction)]
        events, given = encode_batch(program, arena, batch_of(transactions))
        out = np.empty((len(events), program.n_features), dtype=np.float32)
        rows = np.arange(len(events))
        for i, transaction in enumerate(transactions):
            event = events[i : i + 1]
            online.book.encoded[transaction.transaction_id] = event[0].copy()
            fold(arena.words, program.code, event, given[i : i + 1], out[i : i + 1], 1)
            if transaction.transaction_id in online.book.fraud:
                late = event.copy()
                late[0, EVENT_KIND] = KIND_FRAUD
                fold(arena.words, program.code, late, given[:1], out[:0], 1)
        finish_rows(program.code, events, given, out, rows)
        found.append(out)
    return np.concatenate(found)


def _runs(log: Sequence[Entry]) -> list[list[Entry]]:
    """Neighbours of the same kind together."""
    runs: list[list[Entry]] = []
    for entry in log:
        if runs and type(runs[-1][0]) is type(entry):
            runs[-1].append(entry)
        else:
            runs.append([entry])
    return runs


def restored_midway(plan: Plan, log: Sequence[Entry], chance: random.Random) -> Vectors:
    """Serving that stops, and goes on elsewhere from its snapshot."""
    cut = chance.randrange(len(log) + 1)
    vectors, state, seen = _serve_until(cut, plan, log)
    # What the ledger would say of the transactions that later labels are about.
    book = LabelBook(encoded=seen, fraud=state.fraud)
    rest = EntryFold(state.program, state.arena, capacity=4, book=book)
    return np.concatenate([vectors, rest.run(log[cut:])])


def caught_up(plan: Plan, log: Sequence[Entry], chance: random.Random) -> Vectors:
    """Serving that stops; a backfill goes on from its snapshot."""
    cut = chance.randrange(len(log) + 1)
    vectors, state, seen = _serve_until(cut, plan, log)
    book = LabelBook(fraud=state.fraud)
    batches = batches_of(log[cut:], _cuts(log[cut:], chance)) if cut < len(log) else []
    book.scan(batches)
    book.encoded.update((i, seen[i]) for i in book.wanted if i in seen)
    folding = OfflineFold(state.program, state.arena, book, threads=1)
    return np.concatenate([vectors, *folding.run(batches)])


def _serve_until(
    cut: int, plan: Plan, log: Sequence[Entry]
) -> tuple[Vectors, EmbeddedState, dict[str, npt.NDArray[np.int64]]]:
    """Vectors up to a cut, the state restored from the snapshot there, and the events seen."""
    program = compile_program(plan)
    before = EmbeddedState.empty(program)
    serving = EntryFold(program, before.arena, capacity=4)
    vectors = serving.run(log[:cut])
    before.sequence = cut
    before.fraud = serving.book.fraud
    with tempfile.TemporaryDirectory() as folder:
        before.freeze().write(Path(folder))
        after = restore(compile_program(plan), Path(folder))
    assert after.sequence == cut
    return vectors, after, serving.book.encoded


def redis(plan: Plan, log: Sequence[Entry], chance: random.Random) -> Vectors:
    """Serving with state in Redis."""
    with shared_records(plan, shared_redis().url) as shared:
        fold = RedisFold(shared.features(), shared.effects(), chance.choice([4, 64]))
        return fold.run(log)


def oracle(plan: Plan, log: Sequence[Entry]) -> list[list[float | None]]:
    """What the vectors are by definition."""
    asked = Oracle(plan)
    answers = []
    for entry in log:
        if isinstance(entry, Transaction):
            answers.append(asked.ask(entry))
        asked.tell(entry)
    return answers


ENGINES: Final[dict[str, Engine]] = {
    "offline": offline,
    "offline_in_parts": offline_in_parts,
    "one_at_a_time": one_at_a_time,
    "embedded": embedded,
    "micro_batches": micro_batches,
    "columnar_online": columnar_online,
    "restored_midway": restored_midway,
    "caught_up": caught_up,
    "redis": redis,
}
