"""The pipeline under a real scheduler: the first night, the next one, and two that go wrong.

The tests of this module run in order, on one deployment.
"""

from __future__ import annotations

import email
import email.utils
import json
import re
from email.message import Message

import pytest

from sentinel.models.champion import champion_of
from sentinel.models.registry import Registry
from sentinel.pipeline.feature_parts import FeatureParts
from testkit.airflow_server import Run
from testkit.servers import wait_until
from tests.airflow.conftest import BUCKET, DAG, DAYS, Stage
from tests.airflow.test_dag import BESIDE, ORDER

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

RUN_SECONDS = 600
MLFLOW = ["train", "last_retraining"]  # the tasks that need it, where nothing else fails before
FIGURE = r"\d\.\d{3} \[\d\.\d{3}, \d\.\d{3}\]"


def test_it_is_there_and_sound(stage: Stage) -> None:
    errors = stage.airflow.call("dags", "list-import-errors", "--output", "json")
    assert errors.returncode == 0, errors.stderr
    assert json.loads(errors.stdout.splitlines()[-1]) == []


def test_the_first_night_makes_the_first_champion(stage: Stage) -> None:
    airflow = stage.airflow
    airflow.unpause(DAG)
    wait_until(lambda: bool(airflow.runs(DAG)), 300, "the scheduled run of the last midnight")
    (scheduled,) = airflow.runs(DAG)
    assert scheduled["run_type"] == "scheduled"
    assert scheduled["logical_date"].endswith("T00:00:00Z")
    run = Run(DAG, scheduled["dag_run_id"])
    assert airflow.wait(run, RUN_SECONDS) == "success", why(stage, run)
    assert airflow.tasks(run) == dict.fromkeys([*ORDER, *BESIDE], ("success", 1))

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

    assert airflow.result(run, "decide_retraining")["kinds"] == ["first"]
    assert airflow.result(run, "last_retraining")["replaced"] is None

    assert Registry.of(stage.settings).champions() == ["1"]
    champion = champion_of(stage.settings)
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


def test_a_worse_candidate_is_refused_and_everybody_is_told(stage: Stage) -> None:
    """Ten days of history are too few to learn from, as any data scientist may find out.

    Another length is another procedure; the truth of 50 days shows at once that it is worse.
    """
    airflow = stage.airflow
    run = airflow.trigger(DAG, window_days=10)
    assert airflow.wait(run, RUN_SECONDS) == "failed"
    tasks = airflow.tasks(run)
    assert tasks["evaluate"] == ("success", 1)
    assert tasks["gate"] == ("failed", 1), "a refusal is not retried"
    assert tasks["promote"][0] == "upstream_failed"
    log = airflow.log(run, "gate")
    words = r"its average precision is worse than that of champion 1"
    figures = (
        r"average precision 0\.\d+, champion 1: 0\.\d+, difference -0\.\d+ \[-0\.\d+, -0\.\d+\]"
    )
    assert re.search(f"REFUSED. Version 3 is refused: {words}. .*{figures}", log)

    registry = Registry.of(stage.settings)
    assert registry.champions() == ["1"]
    assert registry.version("3").tags["gate"].startswith("refused: ")
    (told,) = mails(stage)
    assert subject(told) == f"Sentinel's gate refused a candidate ({run.run_id})"
    assert told["From"] == "sentinel@example.com"
    assert told["To"] == "fraud-models@example.com, oncall@example.com"
    body = text(told)
    assert re.search(f"{words}.*{figures}", body)
    assert re.search(rf"average_precision\W+{FIGURE}\W+{FIGURE}", body), "both, side by side"
    assert "window_days = 10" in body
    assert airflow.url in body


def test_a_server_that_stays_away_fails_the_run_after_the_retries(stage: Stage) -> None:
    airflow = stage.airflow
    before = len(stage.mail.messages())
    stage.mlflow.stop()
    run = airflow.trigger(DAG)
    assert airflow.wait(run, RUN_SECONDS) == "failed"
    tasks = airflow.tasks(run)
    assert tasks["build_dataset"] == ("success", 1)
    assert tasks["train"] == ("failed", 2), "one retry is set"
    assert {tasks[task][0] for task in ("evaluate", "gate", "promote")} == {"upstream_failed"}
    for attempt in (1, 2):
        assert "MLflow does not answer" in airflow.log(run, "train", attempt)
    told = {subject(message): text(message) for message in mails(stage)[before:]}
    # What the last retraining bought is asked of the registry, too.
    failed = [f"Sentinel's pipeline failed in {task} ({run.run_id})" for task in MLFLOW]
    assert sorted(told) == sorted(failed)
    body = told[failed[0]]
    assert "failed in attempt 2" in body
    assert "MLflow does not answer at http://127.0.0.1" in body
    assert "/train" in body, "where the log is"


def mails(stage: Stage) -> list[Message]:
    """What was received, oldest first."""
    found = [email.message_from_string(raw) for raw in stage.mail.messages()]
    return sorted(found, key=lambda message: email.utils.parsedate_to_datetime(message["Date"]))


def subject(message: Message) -> str:
    """Unfolded."""
    return " ".join(message["Subject"].split())


def text(message: Message) -> str:
    """All text of a message."""
    parts = [part for part in message.walk() if part.get_content_maintype() == "text"]
    return "".join(
        payload.decode()
        for part in parts
        if isinstance(payload := part.get_payload(decode=True), bytes)
    )


def why(stage: Stage, run: Run) -> str:
    """The logs of what did not go well."""
    tasks = stage.airflow.tasks(run)
    return "\n".join(
        f"--- {task}, attempt {attempt}\n{stage.airflow.log(run, task, attempt)[-3000:]}"
        for task, (state, attempt) in tasks.items()
        if state == "failed"
    )
