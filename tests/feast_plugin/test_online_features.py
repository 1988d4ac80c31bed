"""``get_online_features`` gives the state of now, from the log where no scorer runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sentinel.domain import InvalidQuery
from sentinel.features.plan.plan import DAY_US
from tests.feast_plugin.conftest import Deployment
from tests.feast_plugin.expected import ROWS, SERVICE, oracle_now, same_bits

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("days_later", [0, 1, 20])
def test_every_value_is_the_oracles(
    deployment: Deployment, store: Any, days_later: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_us = deployment.entries[-1].received_at_us + days_later * DAY_US
    monkeypatch.setattr(store.config.online_store, "now_us", now_us)
    names = list(deployment.plan.feature_names)
    service = store.get_feature_service(SERVICE)
    response = store.get_online_features(service, ROWS)
    assert same_bits(response.to_dict(), names, oracle_now(deployment, now_us))
    stamps = response.to_df(include_event_timestamps=True)["card_count_1d__ts"]
    assert set(stamps) == {now_us // 1_000_000}


def test_now_is_the_clock_so_old_history_has_left_the_windows(store: Any) -> None:
    names = ["card:card_count_30d", "card:card_amount_mean_30d"]
    answer = store.get_online_features(names, [{"card_id": "k1"}]).to_dict()
    assert answer["card_count_30d"] == [0.0]
    assert answer["card_amount_mean_30d"] == [None]


def test_a_missing_key_column_is_named(store: Any) -> None:
    with pytest.raises(InvalidQuery, match="'merchant_id'"):
        store.get_online_features(
            ["card:card_count_1d", "merchant:merchant_count_1d"], [{"card_id": "k1"}]
        )


def test_what_is_appended_to_the_log_is_seen_by_the_next_read(
    deployment: Deployment, store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    from sentinel.domain import Label, Transaction, Verdict
    from sentinel.ledger.log import append_import
    from sentinel.ledger.sqlite import SqliteLedger
    from sentinel.retrieval.ledger_reader import LedgerReader
    from sentinel.settings import Settings
    from tests.features.logs import batch_of

    workspace = tmp_path / "workspace"
    shutil.copytree(deployment.workspace, workspace)
    reader = LedgerReader(Settings(workspace=workspace))
    now = deployment.entries[-1].received_at_us
    names = ["card_count_1d", "card_frauds_known_30d"]
    before = reader.read([{"card_id": "k1"}], names, now).values[0]
    old = next(
        entry
        for entry in reversed(deployment.entries)
        if isinstance(entry, Transaction)
        and entry.card_id == "k1"
        and not _labelled(deployment, entry)
    )
    paid = Transaction(
        transaction_id="fresh",
        event_time_us=now,
        received_at_us=now,
        amount_minor=5,
        card_id="k1",
    )
    label = Label(
        label_id="late truth",
        transaction_id=old.transaction_id,
        verdict=Verdict.FRAUD,
        received_at_us=now,
    )
    with SqliteLedger.open_writer(workspace / "ledger.db") as ledger:
        append_import(ledger, batch_of([paid, label]))
    after = reader.read([{"card_id": "k1"}], names, now).values[0]
    reader.close()
    assert (after - before).tolist() == [1.0, 1.0]


def _labelled(deployment: Deployment, transaction: Any) -> bool:
    from sentinel.domain import Label

    return any(
        isinstance(entry, Label) and entry.transaction_id == transaction.transaction_id
        for entry in deployment.entries
    )
