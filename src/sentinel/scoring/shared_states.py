"""Feature state in Redis and the ledger in PostgreSQL, shared with other scoring processes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Final

import pyarrow.compute as pc

from sentinel.domain import LedgerUnavailable, StateUnavailable, Transaction
from sentinel.features.plan.plan import Plan
from sentinel.features.plan.program import Program, compile_program
from sentinel.ledger.base import Ledger, SharedLedger, StateRebuild
from sentinel.ledger.index import LedgerIndex
from sentinel.ledger.log import read_log
from sentinel.ledger.lookup import TransactionLookup
from sentinel.ledger.open import open_shared
from sentinel.log.entries import GroupKind, entries_of
from sentinel.log.schema import KIND_TRANSACTION
from sentinel.monitoring.metrics import ScoringMetrics
from sentinel.scoring.reconciler import Reconciler
from sentinel.scoring.recovery import recover
from sentinel.scoring.replayed_state import ReplayedState
from sentinel.scoring.shared_state import SharedState
from sentinel.scoring.states import Progress
from sentinel.settings import Settings
from sentinel.spare_time import Between
from sentinel.state.base import FeatureState
from sentinel.state.budget import redis_budget
from sentinel.state.embedded import EmbeddedState
from sentinel.state.known_ids import KnownIds
from sentinel.state.redis.checkpoints import EVERYTHING, Checkpoints, Lost
from sentinel.state.redis.effects import Effects, step_of
from sentinel.state.redis.features import SharedFeatures
from sentinel.state.redis.layout import EPOCHS_OF_A_LOAD, state_name
from sentinel.state.redis.load_lock import LoadLock
from sentinel.state.redis.records import Loaded, Records
from sentinel.state.redis.wire import Wire

log = logging.getLogger(__name__)

PARALLEL: Final = 4
"""Groups of payments that a scorer has between state and log at once."""

_LOAD_TIMEOUT_SECONDS: Final = 30.0
_WAIT_SECONDS: Final = 0.5
_POLL_SECONDS: Final = 0.05
_NOTICED_SECONDS: Final = 1.5
"""Within so long every scorer has looked whether the state is still there."""
_FOLLOWED_SECONDS: Final = 600.0
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
        self._states: dict[str, SharedState] = {}
        self._opening: list[SharedState] = []
        self._watchers: dict[str, Records] = {}
        self._heard_through = 0
        self._runs: dict[str, str] = {}
        self._sound: set[str] = set()
        self._checkpoints: dict[str, Checkpoints] = {}
        self._restarted = threading.Event()
        self._noticing = threading.Lock()
        self._looking = threading.RLock()  # whoever uses a watcher, or changes what is followed

    def open_ledger(self) -> Ledger:
        self._ledger = open_shared(self._settings)
        return self._ledger

    def attach(self, reader: Ledger, index: LedgerIndex) -> None:
        self._reader, self._index = reader, index

    def open(self, plan: Plan, progress: Progress | None = None) -> SharedState:
        found = self._states.get(plan.hash)
        if found is not None:
            return found
        self._index.catch_up()
        heard_through = self._index.indexed_through
        program = compile_program(plan)
        known = self._load(program, progress)
        features = SharedFeatures(self._connect(program))
        reconciler = Reconciler(
            features,
            lambda: self._connect(program, 1.0),
            self._ledger,
            self._reader,
            ReplayedState(program, self._reader, self._settings.state_dir, self._find_anywhere),
            self._find_anywhere,
            self._metrics,
            find_many=self._find_many,
            find_voids=self._find_voids,
        )
        sequence = self._reader.last_sequence()
        state = SharedState(features, reconciler, known, sequence, self._watch, PARALLEL)
        with self._looking:
            self._opening.append(state)
        try:
            with self._looking:
                self._look_at_start(state)
                self._note_memory(state)
            self._wait_for_follower(program, progress)
            self._wait_for_doubts(program)
            with self._looking:
                self._hear(state, heard_through)
                self._states[plan.hash] = state
        except BaseException:
            reconciler.close()
            state.close()
            raise
        finally:
            with self._looking:
                self._opening.remove(state)
        return state

    def _hear(self, state: SharedState, through: int) -> None:
        """Tell a new state of the ids that others have heard of while it was opened."""
        if not self._states:
            self._heard_through = through
        elif through < self._heard_through:
            state.known.add(self._index.ids_after(through, self._heard_through))

    def rebuild(self, state: FeatureState) -> FeatureState:
        # What is in doubt is taken back record by record; all that is needed to go on is the log.
        self._reader.last_sequence()
        return state

    def give_way(self, between: Between) -> None:
        """Records are made by other processes."""

    def prepare_catch_up(self, state: FeatureState) -> None:
        """The follower needs nothing."""

    def catch_up(self, state: FeatureState) -> int:
        # The follower brings in what came since the state was loaded, and what other scorers still
        # decide by another plan.
        found = self._states.get(state.program.plan.hash)
        if found is not None:
            found.reconciler.look_now()
        return self._wait_for_follower(state.program, None)

    def _watch(self, state: SharedState) -> None:
        """Ids that others recorded; a Redis that lost its state, or may have lost the latest."""
        with self._looking:
            self._look(state)

    def _look(self, state: SharedState) -> None:
        through = self._index.indexed_through
        if through > self._heard_through:
            ids = self._index.ids_after(self._heard_through, through)
            for one in list(self._states.values()):
                one.known.add(ids)
            self._heard_through = through
        self._metrics.repairs_pending = state.reconciler.behind
        try:
            if self._restarted.is_set():
                self._look_at_restarted()
            loaded = self._watcher(state.program).loaded()
            if loaded is None:
                state.blocked = "Redis has lost the feature state; it is being loaded anew."
                log.warning(state.blocked)
                self._load(state.program, None)
                loaded = self._watcher(state.program).loaded()
            if loaded is not None and not state.features.records.uses(loaded):
                state.features.use(loaded)
            state.unwatched = None
            with self._noticing:  # a restart that is noticed meanwhile keeps it blocked
                looked_at = not self._restarted.is_set()
                if looked_at:
                    state.blocked = None
            if looked_at:
                self._write_checkpoint(state.program)
            self._note_memory(state)
        except StateUnavailable as error:
            state.unwatched = str(error)

    def _note_memory(self, state: SharedState) -> None:
        watcher = self._watcher(state.program)
        held, most = watcher.wire.memory()
        state.waiting_labels = watcher.notes.waits()
        state.held_bytes, state.budget_bytes = held, redis_budget(self._settings, most)

    def close(self) -> None:
        for state in self._states.values():
            state.reconciler.close()
            state.close()
        for watcher in self._watchers.values():
            watcher.close()

    # Connections.

    def _connect(self, program: Program, timeout_seconds: float | None = None) -> Records:
        state = self._settings.state
        wire = Wire(
            state.redis_url,
            timeout_seconds=timeout_seconds or state.timeout_ms / 1000,
            restarted=self._note_restart,
            runs=self._runs,
        )
        return Records(program, wire, prefix=state.redis_prefix)

    def _note_restart(self, address: str) -> None:
        """Use nothing of a server that runs anew until somebody has looked at what it holds."""
        why = f"Redis at {address} has restarted, or took over; its records are looked at first."
        with self._noticing:
            self._restarted.set()
            for state in self._all_states():
                state.blocked = why
        raise StateUnavailable(why)

    def _all_states(self) -> list[SharedState]:
        """Those that serve, and those that are being opened."""
        return [*self._states.values(), *self._opening]

    def _find_anywhere(self, transaction_id: str) -> Transaction | None:
        found = self._index.transaction(transaction_id)
        if found is None:
            self._index.catch_up()
            found = self._index.transaction(transaction_id)
        return found

    def _find_many(self, transaction_ids: Iterable[str]) -> dict[str, Transaction]:
        self._index.catch_up()
        return TransactionLookup(self._index).transactions(transaction_ids)

    def _find_voids(self, transaction_ids: Iterable[str]) -> dict[str, int]:
        self._index.catch_up()
        return self._index.voids_of(transaction_ids)

    # Loading.

    def _watcher(self, program: Program) -> Records:
        watcher = self._watchers.get(program.plan.hash)
        if watcher is None:
            watcher = self._watchers[program.plan.hash] = self._connect(program, 1.0)
        return watcher

    def _wait_for_follower(self, program: Program, progress: Progress | None) -> int:
        """Wait until the records contain all that the log holds by now; how many entries it was."""
        until = self._reader.last_sequence()
        with closing(self._connect(program, 1.0)) as records:
            after = through = records.followed()
            deadline = time.monotonic() + _FOLLOWED_SECONDS
            while through < until and time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)
                through = records.followed()
                if progress is not None:
                    progress(through - after, until - after)
        return max(0, until - after)

    def _wait_for_doubts(self, program: Program) -> None:
        """Wait until the records that are in doubt by now are put in place anew.

        Voids doubt others meanwhile, or the same ones again: these are as good as any.
        """
        name, until = state_name(program.plan.hash), self._reader.last_sequence()
        noted = self._ledger.last_rebuild(name)
        number = {view.name: place for place, view in enumerate(program.plan.views)}
        deadline = time.monotonic() + _FOLLOWED_SECONDS
        with closing(self._connect(program, 1.0)) as records:
            left = records.notes.all_doubted()
            while left and time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)
                left = records.notes.still_doubted(left)
                for found in self._ledger.rebuilds(name, after=noted) if left else ():
                    if found.view in number and found.through_sequence >= until:
                        left.discard((number[found.view], found.entity_key))

    def _load(self, program: Program, progress: Progress | None) -> KnownIds:
        """See that the plan's state is in Redis: loaded by this scorer, or by another."""
        with closing(self._connect(program, _LOAD_TIMEOUT_SECONDS)) as records:
            lock = records.lock()
            while records.loaded() is None:
                if not lock.take():
                    time.sleep(_WAIT_SECONDS)
                    continue
                try:
                    return self._fill(records, lock, progress)
                finally:
                    lock.release()
        return self._known()

    def _fill(self, records: Records, lock: LoadLock, progress: Progress | None) -> KnownIds:
        program = records.program
        log.info("Loading the state of plan %s into Redis.", program.plan.hash)

        def going_on(done: int, total: int) -> None:
            lock.hold()
            if progress is not None:
                progress(done, total)

        name = state_name(program.plan.hash)
        loads = [r.position for r in self._ledger.rebuilds(name) if r.view == WHOLE]
        if loads:
            # It was there before and is lost. No scorer may add to it while it is loaded.
            time.sleep(_NOTICED_SECONDS)
        folded = recover(
            program,
            self._reader,
            self._settings.state_dir,
            self._find_anywhere,
            progress=going_on,
        )
        epoch = max(loads, default=0) + EPOCHS_OF_A_LOAD
        # Noted first: a load that is not finished is loaded anew under the next epoch.
        self._ledger.record_rebuild(StateRebuild(name, WHOLE, WHOLE, epoch, folded.sequence))
        loaded = Loaded(epoch, folded.sequence)
        through = step_of(folded.sequence, label=True)
        written = records.load(folded.arena, loaded, through, self._waiting(folded), lock)
        log.info(
            "Loaded %d records through entry %d.",
            written,
            folded.sequence,
            extra={"through": folded.sequence},
        )
        return folded.known

    def _waiting(self, folded: EmbeddedState) -> dict[str, int]:
        """Transactions called fraud that have not come yet, and where in the log that stands."""
        waiting = [i for i in folded.fraud if not folded.known.holds_id(i)]
        standings = self._ledger.verdicts(waiting, before=folded.sequence + 1) if waiting else {}
        return {identifier: standing.label_sequence for identifier, standing in standings.items()}

    def _known(self) -> KnownIds:
        known = KnownIds(self._settings.state_dir)
        for _, batch in read_log(self._reader):
            few = batch.filter(pc.equal(batch.column("kind"), KIND_TRANSACTION))
            known.add(few.column("transaction_id").to_pylist())
        return known

    # Doubt.

    def _look_at_start(self, state: SharedState) -> None:
        """See to what Redis may have lost while no scorer was there to notice."""
        self._doubt_lost(state)
        loaded = self._watcher(state.program).loaded()
        if loaded is None:
            self._load(state.program, None)
            loaded = self._watcher(state.program).loaded()
        if loaded is not None:
            state.features.use(loaded)
        self._sound |= set(self._runs.values())
        self._write_checkpoint(state.program)

    def _look_at_restarted(self) -> None:
        """See to what a restarted Redis may have lost; if that fails, it is still to be done."""
        noted = set(self._runs.values())
        self._restarted.clear()
        try:
            for state in self._all_states():
                self._doubt_lost(state)
        except BaseException:
            self._restarted.set()
            raise
        self._sound |= noted

    def _write_checkpoint(self, program: Program) -> None:
        """Tell every server that was looked at what it holds by now."""
        followed = self._watcher(program).followed()
        try:
            noted = self._ledger.last_rebuild(state_name(program.plan.hash))
        except LedgerUnavailable:
            return  # the next look does it
        self._checkpoints_of(program).write(followed, noted, self._sound)

    def _checkpoints_of(self, program: Program) -> Checkpoints:
        found = self._checkpoints.get(program.plan.hash)
        if found is None:
            found = self._checkpoints[program.plan.hash] = Checkpoints(self._watcher(program))
        return found

    def _doubt_lost(self, state: SharedState) -> None:
        """Have records put in place anew of which Redis may have lost the latest events."""
        program = state.program
        state.doubt_under_way()
        state.features.forget()
        watcher = self._watcher(program)
        lost, loaded = self._checkpoints_of(program).lost(), watcher.loaded()
        name = state_name(program.plan.hash)
        newest = max(
            (r.position for r in self._ledger.rebuilds(name) if r.view == WHOLE), default=0
        )
        if lost == EVERYTHING or (loaded is not None and loaded.epoch < newest):
            log.warning("Nobody can tell how much Redis has lost; its records are loaded anew.")
            watcher.unload()
        elif lost is not None and loaded is not None:
            log.warning(
                "Redis has restarted; what changed from entry %d on is looked at.",
                lost.followed + 1,
                extra={"sequence": lost.followed + 1},
            )
            self._doubt_after(lost, state)

    def _doubt_after(self, lost: Lost, state: SharedState) -> None:
        """Put in place anew what was changed since a checkpoint, by the log and by the ledger."""
        watcher, plan = self._watcher(state.program), state.program.plan
        effects = Effects(watcher)
        watcher.set_followed(min(watcher.followed(), lost.followed))
        for transactions in self._transactions_after(lost.followed):
            watcher.notes.doubt([(view, key) for view, key, _ in effects.touched_by(transactions)])
        places = {view.name: number for number, view in enumerate(plan.views)}
        noted = self._ledger.rebuilds(state_name(plan.hash), after=lost.noted)
        mended = [(places[r.view], r.entity_key) for r in noted if r.view != WHOLE]
        watcher.notes.doubt(list(dict.fromkeys(mended)))

    def _transactions_after(self, sequence: int) -> Iterator[list[Transaction]]:
        for group in self._reader.groups(sequence):
            if group.kind == GroupKind.DECISIONS:
                yield [e for e in entries_of(group) if isinstance(e, Transaction)]
