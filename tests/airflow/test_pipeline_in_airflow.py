"""The pipeline under a real scheduler: the first night, and the next one.

The tests of this module run in order, on one deployment.
"""

from __future__ import annotations

import json
import re

import pytest

from benchmarks.airflow_server import Run
from benchmarks.servers import wait_until
from sentinel.models.registry import Registry
from sentinel.pipeline.feature_parts import FeatureParts
from sentinel.pipeline.served import serving_champion
from tests.airflow.conftest import BUCKET, DAG, DAYS, Stage
from tests.airflow.test_dag import ORDER

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

RUN_SECONDS = 600
FIGURE = r"\d\.\d{3} \[\d\.\d{3}, \d\.\d{3}\]"


def test_it_is_there_and_sound(stage: Stage) -> None:
    errors = stage.airflow.call("dags", "list-import-errors", "--output", "json")
    assert errors.returncode == 0, errors.stderr
    assert json.loads(errors.stdout.splitlines()[-1]) == []


def test_the_first_night_makes_the_first_champion(stage: Stage) -> None:
    airflow = stage.airflow
    airflow.unpause(DAG)
    wait_until(lambda: bool(airflow.runs(DAG)), 60, "the scheduled run of the last midnight")
    (scheduled,) = airflow.runs(DAG)
    assert scheduled["run_type"] == "scheduled"
    assert scheduled["logical_date"].endswith("T00:00:00Z")
    run = Run(DAG, scheduled["dag_run_id"])
    assert airflow.wait(run, RUN_SECONDS) == "success", why(stage, run)
    assert airflow.tasks(run) == dict.fromkeys(ORDER, ("success", 1))

    plan_hash = airflow.result(run, "apply_features")["plan_hash"]
    rows = FeatureParts.open(stage.settings, plan_hash).manifest.rows
    materialized = airflow.result(run, "materialize")
    assert (materialized["kind"], materialized["new_vectors"]) == ("full", rows)
    assert {view["mode"] for view in materialized["online"].values()} == {"full"}
    assert f"Full: {rows:,} new vectors" in airflow.log(run, "materialize")
    assert stage.redis_keys() > rows, "a key for each historic payment, and those of profiles"
    for task in ("train", "evaluate", "gate"):
        assert re.search(rf"average_precision\W+{FIGURE}", airflow.log(run, task)), task
    assert re.search(r"Passes: candidate 1.*difference \+0\.\d+ \[", airflow.log(run, "gate"))
    for task in ORDER:
        assert len(json.dumps(airflow.result(run, task))) < 500, "an XCom is for small things"

    assert Registry.of(stage.settings).champions() == ["1"]
    champion = serving_champion(stage.settings)
    assert champion is not None
    assert champion.version == "1"
    stored = stage.s3.client().list_objects_v2(Bucket=BUCKET)["Contents"]
    assert any(entry["Key"].endswith("/model.txt") for entry in stored)
    assert stage.mail.messages() == []


def test_the_next_run_takes_only_what_is_new_and_a_dry_run_changes_nothing(stage: Stage) -> None:
    airflow = stage.airflow
    plan_hash = stage.plan_hash()
    before = FeatureParts.open(stage.settings, plan_hash).manifest.rows
    stage.live(DAYS + 3)
    run = airflow.trigger(DAG, dry_run=True)
    assert airflow.wait(run, RUN_SECONDS) == "success", why(stage, run)
    after = FeatureParts.open(stage.settings, plan_hash).manifest.rows
    materialized = airflow.result(run, "materialize")
    assert after > before
    assert materialized["kind"] == "incremental", materialized
    assert materialized["new_vectors"] == after - before
    assert {view["mode"] for view in materialized["online"].values()} == {"incremental"}
    assert f"Incremental: {after - before:,} new vectors" in airflow.log(run, "materialize")
    said = airflow.log(run, "promote")
    assert "Dry run: nothing was changed. Version 2 would become the champion in place of 1" in said
    assert airflow.result(run, "promote") == {"version": "2", "replaced": "1", "dry_run": True}
    assert Registry.of(stage.settings).champions() == ["1"]
    assert stage.mail.messages() == []


def why(stage: Stage, run: Run) -> str:
    """The logs of what did not go well."""
    tasks = stage.airflow.tasks(run)
    return "\n".join(
        f"--- {task}, attempt {attempt}\n{stage.airflow.log(run, task, attempt)[-3000:]}"
        for task, (state, attempt) in tasks.items()
        if state == "failed"
    )
