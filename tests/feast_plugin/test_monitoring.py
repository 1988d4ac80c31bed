"""Feast's own monitoring of Sentinel's features: `feast monitor run`, and what it keeps."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from sentinel.feast_plugin.monitored_views import _AllViews, include_stream_views
from sentinel.pipeline.backfill import backfill
from sentinel.retrieval.monitoring_tables import MOST_JOBS, MonitoringTable
from sentinel.retrieval.vector_parts import FeatureParts
from sentinel.settings import Settings
from tests.feast_plugin.conftest import Deployment

pytestmark = pytest.mark.filterwarnings("ignore")

PROJECT = "sentinel"


@pytest.fixture(scope="module")
def vectors(deployment: Deployment) -> FeatureParts:
    """The vectors of the deployment's payments, in parts of several files."""
    settings = Settings(workspace=deployment.workspace)
    backfill(settings, part_rows=400)
    return FeatureParts.open(settings, deployment.plan.hash)


@pytest.fixture(scope="module")
def monitored(
    deployment: Deployment, vectors: FeatureParts, store: Any
) -> Iterator[tuple[Any, str]]:
    """The service of Feast's REST after `feast monitor run`, and what that printed."""
    from feast.cli.cli import cli
    from feast.monitoring.monitoring_service import MonitoringService

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("SENTINEL_WORKSPACE", raising=False)
        patch.chdir(deployment.repo)
        done = CliRunner().invoke(cli, ["monitor", "run"], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        yield MonitoringService(store), done.output


def column(vectors: FeatureParts, name: str) -> np.ndarray:
    return pq.read_table(vectors.paths, columns=[name]).column(name).to_numpy()


def one(rows: list[dict[str, Any]]) -> dict[str, Any]:
    (row,) = rows
    return row


def test_every_feature_of_the_vector_is_looked_at(
    deployment: Deployment, monitored: tuple[Any, str]
) -> None:
    service, output = monitored
    assert "Status: completed" in output
    rows = service.get_baseline(PROJECT)
    looked_at = {(row["feature_view_name"], row["feature_name"]) for row in rows}
    names = {name for _, name in looked_at}
    assert set(deployment.plan.feature_names) <= names
    assert {view.name for view in deployment.plan.views} <= {view for view, _ in looked_at}
    kept = service.get_feature_metrics(PROJECT, feature_service_name="fraud_detection_v1")
    assert {row["granularity"] for row in kept} == {
        *("baseline", "daily", "weekly", "biweekly", "monthly", "quarterly")
    }


def test_figures_are_those_of_the_vectors(
    monitored: tuple[Any, str], vectors: FeatureParts
) -> None:
    service, _ = monitored
    for name in ("card_count_7d", "card_amount_mean_7d", "customer_count_30d"):
        values = column(vectors, name)
        known = values[~np.isnan(values)].astype(float)
        row = one(service.get_baseline(PROJECT, feature_name=name))
        assert row["row_count"] == len(values)
        assert row["null_count"] == len(values) - len(known)
        assert math.isclose(row["mean"], known.mean(), rel_tol=1e-9)
        assert math.isclose(row["p90"], np.quantile(known, 0.9), rel_tol=1e-9)
        assert sum(row["histogram"]["counts"]) == len(known)


def test_a_stretch_of_time_holds_what_happened_in_it(
    monitored: tuple[Any, str], vectors: FeatureParts
) -> None:
    service, _ = monitored
    times = column(vectors, "event_time_us")
    first, last = date(2024, 1, 3), date(2024, 1, 9)
    begin = int(datetime(2024, 1, 3, tzinfo=UTC).timestamp()) * 1_000_000
    end = int(datetime(2024, 1, 9, 23, 59, 59, tzinfo=UTC).timestamp()) * 1_000_000
    said = service.compute_transient(PROJECT, "card", ["card_count_1d"], first, last)
    assert one(said["metrics"])["row_count"] == int(((times >= begin) & (times <= end)).sum())


def test_categories_are_shown_by_their_names(
    monitored: tuple[Any, str], vectors: FeatureParts
) -> None:
    service, _ = monitored
    row = one(service.get_baseline(PROJECT, feature_name="channel"))
    assert row["feature_type"] == "categorical"
    counts = {v["value"]: v["count"] for v in row["histogram"]["values"]}
    assert set(counts) == {"web", "pos"}
    assert sum(counts.values()) + row["null_count"] == row["row_count"]


def test_a_view_of_a_file_is_looked_at_as_feast_does(monitored: tuple[Any, str]) -> None:
    service, _ = monitored
    row = one(service.get_baseline(PROJECT, feature_view_name="limits"))
    assert (row["row_count"], row["mean"]) == (2, 1500.0)


def test_a_second_run_adds_no_rows_and_one_baseline_is_left(
    monitored: tuple[Any, str],
) -> None:
    service, _ = monitored
    before = service.get_feature_metrics(PROJECT)
    service.auto_compute(PROJECT, feature_view_name="card")
    assert len(service.get_feature_metrics(PROJECT)) == len(before)
    service.compute_metrics(
        *(PROJECT, "card", ["card_count_1d"], date(2024, 1, 3), date(2024, 1, 4)),
        set_baseline=True,
    )
    row = one(service.get_baseline(PROJECT, feature_name="card_count_1d"))
    assert row["granularity"] == "daily"


def test_a_job_of_the_rest_is_kept_with_its_result(monitored: tuple[Any, str]) -> None:
    service, _ = monitored
    job = service.submit_job(PROJECT, "auto_compute", "customer")
    service.execute_job(job)
    kept = service.get_job(job, project=PROJECT)
    assert (kept["status"], kept["result_summary"]["computed_feature_views"]) == ("completed", 1)
    assert service.get_job(job, project="another") is None


def test_the_rest_shows_views_of_entities(
    deployment: Deployment, monitored: tuple[Any, str], store: Any
) -> None:
    """Which Feast's own routes leave out, see `monitored_views`."""
    from fastapi import FastAPI
    from fastapi.testclient import TestClient
    from feast.api.registry.rest.monitoring import get_monitoring_router
    from feast.permissions.security_manager import no_security_manager

    include_stream_views()  # as a process of `feast ui` does when it loads the store
    no_security_manager()
    app = FastAPI()
    app.include_router(get_monitoring_router(None, store=store))
    client = TestClient(app)
    answer = client.get(
        "/monitoring/metrics/features", params={"project": PROJECT, "feature_view_name": "card"}
    )
    assert answer.status_code == 200, answer.text
    assert {row["feature_view_name"] for row in answer.json()} == {"card"}
    every = client.get("/monitoring/metrics/baseline", params={"project": PROJECT}).json()
    assert {"card", "request", "limits"} <= {row["feature_view_name"] for row in every}


def test_feast_itself_still_leaves_views_of_entities_out(store: Any) -> None:
    """When this fails, `monitored_views` has nothing left to do and can go."""
    names = {view.name for view in store.registry.list_feature_views(project=PROJECT)}
    assert "card" not in names
    with_all = _AllViews(store.registry).list_feature_views(project=PROJECT)
    assert "card" in {view.name for view in with_all}


def test_without_vectors_a_run_says_what_to_do(
    deployment: Deployment, store: Any, tmp_path: Path, monkeypatch: Any, caplog: Any
) -> None:
    from feast.monitoring.monitoring_service import MonitoringService

    (tmp_path / "plan.json").write_bytes((deployment.workspace / "plan.json").read_bytes())
    monkeypatch.setenv("SENTINEL_WORKSPACE", str(tmp_path))
    said = MonitoringService(store).auto_compute(PROJECT, feature_view_name="card")
    assert said["computed_features"] == 0
    assert "sentinel features backfill" in caplog.text


def test_jobs_are_bounded(tmp_path: Path) -> None:
    columns = ["job_id", "project_id", "metric_date"]
    table = MonitoringTable(str(tmp_path), "job", columns, ["job_id"], Settings(workspace=tmp_path))
    for first in range(0, MOST_JOBS + 200, 400):
        table.save(
            {"job_id": f"j{n}", "project_id": "p", "metric_date": date(2024, 1, 1)}
            for n in range(first, first + 400)
        )
    kept = table.rows({})
    assert len(kept) == MOST_JOBS
    assert kept[-1]["job_id"] == f"j{MOST_JOBS + 199}"
