"""Everything that the log holds reaches shared state, whoever put it there and whoever died."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from sentinel.domain import Label, Transaction, Verdict, Void
from sentinel.features.arena import Arena
from sentinel.features.plan.plan import DAY_US, MINUTE_US
from sentinel.ledger.base import StateRebuild
from sentinel.ledger.database import Database
from sentinel.ledger.imports import imported_entries
from sentinel.ledger.log import append_import
from sentinel.ledger.postgres import PostgresLedger
from sentinel.log.entries import (
    FLAG_DEGRADED,
    LABEL_FORMAT,
    VOID_FORMAT,
    GroupKind,
    LabelGroup,
    VoidGroup,
    encode_group,
    entries_of,
)
from sentinel.monitoring.metrics import ScoringMetrics
from sentinel.pipeline.verify_shared import verify_shared
from sentinel.scoring import follower as follower_module
from sentinel.scoring import reconciler
from sentinel.scoring.follower import LogFollower
from sentinel.scoring.reconciler import Reconciler
from sentinel.scoring.recovery import recover
from sentinel.scoring.replayed_state import ReplayedState
from sentinel.scoring.shared_state import SharedState
from sentinel.settings import LedgerSettings, Settings, StateSettings
from sentinel.state.base import Reading
from sentinel.state.known_ids import KnownIds
from sentinel.state.redis.effects import step_of
from sentinel.state.redis.layout import EPOCHS_OF_A_LOAD, Record, state_name
from sentinel.state.redis.records import Loaded
from sentinel.state.redis.reloading import ReplayedRecord, reload_record
from testkit.servers import Postgres
from testkit.shared_records import SharedRecords, shared_records
from tests.features.logs import batch_of
from tests.features.plans import every_function
from tests.features.worlds import START_US
from tests.state.shared_redis import shared_redis
from tests.state.test_contract import decisions_of
from tests.state.test_shared_records import payment, words_in, words_of

PLAN = every_function((10 * MINUTE_US, DAY_US))
OTHER_PLAN = every_function((10 * MINUTE_US,))
LOADED = Loaded(EPOCHS_OF_A_LOAD, 0)


class Log:
    """A log that many write, and records of an empty state beside it."""

    def __init__(self, ledger: PostgresLedger, shared: SharedRecords, folder: Path) -> None:
        self.ledger = ledger
        self.shared = shared
        self.folder = folder
        self.features = shared.features()
        self.features.records.load(Arena(shared.program), LOADED, 0)

    def find(self, transaction_id: str) -> Transaction | None:
        for group in self.ledger.groups():
            imported = group.kind == GroupKind.IMPORT
            for entry in imported_entries(group) if imported else entries_of(group):
                if isinstance(entry, Transaction) and entry.transaction_id == transaction_id:
                    return entry
        return None

    def decide(
        self,
        transactions: Sequence[Transaction],
        *,
        flags: int = 0,
        other_plan: bool = False,
        held: bool = True,
    ) -> bytes:
        """Record decisions, with their events in the records or without."""
        ticket = self.features.next_ticket()
        n = len(transactions)
        vectors = np.zeros((n, len(PLAN.feature_names)), dtype=np.float32)
        positions = b""
        if held:
            added = self.features.add(transactions, ticket)
            vectors, positions = added.vectors, added.positions.astype("<i8").tobytes()
        reading = Reading(vectors, np.full(n, flags, dtype=np.uint8), positions)
        group = decisions_of(OTHER_PLAN if other_plan else PLAN, transactions, reading)
        self.ledger.append(GroupKind.DECISIONS, n, START_US, encode_group(group), token=ticket)
        self.features.settled(ticket)
        return ticket

    def label(self, *called: tuple[int, Verdict]) -> None:
        """Record labels."""
        labels = [
            Label(
                label_id=os.urandom(8).hex(),
                transaction_id=f"t{number}",
                verdict=verdict,
                received_at_us=START_US,
            )
            for number, verdict in called
        ]
        group = LabelGroup(format=LABEL_FORMAT, labels=labels)
        self.ledger.append(GroupKind.LABELS, len(labels), START_US, encode_group(group))

    def void(self, *numbers: int) -> None:
        """Record voids."""
        voids = [
            Void(transaction_id=f"t{number}", received_at_us=START_US, reason="a test")
            for number in numbers
        ]
        group = VoidGroup(VOID_FORMAT, voids)
        self.ledger.append(GroupKind.VOIDS, len(voids), START_US, encode_group(group))

    def find_voids(self, transaction_ids: Iterable[str]) -> dict[str, int]:
        wanted, found = set(transaction_ids), dict[str, int]()
        for group in self.ledger.groups():
            if group.kind == GroupKind.VOIDS:
                for sequence, void in enumerate(entries_of(group), group.first_sequence):
                    if void.transaction_id in wanted:
                        found.setdefault(void.transaction_id, sequence)
        return found

    def load(self, loads: int) -> Loaded:
        """Load the records anew from the log, as the scorer does that finds them lost."""
        folded = recover(self.shared.program, self.ledger, self.folder, self.find)
        loaded = Loaded(loads * EPOCHS_OF_A_LOAD, folded.sequence)
        self.ledger.record_rebuild(
            StateRebuild(state_name(PLAN.hash), "", "", loaded.epoch, folded.sequence)
        )
        through = step_of(folded.sequence, label=True)
        self.features.records.load(folded.arena, loaded, through)
        return loaded

    def follower(self) -> LogFollower:
        """Another scorer's follower."""
        return LogFollower(self.shared.effects(), self.ledger, self.ledger, self.find)

    def follow(self, loaded: Loaded = LOADED) -> LogFollower:
        """Bring all of the log in, as another scorer."""
        follower = self.follower()
        while follower.step(loaded):
            pass
        return follower

    def expected(self) -> dict[tuple[int, str], list[int]]:
        """The records as the log has them."""
        program = self.shared.program
        return words_in(recover(program, self.ledger, self.folder, self.find).arena)

    def replayed(self) -> ReplayedState:
        """What the records should be, in a scorer of its own."""
        return ReplayedState(self.shared.program, self.ledger, self.folder, self.find)

    def state(self) -> SharedState:
        """A scorer's state, looked after in threads."""
        looking_after = Reconciler(
            self.features,
            self.shared.records,
            self.ledger,
            self.ledger,
            self.replayed(),
            self.find,
            ScoringMetrics(),
            find_voids=self.find_voids,
            look_seconds=0.01,
        )
        return SharedState(self.features, looking_after, KnownIds(), 0)


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with Postgres(tmp_path_factory.mktemp("postgres"), settings={"fsync": "off"}) as server:
        yield server


