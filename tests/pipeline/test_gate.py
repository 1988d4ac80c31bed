"""The gate over nights: refits pass, another procedure waits, and nothing is forgotten."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sentinel.domain import GateRefused, GateWaits
from sentinel.experiments.lineup import Experiment
from sentinel.features.plan.plan import DAY_US
from sentinel.models.artifact import load_manifest
from sentinel.models.intervals import Estimate
from sentinel.models.line_guard import LineFigure
from sentinel.models.noninferiority import NIGHTS, Look
from sentinel.models.registry import Registry
from sentinel.pipeline import gate_trial
from sentinel.pipeline.contestants import Contestant
from sentinel.pipeline.gate import REFERENCE_TAG, evaluate, judge, report_path
from sentinel.pipeline.gate_report import GateReport
from sentinel.pipeline.promotion import promote, rollback
from sentinel.pipeline.retraining import waits_at_the_gate
from sentinel.pipeline.training import train
from sentinel.pipeline.trials import Trial, Trials
from sentinel.settings import MlflowSettings, Settings
from testkit.experiments import run_experiments
from testkit.ports import free_port
from tests.pipeline.conftest import HISTORY_END_US, history_settings

QUICK = {"rounds": 60, "learning_rate": 0.1}
OTHER = {"rounds": 70, "learning_rate": 0.1}
WEAK = {"rounds": 1, "num_leaves": 2, "feature_fraction": 0.05}


@pytest.fixture(scope="module")
def deployment(imported_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A champion and its refit, without a server; the tests of this module run in order."""
    target = tmp_path_factory.mktemp("gate") / "workspace"
    shutil.copytree(imported_workspace, target)
    settings = history_settings(target, MlflowSettings(port=free_port()))
    train(settings, threads=1, baselines=False, parameters=QUICK)
    promote(settings)
    return settings


def trials_of(settings: Settings) -> list[Trial]:
    files = sorted((settings.workspace / "trials").glob("*/trial.json"))
    return [msgspec.json.decode(path.read_bytes(), type=Trial) for path in files]


def reference(settings: Settings, version: str) -> str:
    return Registry.of(settings).version(version).tags[REFERENCE_TAG]


def test_a_model_of_the_approved_procedure_needs_no_proof(deployment: Settings) -> None:
    again = train(deployment, threads=1, baselines=False, parameters=QUICK | {"seed": 8})
    first = load_manifest(deployment.models_dir / "sentinel-fraud-1")
    assert first.procedure is not None
    assert again.manifest.procedure == first.procedure
    promoted = promote(deployment)
    assert promoted.gate is not None
    assert promoted.gate.refit
    assert "refit of the approved procedure" in str(promoted.gate)
    assert (promoted.version, reference(deployment, "2")) == ("2", "1")
    assert trials_of(deployment) == []


def test_what_passes_waits_while_a_challenger_is_judged_against_the_champion(
    deployment: Settings,
) -> None:
    ab = Experiment(name="ab", kind="challenger", version="9", share=0.5)
    night = Experiment(name="night", kind="shadow", version="8")
    run_experiments(deployment, ab, night)
    with pytest.raises(GateWaits, match="waits for experiment ab, which is judged against") as told:
        promote(deployment, "1")
    assert "--despite-experiments" in str(told.value)
    assert "ends the experiment after experiments.most_days" in str(told.value)
    deployment.experiments.stop = False
    with pytest.raises(GateWaits, match="nothing ends the experiment by itself"):
        promote(deployment, "1")
    deployment.experiments.stop = True
    report = GateReport.load(report_path(deployment, "1"))
    assert (report.passed, report.verdict, report.held_by) == (True, "waits", ("ab",))
    assert Registry.of(deployment).champions() == ["1", "2"]
    assert promote(deployment, "1", despite_experiments=True, dry_run=True).version == "1"
    # A version that is judged itself waits for no experiment of its own, nor for a shadow.
    run_experiments(deployment, msgspec.structs.replace(ab, version="1"), night)
    assert promote(deployment, "1", dry_run=True).version == "1"
    run_experiments(deployment, ab)
    deployment.experiments.hold_promotion = False
    assert promote(deployment, "1", dry_run=True).version == "1"
    deployment.experiments.hold_promotion = True
    run_experiments(deployment)


