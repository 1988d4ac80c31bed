"""Slow-changing and per-transaction views: computed from the log, copied to the online store."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from sentinel.features.plan.plan import Plan
from sentinel.ledger.log import append_import, read_log
from sentinel.log.schema import KIND_TRANSACTION
from sentinel.pipeline.backfill import backfill
from sentinel.pipeline.materialize import MaterializeReport, materialize
from sentinel.pipeline.workspace import ledger_reader, ledger_writer
from sentinel.settings import Settings
from testkit.scratch import payments_again

pytestmark = pytest.mark.filterwarnings("ignore")

PROFILE = ("customer_transactions", "customer_usual_mcc", "customer_amount_p90", "customer_since")


def online(settings: Settings, features: list[str], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Feast's own SDK on the deployment."""
    from sentinel.feast_plugin.store import feast_on

    with feast_on(settings) as store:
        answer: dict[str, Any] = store.get_online_features(features, rows).to_dict()
    return answer


def rows_of(report: MaterializeReport) -> dict[str, int]:
    return {view.view: view.rows for view in report.views}


def more_payments(settings: Settings, n: int, mark: str) -> pa.RecordBatch:
    """The first payments of the log once more, under other ids, at its end."""
    with ledger_reader(settings) as ledger:
        end_us = ledger.last_received_at_us()
        _, batch = next(read_log(ledger, max_rows=n))
    payments = batch.filter(pc.equal(batch.column("kind"), KIND_TRANSACTION))
    (batch,) = payments_again(pa.Table.from_batches([payments]), mark, end_us).to_batches()
    with ledger_writer(settings) as ledger:
        append_import(ledger, batch)
    return batch


def test_the_first_run_is_full_and_the_next_writes_what_is_new(workspace: Settings) -> None:
    first = materialize(workspace)
    parts = backfill(workspace).parts
    assert first.mode == "full"
    assert rows_of(first)["transaction_history"] == parts.manifest.rows
    assert rows_of(first)["customer_profile"] > 300

    again = materialize(workspace)
    assert (again.mode, again.rows) == ("incremental", 0)
    assert again.sequence == first.sequence

    batch = more_payments(workspace, 50, "new")
    third = materialize(workspace)
    customers = set(batch.column("customer_id").to_pylist())
    merchants = set(batch.column("merchant_id").to_pylist())
    assert third.mode == "incremental"
    assert rows_of(third) == {
        "customer_profile": len(customers),
        "merchant_profile": len(merchants),
        "transaction_history": batch.num_rows,
    }
    (history,) = (view for view in third.views if view.view == "transaction_history")
    assert history.from_us == first.views[-1].to_us


def test_a_table_of_a_log_that_was_put_back_is_computed_anew(
    workspace: Settings, tmp_path: Path
) -> None:
    backup = tmp_path / "backup.db"
    shutil.copy(workspace.ledger_path, backup)
    more_payments(workspace, 50, "lost")
    materialize(workspace)
    for path in workspace.workspace.glob("ledger.db*"):
        path.unlink()
    shutil.copy(backup, workspace.ledger_path)
    more_payments(workspace, 80, "since")
    report = materialize(workspace)
    assert report.mode == "full"
    with ledger_reader(workspace) as ledger:
        payments = sum(
            pc.sum(pc.equal(batch.column("kind"), KIND_TRANSACTION)).as_py()
            for _, batch in read_log(ledger)
        )
    assert rows_of(report)["transaction_history"] == payments
    asked = [{"transaction_id": "lost-0"}, {"transaction_id": "since-0"}]
    found = online(workspace, ["transaction_history:amount_minor"], asked)["amount_minor"]
    assert found[0] is None
    assert found[1] is not None


def test_online_values_are_the_logs(workspace: Settings) -> None:
    materialize(workspace)
    more_payments(workspace, 200, "new")
    materialize(workspace)
    with ledger_reader(workspace) as ledger:
        log = pa.Table.from_batches([batch for _, batch in read_log(ledger)])
    payments = log.filter(pa.compute.equal(log.column("kind"), 0))
    customers = sorted(set(payments.column("customer_id").to_pylist()))[:40]
    answer = online(
        workspace,
        [f"customer_profile:{name}" for name in PROFILE],
        [{"customer_id": customer} for customer in [*customers, "nobody"]],
    )
    for row, customer in enumerate(customers):
        mine = payments.filter(pa.compute.equal(payments.column("customer_id"), customer))
        amounts = np.sort(mine.column("amount_minor").to_numpy())
        assert answer["customer_transactions"][row] == mine.num_rows
        assert answer["customer_amount_p90"][row] == amounts[int(np.ceil(0.9 * len(amounts))) - 1]
        since = answer["customer_since"][row]
        assert round(since.timestamp()) == min(mine.column("event_time_us").to_pylist()) // 10**6
        mccs = [mcc for mcc in mine.column("attributes.mcc").to_pylist() if mcc is not None]
        most = max(mccs.count(mcc) for mcc in mccs)
        assert answer["customer_usual_mcc"][row] == min(m for m in mccs if mccs.count(m) == most)
    assert answer["customer_transactions"][-1] is None


def test_each_transaction_has_its_vector(workspace: Settings) -> None:
    materialize(workspace)
    plan = Plan.load(workspace.plan_path)
    (path, *_) = backfill(workspace).parts.paths
    table = duckdb.sql(f"FROM '{path}' LIMIT 20").to_arrow_table()
    ids = table.column("transaction_id").to_pylist()
    answer = online(
        workspace,
        [f"transaction_history:{name}" for name in ("vector", "plan_hash", "amount_minor")],
        [{"transaction_id": name} for name in [*ids, "unheard-of"]],
    )
    expected = np.column_stack([table.column(name).to_numpy() for name in plan.feature_names])
    served = np.array(answer["vector"][:-1], dtype=np.float32)
    assert np.array_equal(served, expected, equal_nan=True)
    assert set(answer["plan_hash"][:-1]) == {plan.hash}
    assert answer["amount_minor"][:-1] == table.column("amount_minor").to_pylist()
    assert answer["vector"][-1] is None
