"""What every implementation of `FeatureState` keeps, told once and run against each."""

from __future__ import annotations

import itertools
import os
import random
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from sentinel.domain import Label, Transaction, Verdict
from sentinel.features.arena import Arena
from sentinel.features.plan.plan import DAY_US, HOUR_US, MINUTE_US, Plan
from sentinel.features.plan.program import compile_program
from sentinel.ledger.base import Appended
from sentinel.ledger.database import Database
from sentinel.ledger.postgres import PostgresLedger
from sentinel.log.columns import NO_COLUMNS, with_untracked
from sentinel.log.entries import (
    FLAG_DEGRADED,
    FLAG_EXPIRED_EVENT,
    FLAG_LATE_EVENT,
    GROUP_FORMAT,
    LABEL_FORMAT,
    N_REASONS,
    DecisionGroup,
    GroupKind,
    LabelGroup,
    encode_group,
    partly_tracked,
)
from sentinel.monitoring.metrics import ScoringMetrics
from sentinel.scoring.reconciler import Reconciler
from sentinel.scoring.replayed_state import ReplayedState
from sentinel.scoring.shared_state import SharedState
from sentinel.state.base import FeatureState, Reading
from sentinel.state.embedded import EmbeddedState, restore
from sentinel.state.known_ids import KnownIds
from sentinel.state.redis.layout import EPOCH_SHIFT, EPOCHS_OF_A_LOAD
from sentinel.state.redis.records import Loaded
from testkit.entry_fold import Entry, EntryFold, Vectors
from testkit.event_loops import read_on_loop
from testkit.servers import Postgres
from testkit.shared_records import shared_records
from tests.features.logs import bits_of
from tests.features.plans import every_function
from tests.features.worlds import START_US
from tests.state.shared_redis import shared_redis

PLAN = every_function((10 * MINUTE_US, DAY_US))


@dataclass
class Home:
    """A state, and the log that its entries stand in.

    Attributes:
        state: What is tested.
        sequence: The last entry of the log.
        ledger: The log, where many write; the one writer needs none here.
        groups: How many were added.
    """

    state: FeatureState
    ledger: PostgresLedger | None = None
    sequence: int = 0
    groups: int = 0
    transactions: dict[str, Transaction] = field(default_factory=dict)

    def add(self, transactions: Sequence[Transaction], known_only: Collection[int] = ()) -> Reading:
        """Add transactions that become durable."""
        reading = None
        self.groups += 1
        if self.groups % 2:  # half of them without waiting, where the state can
            reading = read_on_loop(self.state, transactions, known_only)
        if reading is None:
            reading = self.state.add(transactions, known_only)
        transactions = [
            partly_tracked(transaction, reading.untracked[row])
            if row in reading.untracked
            else transaction
            for row, transaction in enumerate(transactions)
        ]
        self.transactions.update({t.transaction_id: t for t in transactions})
        group = decisions_of(PLAN, transactions, reading)
        appended = self._append(GroupKind.DECISIONS, len(transactions), group, reading.ticket)
        self.state.settle(reading.ticket, transactions, appended)
        self.wait()
        return reading

    def label(self, *labels: Label) -> None:
        """Apply labels that have become durable."""
        group = LabelGroup(format=LABEL_FORMAT, labels=list(labels))
        appended = self._append(GroupKind.LABELS, len(labels), group, os.urandom(16))
        self.state.apply_labels(labels, appended, self.transactions)
        self.wait()

    def _append(
        self, kind: GroupKind, entries: int, group: DecisionGroup | LabelGroup, token: bytes
    ) -> Appended:
        first = self.sequence + 1
        self.sequence += entries
        if self.ledger is None:
            return Appended(first, START_US)
        return self.ledger.append(kind, entries, START_US, encode_group(group), token=token)

    def run(self, log: Sequence[Entry], sizes: Iterator[int]) -> Vectors:
        """Vectors of a log's transactions, in groups of some sizes."""
        found, group = [], list[Transaction]()
        for entry in log:
            if isinstance(entry, Transaction):
                group.append(entry)
                if len(group) < next(sizes):
                    continue
            if group:
                found.append(self.add(group).vectors)
                group = []
            if isinstance(entry, Label):
                self.label(entry)
        if group:
            found.append(self.add(group).vectors)
        return np.concatenate(found)

    def find(self, transaction_id: str) -> Transaction | None:
        """A transaction of the log."""
        return self.transactions.get(transaction_id)

    def wait(self) -> None:
        """Until what is done in threads is done."""
        if self.ledger is not None:
            assert isinstance(self.state, SharedState)
            records, deadline = self.state.features.records, time.monotonic() + 60
            while records.followed() < self.sequence or self.state.reconciler.behind:
                assert time.monotonic() < deadline, self.state.problem
                time.sleep(0.002)