@pytest.fixture
def log(postgres: Postgres, tmp_path: Path) -> Iterator[Log]:
    database = Database(postgres.make_database("f" + os.urandom(6).hex()))
    with (
        PostgresLedger.open_writer(database, exclusive=False) as ledger,
        shared_records(PLAN, shared_redis().url) as shared,
    ):
        yield Log(ledger, shared, tmp_path / "snapshots")


def some(first: int, end: int) -> list[Transaction]:
    return [payment(n, 1_000_000 * n, 10 * n, customer=f"c{n % 3}") for n in range(first, end)]


def fill(log: Log) -> None:
    """A log with every kind of entry."""
    log.label((3, Verdict.FRAUD), (4, Verdict.FRAUD), (4, Verdict.LEGITIMATE), (22, Verdict.FRAUD))
    log.decide(some(0, 5))
    imported: list[Transaction | Label] = [*some(5, 15)]
    for number, verdict in ((6, Verdict.FRAUD), (2, Verdict.FRAUD), (99, Verdict.FRAUD)):
        imported.append(
            Label(
                label_id=f"l{number}",
                transaction_id=f"t{number}",
                verdict=verdict,
                received_at_us=START_US + 100,
            )
        )
    append_import(log.ledger, batch_of(imported))
    log.decide(some(15, 18), flags=FLAG_DEGRADED, held=False)
    log.decide(some(18, 21), other_plan=True, held=False)
    log.label((19, Verdict.FRAUD), (6, Verdict.LEGITIMATE), (19, Verdict.FRAUD), (0, Verdict.FRAUD))
    log.decide(some(21, 25))


def test_every_kind_of_entry_reaches_the_records(log: Log) -> None:
    fill(log)
    follower = log.follow()
    assert follower.through == log.ledger.last_sequence()
    assert words_of(log.shared) == log.expected()
    assert any(words for words in log.expected().values())
    noted = [effect.kind for effect in log.ledger.label_effects(state_name(PLAN.hash))]
    assert noted.count(0) == 3 + 3, "decisions of other plans and without state"
    pieces = list(log.ledger.piece_effects(state_name(PLAN.hash)))
    assert [(p.first_sequence, len(p.positions)) for p in pieces] == [(10, 13 * len(PLAN.views))]
    assert [p > 0 for p in pieces[0].positions[:: len(PLAN.views)]] == [True] * 10 + [False] * 3


