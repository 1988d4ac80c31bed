"""Keeps shared records true to the log, in threads of its own, so that decisions never wait for it.

One thread takes back what this scorer added and the log does not hold, says what is settled, and
folds long tails into bases. The other follows the log, settles what ended scorers left behind, and
puts records in place anew that a restarted Redis may have lost the last events of; of all scorers
one does this at a time.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from sentinel.domain import SentinelError, StateUnavailable, Transaction
from sentinel.features.plan.program import Program
from sentinel.ledger.base import Ledger, SharedLedger, StateRebuild
from sentinel.log.entries import GroupKind, entries_of
from sentinel.log.placed import placed_decisions
from sentinel.monitoring.metrics import ScoringMetrics
from sentinel.scoring.follower import FindTransactions, FindVoids, LogFollower
from sentinel.scoring.replayed_state import ReplayedState
from sentinel.state.known_ids import id_hash
from sentinel.state.redis.effects import Effects, Voided
from sentinel.state.redis.features import SharedFeatures
from sentinel.state.redis.intents import Touched, touched_by
from sentinel.state.redis.layout import Record, state_name
from sentinel.state.redis.records import Records
from sentinel.state.redis.reloading import Reloaded, reload_records
from sentinel.telemetry.safe_errors import shown

log = logging.getLogger(__name__)

ABANDONED_SECONDS: Final = 130.0
"""A group that was begun so long ago and is not settled was left behind: appends give up sooner."""

_PAUSE_SECONDS: Final = 0.1
_LOOK_SECONDS: Final = 0.05
_LONGEST_LOOKS: Final = 5
"""Where nothing but decisions of scorers comes in, the log is looked at so many times as rarely."""
_INTENTS_SECONDS: Final = 5.0
_TROUBLE_SECONDS: Final = 0.25
_TURN_SECONDS: Final = 10
_STEPS_SECONDS: Final = 1.0
"""For so long the log is followed before records in doubt get their turn."""
_SAY_SECONDS: Final = 0.5
_IDLE_SECONDS: Final = 0.5
_RELOADED_AT_ONCE: Final = 100


class _Doubt(NamedTuple):
    """Events of a group that may have to be taken back.

    Attributes:
        ticket: Of the group.
        transactions: Whose events.
        in_log: Whether the log may hold them under this ticket: it is asked.
        last: Nothing else of the group is in doubt: the ticket is settled then.
        anew: Nothing is taken back: the log holds them, and their records may not.
    """

    ticket: bytes
    transactions: Sequence[Transaction]
    in_log: bool
    last: bool
    anew: bool = False


class Reconciler:
    """What a scorer owes the shared records. Its methods may be called from any thread.

    Args:
        features: The scorer's way to the records.
        open_records: Connects to the records, once for each thread.
        ledger: To ask what is in the log, and to note what became of records.
        reader: The log.
        replayed: What records should hold.
        find: Finds a transaction of the log by its id.
        metrics: Counters.
        find_many: Finds several at once; default: one by one.
        find_voids: Finds voids; default: the log has none.
        look_seconds: Pause before the log is looked at again after something was found there.
    """

    def __init__(
        self,
        features: SharedFeatures,
        open_records: Callable[[], Records],
        ledger: SharedLedger,
        reader: Ledger,
        replayed: ReplayedState,
        find: Callable[[str], Transaction | None],
        metrics: ScoringMetrics,
        *,
        find_many: FindTransactions | None = None,
        find_voids: FindVoids | None = None,
        look_seconds: float = _LOOK_SECONDS,
    ) -> None:
        self._doubts: deque[_Doubt] = deque()
        self._features = features
        self._notes = _Notes(ledger, features.program)
        self._ledger = ledger
        self._effects = Effects(open_records())
        self._said = 0.0
        self._stop = threading.Event()
        effects = Effects(open_records())
        follower = LogFollower(effects, ledger, reader, find, find_many, find_voids)
        self._turn = _Turn(effects, follower, self._notes, reader, replayed, metrics)
        longest = look_seconds * _LONGEST_LOOKS
        self._own_loop = _Loop("state-own", self._own, _PAUSE_SECONDS, _PAUSE_SECONDS, self._stop)
        self._log_loop = _Loop("state-log", self._turn.work, look_seconds, longest, self._stop)
        self._threads = [self._own_loop, self._log_loop]

    def doubt(
        self, ticket: bytes, transactions: Sequence[Transaction], *, in_log: bool, last: bool
    ) -> None:
        """Take the events of transactions back, unless the log holds them.

        Args:
            ticket: Of their group.
            transactions: Which.
            in_log: Whether the log may hold them under this ticket.
            last: Whether nothing else of the group is in doubt.
        """
        self._doubts.append(_Doubt(ticket, transactions, in_log, last))
        self._own_loop.wake()

    def doubt_records(self, transactions: Sequence[Transaction]) -> None:
        """Put the records of transactions in place anew, from a log that holds the transactions."""
        self._doubts.append(_Doubt(b"", transactions, in_log=True, last=False, anew=True))
        self._own_loop.wake()

    def look_now(self) -> None:
        """Look at the log at once: it holds something that the records lack."""
        self._log_loop.wake()

    @property
    def problem(self) -> str | None:
        """Why it cannot do its work right now; None if it can."""
        return next((thread.problem for thread in self._threads if thread.problem), None)

    @property
    def behind(self) -> int:
        """Groups in doubt, records to put in place anew, and entries of the log to follow."""
        return len(self._doubts) + self._turn.behind

    def close(self) -> None:
        """Do what can be done at once, then end."""
        self._stop.set()
        for thread in self._threads:
            thread.wake()
        for thread in self._threads:
            thread.join(10)
        self._effects.records.close()
        self._turn.close()

    def _own(self) -> bool:
        while self._doubts:
            self._resolve(self._doubts[0])
            self._doubts.popleft()
        full = self._features.full_tails
        if full:
            named = [record for record in list(full) if full.pop(record, True) is None]
            self._say_settled()
            for record in self._effects.compact(named, self._effects.records.followed()):
                full.setdefault(record)
        elif time.monotonic() - self._said > _SAY_SECONDS:
            self._say_settled()
        return False

    def _say_settled(self) -> None:
        self._features.say_settled(self._effects.records)
        self._said = time.monotonic()

    def _resolve(self, doubt: _Doubt) -> None:
        if doubt.anew:
            touched = self._effects.touched_by(doubt.transactions)
            self._effects.records.notes.doubt([(view, key) for view, key, _ in touched])
        elif doubt.transactions:
            in_log = frozenset[str]()
            if doubt.in_log:
                in_log = self._notes.appended_under(doubt.ticket)
            undone = [t for t in doubt.transactions if t.transaction_id not in in_log]
            self._features.let_go()
            self._notes.voids(self._effects.void(doubt.ticket, self._effects.touched_by(undone)))
        if doubt.last:
            self._features.settled(doubt.ticket)


class _Turn:
    """What one scorer of all does at a time."""

    def __init__(
        self,
        effects: Effects,
        follower: LogFollower,
        notes: _Notes,
        reader: Ledger,
        replayed: ReplayedState,
        metrics: ScoringMetrics,
    ) -> None:
        self._effects = effects
        self._records = effects.records
        self._follower = follower
        self._notes = notes
        self._reader = reader
        self._replayed = replayed
        self._metrics = metrics
        self._name = os.urandom(16).hex()
        self._seen: dict[bytes, float] = {}
        self._looked = 0.0
        self._idle_until = 0.0
        self.behind = 0

    def work(self) -> bool:
        """One look; whether anything but decisions of scorers was found."""
        now = time.monotonic()
        if now < self._idle_until:
            return False
        found = False
        ours = self._take_turn()
        loaded = self._records.loaded() if ours else None
        if loaded is not None:
            changes = self._follower.changes
            # How the records were loaded is asked before each step, and what else is to be done
            # gets its turn, however much comes in.
            while loaded is not None and self._follower.step(loaded):
                if time.monotonic() - now > _STEPS_SECONDS or not self._take_turn():
                    break
                loaded = self._records.loaded()
            self._reload_some()
            found = self._follower.changes != changes
            if now - self._looked > _INTENTS_SECONDS:
                self._settle_left_behind()
                self._records.notes.take_in_older_doubts()
                self._looked = now
            self._replayed.release()
        else:
            self._idle_until = now + _IDLE_SECONDS
        unfollowed = self._reader.last_sequence() - self._records.followed()
        self.behind = max(0, unfollowed) + self._records.notes.doubts()
        return found

    def close(self) -> None:
        """Let another scorer take over at once."""
        try:
            self._records.notes.leave_turn(self._name)
        except StateUnavailable:
            log.info("Redis does not answer; another scorer takes over in some seconds.")
        self._records.close()

    def _settle_left_behind(self) -> None:
        """Settle groups that stand among the intents for longer than any scorer is at one."""
        now = time.monotonic()
        intents = self._records.intents()
        self._seen = {ticket: self._seen.get(ticket, now) for ticket in intents}
        for ticket, since in self._seen.items():
            if now - since < ABANDONED_SECONDS:
                continue
            in_log = {id_hash(i) for i in self._notes.appended_under(ticket)}
            undone = [
                Touched(view, key, [i for i in ids if i not in in_log])
                for view, key, ids in touched_by(intents[ticket])
            ]
            log.warning("A group of payments was left behind; what is not in the log is undone.")
            self._notes.voids(self._effects.void(ticket, undone))
            self._records.settled([ticket])

    def _reload_some(self) -> None:
        while doubted := self._records.notes.doubted(_RELOADED_AT_ONCE):
            done = self._reload(list(doubted))
            # Bases of busy records are folded on while the log is read, and most of it is read now.
            left = doubted.keys() - done if len(doubted) > 1 else ()
            for record in left:
                if not self._take_turn():
                    break
                done |= self._reload([record])
            self._records.notes.resolve_doubts({record: doubted[record] for record in done})
            self.behind = self._records.notes.doubts()
            if not done or not self._take_turn():
                return

    def _reload(self, records: Sequence[Record]) -> set[Record]:
        """Put records in place anew while it is this scorer's turn; those that were."""
        done = set()
        found_of = reload_records(
            self._effects, records, self._replayed.records, self._notes.rebuilt_position
        )
        for record, found in found_of:
            if found is not None:
                self._notes.reloaded(record, found)
                self._metrics.rebuilds += 1
                done.add(record)
            if not self._take_turn():
                break
        return done

    def _take_turn(self) -> bool:
        return self._records.notes.take_turn(self._name, _TURN_SECONDS)


