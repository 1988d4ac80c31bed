"""The life of a model, on one workspace, step by step, against a real MLflow server."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from sentinel.domain import GateRefused, NoModel, PlanMismatch, Unavailable
from sentinel.drift.reference import REFERENCE_FILE
from sentinel.features.plan.plan import Plan
from sentinel.features.plan.program import compile_program
from sentinel.ledger.history_scores import HistoryScores
from sentinel.ledger.log import read_log
from sentinel.log.entries import GROUP_FORMAT, DecisionGroup, GroupKind, encode_group
from sentinel.models.artifact import judged_folder, load_manifest
from sentinel.models.champion import champion_of
from sentinel.models.code_version import this_code
from sentinel.models.lineage import lineage_of, noted_lineage
from sentinel.models.registry import CANDIDATE, CHAMPION, PREVIOUS_CHAMPION, Registry
from sentinel.pipeline.apply import apply_definitions
from sentinel.pipeline.backfill import backfill
from sentinel.pipeline.feature_parts import FeatureParts
from sentinel.pipeline.gate import evaluate
from sentinel.pipeline.labelled_payments import labelled_payments
from sentinel.pipeline.policies import preview
from sentinel.pipeline.promotion import promote, rollback
from sentinel.pipeline.registry_fetch import fetch_version
from sentinel.pipeline.training import Trained, train
from sentinel.pipeline.verify import transactions_of, verify
from sentinel.pipeline.workspace import ledger_reader, ledger_writer
from sentinel.policy.economics import Costs
from sentinel.policy.versions import Terms
from sentinel.scoring.panel import Panel
from sentinel.scoring.scorer import Scorer
from sentinel.scoring.serving_model import ServingModel
from sentinel.settings import MlflowSettings, Settings
from sentinel.state.embedded import restore
from testkit.ports import free_port
from tests.pipeline.conftest import HISTORY_END_US, history_settings

pytestmark = pytest.mark.filterwarnings("ignore:Skipping features without any observed values")

QUICK = {"rounds": 60, "learning_rate": 0.1}
WEAK = {"rounds": 1, "num_leaves": 2, "feature_fraction": 0.05}


@pytest.fixture(scope="module")
def deployment(
    imported_workspace: Path,
    mlflow_settings: MlflowSettings,
    tmp_path_factory: pytest.TempPathFactory,
) -> Settings:
    """One workspace for all steps; the tests of this module run in order."""
    target = tmp_path_factory.mktemp("deployment") / "workspace"
    shutil.copytree(imported_workspace, target)
    mlflow = mlflow_settings.model_copy(update={"model_name": "lifecycle"})
    return history_settings(target, mlflow)


@pytest.fixture(scope="module")
def candidate(deployment: Settings) -> Trained:
    return train(deployment, threads=1, parameters=QUICK)


def mlflow(settings: Settings, endpoint: str, **parameters: str) -> Any:
    answer = httpx.get(
        f"{settings.tracking_uri}/api/2.0/mlflow/{endpoint}", params=parameters, timeout=60
    )
    answer.raise_for_status()
    return answer.json()


def scores(settings: Settings) -> tuple[str, int]:
    """Version and number of the answers that the history has."""
    with sqlite3.connect(settings.workspace / "scores.db") as file:
        (version,) = file.execute("SELECT version FROM model").fetchone()
        (count,) = file.execute("SELECT count(*) FROM scores").fetchone()
    return version, count


def test_training_measures_every_model_with_intervals(candidate: Trained) -> None:
    assert set(candidate.baselines) == {"random_forest", "logistic_regression"}
    beside = [figures.metrics for figures in candidate.baselines.values()]
    for metrics in (candidate.metrics, *beside):
        figure = metrics["average_precision"]
        assert figure.low <= figure.value <= figure.high
    prior = candidate.dataset.test.frauds / candidate.dataset.test.rows
    assert candidate.metrics["average_precision"].low > 3 * prior


def test_the_parts_of_a_split_do_not_meet(candidate: Trained, deployment: Settings) -> None:
    gap = round(deployment.labels.maturity_days * 86_400_000_000)
    assert candidate.dataset.fit.end_us == candidate.dataset.tail.start_us
    assert candidate.dataset.tail.end_us + gap == candidate.dataset.test.start_us
    assert candidate.dataset.fit.cutoff_us == candidate.dataset.test.start_us
    assert (
        candidate.dataset.test.end_us + gap
        == candidate.dataset.test.cutoff_us
        <= HISTORY_END_US + 1
    )


def test_the_run_is_tracked_whole(candidate: Trained, deployment: Settings) -> None:
    run = mlflow(deployment, "runs/get", run_id=candidate.run_id)["run"]
    assert run["info"]["status"] == "FINISHED"
    parameters = {p["key"]: p["value"] for p in run["data"]["params"]}
    assert parameters["plan_hash"] == candidate.manifest.plan_hash
    assert parameters["data_hash"] == candidate.manifest.data_hash
    assert int(parameters["fit.rows"]) == candidate.dataset.fit.rows
    assert "model.lambda_l2" in parameters
    metrics = {m["key"]: m["value"] for m in run["data"]["metrics"]}
    figure = candidate.metrics["average_precision"]
    assert metrics["average_precision"] == figure.value
    assert metrics["average_precision_low"] == figure.low
    assert metrics["average_precision_high"] == figure.high
    assert "baselines/random_forest/average_precision" in metrics
    (dataset,) = run["inputs"]["dataset_inputs"]
    assert dataset["dataset"]["digest"] == candidate.manifest.data_hash
    files = mlflow(deployment, "artifacts/list", run_id=candidate.run_id, path="pictures")["files"]
    names = {Path(file["path"]).name for file in files}
    assert {"precision_recall.png", "calibration.png", "feature_importance.png"} <= names


def test_the_version_has_a_signature_and_no_pickle(
    candidate: Trained, deployment: Settings
) -> None:
    registry = Registry.of(deployment)
    version = registry.by_alias(CANDIDATE)
    assert version is not None
    assert (version.version, version.run_id) == (candidate.version, candidate.run_id)
    assert noted_lineage(version.tags) == lineage_of(candidate.manifest)
    assert candidate.manifest.code == this_code()
    assert candidate.manifest.parent == "", "nothing served before it"
    answer = httpx.get(
        f"{deployment.tracking_uri}/model-versions/get-artifact",
        params={"name": "lifecycle", "version": version.version, "path": "MLmodel"},
    )
    described = answer.text
    assert "card_count_1d" in described
    assert "fraud_probability" in described
    location = version.source.removeprefix("mlflow-artifacts:/")
    listing = httpx.get(
        f"{deployment.tracking_uri}/api/2.0/mlflow-artifacts/artifacts", params={"path": location}
    ).json()
    files = sorted(file["path"] for file in listing["files"])
    twin = ["judged"] if candidate.manifest.figures_of == "twin" else []
    assert files == ["MLmodel", REFERENCE_FILE, *twin, "manifest.json", "model.txt", "plan.json"]


def test_evaluating_changes_nothing(candidate: Trained, deployment: Settings) -> None:
    report = evaluate(deployment)
    assert report.version == candidate.version
    assert report.champion is None
    assert report.passed
    twin = judged_folder(fetch_version(deployment, candidate.version))
    assert report.start_us >= load_manifest(twin).training.end_us
    assert Registry.of(deployment).by_alias(CHAMPION) is None
    assert champion_of(deployment) is None


def test_a_first_model_must_beat_knowing_nothing(deployment: Settings) -> None:
    train(deployment, baselines=False, threads=1, parameters=WEAK | {"min_data_in_leaf": 10**6})
    with pytest.raises(GateRefused, match="not above that of knowing nothing"):
        promote(deployment)
    assert Registry.of(deployment).champions() == []


def test_promotion_gives_the_history_its_answers(candidate: Trained, deployment: Settings) -> None:
    promoted = promote(deployment, candidate.version)
    assert (promoted.version, promoted.replaced) == (candidate.version, None)
    parts = FeatureParts.open(deployment, candidate.manifest.plan_hash)
    assert promoted.scored == parts.manifest.rows
    assert scores(deployment) == (candidate.version, promoted.scored)
    champion = champion_of(deployment)
    assert champion is not None
    assert champion.version == candidate.version
    registry = Registry.of(deployment)
    version = registry.version(candidate.version)
    assert CHAMPION in version.aliases
    assert version.tags["gate"].startswith("passed: ")
    listed = {known.version: known.aliases for known in registry.versions()}
    assert listed == {"1": (CHAMPION,), "2": (CANDIDATE,)}


def test_an_answer_of_the_history_is_what_serving_would_say(deployment: Settings) -> None:
    champion = champion_of(deployment)
    assert champion is not None
    model = ServingModel.load(deployment.models_dir / champion.folder, deployment.money)
    parts = FeatureParts.open(deployment, model.plan.hash)
    table = next(parts.tables()).slice(1_000, 200)
    rows = np.column_stack([table.column(n).to_numpy() for n in model.plan.feature_names])
    _, probability = model.score(rows)
    history = HistoryScores(deployment.workspace / "scores.db")
    for transaction_id, expected in zip(
        table.column("transaction_id").to_pylist(), probability.tolist(), strict=True
    ):
        found = history.find(transaction_id)
        assert found is not None
        assert found.fraud_probability == expected
    history.close()


def test_a_worse_model_is_refused_with_figures(deployment: Settings, candidate: Trained) -> None:
    worse = train(deployment, baselines=False, threads=1, parameters=WEAK)
    with pytest.raises(
        GateRefused, match=r"worse than that of champion 1.*difference -0\.\d+ \[-0\."
    ) as e:
        promote(deployment)
    assert f"{evaluate(deployment).frauds:,} frauds" in str(e.value)
    registry = Registry.of(deployment)
    assert registry.champions() == [candidate.version]
    assert registry.version(worse.version).tags["gate"].startswith("refused: ")
    assert scores(deployment)[0] == candidate.version


def test_an_equal_model_takes_over_and_rollback_takes_it_back(
    deployment: Settings, candidate: Trained
) -> None:
    again = train(deployment, baselines=False, threads=1, parameters=QUICK)
    promoted = promote(deployment)
    assert (promoted.version, promoted.replaced) == (again.version, candidate.version)
    assert again.manifest.parent == candidate.version
    registry = Registry.of(deployment)
    previous = registry.by_alias(PREVIOUS_CHAMPION)
    assert previous is not None
    assert previous.version == candidate.version
    assert scores(deployment)[0] == again.version
    back = rollback(deployment)
    assert (back.version, back.replaced, back.gate) == (candidate.version, again.version, None)
    assert registry.champions() == [candidate.version]
    assert scores(deployment)[0] == candidate.version
    champion = champion_of(deployment)
    assert champion is not None
    assert champion.version == candidate.version
    with pytest.raises(NoModel, match="no earlier champion"):
        rollback(deployment)


def test_an_alias_that_was_moved_by_hand_is_what_counts(
    deployment: Settings, candidate: Trained
) -> None:
    registry = Registry.of(deployment)
    newest = registry.versions()[0].version
    registry.point(CHAMPION, newest)
    assert registry.champions() == [candidate.version, newest]
    assert rollback(deployment).version == candidate.version


def test_what_was_served_is_verified_too(deployment: Settings) -> None:
    """Live decisions count as recorded; a tampered one is found."""
    served = serve(deployment, payments=40)
    backfill(deployment)
    result = verify(deployment)
    assert (result.recorded, result.recorded_mismatches, result.mismatches) == (served, 0, 0)
    assert result.newer == 0
    served += serve(deployment, payments=10, tamper=True)
    assert verify(deployment).newer >= 10
    backfill(deployment)
    result = verify(deployment)
    assert (result.recorded, result.recorded_mismatches, result.mismatches) == (served, 1, 0)
    assert result.examples[0].engine == "recorded"


def test_a_policy_is_previewed_on_history_while_decisions_span_too_little(
    deployment: Settings,
) -> None:
    costs = Costs(fee_minor=1_500, false_decline_minor=2_500, review_minor=300)
    found = preview(deployment, Terms(costs=costs, reviews_per_day=2))
    assert found.known.source == "history"
    assert found.workings.days == pytest.approx(28, abs=1)
    assert found.known.frauds > 10
    stopped = found.figures["fraud_stopped"]
    assert 0.2 < stopped.low <= stopped.value <= 1.0
    # What the champion learnt from flatters it, and is left out.
    champion = champion_of(deployment)
    assert champion is not None
    measured = judged_folder(deployment.models_dir / champion.folder)
    learnt_to = load_manifest(measured).training.end_us
    payments = labelled_payments(deployment).payments
    assert 0 < found.known.mature <= np.count_nonzero(payments.event_time_us >= learnt_to)


def test_another_plan_is_promoted_with_its_own_vectors(
    deployment: Settings, candidate: Trained, tmp_path: Path
) -> None:
    definitions = deployment.feature_store / "definitions.py"
    text = definitions.read_text()
    changed = text.replace("count(HOUR, DAY, WEEK, MONTH)", "count(HOUR, DAY, MONTH)", 1)
    assert changed != text
    changed = changed.replace('amount("sum", HOUR, DAY, WEEK)', 'amount("sum", HOUR, DAY)')
    definitions.write_text(changed)
    try:
        plan = apply_definitions(deployment).plan
        assert plan.hash != candidate.manifest.plan_hash
        with pytest.raises(PlanMismatch, match="running plan"):
            promote(deployment, candidate.version)
        trained = train(deployment, baselines=False, threads=1, parameters=QUICK)
        promoted = promote(deployment)
        assert promoted.gate is not None
        assert promoted.gate.champion == candidate.version
        assert load_manifest(promoted.folder).plan_hash == plan.hash == trained.manifest.plan_hash
        assert rollback(deployment).version == candidate.version
    finally:
        definitions.write_text(text)
        assert apply_definitions(deployment).plan.hash == candidate.manifest.plan_hash


def test_a_server_that_is_away_stops_training_before_it_begins(workspace: Settings) -> None:
    mlflow = MlflowSettings(tracking_uri=f"http://127.0.0.1:{free_port()}")
    away = workspace.model_copy(update={"mlflow": mlflow})
    stages: list[str] = []
    with pytest.raises(Unavailable, match="sentinel up"):
        train(away, progress=lambda stage, *_: stages.append(stage))
    assert stages == []
    with pytest.raises(Unavailable, match="sentinel up"):
        promote(away)


def serve(settings: Settings, payments: int, *, tamper: bool = False) -> int:
    """Decide on payments as a scorer does, and record them."""
    with ledger_reader(settings) as ledger:
        _, batch = next(read_log(ledger, max_rows=400))
        last = ledger.last_sequence()
    program = compile_program(Plan.load(settings.plan_path))
    state = restore(program, settings.state_dir)
    assert state.sequence == last
    champion = champion_of(settings)
    assert champion is not None
    model = ServingModel.load(settings.models_dir / champion.folder, settings.money)
    scorer = Scorer(state, Panel(model))
    transactions = [
        type(old)(
            **{f: getattr(old, f) for f in old.__struct_fields__}
            | {
                "transaction_id": f"live-{last}-{i}",
                "event_time_us": HISTORY_END_US + last,
                "received_at_us": HISTORY_END_US + last,
            }
        )
        for i, old in zip(range(payments), transactions_of(batch), strict=False)
    ]
    scored = scorer.decide(transactions)
    vectors = scored.vectors.copy()
    if tamper:
        vectors[3, 0] += 1
    payload = encode_group(
        DecisionGroup(
            format=GROUP_FORMAT,
            plan_hash=model.plan.hash,
            model_name=model.name,
            model_version=model.version,
            transactions=transactions,
            vectors=vectors.tobytes(),
            scores=scored.scores.tobytes(),
            probabilities=scored.probabilities.tobytes(),
            flags=scored.flags.astype("<u4").tobytes(),
            reason_features=scored.reason_features.tobytes(),
            reason_contributions=scored.reason_contributions.tobytes(),
            latencies_us=np.ones(payments, dtype="<u4").tobytes(),
        )
    )
    with ledger_writer(settings) as ledger:
        received = transactions[-1].received_at_us
        ledger.append(GroupKind.DECISIONS, payments, received, payload)
    return payments