def test_two_followers_and_one_that_went_back_change_nothing(log: Log) -> None:
    fill(log)
    log.follow()
    for back in (0, 7, 13, 20):
        log.features.records.set_followed(back)
        log.follow()
    assert words_of(log.shared) == log.expected()


def test_a_watermark_that_is_moved_back_meanwhile_stays_there(log: Log) -> None:
    fill(log)
    log.follow()
    records = log.features.records
    log.label((1, Verdict.FRAUD))

    def find(transaction_id: str) -> Transaction | None:
        records.set_followed(3)  # as whoever looks at a restarted server does
        return log.find(transaction_id)

    LogFollower(log.shared.effects(), log.ledger, log.ledger, find).step(LOADED)
    assert records.followed() == 3
    log.follow()
    assert records.followed() == log.ledger.last_sequence()
    assert words_of(log.shared) == log.expected()


def test_an_import_comes_in_in_pieces_between_decisions(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower_module, "MOST_ENTRIES", 130)
    log.label((150, Verdict.FRAUD), (40, Verdict.FRAUD))
    log.decide(some(0, 5))
    entries: list[Transaction | Label] = []
    for n in range(5, 300):
        entries.append(payment(n, 1_000_000 * n, n, customer=f"c{n % 3}", merchant=f"m{n % 50}"))
        if n % 9 == 0:  # about an earlier piece, this one, and one that is still to come
            about = f"t{(n - 80, n - 2, n + 60)[n % 3] % 290}"
            label_id, verdict = f"i{n}", Verdict.FRAUD if n % 2 else Verdict.LEGITIMATE
            entries.append(
                Label(
                    label_id=label_id,
                    transaction_id=about,
                    verdict=verdict,
                    received_at_us=START_US + n,
                )
            )
    append_import(log.ledger, batch_of(entries))
    follower = log.follower()
    decided, steps = 300, 0
    while follower.step(LOADED):
        # Scorers go on, and read what they need between two pieces.
        group = some(decided, decided + 2)
        log.decide(group)
        decided, steps = decided + 2, steps + 1
        if steps == 3:
            log.features.records.set_followed(40)  # back into a piece
        if steps > 12:
            break
    log.follow()
    assert log.features.records.followed() == log.ledger.last_sequence()
    assert words_of(log.shared) == log.expected()
    hot = log.features.records.stored([(0, "c1")])[0]
    assert hot is not None
    assert len(hot.base), "what was brought in is folded at once"
    log.ledger.record_rebuild(StateRebuild(state_name(PLAN.hash), "", "", LOADED.epoch, 0))
    shared = Settings(
        ledger=LedgerSettings(url=log.ledger.database.url),
        state=StateSettings(backend="redis", redis_url=log.shared.url),
    )
    replay = verify_shared(shared, PLAN)
    assert replay is not None
    assert replay.decisions == decided - 300 + 5
    assert (replay.mismatches, replay.unverifiable) == (0, 0), replay.examples


def test_decisions_by_records_that_were_lost_are_added_again(log: Log) -> None:
    fill(log)
    later = Loaded(2 * EPOCHS_OF_A_LOAD, 0)
    log.features.records.load(Arena(log.shared.program), later, 0)
    log.follow(later)
    assert words_of(log.shared) == log.expected()


def wait_for(log: Log, state: SharedState) -> None:
    deadline = time.monotonic() + 60
    while (
        state.reconciler.behind
        or state.features.records.followed() < log.ledger.last_sequence()
        or state.features.records.intents()
    ):
        assert time.monotonic() < deadline, state.problem
        state.features.say_settled(state.features.records)
        time.sleep(0.01)


def test_what_a_dead_scorer_left_is_settled_by_the_log(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciler, "ABANDONED_SECONDS", 0.2)
    monkeypatch.setattr(reconciler, "_INTENTS_SECONDS", 0.05)
    dead = log.shared.features()
    recorded, lost = dead.next_ticket(), dead.next_ticket()
    group = some(0, 4)
    added = dead.add(group, recorded)
    flags = np.zeros(2, dtype=np.uint8)
    # Half of the group was recorded by another scorer a moment before; then this one died.
    half = Reading(added.vectors[:2], flags, added.positions[:2].astype("<i8").tobytes())
    payload = encode_group(decisions_of(PLAN, group[:2], half))
    log.ledger.append(GroupKind.DECISIONS, 2, START_US, payload, token=recorded)
    dead.add(some(4, 8), lost)
    assert set(log.features.records.intents()) == {recorded, lost}
    state = log.state()
    try:
        wait_for(log, state)
        assert words_of(log.shared) == log.expected()
        # An append that comes after that finds its token given up.
        with pytest.raises(Exception, match="given up"):
            log.ledger.append(GroupKind.DECISIONS, 2, START_US, payload, token=lost)
        voids = [r for r in log.ledger.rebuilds(state_name(PLAN.hash)) if r.through_sequence < 0]
        assert len(voids) == 2 * 2 + 4 * 2
    finally:
        state.reconciler.close()