class _Notes:
    """Writes down in the ledger what became of records, so that what was served can be replayed."""

    def __init__(self, ledger: SharedLedger, program: Program) -> None:
        self._ledger = ledger
        self._plan_hash = program.plan.hash
        self._name = state_name(program.plan.hash)
        self._views = tuple(view.name for view in program.plan.views)

    def voids(self, voided: Sequence[Voided]) -> None:
        """Events were taken back."""
        for view, key, position, at in voided:
            self._ledger.record_rebuild(
                StateRebuild(self._name, self._views[view], key, at, -position)
            )

    def reloaded(self, record: Record, found: Reloaded) -> None:
        """A record was put in place anew."""
        view, key = record
        self._ledger.record_rebuild(
            StateRebuild(self._name, self._views[view], key, found.position, found.sequence)
        )

    def rebuilt_position(self, record: Record) -> int:
        """See `SharedLedger.rebuilt_position`."""
        view, key = record
        return self._ledger.rebuilt_position(self._name, self._views[view], key)

    def appended_under(self, token: bytes) -> frozenset[str]:
        """Ids of what the log holds under a token and beside it their positions; no others follow.

        What was decided without the records stands in them by the log alone, and under no token.
        """
        first = self._ledger.settle(token)
        if not first:
            return frozenset()
        for group in self._ledger.groups(first - 1):
            if group.kind == GroupKind.DECISIONS:
                placed = placed_decisions(group.payload, group.entries)
                if placed.plan_hash != self._plan_hash or placed.positions is None:
                    break
                stands = (placed.positions.max(axis=1, initial=0) > 0).tolist()
                entries = zip(entries_of(group), stands, strict=True)
                return frozenset(entry.transaction_id for entry, held in entries if held)
            break
        return frozenset()


