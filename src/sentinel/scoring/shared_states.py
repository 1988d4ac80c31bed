"""Feature state in Redis and the ledger in PostgreSQL, shared with other scoring processes."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from typing import Final

import pyarrow.compute as pc

from sentinel.domain import StateUnavailable, Transaction
from sentinel.features.plan.plan import Plan
from sentinel.features.plan.program import Program, compile_program
from sentinel.ledger.base import Ledger, SharedLedger, StateRebuild
from sentinel.ledger.index import LedgerIndex
from sentinel.ledger.log import read_log
from sentinel.ledger.open import open_shared
from sentinel.log.entries import GroupKind, entries_of
from sentinel.log.schema import KIND_TRANSACTION
from sentinel.monitoring.metrics import ScoringMetrics
from sentinel.scoring.recovery import recover
from sentinel.scoring.replica import Replica
from sentinel.scoring.shared_state import SharedState
from sentinel.scoring.states import Progress
from sentinel.scoring.upkeep import Upkeep
from sentinel.settings import Settings
from sentinel.state.base import FeatureState
from sentinel.state.known_ids import KnownIds
from sentinel.state.redis_features import RedisFeatures
from sentinel.state.redis_records import RedisState

log = logging.getLogger(__name__)

_LOAD_TIMEOUT_SECONDS: Final = 30.0
_LOCK_SECONDS: Final = 60
_WAIT_SECONDS: Final = 0.5
_LOST_SECONDS: Final = 5.0
"""A Redis that restarted has lost no more than its last seconds, or all: it syncs each second."""
WHOLE: Final = ""
"""View and key of a rebuild that replaced all records of a plan."""


class SharedStates:
    """See `States`.

    Args:
        settings: The deployment.
        metrics: Counters.

    Raises:
        ConfigurationError: Shared state needs a ledger that many can write.
    """

    def __init__(self, settings: Settings, metrics: ScoringMetrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._ledger: SharedLedger
        self._reader: Ledger
        self._index: LedgerIndex
        self._upkeeps: dict[str, Upkeep] = {}
        self._watchers: dict[str, RedisState] = {}
        self._heard_through = 0
        self._adopted: dict[str, int | None] = {}
        self._restarted = threading.Event()
        self._answered_at = time.time()

    def open_ledger(self) -> Ledger:
        self._ledger = open_shared(self._settings)
        return self._ledger

    def attach(self, reader: Ledger, index: LedgerIndex) -> None:
        self._reader, self._index = reader, index

    def open(self, plan: Plan, progress: Progress | None = None) -> SharedState:
        self._index.catch_up()
        heard_through = self._index.indexed_through
        program = compile_program(plan)
        known = self._load(program, progress)
        self._heard_through = max(self._heard_through, heard_through)
        features = RedisFeatures(self._connect(program))
        sequence = self._reader.last_sequence()
        return SharedState(features, self._upkeep_of(program), known, sequence, self._watch)

    def rebuild(self, state: FeatureState) -> FeatureState:
        # Records in doubt are rebuilt one by one; all that is needed to go on is the log.
        self._reader.last_sequence()
        return state

    def catch_up(self, state: FeatureState) -> int:
        # What came since the new plan's state was loaded is put in by the same repair that mends
        # what is in doubt, and so is what other scorers still decide by the old plan.
        program = state.program
        upkeep = self._upkeep_of(program)
        after = self._adopted.get(program.plan.hash, self._loaded_through(program))
        through = self._reader.last_sequence()
        for transactions in self._transactions_after(after):
            upkeep.doubt(transactions)
        self._adopted[program.plan.hash] = through
        return 0 if after is None else through - after

    def _watch(self, state: SharedState) -> None:
        """Ids that others recorded; a Redis that lost its state."""
        through = self._index.indexed_through
        if through > self._heard_through:
            state.known.add(self._index.ids_after(self._heard_through, through))
            self._heard_through = through
        upkeep = state.upkeep
        self._metrics.repairs_pending = upkeep.behind
        try:
            if self._loaded_through(state.program) is None:
                state.blocked = "Redis has lost the feature state; it is being loaded anew."
                log.warning(state.blocked)
                self._load(state.program, None)
            state.blocked = state.unwatched = None
        except StateUnavailable as error:
            state.unwatched = str(error)
            return
        if self._restarted.is_set():
            self._restarted.clear()
            self._doubt_since(self._answered_at - _LOST_SECONDS, upkeep)
        self._answered_at = time.time()

    def close(self) -> None:
        for upkeep in self._upkeeps.values():
            upkeep.close()
        for watcher in self._watchers.values():
            watcher.close()

    # Connections.

    def _connect(self, program: Program, timeout_seconds: float | None = None) -> RedisState:
        state = self._settings.state
        return RedisState(
            program,
            state.redis_url,
            timeout_seconds=timeout_seconds or state.timeout_ms / 1000,
            prefix=state.redis_prefix,
            restarted=lambda _: self._restarted.set(),
        )

    def _upkeep_of(self, program: Program) -> Upkeep:
        upkeep = self._upkeeps.get(program.plan.hash)
        if upkeep is None:
            replica = Replica(program, self._reader, self._settings.state_dir, self._find_anywhere)
            upkeep = Upkeep(
                lambda: self._connect(program, 1.0), self._ledger, replica, self._metrics
            )
            self._upkeeps[program.plan.hash] = upkeep
        return upkeep

    def _find_anywhere(self, transaction_id: str) -> Transaction | None:
        found = self._index.transaction(transaction_id)
        if found is None:
            self._index.catch_up()
            found = self._index.transaction(transaction_id)
        return found

    # Loading.

    def _loaded_through(self, program: Program) -> int | None:
        watcher = self._watchers.get(program.plan.hash)
        if watcher is None:
            watcher = self._watchers[program.plan.hash] = self._connect(program, 1.0)
        return watcher.loaded_through()

    def _load(self, program: Program, progress: Progress | None) -> KnownIds:
        """See that the plan's state is in Redis: loaded by this scorer, or by another."""
        state = self._connect(program, _LOAD_TIMEOUT_SECONDS)
        lock = f"{{{state.base}}}:loading".encode()
        me = os.urandom(16).hex()
        try:
            while state.loaded_through() is None:
                taken = state.wire.call(lock, "SET", lock, me, "NX", "EX", _LOCK_SECONDS)
                if taken is None:
                    time.sleep(_WAIT_SECONDS)
                    continue
                try:
                    return self._fill(state, lock, progress)
                finally:
                    if state.wire.call(lock, "GET", lock) == me.encode():
                        state.wire.call(lock, "DEL", lock)
        finally:
            state.close()
        return self._known()

    def _fill(self, state: RedisState, lock: bytes, progress: Progress | None) -> KnownIds:
        log.info("Loading the state of plan %s into Redis.", state.program.plan.hash)

        def going_on(done: int, total: int) -> None:
            state.wire.call(lock, "EXPIRE", lock, _LOCK_SECONDS)
            if progress is not None:
                progress(done, total)

        folded = recover(
            state.program,
            self._reader,
            self._settings.state_dir,
            self._find_anywhere,
            progress=going_on,
        )
        written = state.load(folded.arena, folded.sequence)
        self._ledger.record_rebuild(
            StateRebuild(state.program.plan.hash, WHOLE, WHOLE, 0, folded.sequence)
        )
        log.info("Loaded %d records through entry %d.", written, folded.sequence)
        return folded.known

    def _known(self) -> KnownIds:
        known = KnownIds(self._settings.state_dir)
        for _, batch in read_log(self._reader):
            few = batch.filter(pc.equal(batch.column("kind"), KIND_TRANSACTION))
            known.add(few.column("transaction_id").to_pylist())
        return known

    # Doubt.

    def _transactions_after(self, sequence: int | None) -> Iterator[list[Transaction]]:
        if sequence is None:
            return
        for group in self._reader.groups(sequence):
            if group.kind == GroupKind.DECISIONS:
                yield [e for e in entries_of(group) if isinstance(e, Transaction)]

    def _doubt_since(self, unix_seconds: float, upkeep: Upkeep) -> None:
        """Have everything rebuilt that a restarted Redis may have lost the latest changes of."""
        since_us = int(unix_seconds * 1e6)
        sequence = self._index.sequence_before(since_us)
        log.warning("Redis has restarted; what changed from entry %d on is rebuilt.", sequence + 1)
        for transactions in self._transactions_after(sequence):
            upkeep.doubt(transactions)
