"""From a void on, every engine computes what it would if its payment had never come."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from sentinel.domain import ENTITY_COLUMNS, Entry, Label, Transaction, Void
from sentinel.features.as_of import RowsAsOf, features_as_of
from sentinel.features.kernel.sweep import fold_view
from sentinel.features.offline import LabelBook
from sentinel.features.plan.functions import AMOUNT
from sentinel.features.plan.plan import Plan
from sentinel.features.plan.program import compile_program
from sentinel.features.used_columns import only_used, used_columns
from sentinel.features.voids import LogFold, RecordsAnew, StateFold, payments_of
from sentinel.ledger.base import Appended
from sentinel.log.labels import take_void
from sentinel.pipeline.verify import _Replay
from sentinel.state.embedded import EmbeddedState, restore
from sentinel.state.known_ids import KnownIds
from sentinel.state.redis.reloading import ReplayedRecord
from testkit.oracle import Oracle
from testkit.redis_fold import RedisFold
from testkit.shared_records import reload_record, shared_records
from tests.features.logs import batch_of, batches_of, bits_of, bits_of_values
from tests.features.worlds import WorldWithVoids, worlds_with_voids
from tests.state.shared_redis import shared_redis
from tests.state.test_shared_records import words_in

Vectors = npt.NDArray[np.float32]
Engine = Callable[[Plan, Sequence[Entry], random.Random], Vectors]


def cut(log: Sequence[Entry], chance: random.Random) -> list[pa.RecordBatch]:
    return batches_of(log, [chance.randrange(len(log) + 1) for _ in range(chance.randrange(4))])


def offline(plan: Plan, log: Sequence[Entry], chance: random.Random) -> Vectors:
    """Backfill in batches."""
    batches = cut(log, chance)
    folding = LogFold(compile_program(plan), lambda: batches, threads=1)
    folding.book.scan(batches)
    return np.concatenate(list(folding.run(batches)))


class _PartsFold(LogFold):
    def _run_views(
        self, events: npt.NDArray[np.int64], out: Vectors, rows: npt.NDArray[np.int64]
    ) -> None:
        for view in range(len(self.program.plan.views)):
            for part in (1, 0):
                fold_view(self.arena.words, self.program.code, view, part, 2, events, out, rows)


def offline_in_parts(plan: Plan, log: Sequence[Entry], chance: random.Random) -> Vectors:
    """The share of the work that each of two threads does, one after another."""
    batches = cut(log, chance)
    folding = _PartsFold(compile_program(plan), lambda: batches, threads=1)
    folding.book.scan(batches)
    return np.concatenate(list(folding.run(batches)))


def serve(
    state: EmbeddedState, log: Sequence[Entry], chance: random.Random, before: Sequence[Entry] = ()
) -> Vectors:
    """What a scorer does: records are folded anew beside the payments, then the gap, then they are
    put in place.

    Args:
        state: Through ``before``; changed.
        log: What comes.
        chance: Cuts it into pieces.
        before: The log so far.
    """
    known = {e.transaction_id: e for e in before if isinstance(e, Transaction)}
    found = [np.empty((0, state.program.n_features), dtype=np.float32)]
    done = list(before)
    for entries in _groups(log, chance):
        appended = Appended(len(done) + 1, 0)
        transactions = [entry for entry in entries if isinstance(entry, Transaction)]
        labels = [entry for entry in entries if isinstance(entry, Label)]
        voids = [entry.transaction_id for entry in entries if isinstance(entry, Void)]
        if transactions:
            reading = state.add(transactions)
            state.settle(reading.ticket, transactions, appended)
            found.append(reading.vectors)
        elif labels:
            state.apply_labels(labels, appended, known)
        else:
            batches = cut(done, chance)
            payments = payments_of(batches, voids, state.program.plan)
            anew = RecordsAnew(state.program, payments, {*state.void, *voids}, threads=1)
            for batch in batches:
                anew.take(batch)
                if chance.random() < 0.5:
                    anew.fold()
            anew.fold()
            state.apply_voids(voids, appended, anew)
        known.update((t.transaction_id, t) for t in transactions)
        done += entries
    assert state.sequence == len(done)
    return np.concatenate(found)


def _groups(log: Sequence[Entry], chance: random.Random) -> Iterator[Sequence[Entry]]:
    """Neighbours of one kind, a few at a time."""
    start = 0
    while start < len(log):
        end, most = start + 1, chance.randrange(1, 6)
        while end < len(log) and end - start < most and _kind(log[end]) is _kind(log[start]):
            end += 1
        yield log[start:end]
        start = end


def _kind(entry: Entry) -> type:
    return Transaction if isinstance(entry, Transaction) else type(entry)


def embedded(plan: Plan, log: Sequence[Entry], chance: random.Random) -> Vectors:
    """A scorer with state in memory."""
    return serve(EmbeddedState.empty(compile_program(plan)), log, chance)


def restored_midway(plan: Plan, log: Sequence[Entry], chance: random.Random) -> Vectors:
    """A scorer that stops, and goes on from its snapshot."""
    at = chance.randrange(len(log) + 1)
    vectors, state = _restored(plan, log[:at], chance)
    return np.concatenate([vectors, serve(state, log[at:], chance, log[:at])])


def caught_up(plan: Plan, log: Sequence[Entry], chance: random.Random) -> Vectors:
    """A scorer that stops; a backfill goes on from its snapshot."""
    at = chance.randrange(len(log) + 1)
    vectors, state = _restored(plan, log[:at], chance)
    batches = cut(log[at:], chance) if at < len(log) else []
    book = _book_of(state, log[:at], batches)
    folding = LogFold(
        state.program, lambda: batches_of(log), state.arena, book, threads=1, after=at
    )
    return np.concatenate([vectors, *folding.run(batches)])


def _book_of(
    state: EmbeddedState, before: Sequence[Entry], batches: Sequence[pa.RecordBatch]
) -> LabelBook:
    """What is known of labels by a state, for a fold that goes on from it."""
    book = LabelBook(fraud=state.fraud, void=state.void)
    book.scan(batches)
    encoder = LogFold(state.program, list, state.arena, threads=1)
    for entry in before:
        if isinstance(entry, Transaction) and entry.transaction_id in book.wanted:
            encoder.book.wanted.add(entry.transaction_id)
    words = state.arena.words.copy()
    earlier = [entry for entry in before if isinstance(entry, Transaction)]
    if earlier:
        encoder.step(batch_of(earlier), vectors=False)
    state.arena.words[: len(words)] = words
    book.encoded.update(encoder.book.encoded)
    return book


def _restored(
    plan: Plan, log: Sequence[Entry], chance: random.Random
) -> tuple[Vectors, EmbeddedState]:
    program = compile_program(plan)
    before = EmbeddedState.empty(program)
    vectors = serve(before, log, chance)
    with tempfile.TemporaryDirectory() as folder:
        before.freeze().write(Path(folder))
        after = restore(program, Path(folder))
    assert after.sequence == len(log)
    assert after.void == before.void
    return vectors, after


def verified(plan: Plan, log: Sequence[Entry], chance: random.Random) -> Vectors:
    """What `sentinel features verify` holds backfilled vectors against."""
    batches = cut(log, chance)
    wanted = {entry.transaction_id for entry in log if isinstance(entry, Label)}
    replay = _Replay(compile_program(plan), wanted, lambda: batches)
    found, first = [], 1
    for batch in batches:
        found.append(replay.run(first, batch)[2])
        first += batch.num_rows
    return np.concatenate(found)


def as_of(plan: Plan, log: Sequence[Entry], chance: random.Random) -> Vectors:
    """Each payment as a question, as of the moment before it."""
    payments = [entry for entry in log if isinstance(entry, Transaction)]
    batches = cut(log, chance)
    asked = only_used(batch_of(payments), plan)
    columns = [AMOUNT, *ENTITY_COLUMNS, *used_columns(plan)]
    rows = RowsAsOf(
        np.array([entry.received_at_us for entry in payments]),
        np.array([entry.event_time_us for entry in payments]),
        {name: asked.column(name) for name in columns},
    )
    return features_as_of(plan, lambda: batches, rows, threads=1)


class _RedisWithVoids(RedisFold):
    """Where a void stands, records are put in place anew as those in doubt are."""

    def run_with_voids(self, log: Sequence[Entry]) -> Vectors:
        found, done = [], 0
        for number, entry in enumerate(log):
            if isinstance(entry, Void):
                found.append(self.run(_decided(log[done:number])))
                self._sequence += 1
                self._take_void(entry, log[: number + 1])
                done = number + 1
        return np.concatenate([*found, self.run(_decided(log[done:]))])

    def _take_void(self, void: Void, log: Sequence[Entry]) -> None:
        if not take_void(self.book.fraud, self.book.void, void.transaction_id):
            return
        batches = batches_of(log)
        folding = LogFold(self.features.program, lambda: batches, threads=1)
        folding.book.scan(batches)
        for batch in batches:
            folding.step(batch, vectors=False)
        known = KnownIds()
        known.add(entry.transaction_id for entry in log if isinstance(entry, Transaction))

        def replayed(view: int, key: str) -> ReplayedRecord:
            words = folding.arena.record(view, key).copy()
            return ReplayedRecord(words, self._sequence, known.holds)

        for view, key, _ in self.effects.touched_by([self._known[void.transaction_id]]):
            assert reload_record(self.effects, (view, key), replayed) is not None


def _decided(log: Sequence[Entry]) -> list[Transaction | Label]:
    return [entry for entry in log if not isinstance(entry, Void)]


def redis(plan: Plan, log: Sequence[Entry], chance: random.Random) -> Vectors:
    """A scorer with state in Redis."""
    with shared_records(plan, shared_redis().url) as shared:
        fold = _RedisWithVoids(shared.features(), shared.effects(), chance.choice([4, 64]))
        return fold.run_with_voids(log)


ENGINES: Final[dict[str, Engine]] = {
    "offline": offline,
    "offline_in_parts": offline_in_parts,
    "embedded": embedded,
    "restored_midway": restored_midway,
    "caught_up": caught_up,
    "verified": verified,
    "as_of": as_of,
    "redis": redis,
}


def disagreements(world: WorldWithVoids, seed: int) -> list[str]:
    """One line for each value in which an engine and the oracle differ."""
    names = world.plan.feature_names
    asked = Oracle(world.plan)
    expected = []
    for entry in world.log:
        if isinstance(entry, Transaction):
            expected.append(asked.ask(entry))
        asked.tell(entry)
    bits = bits_of_values(expected, len(names))
    found = []
    for name, engine in ENGINES.items():
        vectors = engine(world.plan, world.log, random.Random(seed))
        assert vectors.shape == bits.shape, name
        for row, column in np.argwhere(bits_of(vectors) != bits):
            found.append(
                f"{name}: transaction {row}, {names[column]}: "
                f"{vectors[row, column]!r}, by definition {expected[row][column]!r}"
            )
    return found


@given(worlds_with_voids(), st.integers(0, 2**16))
def test_every_engine_agrees_with_the_definition_of_a_void(
    world: WorldWithVoids, seed: int
) -> None:
    assert disagreements(world, seed) == []


@given(worlds_with_voids(), st.integers(0, 2**16))
def test_a_state_that_takes_voids_in_at_the_end_is_the_same(
    world: WorldWithVoids, seed: int
) -> None:
    log, chance = world.log, random.Random(seed)
    at = chance.randrange(len(log) + 1)
    _, state = _restored(world.plan, log[:at], chance)
    batches = cut(log[at:], chance) if at < len(log) else []
    paid = {entry.transaction_id: entry for entry in log if isinstance(entry, Transaction)}

    def find(transaction_ids: Sequence[str]) -> pa.RecordBatch | None:
        if chance.random() < 0.5:
            return None
        return only_used(batch_of([paid[one] for one in transaction_ids]), world.plan)

    book = _book_of(state, log[:at], batches)
    folding = StateFold(
        state.program,
        lambda: batches_of(log),
        state.arena,
        book,
        threads=1,
        after=at,
        find=find,
    )
    for batch in batches:
        folding.step(batch, vectors=False)
    folding.finish()
    whole = LogFold(state.program, lambda: batches_of(log), threads=1)
    whole.book.scan(batches_of(log))
    for batch in batches_of(log):
        whole.step(batch, vectors=False)
    assert words_in(state.arena) == words_in(whole.arena)
    assert (book.fraud, book.void) == (whole.book.fraud, whole.book.void)