def test_a_refit_that_is_shown_to_be_worse_is_refused(deployment: Settings) -> None:
    report = GateReport.load(report_path(deployment, "2"))
    assert report.refit
    assert report.difference is not None
    worse = msgspec.structs.replace(report, difference=Estimate(-0.2, -0.3, -0.1))
    assert not worse.passed
    assert "worse than that of champion 1" in str(worse)
    with pytest.raises(GateRefused, match="The champion stays"):
        judge(deployment, worse)


def test_another_procedure_waits_while_little_truth_has_matured(deployment: Settings) -> None:
    train(deployment, threads=1, baselines=False, parameters=OTHER)
    judged = Contestant.fetch(deployment, "3").judged  # what serves has learnt from later payments
    early = judged.training.cutoff_us + 25 * DAY_US
    with pytest.raises(GateWaits, match=r"Version 3 waits.*more are needed \(night 1 of 60\)"):
        promote(deployment, now_us=early)
    registry = Registry.of(deployment)
    assert registry.champions() == ["1", "2"]
    assert registry.version("3").tags["gate"].startswith("waits: ")
    assert waits_at_the_gate(deployment, "3")
    assert not waits_at_the_gate(deployment, "2")
    (trial,) = trials_of(deployment)
    assert (trial.version, trial.reference, trial.opened_us) == ("3", "1", early)


def test_another_model_of_the_candidates_procedure_goes_on_with_its_wait(
    deployment: Settings,
) -> None:
    train(deployment, threads=1, baselines=False, parameters=OTHER | {"seed": 9})
    (before,) = trials_of(deployment)
    report = evaluate(deployment)
    (trial,) = trials_of(deployment)
    assert (report.version, report.reference) == ("4", "1")
    assert trial.opened_us == before.opened_us
    assert report.night == (HISTORY_END_US - trial.opened_us) // DAY_US
    assert len(trial.looks) > len(before.looks)
    again = evaluate(deployment)
    assert trials_of(deployment) == [trial], "the same truth is looked at once"
    assert again == report
    assert report.candidate_metrics.keys() == report.champion_metrics.keys()


def test_the_last_night_of_a_wait_has_its_look(deployment: Settings) -> None:
    (path,) = (deployment.workspace / "trials").glob("*/trial.json")
    kept = path.read_bytes()
    began = HISTORY_END_US - (NIGHTS - 1) * DAY_US
    late = msgspec.structs.replace(
        msgspec.json.decode(kept, type=Trial), opened_us=began, looks=(), ended=False, refused=""
    )
    path.write_bytes(msgspec.json.encode(late))
    report = evaluate(deployment, now_us=HISTORY_END_US)
    (trial,) = trials_of(deployment)
    path.write_bytes(kept)
    assert trial.ended
    assert [look.night for look in trial.looks] == [NIGHTS - 1]
    assert report.state == trial.state


