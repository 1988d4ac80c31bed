"""Look-ups beside serving: what they find, how long they may take, and how many there may be."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from sentinel.domain import LookupTooSlow, Outcome, Overloaded, Transaction, Verdict
from sentinel.ledger.index import LedgerIndex
from sentinel.ledger.index_readers import IndexReader, IndexReaders
from sentinel.ledger.index_schema import RUN_BITS
from sentinel.ledger.index_values import DecisionFilter, IndexedDecision
from sentinel.ledger.sqlite import SqliteLedger
from tests.ledger.material import NOON_US, append_decisions, append_labels, label, new_ledger

RUN = 1 << RUN_BITS
DECISIONS = 2 * RUN + RUN // 2
"""Two runs and what is younger than both."""
RARE = (7, RUN - 2, RUN, 2 * RUN - 5, DECISIONS - 3)
"""Places of the decisions about a card that is seldom used."""


def _transaction(number: int) -> Transaction:
    return Transaction(
        transaction_id=f"t{number}",
        event_time_us=NOON_US + number,
        received_at_us=NOON_US + number,
        amount_minor=1,
        card_id="rare" if number in RARE else f"k{number % 20_000}",
        customer_id=f"c{number % 9_000}" if number % 3 else None,
        merchant_id=f"m{number % 40}",
    )


@pytest.fixture(scope="module")
def long_index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LedgerIndex]:
    folder = tmp_path_factory.mktemp("readers")
    with new_ledger(folder) as ledger:
        for first in range(1, DECISIONS, RUN // 4):
            numbers = range(first, min(first + RUN // 4, DECISIONS))
            outcomes = (0,) * 40 + (1,) + (0,) * 30 + (2,)
            append_decisions(ledger, [_transaction(i) for i in numbers], outcomes=outcomes)
        append_labels(ledger, [label(i, f"t{i}", 2 * NOON_US) for i in RARE])
        index = LedgerIndex(folder / "index.db", ledger)
        index.catch_up()
        yield index
        index.close()


@pytest.fixture
def reader(long_index: LedgerIndex) -> Iterator[IndexReader]:
    opened = IndexReader(long_index.path)
    yield opened
    opened.close()


def _all(reader: IndexReader, where: DecisionFilter, limit: int = 700) -> list[IndexedDecision]:
    found: list[IndexedDecision] = []
    before = None
    while True:
        page = reader.decisions_page(where, limit=limit, before=before)
        found += page.decisions
        before = page.next_before
        if before is None:
            return found


def test_an_entity_is_found_in_every_run_and_in_what_is_younger(reader: IndexReader) -> None:
    found = _all(reader, DecisionFilter(card_id="rare"), limit=2)
    assert [d.sequence for d in found] == sorted(RARE, reverse=True)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (DecisionFilter(customer_id="c1234"), lambda d: d.customer_id == "c1234"),
        (DecisionFilter(merchant_id="m7"), lambda d: d.merchant_id == "m7"),
        (
            DecisionFilter(merchant_id="m7", is_fraud=True),
            lambda d: d.merchant_id == "m7" and d.is_fraud,
        ),
        (
            DecisionFilter(merchant_id="m7", since_us=NOON_US + RUN - 9, until_us=NOON_US + RUN),
            lambda d: d.merchant_id == "m7" and RUN - 9 <= d.sequence < RUN,
        ),
        (
            DecisionFilter(card_id="rare", label=Verdict.FRAUD),
            lambda d: d.card_id == "rare",
        ),
        (DecisionFilter(card_id="k5", label=Verdict.FRAUD), lambda _: False),
        (DecisionFilter(label=Verdict.FRAUD), lambda d: d.sequence in RARE),
        (DecisionFilter(outcomes=(Outcome.REVIEW,)), lambda d: d.outcome == Outcome.REVIEW),
        (DecisionFilter(outcomes=(Outcome.DECLINE,)), lambda d: d.outcome == Outcome.DECLINE),
        (DecisionFilter(min_probability=0.999), lambda d: d.fraud_probability >= 0.999),
        (DecisionFilter(min_probability=0.04, card_id="k3"), lambda d: d.card_id == "k3"),
    ],
)
def test_a_filter_finds_what_reading_every_decision_finds(
    reader: IndexReader, where: DecisionFilter, expected: Callable[[IndexedDecision], bool]
) -> None:
    everything = _all(reader, DecisionFilter(), limit=1000)
    assert len(everything) == DECISIONS - 1
    if where.min_probability is not None:
        low = where.min_probability
        everything = [d for d in everything if d.fraud_probability >= low]
    assert _all(reader, where) == [d for d in everything if expected(d)]


@pytest.mark.parametrize(
    "where",
    [
        DecisionFilter(card_id="nobody"),
        DecisionFilter(customer_id="nobody"),
        DecisionFilter(merchant_id="nobody"),
        DecisionFilter(label=Verdict.FRAUD, card_id="nobody"),
        DecisionFilter(label=Verdict.LEGITIMATE),
        DecisionFilter(min_probability=1),
        DecisionFilter(outcomes=(Outcome.DECLINE,), min_probability=1),
        DecisionFilter(is_fraud=True, since_us=3 * NOON_US),
    ],
)
def test_a_filter_that_finds_nothing_reads_few_decisions(
    reader: IndexReader, where: DecisionFilter
) -> None:
    """Counted in steps of SQLite's machine, which do not depend on how busy the machine is."""

    def steps(asked: DecisionFilter | None) -> int:
        counted = 0

        def count() -> None:
            nonlocal counted
            counted += 1

        reader._reader.set_progress_handler(count, 100)
        if asked is None:
            reader._rows("SELECT count(*) FROM decisions WHERE received_at_us < 0")
        else:
            assert reader.decisions_page(asked).decisions == ()
        return counted

    assert steps(where) < steps(None) / 2


