"""A Redis that comes back is looked at before anything that it holds is used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import redis as redis_client

from sentinel.domain import LedgerUnavailable, SentinelError, Transaction
from sentinel.features.plan.plan import DAY_US, MINUTE_US
from sentinel.features.plan.program import compile_program
from sentinel.ledger.index import LedgerIndex
from sentinel.ledger.open import open_reader
from sentinel.log.entries import GroupKind, encode_group
from sentinel.monitoring.metrics import ScoringMetrics
from sentinel.pipeline.compare_shared import compare_shared
from sentinel.pipeline.verify_shared import verify_shared
from sentinel.scoring.shared_state import SharedState
from sentinel.scoring.shared_states import SharedStates
from sentinel.settings import LedgerSettings, Settings, StateSettings
from sentinel.state.base import Reading
from testkit.servers import Postgres, Redis, wait_until
from tests.features.plans import every_function
from tests.state.test_contract import decisions_of
from tests.state.test_shared_records import payment

PLAN = every_function((10 * MINUTE_US, DAY_US))
OTHER_PLAN = every_function((10 * MINUTE_US,))


@contextmanager
def attached(settings: Settings) -> Iterator[SharedStates]:
    """Where the state of a scorer of these settings comes from."""
    states = SharedStates(settings, ScoringMetrics())
    with ExitStack() as stack:
        stack.enter_context(states.open_ledger())
        reader = stack.enter_context(open_reader(settings))
        index = LedgerIndex(settings.index_path, reader)
        stack.callback(index.close)
        states.attach(reader, index)
        stack.callback(states.close)
        yield states


def look(states: SharedStates, state: SharedState) -> None:
    """Until the scorer has looked at what a restarted server holds."""

    def looked() -> bool:
        try:
            states._index.catch_up()
            state.look_after()
        except SentinelError:
            return False
        return state.blocked is None and state.unwatched is None

    wait_until(looked, 60, "a look at the restarted server")


def record(states: SharedStates, state: SharedState, one: Transaction, reading: Reading) -> None:
    """Append the decision on a payment to the log."""
    payload = encode_group(decisions_of(PLAN, [one], reading))
    appended = states._ledger.append(
        GroupKind.DECISIONS, 1, one.received_at_us, payload, token=reading.ticket
    )
    state.settle(reading.ticket, [one], appended)


@pytest.mark.slow
@pytest.mark.parametrize("looks_first", [True, False], ids=["looks, then records", "records first"])
def test_a_lost_event_whose_decision_reaches_the_log_late_is_put_in_place(
    tmp_path: Path, looks_first: bool
) -> None:
    with (
        Redis(tmp_path / "redis") as redis,
        Postgres(tmp_path / "postgres", settings={"fsync": "off"}) as postgres,
    ):
        mine = Settings(
            workspace=tmp_path / "a",
            ledger=LedgerSettings(url=postgres.make_database("late")),
            state=StateSettings(backend="redis", redis_url=redis.url),
        )
        others = mine.model_copy(update={"workspace": tmp_path / "b"})
        for settings in (mine, others):
            settings.workspace.mkdir()
        with attached(mine) as states, attached(others) as other_states:
            state, other = states.open(PLAN), other_states.open(PLAN)
            watcher = states._watcher(state.program)

            def quiet() -> bool:
                behind = state.reconciler.behind + other.reconciler.behind
                return not behind and not watcher.notes.doubts()

            def decide(one: Transaction) -> None:
                record(other_states, other, one, other.add([one]))

            decide(payment(1, 1))
            look(states, state)
            look(other_states, other)
            decide(payment(2, 2))
            late = payment(3, 3)
            reading = state.add([late])
            assert not reading.flags.any()

            redis.restart()
            with redis_client.Redis(port=redis.port) as client:
                for view, name in enumerate(("c1", "c1\x1fm1")):
                    where, width = watcher.layout.key(view, name), watcher.layout.widths[view]
                    held = client.get(where)
                    assert isinstance(held, bytes)
                    client.set(where, held[:-width])  # as if the end of its file had been lost
            look(other_states, other)
            wait_until(quiet, 60, "records to be put in place")
            decide(payment(4, 4))
            if looks_first:
                look(states, state)
            record(states, state, late, reading)
            if not looks_first:
                look(states, state)
            wait_until(quiet, 60, "records to be put in place")
            decide(payment(5, 5))

            held_now = compare_shared(mine, PLAN)
            assert held_now is not None
            assert (held_now.differing, held_now.behind) == (0, 0), held_now.examples
            replay = verify_shared(mine, PLAN)
            assert replay is not None
            assert (replay.decisions, replay.mismatches) == (5, 0), replay.examples
            assert replay.unverifiable > 0, "the fourth was decided without the third"


@pytest.mark.slow
def test_what_a_restart_may_have_lost_is_looked_at_before_it_is_used(tmp_path: Path) -> None:
    with (
        Redis(tmp_path / "redis") as redis,
        Postgres(tmp_path / "postgres", settings={"fsync": "off"}) as postgres,
    ):
        settings = Settings(
            workspace=tmp_path / "w",
            ledger=LedgerSettings(url=postgres.make_database("restarts")),
            state=StateSettings(backend="redis", redis_url=redis.url, redis_prefix="r"),
        )
        settings.workspace.mkdir()
        with attached(settings) as states:
            state, other = states.open(PLAN), states.open(OTHER_PLAN)
            for one in (state, other):
                one.reconciler.close()  # so that what is in doubt stays so
            # They were received long ago, and waited until now.
            waited = [payment(n) for n in range(3)]
            reading = state.add(waited)
            appended = states._ledger.append(
                GroupKind.DECISIONS,
                len(waited),
                waited[-1].received_at_us,
                encode_group(decisions_of(PLAN, waited, reading)),
                transaction_ids=[transaction.transaction_id for transaction in waited],
                token=reading.ticket,
            )
            state.settle(reading.ticket, waited, appended)
            states._index.catch_up()
            state.look_after()
            redis.restart()
            state.look_after()
            assert "has restarted" in str(state.blocked)
            assert "has restarted" in str(other.blocked)
            postgres.kill()
            with pytest.raises(LedgerUnavailable):
                state.look_after()
            assert state.blocked is not None
            postgres.start()

            look(states, state)
            for plan in (PLAN, OTHER_PLAN):
                assert states._watcher(compile_program(plan)).notes.doubts() > 0
