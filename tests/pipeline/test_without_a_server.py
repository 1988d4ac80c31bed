"""From a small file to a champion and back, in a workspace whose MLflow server does not run."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import numpy as np
import pytest

from sentinel.domain import GateWaits, InvalidQuery, Unavailable
from sentinel.features.plan.parts import RequestFeature
from sentinel.features.plan.plan import Plan
from sentinel.models.artifact import load_manifest
from sentinel.models.champion import champion_of
from sentinel.models.evaluation import undecided
from sentinel.models.intervals import Estimate
from sentinel.models.registry import Registry
from sentinel.models.registry_place import mlflow_place
from sentinel.models.registry_view import PROVISIONAL_TAG, read_view
from sentinel.pipeline.afterwards import measure_champion
from sentinel.pipeline.gate import REFERENCE_TAG, GateReport, evaluate, judge, report_path
from sentinel.pipeline.importing import import_history
from sentinel.pipeline.promotion import promote, rollback
from sentinel.pipeline.registry_fetch import fetch_version
from sentinel.pipeline.training import train
from sentinel.settings import MlflowSettings, Settings, TrainingSettings
from sentinel.sources import open_source
from testkit.ports import free_port
from testkit.signed_models import trusting

PLAN = Plan(
    views=(),
    request=(
        RequestFeature(name="amount", kind="amount"),
        RequestFeature(name="risk", kind="number", column="risk"),
    ),
)
MAPPING = """
name = "shop"
id = "id"
[files]
path = "payments.csv"
[time]
column = "at"
[amount]
column = "amount"
[outcome]
column = "status"
approve_values = ["paid"]
decline_values = ["refused"]
[labels]
column = "fraud"
delay_days = 0.0
"""


def imported(
    folder: Path, *, rows: int, frauds: int, mlflow: MlflowSettings, delay_days: float = 0.0
) -> Settings:
    """A workspace with a month of payments, frauds spread evenly, and a plan without windows.

    The system before refused every twentieth.
    """
    random = np.random.default_rng(1)
    step = max(rows // max(frauds, 1), 1)
    lines = ["id,at,amount,risk,status,fraud"]
    for row in range(rows):
        moment = np.datetime64("2026-01-01") + np.timedelta64(row * 30 * 86_400 // rows, "s")
        fraud = int(frauds > 0 and row % step == step // 2)
        risk = random.normal() + 4.0 * fraud
        status = "refused" if row % 20 == 0 else "paid"
        amount = random.integers(100, 9000) / 100
        lines.append(f"p{row},{moment}Z,{amount},{risk:.4f},{status},{fraud}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "payments.csv").write_text("\n".join(lines) + "\n")
    delay = f"delay_days = {delay_days}"
    (folder / "mapping.toml").write_text(MAPPING.replace("delay_days = 0.0", delay))
    settings = Settings(
        workspace=folder / "workspace",
        mlflow=mlflow,
        training=TrainingSettings(bootstrap_rounds=50, window_days=365),
    )
    import_history(settings, open_source(str(folder / "mapping.toml")))
    PLAN.save(settings.plan_path)
    return settings


def test_a_server_that_is_started_later_shows_what_was_done_without_one(
    tmp_path: Path, mlflow_settings: MlflowSettings, mlflow_folder: Path
) -> None:
    """The workspace shares the database and the files of the server that other tests use."""
    mlflow = MlflowSettings(port=free_port(), model_name="alone")
    settings = imported(tmp_path, rows=800, frauds=80, mlflow=mlflow)
    for name in ("mlflow.db", "mlartifacts"):
        (settings.workspace / name).symlink_to(mlflow_folder / name)
    (mlflow_folder / "mlartifacts").mkdir(exist_ok=True)
    assert mlflow_place(settings).files is not None

    first = train(settings, threads=1, baselines=False)
    promoted = promote(settings)
    assert (promoted.version, promoted.scored) == (first.version, 800)
    second = train(settings, threads=1, baselines=False, parameters={"seed": 8})
    assert promote(settings).replaced == first.version
    assert rollback(settings).version == first.version
    champion = champion_of(settings)
    assert champion is not None
    assert champion.version == first.version
    view = read_view(settings.models_dir)
    assert view is not None
    assert [known.version for known in view.versions] == ["2", "1"]

    running = settings.model_copy(
        update={
            "mlflow": mlflow_settings.model_copy(update={"model_name": "alone"}),
            "workspace": tmp_path / "elsewhere",
            "signing": trusting(settings),
        }
    )
    asked = f"{running.tracking_uri}/api/2.0/mlflow"
    run = httpx.get(f"{asked}/runs/get", params={"run_id": second.run_id}, timeout=60).json()["run"]
    assert run["info"]["status"] == "FINISHED"
    where = {"run_id": second.run_id, "path": "pictures"}
    files = httpx.get(f"{asked}/artifacts/list", params=where, timeout=60).json()["files"]
    assert "pictures/roc.png" in {file["path"] for file in files}
    assert Registry.of(running).champions() == ["1"]
    folder = fetch_version(running, "2")
    assert (folder / "model.txt").read_bytes() == (
        settings.models_dir / folder.name / "model.txt"
    ).read_bytes()


def test_too_few_frauds_give_a_provisional_champion_that_a_judged_one_follows(
    tmp_path: Path,
) -> None:
    mlflow = MlflowSettings(port=free_port())
    settings = imported(tmp_path, rows=200, frauds=8, mlflow=mlflow)
    trained = train(settings, threads=1)
    assert trained.dataset.left_out > 0
    assert any("declined or held are left out" in note for note in trained.manifest.notes)
    assert trained.dataset.fit.rows + trained.dataset.tail.rows + trained.dataset.test.rows < 195
    assert "known frauds to test on, 10 are needed" in trained.manifest.provisional
    assert trained.metrics == {}
    assert trained.manifest.not_measured["average_precision"] == "not enough frauds to say"
    assert set(trained.baselines) == {"random_forest", "logistic_regression"}
    promoted = promote(settings)
    assert promoted.gate is not None
    assert promoted.gate.verdict == "provisional"
    assert GateReport.load(report_path(settings, "1")) == promoted.gate
    version = Registry.of(settings).version("1")
    assert version.tags[PROVISIONAL_TAG] == promoted.gate.provisional
    assert version.tags["gate"].startswith("provisional: ")
    assert load_manifest(promoted.folder).provisional == trained.manifest.provisional
    train(settings, threads=1, baselines=False)
    assert promote(settings).replaced == "1", "nothing better is in charge"


def test_a_judged_champion_is_measured_while_it_serves_and_stays_where_nothing_can_be_compared(
    tmp_path: Path,
) -> None:
    given = imported(tmp_path, rows=800, frauds=80, mlflow=MlflowSettings(port=free_port()))
    training = given.training.model_copy(update={"window_days": "auto"})
    settings = given.model_copy(update={"training": training})
    first = train(settings, threads=1, baselines=False, search=False)
    promote(settings)
    said = measure_champion(settings, threads=1)
    assert "Version 1 has an average precision of" in said
    assert "random_forest: " in said
    assert "All that is mature is trained on" in said
    logged = Registry.of(settings).place.client().get_run(first.run_id).data.metrics
    assert logged["baselines/logistic_regression/average_precision"] > 0.3

    train(settings, threads=1, baselines=False, search=False, parameters={"num_leaves": 15})
    early = load_manifest(fetch_version(settings, "1")).training.end_us
    report = evaluate(settings, now_us=early + 1)
    assert report.verdict == "waits"
    with pytest.raises(GateWaits, match=r"too little truth has matured.*\(night 1 of 60\)"):
        judge(settings, report)


def test_a_champion_of_before_procedures_were_noted_is_followed_on_the_first_night(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every deployment has one on the night of its upgrade."""
    settings = imported(tmp_path, rows=800, frauds=80, mlflow=MlflowSettings(port=free_port()))
    with monkeypatch.context() as before:
        before.setattr("sentinel.pipeline.training.procedure_of", lambda *_: None)
        old = train(settings, threads=1, baselines=False)
    assert old.manifest.procedure is None
    promote(settings)

    train(settings, threads=1, baselines=False, parameters={"seed": 8})
    promoted = promote(settings)
    assert (promoted.version, promoted.replaced) == ("2", "1")
    assert "version 2 has the trainer and the features of champion 1, which" in str(promoted.gate)
    version = Registry.of(settings).version("2")
    assert "its procedure is the approved one from now on" in version.tags["gate"]
    assert version.tags[REFERENCE_TAG] == "2", "the old model would only grow older"

    forest = settings.training.model_copy(update={"trainer": "random_forest"})
    other = settings.model_copy(update={"training": forest})
    candidate = train(other, threads=1, baselines=False)
    with pytest.raises(GateWaits, match="Version 3 waits"):
        promote(other, now_us=candidate.manifest.training.cutoff_us)
    rollback(settings)
    with pytest.raises(GateWaits, match="Version 3 waits"):  # another trainer is no refit of it
        promote(other, now_us=candidate.manifest.training.cutoff_us)


