"""``get_online_features`` where scorers share their state in Redis: the records, folded anew."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from feast import FeatureStore

from sentinel.domain import DefinitionError, StateUnavailable, Transaction
from sentinel.features.arena import Arena
from sentinel.features.plan.plan import DAY_US
from sentinel.features.plan.program import compile_program
from sentinel.retrieval import redis_state_reader
from sentinel.retrieval.redis_state_reader import RedisStateReader
from sentinel.settings import Settings, StateSettings
from sentinel.state.redis.effects import Effects
from sentinel.state.redis.features import SharedFeatures
from sentinel.state.redis.layout import EPOCHS_OF_A_LOAD
from sentinel.state.redis.records import Loaded, Records
from sentinel.state.redis.wire import Wire
from testkit.redis_fold import RedisFold
from testkit.scratch import make_workspace
from testkit.servers import Redis
from tests.feast_plugin.conftest import Deployment
from tests.feast_plugin.expected import ROWS, SERVICE, oracle_now, same_bits
from tests.features.logs import bits_of

pytestmark = pytest.mark.filterwarnings("ignore")

PREFIX = "shop-1"
KNOWN: list[dict[str, str]] = [{k: v for k, v in row.items() if v is not None} for row in ROWS]


@dataclass(frozen=True)
class Shared:
    """A deployment whose state is in Redis, as scorers leave it there."""

    deployment: Deployment
    settings: Settings
    redis: Redis
    now_us: int

    @property
    def features(self) -> SharedFeatures:
        """A scorer's own view of the records."""
        return SharedFeatures(self.records())

    def records(self) -> Records:
        program = compile_program(self.deployment.plan)
        return Records(program, Wire(self.redis.url, timeout_seconds=20), prefix=PREFIX)


