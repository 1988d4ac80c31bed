"""A log in PostgreSQL with every kind of entry, and the shared records that follow it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
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
from sentinel.scoring.follower import LogFollower
from sentinel.scoring.reconciler import Reconciler
from sentinel.scoring.recovery import recover
from sentinel.scoring.replayed_state import ReplayedState
from sentinel.scoring.shared_state import SharedState
from sentinel.settings import LedgerSettings, Settings, StateSettings
from sentinel.state.base import Reading
from sentinel.state.known_ids import KnownIds
from sentinel.state.redis.effects import step_of
from sentinel.state.redis.layout import EPOCHS_OF_A_LOAD, state_name
from sentinel.state.redis.records import Loaded
from testkit.servers import Postgres
from testkit.shared_records import SharedRecords, shared_records
from tests.features.logs import batch_of
from tests.features.plans import every_function
from tests.features.worlds import START_US
from tests.state.shared_redis import shared_redis
from tests.state.test_contract import decisions_of
from tests.state.test_shared_records import payment, words_in

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

    def state(self, replayed: ReplayedState | None = None) -> SharedState:
        """A scorer's state, looked after in threads."""
        looking_after = Reconciler(
            self.features,
            self.shared.records,
            self.ledger,
            self.ledger,
            replayed or self.replayed(),
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


def verified(log: Log) -> tuple[int, int, int]:
    """What `features verify` finds: decisions held, mismatches, values that nothing can prove."""
    shared = Settings(
        ledger=LedgerSettings(url=log.ledger.database.url),
        state=StateSettings(backend="redis", redis_url=log.shared.url),
    )
    replay = verify_shared(shared, PLAN)
    assert replay is not None
    return replay.decisions, replay.mismatches, replay.unverifiable


def mended(log: Log, state: SharedState) -> None:
    """Wait until the log is followed and no record is in doubt."""
    wait_for(log, state)
    deadline = time.monotonic() + 60
    while log.features.records.notes.doubts():
        assert time.monotonic() < deadline, state.problem
        time.sleep(0.01)