def decisions_of(
    plan: Plan, transactions: Sequence[Transaction], reading: Reading
) -> DecisionGroup:
    """What a scorer without a model would record."""
    n = len(transactions)
    return DecisionGroup(
        format=GROUP_FORMAT,
        plan_hash=plan.hash,
        model_name="m",
        model_version="1",
        transactions=list(transactions),
        vectors=reading.vectors.tobytes(),
        scores=np.zeros(n).tobytes(),
        probabilities=np.zeros(n).tobytes(),
        flags=reading.flags.astype("<u4").tobytes(),
        reason_features=np.full((n, N_REASONS), -1, "<i2").tobytes(),
        reason_contributions=np.zeros((n, N_REASONS), "<f4").tobytes(),
        latencies_us=np.zeros(n, "<u4").tobytes(),
        positions=reading.positions,
        columns=with_untracked(NO_COLUMNS, [t.untracked for t in transactions]),
    )


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with Postgres(tmp_path_factory.mktemp("postgres"), settings={"fsync": "off"}) as server:
        yield server


@pytest.fixture(params=["embedded", "redis"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Home]:
    """An empty state of each kind."""
    if request.param == "embedded":
        yield Home(EmbeddedState.empty(compile_program(PLAN)))
        return
    server: Postgres = request.getfixturevalue("postgres")
    database = Database(server.make_database(tmp_path.name.replace("-", "_")))
    with (
        PostgresLedger.open_writer(database, exclusive=False) as ledger,
        shared_records(PLAN, shared_redis().url) as shared,
    ):
        program, features = shared.program, shared.features()
        features.records.load(Arena(program), Loaded(EPOCHS_OF_A_LOAD, 0), 0)
        found = Home(EmbeddedState.empty(program), ledger)
        replayed = ReplayedState(program, ledger, tmp_path, found.find)
        reconciler = Reconciler(
            features,
            shared.records,
            ledger,
            ledger,
            replayed,
            found.find,
            ScoringMetrics(),
            look_seconds=0.002,
        )
        found.state = SharedState(features, reconciler, KnownIds(), 0)
        yield found
        reconciler.close()


def payment(
    n: int, time_us: int, amount: int = 100, customer: str = "c1", merchant: str | None = "m1"
) -> Transaction:
    return Transaction(
        transaction_id=f"t{n}",
        event_time_us=time_us,
        received_at_us=START_US + n,
        amount_minor=amount,
        customer_id=customer,
        merchant_id=merchant,
        attributes={"channel": "pos", "risk": 0.5},
    )


def verdict(n: int, transaction: int, called: Verdict) -> Label:
    return Label(
        label_id=f"l{n}", transaction_id=f"t{transaction}", verdict=called, received_at_us=START_US
    )


def busy_log(n: int) -> list[Entry]:
    """Payments of few entities, some late, and labels before and after their payments."""
    rng = random.Random(7)
    log: list[Entry] = []
    for i in range(n):
        at = START_US + i * MINUTE_US - rng.choice((0, 0, 0, 0, HOUR_US, 3 * DAY_US))
        merchant = rng.choice(("m1", "m2", None))
        log.append(payment(i, at, rng.randrange(-500, 5000), f"c{rng.randrange(3)}", merchant))
        if rng.random() < 0.1:
            called = rng.choice((Verdict.FRAUD, Verdict.FRAUD, Verdict.LEGITIMATE))
            log.append(verdict(i, rng.randrange(i + 5), called))
    return log


def test_vectors_are_those_of_the_fold_bit_by_bit(home: Home) -> None:
    log = busy_log(300)
    expected = EntryFold(compile_program(PLAN)).run(log)
    found = home.run(log, itertools.cycle((1, 5, 2, 17)))
    assert (bits_of(found) == bits_of(expected)).all()
    assert home.state.sequence == len(log)


def test_peeking_says_what_adding_will_and_changes_nothing(home: Home) -> None:
    home.run(busy_log(30), itertools.repeat(8))
    asked = [payment(1000, START_US + HOUR_US), payment(1001, START_US + HOUR_US, 7, "c2")]
    peeked = [home.state.peek([one]) for one in asked]
    together = home.state.peek(asked)
    assert (bits_of(together.vectors) == bits_of(np.concatenate([p.vectors for p in peeked]))).all()
    assert not together.flags.any()
    added = [home.add([one]) for one in asked]
    assert (bits_of(added[0].vectors) == bits_of(peeked[0].vectors)).all()


def test_a_label_that_came_first_takes_effect_right_after_its_transaction(home: Home) -> None:
    home.label(verdict(1, 1, Verdict.FRAUD))
    first, second, third = (payment(n, START_US + n) for n in (1, 2, 3))
    names = PLAN.feature_names
    counts = [i for i, name in enumerate(names) if "fraud_count" in name]
    assert counts
    if home.state.waits:  # the label is counted once the group is durable
        readings = [home.add([one]).vectors[0, counts] for one in (first, second, third)]
    else:
        readings = list(home.add([first, second, third]).vectors[:, counts])
    assert not np.nan_to_num(readings[0]).any()
    assert np.nan_to_num(readings[1]).any()
    assert np.array_equal(readings[1], readings[2], equal_nan=True)


def test_late_and_expired_events_are_flagged_as_the_log_keeps_it(home: Home) -> None:
    flags = home.add(
        [
            payment(1, START_US + 400 * DAY_US),
            payment(2, START_US + 400 * DAY_US - MINUTE_US),
            payment(3, START_US),
        ]
    ).flags
    assert flags.dtype == np.uint8
    assert flags.tolist() == [0, FLAG_LATE_EVENT, FLAG_LATE_EVENT | FLAG_EXPIRED_EVENT]


def test_without_state_the_rest_of_a_vector_is_still_computed(home: Home) -> None:
    home.run(busy_log(20), itertools.repeat(4))
    asked = payment(1000, START_US + HOUR_US, 1234)
    reading = home.state.add_without_state([asked, asked])
    needs_none = {f.name for f in PLAN.request}
    for name, value in zip(PLAN.feature_names, reading.vectors[0].tolist(), strict=True):
        assert (name in needs_none) == (not np.isnan(value)), name
    assert reading.vectors[0, PLAN.feature_names.index("amount")] == 1234
    assert reading.flags.tolist() == [FLAG_DEGRADED, FLAG_DEGRADED]
    assert reading.degraded
    # The state knows nothing of it.
    before = bits_of(home.state.peek([asked]).vectors)
    fresh = bits_of(home.state.add([asked]).vectors)
    assert (before == fresh).all()


def test_reading_entities_gives_what_a_payment_would_see_but_its_own_values(home: Home) -> None:
    log = [entry for entry in busy_log(40) if isinstance(entry, Transaction)]
    home.add(log)
    now = START_US + 100 * MINUTE_US
    found = home.state.read([{"customer_id": "c1", "merchant_id": "m1"}, {"customer_id": "?"}], now)
    peeked = home.state.peek([payment(1000, now)]).vectors[0]
    of_state = [i for i, name in enumerate(PLAN.feature_names) if name.startswith("customer_")]
    assert of_state
    assert np.array_equal(found[0, of_state], peeked[of_state], equal_nan=True)
    request = [PLAN.feature_names.index(f.name) for f in PLAN.request]
    assert np.isnan(found[:, request]).all()
    assert home.state.read([], now).shape == (0, len(PLAN.feature_names))


def test_positions_name_each_view_or_follow_the_sequence(home: Home) -> None:
    reading = home.add([payment(1, START_US), payment(2, START_US, merchant=None)])
    if reading.positions:
        positions = np.frombuffer(reading.positions, "<i8").reshape(2, len(PLAN.views))
        assert (positions % (1 << EPOCH_SHIFT)).tolist() == [[1, 1], [2, 0]]
    else:
        assert not home.state.waits


def test_a_snapshot_holds_what_was_there_when_it_began(home: Home, tmp_path: Path) -> None:
    log = busy_log(60)
    home.run(log[:40], itertools.repeat(8))
    written = home.state.begin_snapshot(tmp_path / "snapshots")
    expected = bits_of(home.state.peek([payment(1000, START_US + HOUR_US)]).vectors)
    at, sequence = home.sequence, home.state.sequence
    home.run(log[40:], itertools.repeat(8))
    if written is None:
        assert home.state.waits, "only state that is kept elsewhere needs no snapshot"
        return
    file = written()
    again = restore(compile_program(PLAN), tmp_path / "snapshots")
    assert (file.exists(), again.sequence, at) == (True, sequence, sequence)
    assert (bits_of(again.peek([payment(1000, START_US + HOUR_US)]).vectors) == expected).all()


def test_a_snapshot_that_cannot_be_written_says_why(tmp_path: Path) -> None:
    state = EmbeddedState.empty(compile_program(PLAN))
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OSError, match="file"):
        state.begin_snapshot(tmp_path / "file")()


