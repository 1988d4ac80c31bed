"""Feast's SDK beside a scorer that is at work: the values are those of the scorer's state."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from feast import FeatureStore

from sentinel.domain import DefinitionError, Void
from sentinel.features.plan.plan import DAY_US, MINUTE_US
from sentinel.ledger.sqlite import SqliteLedger
from sentinel.log.entries import GroupKind, entries_of
from sentinel.pipeline.verify_sample import verify_sample
from sentinel.retrieval import scorer_reader
from sentinel.retrieval.scorer_reader import ScorerReader
from sentinel.settings import Settings
from testkit.scratch import Server, make_workspace, serving
from tests.feast_plugin.conftest import Deployment
from tests.feast_plugin.expected import ROWS, SERVICE, oracle_now, questions, same_bits, told_before
from tests.feast_plugin.history import Entry
from tests.features.logs import bits_of, bits_of_values

pytestmark = pytest.mark.filterwarnings("ignore")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Running:
    """A scorer over the deployment's history and some live traffic of its own."""

    deployment: Deployment
    server: Server
    now_us: int


@pytest.fixture(scope="module")
def running(deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    workspace = tmp_path_factory.mktemp("running")
    settings = make_workspace(workspace, plan=deployment.plan)
    for name in ("ledger.db", "registry.db"):
        shutil.copy(deployment.workspace / name, workspace)
    last_us = deployment.entries[-1].received_at_us
    with serving(settings) as server:
        _send_traffic(server, last_us)
        live = replace(
            deployment,
            workspace=workspace,
            entries=[*deployment.entries, *_live_entries(settings.ledger_path)],
        )
        yield Running(live, server, last_us + 10 * MINUTE_US)


def _send_traffic(server: Server, last_us: int) -> None:
    """Payments with ties and unknown entities, and labels on old and new ones."""
    payments = [
        {
            "transaction_id": f"live-{n}",
            "amount_minor": 100 * n - 300,
            "event_time": (_EPOCH + timedelta(microseconds=last_us + n // 3)).isoformat(),
            "card_id": f"k{n % 3}",
            "customer_id": None if n % 4 == 0 else "c1",
            "merchant_id": "m1",
            "device_id": "d1" if n % 2 else None,
            "ip_address": "10.0.0.1",
            "attributes": {"channel": "web"},
        }
        for n in range(30)
    ]
    labels = [
        {"transaction_id": name, "verdict": verdict}
        for name, verdict in (
            ("live-4", "fraud"),
            ("t1490", "fraud"),
            ("t1490", "legitimate"),
            ("live-7", "fraud"),
            ("unheard-of", "fraud"),
        )
    ]
    with httpx.Client(base_url=server.url, timeout=60) as client:
        client.post("/predict/batch", json={"transactions": payments}).raise_for_status()
        for label in labels:
            client.post("/labels", json=label).raise_for_status()


def _live_entries(ledger_path: Path) -> list[Entry]:
    with SqliteLedger.open_reader(ledger_path) as ledger:
        return [
            entry
            for group in ledger.groups()
            if group.kind != GroupKind.IMPORT
            for entry in entries_of(group)
            if not isinstance(entry, Void)
        ]


@pytest.fixture
def live_store(running: Running, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Feast's SDK, pointed at the scorer's workspace and moment."""
    monkeypatch.setenv("SENTINEL_WORKSPACE", str(running.deployment.workspace))
    store = FeatureStore(repo_path=str(running.deployment.repo))
    store.config.online_store.now_us = running.now_us
    return store


def test_online_values_are_the_scorers_state_bit_for_bit(running: Running, live_store: Any) -> None:
    names = list(running.deployment.plan.feature_names)
    wanted = oracle_now(running.deployment, running.now_us)
    answer = live_store.get_online_features(live_store.get_feature_service(SERVICE), ROWS)
    assert same_bits(answer.to_dict(), names, wanted)
    assert answer.to_dict()["card_count_1h"][0] > 0, "the live payments are among them"


def test_online_values_are_asked_of_the_scorer_not_of_the_log(
    running: Running, live_store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the log was read although a scorer runs")

    monkeypatch.setattr("sentinel.feast_plugin.online_store.LedgerReader", refuse)
    live_store.get_online_features(["card:card_count_1d"], [{"card_id": "k1"}])


def test_historical_values_include_live_traffic_bit_for_bit(
    running: Running, live_store: Any
) -> None:
    deployment = running.deployment
    names = list(deployment.plan.feature_names)
    frame = questions(deployment.entries[-80:], 100)
    result = live_store.get_historical_features(
        frame, live_store.get_feature_service(SERVICE)
    ).to_df()
    found = bits_of(result[names].to_numpy(dtype=np.float32))
    assert np.array_equal(found, bits_of_values(told_before(deployment, frame), len(names)))


def test_many_rows_are_asked_for_in_parts_of_one_moment(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = ScorerReader.find(running.deployment.workspace)
    assert reader is not None
    rows = [{"card_id": f"k{n % 4}"} for n in range(11)]
    whole = reader.read(rows, ["card_count_30d", "card_amount_std_30d"], running.now_us)
    monkeypatch.setattr(scorer_reader, "ROWS_PER_REQUEST", 3)
    parts = reader.read(rows, ["card_count_30d", "card_amount_std_30d"], running.now_us)
    assert np.array_equal(bits_of(whole.values), bits_of(parts.values))
    assert whole.now_us == parts.now_us == running.now_us
    assert whole.plan_hash == running.deployment.plan.hash
    assert reader.read([], ["card_count_30d"], None).values.shape == (0, 1)


def test_a_feature_the_scorer_does_not_run_is_named(running: Running) -> None:
    reader = ScorerReader.find(running.deployment.workspace)
    assert reader is not None
    with pytest.raises(DefinitionError, match=r"no feature card_count_99d.*features apply"):
        reader.read([{"card_id": "k1"}], ["card_count_99d"], None)


def test_windows_decay_while_nothing_arrives(
    running: Running, live_store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = []
    for days in (0, 1, 3, 40):
        moment = running.now_us + days * DAY_US
        monkeypatch.setattr(live_store.config.online_store, "now_us", moment)
        answer = live_store.get_online_features(["card:card_count_1d"], [{"card_id": "k1"}])
        counts.append(answer.to_dict()["card_count_1d"][0])
    assert counts[0] > counts[-1] == 0.0
    assert counts == sorted(counts, reverse=True)


def test_a_sample_of_recorded_vectors_and_live_windows_agrees(running: Running) -> None:
    deployment = running.deployment
    settings = Settings(workspace=deployment.workspace, feature_store=deployment.repo)
    result = verify_sample(settings, 200, seed=1)
    rows = {part.what: part.rows for part in result.checked}
    assert rows["recorded"] == 30
    assert rows["windows"] > 100
    assert result.mismatches == 0
    assert result.interval[0] == 0.0


def test_after_the_scorer_died_the_log_gives_the_same_values(
    running: Running, live_store: Any
) -> None:
    """Last: it kills the scorer, whose address file stays behind."""
    service = live_store.get_feature_service(SERVICE)
    before = live_store.get_online_features(service, ROWS).to_dict()
    running.server.kill()
    assert ScorerReader.find(running.deployment.workspace) is not None
    assert live_store.get_online_features(service, ROWS).to_dict() == before
