"""A Redis that comes back is looked at before anything that it holds is used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from sentinel.domain import LedgerUnavailable, SentinelError
from sentinel.features.plan.plan import DAY_US, MINUTE_US
from sentinel.features.plan.program import compile_program
from sentinel.ledger.index import LedgerIndex
from sentinel.ledger.open import open_reader
from sentinel.log.entries import GroupKind, encode_group
from sentinel.monitoring.metrics import ScoringMetrics
from sentinel.scoring.shared_states import SharedStates
from sentinel.settings import LedgerSettings, Settings, StateSettings
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

            def looked() -> bool:
                try:
                    state.look_after()
                except SentinelError:
                    return False
                return state.blocked is None

            wait_until(looked, 60, "a look at the restarted server")
            for plan in (PLAN, OTHER_PLAN):
                assert states._watcher(compile_program(plan)).notes.doubts() > 0