def test_few_frauds_that_cannot_tell_a_weak_model_from_none_are_no_refusal() -> None:
    """An interval that holds zero says that there is too little truth, until there is enough."""
    wide, nothing = Estimate(0.05, -0.001, 0.2), Estimate(0.0, 0.0, 0.0)
    assert "30 known frauds are too few" in undecided(wide, 30)
    assert undecided(wide, 50) == undecided(nothing, 30) == undecided(Estimate(0.5, 0.3, 0.7), 30)
    assert undecided(nothing, 30) == ""


def test_without_any_fraud_one_line_says_what_to_do(tmp_path: Path) -> None:
    settings = imported(tmp_path, rows=50, frauds=0, mlflow=MlflowSettings(port=free_port()))
    with pytest.raises(InvalidQuery, match=r"50 payments and knows of no fraud.*import-labels"):
        train(settings)
    assert not (settings.workspace / "mlflow.db").exists()


def test_a_server_elsewhere_that_is_away_is_said_before_any_work(tmp_path: Path) -> None:
    away = MlflowSettings(tracking_uri=f"http://127.0.0.1:{free_port()}")
    started = time.monotonic()
    with pytest.raises(Unavailable, match=r"does not answer.*TRACKING_URI") as refused:
        train(Settings(workspace=tmp_path, mlflow=away))
    assert time.monotonic() - started < 5
    assert len(str(refused.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"backend_store_uri": "postgresql://nobody@127.0.0.1:1/mlflow"},
        {"artifacts_destination": "s3://bucket/path"},
    ],
)
def test_what_is_not_in_the_workspace_needs_the_server(
    tmp_path: Path, changes: dict[str, str]
) -> None:
    mlflow = MlflowSettings.model_validate({"port": free_port(), **changes})
    with pytest.raises(Unavailable, match="does not answer"):
        mlflow_place(Settings(workspace=tmp_path, mlflow=mlflow))