def test_a_look_keeps_what_another_process_decided_meanwhile(
    deployment: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = (deployment.workspace / "trials").glob("*/trial.json")
    kept = path.read_bytes()
    waits = msgspec.structs.replace(
        msgspec.json.decode(kept, type=Trial), looks=(), ended=False, refused=""
    )
    refused = msgspec.structs.replace(waits, refused="20 % more alerts", ended=True)
    path.write_bytes(msgspec.json.encode(waits))
    lines = gate_trial.at_lines

    def beside_another(*arguments: Any) -> tuple[LineFigure, ...]:
        path.write_bytes(msgspec.json.encode(refused))
        return lines(*arguments)

    monkeypatch.setattr(gate_trial, "at_lines", beside_another)
    report = evaluate(deployment)
    after = trials_of(deployment)
    path.write_bytes(kept)
    assert after == [refused]
    assert (report.state, report.refused) == ("refused", refused.refused)


def test_a_wait_whose_models_were_deleted_in_part_begins_anew(
    deployment: Settings, tmp_path: Path
) -> None:
    place = deployment.workspace / "trials"
    shutil.copytree(place, tmp_path / "kept")
    (path,) = place.glob("*/trial.json")
    waits = msgspec.structs.replace(
        msgspec.json.decode(path.read_bytes(), type=Trial), looks=(), ended=False, refused=""
    )
    path.write_bytes(msgspec.json.encode(waits))
    shutil.rmtree(path.parent / "candidate")
    report = evaluate(deployment)
    (trial,) = trials_of(deployment)
    shutil.rmtree(place)
    shutil.copytree(tmp_path / "kept", place)
    assert trial.opened_us > waits.opened_us
    assert report.night == 0


def test_a_procedure_that_was_refused_is_not_tried_again_at_once(deployment: Settings) -> None:
    train(deployment, threads=1, baselines=False, parameters=WEAK)
    with pytest.raises(GateRefused, match=r"worse than that of reference 1"):
        promote(deployment)
    train(deployment, threads=1, baselines=False, parameters=WEAK | {"seed": 9})
    report = evaluate(deployment, now_us=HISTORY_END_US + 5 * DAY_US)
    assert report.verdict == "refused"
    with pytest.raises(GateRefused, match="Version 6 is refused"):
        judge(deployment, report)


def test_a_rollback_withdraws_the_pass_of_what_it_takes_back(deployment: Settings) -> None:
    procedure = load_manifest(deployment.models_dir / "sentinel-fraud-2").procedure
    assert procedure is not None
    passed = Trial(
        version="2",
        procedure=procedure,
        reference="0",
        opened_us=0,
        start_us=0,
        gap_us=None,
        looks=(Look(night=0, information=20.0, spent=0.025, z=4.0, bound=2.0),),
    )
    trials = Trials(deployment)
    (deployment.workspace / "trials" / "2-0-0").mkdir(parents=True)
    trials.keep(deployment.workspace / "trials" / "2-0-0", passed)
    assert trials.find("9", procedure, "0", DAY_US) is not None
    assert rollback(deployment).version == "1"
    assert trials.find("9", procedure, "0", DAY_US) is None


def test_the_reference_stays_unless_somebody_is_better() -> None:
    passed = GateReport(
        version="7",
        champion="6",
        rows=1,
        frauds=1,
        start_us=0,
        end_us=1,
        candidate_ap=0.5,
        champion_ap=0.5,
        difference=None,
        state="passed",
        reference="2",
    )
    assert passed.passed
    assert not msgspec.structs.replace(passed, refused="alert rate").passed
    assert msgspec.structs.replace(passed, state="waits").verdict == "waits"


def test_a_trial_is_forgotten_when_it_is_over_for_long(tmp_path: Path) -> None:
    trials = Trials(Settings(workspace=tmp_path))
    (tmp_path / "model").mkdir()
    look = Look(night=0, information=20.0, spent=0.025, z=-4.0, bound=2.0)
    trial = Trial(
        version="3",
        procedure=None,
        reference="1",
        opened_us=0,
        start_us=0,
        gap_us=None,
        looks=(look,),
    )
    trials.open(trial, tmp_path / "model", tmp_path / "model")
    found = trials.find("3", None, "1", 59 * DAY_US)
    assert found is not None
    assert found[1] == trial
    assert found[1].state == "refused"
    assert trials.find("3", None, "2", 0) is None, "held against another reference"
    assert trials.find("4", None, "1", 0) is None
    assert trials.find("3", None, "1", NIGHTS * DAY_US) is None, "it may be tried again"