def test_what_a_dead_scorer_decided_without_hearing_from_redis_counts_once(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciler, "ABANDONED_SECONDS", 0.2)
    monkeypatch.setattr(reconciler, "_INTENTS_SECONDS", 0.05)
    dead, group = log.shared.features(), some(0, 3)
    ticket = dead.next_ticket()
    dead.add(group, ticket)  # the answer came too late, and then it died
    vectors = np.zeros((3, len(PLAN.feature_names)), dtype=np.float32)
    reading = Reading(vectors, np.full(3, FLAG_DEGRADED, dtype=np.uint8), b"")
    payload = encode_group(decisions_of(PLAN, group, reading))
    log.ledger.append(GroupKind.DECISIONS, 3, START_US, payload, token=ticket)
    state = log.state()
    try:
        wait_for(log, state)
        assert words_of(log.shared) == log.expected()
    finally:
        state.reconciler.close()


def test_what_never_became_durable_is_taken_back(log: Log) -> None:
    state = log.state()
    try:
        group = some(0, 5)
        reading = state.add(group)
        # Two are durable, one the log holds from elsewhere, two nobody will ever hear of.
        log.decide(group[2:3], held=False, flags=FLAG_DEGRADED)
        kept = Reading(
            reading.vectors[:2],
            reading.flags[:2],
            np.frombuffer(reading.positions, "<i8").reshape(5, -1)[:2].tobytes(),
        )
        payload = encode_group(decisions_of(PLAN, group[:2], kept))
        appended = log.ledger.append(
            GroupKind.DECISIONS, 2, START_US, payload, token=reading.ticket
        )
        assert appended.first_sequence == 2
        state.settle(reading.ticket, group, None, group[2:3])
        wait_for(log, state)
        assert words_of(log.shared) == log.expected()
        again = state.add(group[3:])
        assert again.repeated == ()
    finally:
        state.reconciler.close()


def test_records_that_lost_their_latest_events_are_put_in_place_anew(log: Log) -> None:
    fill(log)
    log.follow()
    expected = log.expected()
    records = log.features.records
    every = [record for some_records in records.every() for record in some_records]
    # As if a server had come back without the end of its file.
    for view, key in every[::2]:
        where = records.layout.key(view, key)
        records.wire.call(where, "DEL", where)
    log.features.forget()
    assert words_of(log.shared) != expected
    under_way = log.features.next_ticket()
    log.features.add([payment(500, 900_000_000)], under_way)
    records.notes.doubt(every)
    state = log.state()
    try:
        deadline = time.monotonic() + 60
        while records.notes.doubts():
            assert time.monotonic() < deadline, state.problem
            time.sleep(0.01)
        assert words_of(log.shared) != expected
        state.settle(under_way, [payment(500, 900_000_000)], None)
        wait_for(log, state)
        assert words_of(log.shared) == expected
    finally:
        state.reconciler.close()


def put_in_place(log: Log, record: Record, replayed: Callable[[int, str], ReplayedRecord]) -> None:
    """Put a record in place anew, and note it as the scorer does whose turn it is."""
    name, (view, key) = state_name(PLAN.hash), record
    before = log.ledger.rebuilt_position(name, PLAN.views[view].name, key)
    anew = reload_record(log.shared.effects(), record, replayed, before)
    assert anew is not None
    log.ledger.record_rebuild(StateRebuild(name, PLAN.views[view].name, key, *anew))


