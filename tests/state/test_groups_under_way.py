"""Groups that are sent to shared records before those ahead of them are answered."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.domain import StateUnavailable, Transaction
from sentinel.state.base import Hands
from sentinel.state.redis.adding import Added
from sentinel.state.redis.cache import UNKNOWN, RecordCache
from sentinel.state.redis.features import AT_ONCE
from sentinel.state.redis.group_fold import Calls
from sentinel.state.redis.reloading import ReplayedRecord
from testkit.event_loops import Told, all_told_on_loop
from testkit.servers import Redis
from testkit.shared_records import SharedRecords, reload_record, shared_records
from tests.features.logs import bits_of
from tests.features.plans import every_function
from tests.state.shared_redis import shared_redis
from tests.state.test_redis_failures import stopped
from tests.state.test_shared_records import Embedded, payment, words_in, words_of

PLAN = every_function()

Begin = Callable[[Hands, Told], bool]


@pytest.fixture
def shared() -> Iterator[SharedRecords]:
    with shared_records(PLAN, shared_redis().url) as records:
        yield records


class Scorer:
    """A scorer that is connected and has folded some payments, beside what it should say."""

    def __init__(self, shared: SharedRecords) -> None:
        self.features = shared.features()
        self.effects = shared.effects()
        self.embedded = Embedded(shared)
        self.tickets: list[bytes] = []
        self.add([payment(1, 1), payment(2, 2)])

    def add(self, group: list[Transaction]) -> None:
        """Add a group in this thread."""
        self.tickets.append(self.features.next_ticket())
        added = self.features.add(group, self.tickets[-1])
        assert_is(added, self.embedded.run(group))

    def sending(self, group: list[Transaction]) -> Begin:
        """What begins a group, and waits until Redis has it; the answer is not read meanwhile."""
        ticket = self.features.next_ticket()
        self.tickets.append(ticket)

        def begin(hands: Hands, tell: Told) -> bool:
            begun = self.features.begin(hands, group, ticket, (), tell)
            while begun and ticket not in self.effects.records.intents():
                time.sleep(0.001)
            time.sleep(0.02)  # the records come right behind the intents
            return begun

        return begin


def assert_is(added: Any, expected: Any) -> None:
    """A group read what the embedded fold says, bit by bit."""
    assert isinstance(added, Added), added
    assert (bits_of(added.vectors) == bits_of(expected)).all()


def meanwhile(action: Callable[[], object]) -> Begin:
    """Something that happens between two groups."""

    def begin(_hands: Hands, _tell: Told) -> bool:
        action()
        return False

    return begin


def answers(*begins: Begin) -> list[Any]:
    """What the groups were told that were begun."""
    return [told for told, begun in all_told_on_loop(begins) if begun]


@settings(max_examples=30)
@given(st.integers(0, 2**32))
def test_a_group_goes_on_from_where_those_ahead_of_it_have_brought_a_record(seed: int) -> None:
    draw = random.Random(seed)
    with shared_records(PLAN, shared_redis().url) as shared:
        scorer, other = Scorer(shared), shared.features()
        n = 10
        for _ in range(6):
            groups = []
            for _ in range(AT_ONCE):
                size = draw.randrange(1, 4)
                groups.append(
                    [
                        payment(n + i, n + i, i, f"c{draw.randrange(3)}", f"m{draw.randrange(2)}")
                        for i in range(size)
                    ]
                )
                n += size
            read = answers(*map(scorer.sending, groups))
            assert len(read) == AT_ONCE
            for group, added in zip(groups, read, strict=True):
                assert_is(added, scorer.embedded.run(group))
            if draw.random() < 0.5:  # somebody else brings the records further
                group, n = [payment(n, n, 7, f"c{draw.randrange(3)}")], n + 1
                assert_is(other.add(group, other.next_ticket()), scorer.embedded.run(group))
        assert words_of(shared) == words_in(scorer.embedded.fold.arena)


def test_an_event_that_comes_between_two_groups_is_read_by_the_second(
    shared: SharedRecords,
) -> None:
    scorer, other = Scorer(shared), shared.features()
    between = [payment(5, 5, 50)]
    first, second = answers(
        scorer.sending([payment(3, 3), payment(4, 4)]),
        meanwhile(lambda: other.add(between, other.next_ticket())),
        scorer.sending([payment(6, 6)]),
    )
    assert_is(first, scorer.embedded.run([payment(3, 3), payment(4, 4)]))
    scorer.embedded.run(between)
    assert_is(second, scorer.embedded.run([payment(6, 6)]))
    scorer.add([payment(7, 7)])


@pytest.mark.parametrize("voided", ["known before", "of the group ahead"])
def test_an_event_taken_back_between_two_groups_is_not_read_by_the_second(
    shared: SharedRecords, voided: str
) -> None:
    scorer = Scorer(shared)
    scorer.add([payment(3, 3)])
    ahead = [payment(4, 4)]
    gone = ahead if voided == "of the group ahead" else [payment(3, 3)]

    def take_back() -> None:
        ticket = scorer.tickets[-2] if gone is ahead else scorer.tickets[1]
        assert scorer.effects.void(ticket, scorer.effects.touched_by(gone))

    first, second = answers(
        scorer.sending(ahead), meanwhile(take_back), scorer.sending([payment(5, 5)])
    )
    assert_is(first, scorer.embedded.run(ahead))
    scorer.embedded.take_back(gone)
    assert_is(second, scorer.embedded.run([payment(5, 5)]))
    scorer.add([payment(6, 6)])
    assert words_of(shared) == words_in(scorer.embedded.fold.arena)


def test_a_group_that_has_to_be_fetched_anew_keeps_its_place_ahead_of_the_next(
    shared: SharedRecords,
) -> None:
    scorer = Scorer(shared)
    scorer.add([payment(3, 3)])
    gone = [payment(3, 3)]
    assert scorer.effects.void(scorer.tickets[-1], scorer.effects.touched_by(gone))
    first, second = answers(scorer.sending([payment(4, 4)]), scorer.sending([payment(5, 5)]))
    scorer.embedded.take_back(gone)
    assert_is(first, scorer.embedded.run([payment(4, 4)]))
    assert_is(second, scorer.embedded.run([payment(5, 5)]))
    assert first.positions[0, 0] < second.positions[0, 0]
    scorer.add([payment(6, 6)])


def test_a_group_is_read_whole_where_the_one_ahead_could_not_be_fetched_anew(
    shared: SharedRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = Scorer(shared)
    scorer.add([payment(3, 3)])
    gone = [payment(3, 3)]
    assert scorer.effects.void(scorer.tickets[-1], scorer.effects.touched_by(gone))

    def is_away(_calls: Calls) -> list[bytes]:
        raise StateUnavailable("Redis did not answer.")

    monkeypatch.setattr(scorer.features._group, "_ask", is_away)
    first, second = answers(scorer.sending([payment(4, 4)]), scorer.sending([payment(5, 5)]))
    assert isinstance(first, StateUnavailable)
    scorer.embedded.take_back(gone)
    scorer.embedded.run([payment(4, 4)])  # it stands in the records until it is taken back
    assert_is(second, scorer.embedded.run([payment(5, 5)]))


def test_a_record_that_is_put_in_place_anew_between_two_groups(shared: SharedRecords) -> None:
    scorer = Scorer(shared)
    ahead = [payment(3, 3)]
    scorer.embedded.run(ahead)

    def replayed(view: int, key: str) -> ReplayedRecord:
        return ReplayedRecord(
            scorer.embedded.fold.arena.record(view, key), 0, lambda _identifier: True
        )

    def put_in_place() -> None:
        for some in scorer.effects.records.every():
            for record in some:
                assert reload_record(scorer.effects, record, replayed) is not None

    _, second = answers(
        scorer.sending(ahead), meanwhile(put_in_place), scorer.sending([payment(4, 4)])
    )
    assert_is(second, scorer.embedded.run([payment(4, 4)]))
    scorer.add([payment(5, 5)])


@pytest.mark.parametrize("lost_before", [0, 1])
@pytest.mark.parametrize("comes_back", [False, True])
def test_a_server_that_forgets_its_functions_beside_groups_under_way(
    tmp_path: Path, lost_before: int, *, comes_back: bool
) -> None:
    with Redis(tmp_path) as server, shared_records(PLAN, server.url) as shared:
        scorer = Scorer(shared)
        library = scorer.features.records.library

        def flush() -> None:
            with closing(redis.Redis.from_url(server.url)) as client:
                client.execute_command("FUNCTION", "FLUSH")

        def load() -> None:
            if comes_back:  # another scorer has loaded them: the second group is done at once
                scorer.effects.records.wire.load_library(library.text)

        group, behind = [payment(3, 3), payment(4, 4)], [payment(5, 5), payment(6, 6, 5, "c2")]
        steps = [scorer.sending(group), scorer.sending(behind)]
        steps.insert(1, meanwhile(load))
        steps.insert(lost_before, meanwhile(flush))
        first, second = answers(*steps)
        late = comes_back and lost_before == 0
        for read, added in (
            [(behind, second), (group, first)]
            if late
            else [
                (group, first),
                (behind, second),
            ]
        ):
            assert_is(added, scorer.embedded.run(read))
        scorer.add([payment(7, 7)])
        assert words_of(shared) == words_in(scorer.embedded.fold.arena)


def test_all_groups_under_way_are_in_doubt_where_a_server_hangs(tmp_path: Path) -> None:
    with Redis(tmp_path) as server, shared_records(PLAN, server.url) as shared:
        scorer = Scorer(shared)
        groups = [[payment(3, 3)], [payment(4, 4)]]
        tickets = [scorer.features.next_ticket() for _ in groups]
        scorer.features.records.wire.timeout_seconds = 0.2

        def begin(group: list[Transaction], ticket: bytes) -> Begin:
            return lambda hands, tell: scorer.features.begin(hands, group, ticket, (), tell)

        with stopped(server):
            found = answers(*map(begin, groups, tickets))
        assert [type(error) for error in found] == [StateUnavailable] * 2
        scorer.features.records.wire.timeout_seconds = 20
        scorer.features.let_go()
        for group, ticket in zip(groups, tickets, strict=True):
            scorer.effects.void(ticket, scorer.effects.touched_by(group))
        assert words_of(shared) == words_in(scorer.embedded.fold.arena)
        scorer.add([payment(5, 5)])
        (added,) = answers(scorer.sending([payment(6, 6)]))
        assert_is(added, scorer.embedded.run([payment(6, 6)]))


def test_no_more_groups_are_sent_than_allowed_and_none_where_somebody_waits(
    shared: SharedRecords,
) -> None:
    scorer = Scorer(shared)
    begun = []

    def note(begin: Begin) -> Begin:
        def noted(hands: Hands, tell: Told) -> bool:
            begun.append(begin(hands, tell))
            return begun[-1]

        return noted

    waits = threading.Thread(target=scorer.features.peek, args=([payment(9, 9)],))

    def wait_for_turn() -> None:
        waits.start()
        while not scorer.features._wanted:
            time.sleep(0.001)

    def beginning(n: int) -> Begin:
        ticket = scorer.features.next_ticket()
        return lambda hands, tell: scorer.features.begin(hands, [payment(n, n)], ticket, (), tell)

    numbers = range(3, 4 + AT_ONCE)
    answers(*(note(beginning(n)) for n in numbers))
    assert begun == [True] * AT_ONCE + [False]
    begun.clear()
    answers(note(beginning(20)), meanwhile(wait_for_turn), note(beginning(21)))
    assert begun == [True, False]
    begun.clear()
    waits.join()
    answers(note(beginning(22)))
    assert begun == [True], "whoever waited has had its turn"


def test_an_error_of_whoever_is_told_keeps_no_other_group(shared: SharedRecords) -> None:
    scorer = Scorer(shared)

    def fails(_added: Any, _error: Exception | None) -> None:
        raise ValueError("a fault in what comes next")

    def begin(hands: Hands, tell: Told) -> bool:
        ticket = scorer.features.next_ticket()
        assert scorer.features.begin(hands, [payment(3, 3)], ticket, (), fails)
        return False

    (second,) = answers(begin, scorer.sending([payment(4, 4)]))
    scorer.embedded.run([payment(3, 3)])
    assert_is(second, scorer.embedded.run([payment(4, 4)]))
    scorer.add([payment(5, 5)])


def test_records_of_groups_under_way_keep_their_slots(shared: SharedRecords) -> None:
    cache = RecordCache(shared.program, 0, least_slots=4)
    assert cache.slots == 8
    cache.begin()
    first = [cache.slot(0, f"a{n}") for n in range(4)]
    cache.known[0, first] = 7
    cache.begin()
    second = [cache.slot(0, f"b{n}") for n in range(4)]
    assert not {*first} & {*second}
    cache.kept_from = cache.calls  # the first group has ended
    third = [cache.slot(0, f"c{n}") for n in range(4)]
    assert {*third} == {*first}
    assert (cache.known[0, third] == UNKNOWN).all()