@pytest.fixture(scope="module")
def shared(deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    folder = tmp_path_factory.mktemp("shared")
    made = make_workspace(folder / "workspace", plan=deployment.plan)
    shutil.copy(deployment.workspace / "registry.db", made.workspace)
    with Redis(folder / "redis") as redis:
        state = StateSettings(backend="redis", redis_url=redis.url, redis_prefix=PREFIX)
        settings = made.model_copy(update={"state": state})
        last_us = deployment.entries[-1].received_at_us
        own = replace(deployment, workspace=settings.workspace)
        shared = Shared(own, settings, redis, last_us)
        with closing(shared.records()) as records, closing(shared.records()) as own_records:
            records.load(Arena(records.program), Loaded(EPOCHS_OF_A_LOAD, 0), 0)
            RedisFold(SharedFeatures(records), Effects(own_records)).run(deployment.entries)
        yield shared


@pytest.fixture
def shared_store(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Feast's SDK, which finds the deployment as a notebook does: by the environment."""
    monkeypatch.setenv("SENTINEL_WORKSPACE", str(shared.settings.workspace))
    monkeypatch.setenv("SENTINEL_STATE__BACKEND", "redis")
    monkeypatch.setenv("SENTINEL_STATE__REDIS_URL", shared.redis.url)
    monkeypatch.setenv("SENTINEL_STATE__REDIS_PREFIX", PREFIX)
    store = FeatureStore(repo_path=str(shared.deployment.repo))
    store.config.online_store.now_us = shared.now_us
    online: Any = store._get_provider().online_store
    yield store
    online.release()


@pytest.mark.parametrize("days_later", [0, 1, 20])
def test_every_value_is_the_oracles(
    shared: Shared, shared_store: Any, days_later: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_us = shared.now_us + days_later * DAY_US
    monkeypatch.setattr(shared_store.config.online_store, "now_us", now_us)
    names = list(shared.deployment.plan.feature_names)
    answer = shared_store.get_online_features(shared_store.get_feature_service(SERVICE), ROWS)
    assert same_bits(answer.to_dict(), names, oracle_now(shared.deployment, now_us))
    stamps = answer.to_df(include_event_timestamps=True)["card_count_1d__ts"]
    assert set(stamps) == {now_us // 1_000_000}


def test_feast_serves_what_a_scorer_reads_bit_for_bit(shared: Shared, shared_store: Any) -> None:
    names = list(shared.deployment.plan.feature_names)
    features = shared.features
    with closing(features.records):
        read = features.read(KNOWN, shared.now_us)
        # The next payment sees the same windows; what is of the payment itself is its own.
        payments = [
            Transaction(
                transaction_id=f"next-{n}",
                event_time_us=shared.now_us,
                received_at_us=shared.now_us,
                amount_minor=100,
                **dict[str, Any](keys),
            )
            for n, keys in enumerate(KNOWN)
        ]
        peeked = features.peek(payments)
    service = shared_store.get_feature_service(SERVICE)
    answer = shared_store.get_online_features(service, ROWS).to_dict()
    served = np.array(
        [[answer[name][row] for name in names] for row in range(len(ROWS))], dtype=np.float32
    )
    assert np.array_equal(bits_of(served), bits_of(read))
    windows = [i for i, name in enumerate(names) if not np.isnan(read[:, i]).all()]
    assert len(windows) > len(names) // 2
    assert np.array_equal(bits_of(peeked[:, windows]), bits_of(read[:, windows]))


def test_an_entity_without_history_counts_zero_and_knows_nothing_else(shared_store: Any) -> None:
    names = ["card:card_count_30d", "card:card_amount_mean_30d"]
    rows = [{"card_id": "k1"}, {"card_id": "never seen"}, {"card_id": None}]
    answer = shared_store.get_online_features(names, rows).to_dict()
    assert answer["card_count_30d"][0] > 0
    assert answer["card_amount_mean_30d"][0] is not None
    assert answer["card_count_30d"][1] == 0.0
    assert answer["card_amount_mean_30d"][1:] == [None, None]


def test_many_rows_are_read_in_parts_of_one_moment(
    shared: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"card_id": f"k{n % 12}"} for n in range(29)]
    names = ["card_amount_std_30d", "card_count_1d"]
    with closing(RedisStateReader(shared.settings)) as reader:
        whole = reader.read(rows, names, shared.now_us)
        monkeypatch.setattr(redis_state_reader, "_ROWS_A_READ", 4)
        parts = reader.read(rows, names, shared.now_us)
        assert reader.read([], names, None).values.shape == (0, 2)
        with pytest.raises(DefinitionError, match=r"no feature 'card_count_99d'"):
            reader.read(rows, ["card_count_99d"], None)
    assert np.array_equal(bits_of(whole.values), bits_of(parts.values))
    assert (parts.features, parts.now_us) == (tuple(names), shared.now_us)


def test_a_payment_that_a_scorer_adds_is_in_the_next_answer(
    shared: Shared, shared_store: Any
) -> None:
    names, rows = ["card:card_count_1d"], [{"card_id": "brand new"}]
    payment = Transaction(
        transaction_id="fresh",
        event_time_us=shared.now_us,
        received_at_us=shared.now_us,
        amount_minor=5,
        card_id="brand new",
    )
    assert shared_store.get_online_features(names, rows).to_dict()["card_count_1d"] == [0.0]
    features = shared.features
    with closing(features.records):
        features.add([payment], features.next_ticket())
    assert shared_store.get_online_features(names, rows).to_dict()["card_count_1d"] == [1.0]


@pytest.mark.parametrize(
    "elsewhere", [{"redis_prefix": "shop-2"}, {"redis_url": "/7"}], ids=["prefix", "database"]
)
def test_state_that_no_scorer_has_loaded_is_no_history_of_zeros(
    shared: Shared, elsewhere: dict[str, str]
) -> None:
    if "redis_url" in elsewhere:
        elsewhere = {"redis_url": shared.redis.url.removesuffix("/0") + elsewhere["redis_url"]}
    state = shared.settings.state.model_copy(update=elsewhere)
    settings = shared.settings.model_copy(update={"state": state})
    with (
        closing(RedisStateReader(settings)) as reader,
        pytest.raises(StateUnavailable, match=r"no scorer has loaded it.*SENTINEL_STATE__REDIS"),
    ):
        reader.read(KNOWN, ["card_count_1d"], shared.now_us)


def test_a_redis_that_is_silent_or_gone_is_named_and_found_again(
    shared: Shared, shared_store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked() -> Any:
        return shared_store.get_online_features(["card:card_count_30d"], [{"card_id": "k1"}])

    before = asked().to_dict()
    reader = shared_store._get_provider().online_store._own_reader
    monkeypatch.setattr(reader._records.wire, "timeout_seconds", 0.3)
    process = shared.redis.process
    assert process is not None
    os.kill(process.pid, signal.SIGSTOP)
    try:
        with pytest.raises(StateUnavailable, match="did not answer within"):
            asked()
    finally:
        os.kill(process.pid, signal.SIGCONT)
    assert asked().to_dict() == before
    shared.redis.stop()
    where = rf"redis://127\.0\.0\.1:{shared.redis.port}.*state\.redis_url"
    with pytest.raises(StateUnavailable, match=where):
        asked()
    with closing(RedisStateReader(shared.settings)) as late, pytest.raises(StateUnavailable):
        late.read(KNOWN, ["card_count_1d"], None)
    shared.redis.start()
    assert asked().to_dict() == before