def test_a_long_page_is_found_in_pieces_and_others_go_first_in_between(
    reader: IndexReader,
) -> None:
    pauses: list[None] = []
    page = reader.decisions_page(limit=1000, between=lambda: pauses.append(None))
    assert page == reader.decisions_page(limit=1000)
    assert len(page.decisions) == 1000
    assert len(pauses) >= 2 * (1000 // 64)


def test_a_look_up_ends_when_its_time_is_over(reader: IndexReader) -> None:
    began = time.monotonic()
    with pytest.raises(LookupTooSlow, match="Ask for less"):
        reader.ask(
            lambda r: r._rows("SELECT count(*) FROM decisions, decisions AS b"), seconds=0.05
        )
    assert time.monotonic() - began < 5
    assert reader.ask(lambda r: len(r.decisions_page(limit=5).decisions), seconds=5) == 5


def test_a_page_that_ran_out_of_time_says_so_and_the_next_one_goes_on(
    reader: IndexReader,
) -> None:
    where = DecisionFilter(merchant_id="m7")
    whole = _all(reader, where, limit=1000)
    page = reader.decisions_page(where, limit=1)
    for looks in range(1, 1000):  # at the clock, until the time is over
        left = partial(next, iter([False] * looks), True)
        reader._reader.set_progress_handler(left, 100)
        try:
            page = reader.decisions_page(where, limit=500)
        except LookupTooSlow:
            continue
        break
    reader._reader.set_progress_handler(None, 0)
    assert not page.complete
    assert 1 <= len(page.decisions) < 500
    assert page.next_before == page.decisions[-1].sequence
    rest = reader.decisions_page(where, limit=1000, before=page.next_before)
    assert [*page.decisions, *rest.decisions] == whole[: len(page.decisions) + 1000]


def test_look_ups_beyond_the_bound_are_refused_and_the_others_are_answered(
    long_index: LedgerIndex,
) -> None:
    begun, let_go = threading.Semaphore(0), threading.Event()

    def slow(reader: IndexReader) -> int:
        begun.release()
        let_go.wait(30)
        return reader.indexed_through

    async def ask() -> tuple[list[int], Overloaded]:
        readers = IndexReaders(long_index.path, readers=2, waiting=1)
        try:
            asked = [asyncio.create_task(readers.ask(slow)) for _ in range(3)]
            for _ in range(2):
                await asyncio.to_thread(begun.acquire)
            with pytest.raises(Overloaded) as refused:
                await readers.ask(slow)
            let_go.set()
            return await asyncio.gather(*asked), refused.value
        finally:
            let_go.set()
            await asyncio.to_thread(readers.close)

    answers, refused = asyncio.run(ask())
    assert answers == [long_index.indexed_through] * 3
    assert refused.retry_after_seconds >= 1
    assert "3 look-ups" in str(refused)


def test_the_event_loop_goes_on_while_others_read_the_whole_log(long_index: LedgerIndex) -> None:
    async def ask() -> float:
        readers = IndexReaders(long_index.path, readers=4)
        everything = "SELECT count(*) FROM decisions WHERE device_id = 'x' OR amount_minor > 1"
        try:
            asked = [
                asyncio.create_task(readers.ask(lambda r: r._rows(everything * 1)))
                for _ in range(16)
            ]
            waits = []
            while not all(task.done() for task in asked):
                began = time.perf_counter()
                assert long_index.indexed_through > 0
                waits.append(time.perf_counter() - began)
                await asyncio.sleep(0.001)
            return float(np.median(waits))
        finally:
            await asyncio.to_thread(readers.close)

    assert asyncio.run(ask()) < 0.005


def test_an_index_of_the_version_before_is_built_anew_from_the_log(
    long_index: LedgerIndex, tmp_path: Path
) -> None:
    ledger = long_index._ledger
    assert isinstance(ledger, SqliteLedger)
    old = tmp_path / "index.db"
    LedgerIndex(old, ledger).close()
    connection = sqlite3.connect(old)
    connection.executescript("DROP TABLE entity_runs; DROP TABLE judged; PRAGMA user_version = 1;")
    connection.close()
    index = LedgerIndex(old, ledger)
    assert index.indexed_through == 0
    assert index.catch_up() == DECISIONS - 1 + len(RARE)
    page = index.decisions_page(DecisionFilter(card_id="rare"))
    assert [d.sequence for d in page.decisions] == sorted(RARE, reverse=True)
    index.close()