def test_a_payment_that_makes_no_records_stands_in_those_that_there_are(home: Home) -> None:
    log = [
        payment(1, START_US, customer="c1", merchant="m1"),
        payment(2, START_US + 1, customer="c1", merchant="new"),
        payment(3, START_US + 2, customer="c1", merchant="m1"),
        payment(4, START_US + 3, customer="c1", merchant="new"),
    ]
    readings = [home.add([entry], (0,) if n in (1, 2) else ()) for n, entry in enumerate(log)]
    home.label(verdict(1, 2, Verdict.FRAUD))
    last = payment(5, START_US + 4, customer="c1", merchant="new")
    readings.append(home.add([last]))
    home.wait()
    assert [dict(r.untracked) for r in readings] == [
        {},
        {0: ("customer_id+merchant_id",)},
        {},
        {},
        {},
    ]
    assert [r.flags.tolist() for r in readings] == [[0], [FLAG_DEGRADED], [0], [0], [0]]
    assert [len(r.new_records) for r in readings] == [2, 0, 0, 1, 0]
    # What it read is what the fold over the log reads, where its customer has no record.
    in_log = [home.transactions[f"t{n}"] for n in range(1, 5)]
    expected = EntryFold(compile_program(PLAN)).run([*in_log, verdict(1, 2, Verdict.FRAUD), last])
    found = np.concatenate([reading.vectors for reading in readings])
    assert (bits_of(found) == bits_of(expected)).all()
    of_pair = [i for i, name in enumerate(PLAN.feature_names) if name.startswith("pair_")]
    assert np.isnan(found[1, of_pair]).all()
    assert not np.isnan(found[3, of_pair]).all()


def test_rows_of_one_group_make_records_for_each_other(home: Home) -> None:
    group = [payment(n, START_US + n, customer=f"c{n % 2}") for n in range(3)]
    reading = home.add(group, (1, 2))
    assert dict(reading.untracked) == {1: ("customer_id", "customer_id+merchant_id")}
    assert home.add([payment(9, START_US + 9, customer="c0")], range(1)).untracked == {}


def test_warming_up_changes_nothing(home: Home) -> None:
    home.state.warm()
    first = home.add([payment(1, START_US)])
    expected = EntryFold(compile_program(PLAN)).run([payment(1, START_US)])
    assert (bits_of(first.vectors) == bits_of(expected)).all()
    assert home.state.problem is None