class _Loop(threading.Thread):
    """Does a piece of work again and again, and keeps on when it fails.

    Args:
        name: Of the thread.
        work: Returns whether there was something to do.
        pause_seconds: Pause after there was something to do.
        longest_seconds: The pause doubles up to this while there is not.
        stop: Ends it, once it is woken.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], bool],
        pause_seconds: float,
        longest_seconds: float,
        stop: threading.Event,
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._work = work
        self._pause_seconds = pause_seconds
        self._longest_seconds = longest_seconds
        self._stop_asked = stop
        self._woken = threading.Event()
        self.problem: str | None = None
        self.start()

    def wake(self) -> None:
        """End the pause."""
        self._woken.set()

    def run(self) -> None:
        stopping = False
        pause = self._pause_seconds
        while not stopping:
            if self.problem is not None:
                self._stop_asked.wait(_TROUBLE_SECONDS)  # whoever wakes it does not help
            else:
                self._woken.wait(pause)
            self._woken.clear()
            stopping = self._stop_asked.is_set()
            pause = min(2 * pause, self._longest_seconds)
            try:
                if self._work():
                    pause = self._pause_seconds
            except SentinelError as error:
                if self.problem is None:
                    log.warning("Shared state is not looked after: %s", error)
                self.problem = str(error)
            except Exception as error:
                log.exception("Shared state could not be looked after; it is tried again.")
                self.problem = shown(error)
            else:
                self.problem = None