def test_what_a_record_served_before_a_takeover_forgot_that_it_was_put_in_place_stays_provable(
    log: Log,
) -> None:
    def some(first: int, end: int) -> list[Transaction]:
        times = range(2 * MINUTE_US * first, 2 * MINUTE_US * end, 2 * MINUTE_US)
        return [
            payment(n, at, customer=f"c{n % 3}")
            for n, at in zip(range(first, end), times, strict=True)
        ]

    log.decide(some(0, 6))
    log.load(2)
    log.decide(some(6, 12))
    records, replayed = log.features.records, log.replayed()
    touched = [(view, key) for view, key, _ in log.shared.effects().touched_by(some(0, 3))]
    keys = [records.layout.key(*record) for record in touched]
    missed = [(key, records.wire.call(key, "GET", key)) for key in keys]
    for record in touched:
        put_in_place(log, record, replayed.record)
    log.label((7, Verdict.FRAUD))
    log.follow(Loaded(2 * EPOCHS_OF_A_LOAD, 6))
    log.decide(some(12, 18))

    # As if a replica had taken over that was behind by all this.
    for key, value in missed:
        records.wire.call(key, "SET", key, value)
    log.features.forget()
    records.set_followed(6)
    log.decide(some(18, 21))
    log.label((8, Verdict.FRAUD))
    log.follow(Loaded(2 * EPOCHS_OF_A_LOAD, 6))
    log.decide(some(21, 24))
    for record in touched:
        put_in_place(log, record, replayed.record)
    log.decide(some(24, 30))
    assert words_of(log.shared) == log.expected()
    decisions, mismatches, unverifiable = verified(log)
    assert (decisions, mismatches) == (24, 0)
    assert unverifiable > 0, "what was decided without what the replica missed"


def test_what_is_decided_while_a_record_is_put_in_place_counts_once(log: Log) -> None:
    log.decide(some(0, 12))
    log.load(2)
    log.decide(some(12, 15))
    effects, replayed = log.shared.effects(), log.replayed()
    numbers = iter(range(100, 200))

    def decided_around(view: int, key: str) -> ReplayedRecord:
        """The log as it was read between two payments of the record's customer."""
        customer = key.partition("\x1f")[0]
        before, after = next(numbers), next(numbers)
        log.decide([payment(before, 1_000_000 * before, customer=customer)])
        found = replayed.record(view, key)
        log.decide([payment(after, 1_000_000 * after, customer=customer)])
        return found

    for view, key, _ in effects.touched_by(some(0, 3)):
        put_in_place(log, (view, key), decided_around)
    log.decide(some(200, 206))
    assert words_of(log.shared) == log.expected()
    assert verified(log) == (21, 0, 0)


def test_a_record_whose_base_moves_while_the_log_is_read_is_tried_again(log: Log) -> None:
    fill(log)
    log.follow()
    effects, replayed = log.shared.effects(), log.replayed()
    record = (0, "c1")

    def compacted_behind(view: int, key: str) -> ReplayedRecord:
        found = replayed.record(view, key)
        log.decide([payment(100 + n, 10**9 + n) for n in range(20)])
        log.features.say_settled(effects.records)
        assert effects.compact([record], log.ledger.last_sequence()) == []
        return found

    assert reload_record(effects, record, compacted_behind) is None
    assert words_of(log.shared) == log.expected()
    assert reload_record(effects, record, replayed.record) is not None
    assert words_of(log.shared) == log.expected()


def verified(log: Log) -> tuple[int, int, int]:
    """What `features verify` finds: decisions held, mismatches, values that nothing can prove."""
    shared = Settings(
        ledger=LedgerSettings(url=log.ledger.database.url),
        state=StateSettings(backend="redis", redis_url=log.shared.url),
    )
    replay = verify_shared(shared, PLAN)
    assert replay is not None
    return replay.decisions, replay.mismatches, replay.unverifiable


def test_a_void_takes_its_payment_out_of_the_records_and_every_vector_stays_provable(
    log: Log,
) -> None:
    log.decide(some(0, 12))
    log.label((3, Verdict.FRAUD), (4, Verdict.FRAUD))
    log.load(2)
    state = log.state()
    try:
        log.decide(some(12, 20))
        log.label((14, Verdict.FRAUD), (1, Verdict.FRAUD))
        wait_for(log, state)
        log.void(4, 14)
        log.decide(some(20, 24))  # before or after the records are in place
        log.label((4, Verdict.LEGITIMATE), (4, Verdict.FRAUD), (14, Verdict.FRAUD))
        log.label((13, Verdict.FRAUD), (3, Verdict.LEGITIMATE))
        mended(log, state)
        log.decide(some(24, 30))
        log.void(5, 21, 4)
        mended(log, state)
        log.label((5, Verdict.FRAUD), (6, Verdict.FRAUD))
        log.decide(some(30, 34))
        wait_for(log, state)
        assert words_of(log.shared) == log.expected()
        assert verified(log) == (22, 0, 0)
    finally:
        state.reconciler.close()


def mended(log: Log, state: SharedState) -> None:
    """Wait until the log is followed and no record is in doubt."""
    wait_for(log, state)
    deadline = time.monotonic() + 60
    while log.features.records.notes.doubts():
        assert time.monotonic() < deadline, state.problem
        time.sleep(0.01)
