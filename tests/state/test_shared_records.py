"""Many scorers append to the same records, and each reads what the embedded fold would say."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.domain import Label, StateUnavailable, Transaction
from sentinel.features.arena import Arena
from sentinel.features.offline import LabelBook
from sentinel.features.online import OnlineFold
from sentinel.features.plan.plan import Plan
from sentinel.features.plan.program import KIND_ADD, KIND_FRAUD
from sentinel.log.labels import take_label
from sentinel.state.redis.adding import Added
from sentinel.state.redis.effects import Change, step_of
from sentinel.state.redis.features import SharedFeatures
from sentinel.state.redis.group_fold import COMPACT_FROM, Calls
from sentinel.state.redis.intents import touched_by
from sentinel.state.redis.layout import EPOCH_SHIFT, EPOCHS_OF_A_LOAD, epoch_start
from sentinel.state.redis.records import Loaded
from sentinel.state.redis.reloading import ReplayedRecord
from testkit.event_loops import add_on_loop
from testkit.shared_records import SharedRecords, reload_record, shared_records
from tests.features.logs import bits_of
from tests.features.plans import DAY_US, MINUTE_US, every_function
from tests.features.worlds import START_US, World, worlds
from tests.state.shared_redis import shared_redis

PLAN = every_function((10 * MINUTE_US, DAY_US))
START = epoch_start(EPOCHS_OF_A_LOAD)
NEXT = EPOCHS_OF_A_LOAD + 1


@pytest.fixture
def shared() -> Iterator[SharedRecords]:
    with shared_records(PLAN, shared_redis().url) as records:
        yield records


def payment(
    n: int, time_us: int = 0, amount: int = 100, customer: str = "c1", merchant: str = "m1"
) -> Transaction:
    return Transaction(
        transaction_id=f"t{n}",
        event_time_us=START_US + time_us,
        received_at_us=START_US + n,
        amount_minor=amount,
        customer_id=customer,
        merchant_id=merchant,
    )


def words_of(shared: SharedRecords) -> dict[tuple[int, str], list[int]]:
    """The folded words of every record, without its position."""
    effects = shared.effects()
    found = {}
    for some in effects.records.every():
        for record, value in zip(some, effects.records.stored(some), strict=True):
            assert value is not None
            words = effects.folded(record[0], value)
            words[1] = 0
            if words.any():
                found[record] = words.tolist()
    return found


def words_in(arena: Arena) -> dict[tuple[int, str], list[int]]:
    found = {}
    for view, keys in enumerate(arena.keys):
        for key in keys:
            words = arena.record(view, key).copy()
            words[1] = 0
            if words.any():
                found[view, key] = words.tolist()
    return found


class Embedded:
    """What the records should say: the changes that stand, folded in the order of positions."""

    def __init__(self, shared: SharedRecords) -> None:
        self.program = shared.program
        self.stands: list[tuple[Transaction, int]] = []
        self.fold = OnlineFold(self.program, Arena(self.program))

    def run(self, transactions: Sequence[Transaction], kind: int = KIND_ADD) -> np.ndarray:
        self.stands += [(transaction, kind) for transaction in transactions]
        return self.fold.run(transactions, kind)

    def take_back(self, transactions: Sequence[Transaction]) -> None:
        gone = {transaction.transaction_id for transaction in transactions}
        left = [change for change in self.stands if change[0].transaction_id not in gone]
        self.stands, self.fold = [], OnlineFold(self.program, Arena(self.program))
        for transaction, kind in left:
            self.run([transaction], kind)


@settings(max_examples=60)
@given(worlds(), st.integers(0, 2**16))
def test_any_interleaving_of_scorers_reads_the_embedded_fold(world: World, seed: int) -> None:
    draw = random.Random(seed)
    with shared_records(world.plan, shared_redis().url) as shared:
        # One of them remembers next to nothing, so that it reads whole records.
        scorers = [shared.features() for _ in range(3)]
        effects = shared.effects()
        embedded = Embedded(shared)
        book, seen = LabelBook(), dict[str, Transaction]()
        unsettled: list[tuple[bytes, list[Transaction]]] = []
        log = list(world.log)
        while log:
            group: list[Transaction] = []
            size = draw.choice([1, 1, 2, 5])
            while log and isinstance(log[0], Transaction) and len(group) < size:
                group.append(log.pop(0))  # type: ignore[arg-type]
            scorer = draw.choice(scorers)
            if group:
                peeked = bits_of(scorer.peek(group[:1]))
                ticket = scorer.next_ticket()
                added = add_on_loop(scorer, group, ticket) if draw.random() < 0.5 else None
                if added is None:  # in a thread, or there was no connection yet
                    added = scorer.add(group, ticket)
                assert (peeked == bits_of(added.vectors[:1])).all()
                assert (bits_of(added.vectors) == bits_of(embedded.run(group))).all()
                assert not added.repeated.any()
                unsettled.append((ticket, group))
                seen.update({transaction.transaction_id: transaction for transaction in group})
            elif isinstance(log[0], Label):
                label = log.pop(0)
                kind = take_label(book.fraud, label.transaction_id, label.verdict)  # type: ignore[union-attr]
                about = seen.get(label.transaction_id)
                if kind is not None and about is not None:
                    step = step_of(len(world.log) - len(log))
                    for _ in range(draw.choice([1, 2])):  # two followers, or one that went back
                        effects.apply([Change(about, kind, step)])
                    embedded.run([about], kind)
            while unsettled and draw.random() < 0.5:
                ticket, group = unsettled.pop(draw.randrange(len(unsettled)))
                labelled = {t.transaction_id for t, kind in embedded.stands if kind != KIND_ADD}
                if draw.random() < 0.4 and not labelled & {t.transaction_id for t in group}:
                    for _ in range(draw.choice([1, 2])):
                        effects.void(ticket, effects.touched_by(group))
                    embedded.take_back(group)
                    for transaction in group:
                        del seen[transaction.transaction_id]
                scorer.settled(ticket)
            if draw.random() < 0.3:
                records = [record for some in effects.records.every() for record in some]
                for one in scorers:
                    one.say_settled(effects.records)
                effects.compact(records, len(world.log))
        assert words_of(shared) == words_in(embedded.fold.arena)


def test_a_tail_is_folded_into_the_base_and_readings_stay(shared: SharedRecords) -> None:
    scorer, effects, embedded = shared.features(), shared.effects(), Embedded(shared)
    payments = [payment(n, 60_000_000 * n, 100 + n) for n in range(3 * COMPACT_FROM)]
    for one in payments:
        ticket = scorer.next_ticket()
        added = scorer.add([one], ticket)
        scorer.settled(ticket)
        assert (bits_of(added.vectors) == bits_of(embedded.run([one]))).all()
    named = list(scorer.full_tails)
    assert {view for view, _ in named} == {0, 1}
    scorer.say_settled(effects.records)
    before = words_of(shared)
    assert effects.compact(named, 0) == []
    for value in effects.records.stored(named):
        assert value is not None
        assert (len(value.tail), len(value.base) > 0) == (0, True)
        assert value.position == START + len(payments)
    assert words_of(shared) == before
    last = payment(1000, 9_000_000_000)
    expected = bits_of(embedded.run([last]))
    for other in (scorer, shared.features()):  # one that knows the record, one that does not
        assert (bits_of(other.peek([last])) == expected).all()


def test_what_is_not_settled_stays_in_the_tail(shared: SharedRecords) -> None:
    scorer, effects = shared.features(), shared.effects()
    tickets = []
    for n in range(40):
        tickets.append(scorer.next_ticket())
        scorer.add([payment(n, n)], tickets[-1])
        if n != 20:
            scorer.settled(tickets[-1])
    scorer.say_settled(effects.records)
    effects.compact([(0, "c1")], 0)
    (value,) = effects.records.stored([(0, "c1")])
    assert value is not None
    assert len(value.tail) == 20
    assert set(effects.records.intents()) == {tickets[20]}
    (touched, *_) = touched_by(effects.records.intents()[tickets[20]])
    assert (touched.view, touched.key) == (0, "c1")


def test_an_event_voided_after_its_tail_was_read_is_not_compacted(shared: SharedRecords) -> None:
    scorer, effects = shared.features(), shared.effects()
    group = [payment(n, n) for n in range(10)]
    ticket = scorer.next_ticket()
    scorer.add(group, ticket)
    (value,) = effects.records.stored([(0, "c1")])
    assert value is not None
    effects.void(ticket, effects.touched_by(group[:1]))
    base = effects.records.packed(effects.folded(0, value))
    seen = value.position + 10
    assert effects.records.compact([((0, "c1"), value.position, seen, seen, base)]) == [False]


def test_a_repeat_is_noticed_and_changes_nothing(shared: SharedRecords) -> None:
    first, second = shared.features(), shared.features()
    ticket = first.next_ticket()
    first.add([payment(1), payment(2, 5)], ticket)
    before = words_of(shared)
    added = second.add([payment(2, 5), payment(3, 9)], second.next_ticket())
    assert added.repeated.tolist() == [True, False]
    assert words_of(shared) != before
    third = first.add([payment(3, 9)], first.next_ticket())
    assert third.repeated.tolist() == [True]
    # What was taken back may come again.
    shared.effects().void(ticket, shared.effects().touched_by([payment(1)]))
    again = second.add([payment(1, 20)], second.next_ticket())
    assert again.repeated.tolist() == [False]


def test_many_rows_of_one_record_share_a_round_trip(shared: SharedRecords) -> None:
    scorer, embedded = shared.features(), Embedded(shared)
    group = [payment(n, 7 * n, n, merchant=f"m{n % 3}") for n in range(200)]
    added = scorer.add(group, scorer.next_ticket())
    assert (bits_of(added.vectors) == bits_of(embedded.run(group))).all()

    assert (added.positions[:, 0] - START).tolist() == list(range(1, 201))
    with pytest.raises(ValueError, match="at most 512"):
        scorer.add(group * 3, scorer.next_ticket())


def test_more_entities_than_the_cache_holds(shared: SharedRecords) -> None:
    scorer, embedded = shared.features(cache_bytes=0), Embedded(shared)
    draw = random.Random(5)
    for n in range(60):
        group = [
            payment(1000 * n + i, 60_000_000 * n, i, customer=f"c{draw.randrange(3000)}")
            for i in range(50)
        ]
        added = scorer.add(group, scorer.next_ticket())
        assert (bits_of(added.vectors) == bits_of(embedded.run(group))).all()


def test_a_loaded_state_begins_a_new_epoch(shared: SharedRecords) -> None:
    embedded, scorer, effects = Embedded(shared), shared.features(), shared.effects()
    embedded.run([payment(n, n) for n in range(5)])
    assert effects.records.loaded() is None
    effects.records.load(embedded.fold.arena, Loaded(epoch=7, sequence=5), step_of(5))
    assert scorer.records.loaded() == Loaded(7, 5)
    assert words_of(shared) == words_in(embedded.fold.arena)
    fresh = [payment(9, 99), payment(10, 100, customer="new")]
    added = scorer.add(fresh, scorer.next_ticket())
    assert (bits_of(added.vectors) == bits_of(embedded.run(fresh))).all()
    assert (added.positions >> EPOCH_SHIFT).tolist() == [[7, 7], [7, 7]]
    # A step that the loaded records contain is not taken again.
    effects.apply([Change(payment(3, 3), KIND_FRAUD, step_of(4))])
    assert words_of(shared) == words_in(embedded.fold.arena)


def test_a_record_put_in_place_anew_keeps_what_is_under_way(shared: SharedRecords) -> None:
    scorer, other, effects = shared.features(), shared.features(), shared.effects()
    embedded = Embedded(shared)
    in_log, lost, under_way = payment(1, 1), payment(2, 2), payment(3, 3)
    scorer.add([in_log], scorer.next_ticket())
    scorer.add([under_way], scorer.next_ticket())
    other.peek([under_way])
    embedded.run([in_log, lost])
    (value,) = effects.records.stored([(0, "c1")])
    assert value is not None
    words = embedded.fold.arena.record(0, "c1")
    position = value.position
    kept = effects.records.reload(
        (0, "c1"), position, position + 2, [position + 1], words, NEXT, step_of(2)
    )
    assert kept == 1
    again = effects.records.reload(
        (0, "c1"), position, position + 2, [], words, NEXT + 1, step_of(2)
    )
    assert again == -1, "the record is another by now"
    embedded.run([under_way])
    last = payment(4, 4, merchant="m9")
    expected = bits_of(embedded.run([last]))
    added = other.add([last], other.next_ticket())
    assert (bits_of(added.vectors) == expected).all()
    assert added.positions[0, 0] == epoch_start(NEXT) + 2


def test_what_another_follower_brings_meanwhile_is_not_kept_beside_what_the_log_says(
    shared: SharedRecords,
) -> None:
    effects, embedded = shared.effects(), Embedded(shared)
    first, second, later = (Change(payment(n, n), KIND_ADD, step_of(n)) for n in (1, 2, 3))
    effects.apply([first])
    (value,) = effects.records.stored([(0, "c1")])
    assert value is not None
    embedded.run([payment(1, 1), payment(2, 2)])
    shared.effects().apply([second, later])  # the caller has read of the log through the second
    kept = effects.records.reload(
        (0, "c1"),
        value.position,
        value.position + 1,
        [value.position + 1],
        embedded.fold.arena.record(0, "c1"),
        NEXT,
        step_of(2, label=True),
    )
    assert kept == 1
    embedded.run([payment(3, 3)])
    assert words_of(shared)[0, "c1"] == words_in(embedded.fold.arena)[0, "c1"]
    effects.apply([first, second, later])
    assert words_of(shared)[0, "c1"] == words_in(embedded.fold.arena)[0, "c1"]


def test_nothing_is_served_from_a_record_that_was_put_in_place_between_two_readings(
    shared: SharedRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer, other, effects = shared.features(), shared.features(), shared.effects()
    embedded = Embedded(shared)
    gone, ticket = other.next_ticket(), scorer.next_ticket()
    other.add([payment(1, 1)], gone)
    scorer.peek([payment(2, 2)])  # it holds the first one folded
    effects.void(gone, effects.touched_by([payment(1, 1)]))
    ask = scorer._group._ask

    def replayed(view: int, key: str) -> ReplayedRecord:
        return ReplayedRecord(embedded.fold.arena.record(view, key), 0, lambda _: False)

    def put_in_place_first(calls: Calls) -> list[bytes]:
        for record in calls.records:
            assert reload_record(effects, record, replayed) is not None
        return ask(calls)

    monkeypatch.setattr(scorer._group, "_ask", put_in_place_first)
    with pytest.raises(StateUnavailable, match="put in place anew"):
        scorer.add([payment(2, 2)], ticket)
    monkeypatch.undo()
    effects.void(ticket, effects.touched_by([payment(2, 2)]))
    last = [payment(3, 3)]
    added = scorer.add(last, scorer.next_ticket())
    assert (bits_of(added.vectors) == bits_of(embedded.run(last))).all()
    assert words_of(shared) == words_in(embedded.fold.arena)


def test_threads_of_scorers_lose_nothing(shared: SharedRecords) -> None:
    scorers = [shared.features() for _ in range(4)]
    answers: list[tuple[list[Transaction], Added]] = []
    stop = threading.Event()

    def score(number: int, scorer: SharedFeatures) -> None:
        draw = random.Random(number)
        for turn in range(60):
            group = [
                payment(100_000 * number + 10 * turn + i, draw.randrange(10**9), i)
                for i in range(draw.randrange(1, 5))
            ]
            ticket = scorer.next_ticket()
            answers.append((group, scorer.add(group, ticket)))
            scorer.settled(ticket)

    def compact() -> None:
        effects = shared.effects()
        while not stop.is_set():
            for scorer in scorers:
                scorer.say_settled(effects.records)
            effects.compact([(0, "c1"), (1, "c1\x1fm1")], 0)

    threads = [threading.Thread(target=score, args=item) for item in enumerate(scorers)]
    compaction = threading.Thread(target=compact)
    for thread in (*threads, compaction):
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    compaction.join()
    # Each record replayed by position gives what every scorer read.
    rows = [
        (int(added.positions[row, 0]), transaction, added.vectors[row])
        for group, added in answers
        for row, transaction in enumerate(group)
    ]
    rows.sort(key=lambda row: row[0])

    assert [position - START for position, _, _ in rows] == list(range(1, len(rows) + 1))
    embedded = Embedded(shared)
    expected = embedded.run([transaction for _, transaction, _ in rows])
    customer = len(PLAN.views[0].aggregates)
    served = np.stack([vector for _, _, vector in rows])
    assert (bits_of(served)[:, :customer] == bits_of(expected)[:, :customer]).all()
    assert words_of(shared) == words_in(embedded.fold.arena)


def test_a_server_that_is_away_is_said(shared: SharedRecords) -> None:
    records = shared.records(timeout_seconds=0.2)
    records.wire.url = "redis://127.0.0.1:1/0"
    dead = SharedRecords(PLAN, "redis://127.0.0.1:1/0", timeout_seconds=0.2)
    scorer = dead.features()
    with pytest.raises(StateUnavailable):
        scorer.add([payment(1)], scorer.next_ticket())
    with pytest.raises(StateUnavailable):
        scorer.peek([payment(1)])


def test_functions_are_loaded_where_they_are_missing(shared: SharedRecords) -> None:
    scorer, embedded = shared.features(), Embedded(shared)
    scorer.add([payment(1)], scorer.next_ticket())
    embedded.run([payment(1)])
    scorer.records.wire.delete_library(scorer.records.library.name)
    added = scorer.add([payment(2, 3)], scorer.next_ticket())
    assert (bits_of(added.vectors) == bits_of(embedded.run([payment(2, 3)]))).all()


def test_every_view_of_the_plan_has_its_own_width() -> None:
    plan = Plan(PLAN.views[:1], PLAN.request, ())
    with shared_records(plan, shared_redis().url) as shared:
        scorer, embedded = shared.features(), Embedded(shared)
        group = [payment(n, n, customer=None if n % 2 else "c1") for n in range(6)]  # type: ignore[arg-type]
        added = scorer.add(group, scorer.next_ticket())
        assert (bits_of(added.vectors) == bits_of(embedded.run(group))).all()
        assert (added.positions[1::2] == 0).all()
