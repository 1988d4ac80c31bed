"""What others do while a promotion or a rollback goes on."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from sentinel.domain import GateWaits, ModelFormatError, Unavailable, WorkspaceError
from sentinel.experiments.lineup import Experiment, LineUp
from sentinel.experiments.store import change_line_up
from sentinel.models.artifact import load_manifest
from sentinel.models.champion import champion_of
from sentinel.models.intervals import Estimate
from sentinel.models.noninferiority import Look
from sentinel.models.registry import Registry
from sentinel.models.signature import SIGNATURE_FILE
from sentinel.pipeline import promotion
from sentinel.pipeline.experiment_judging import promote_experiment
from sentinel.pipeline.gate import GateReport
from sentinel.pipeline.promotion import promote, promote_challenger, rollback
from sentinel.pipeline.registered import registry_of
from sentinel.pipeline.registry_fetch import fetch_version
from sentinel.pipeline.registry_files import RegistryInFiles, open_registry
from sentinel.pipeline.registry_http import RegisteredVersion
from sentinel.pipeline.registry_sync import bring_champion, sync_champion
from sentinel.pipeline.retirement import retire
from sentinel.pipeline.served import changing, crown, folder_of, untold_rollback
from sentinel.pipeline.signing import adopt_what_serves, sign_versions
from sentinel.pipeline.trials import Trial, Trials
from sentinel.pipeline.workspace import only_one
from sentinel.settings import MlflowSettings, Settings
from testkit.ports import free_port
from testkit.signed_models import let_through
from testkit.small_models import register_small_model


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Version 2 serves, 1 did before, 3 is a candidate. The workspace keeps MLflow."""
    folder = tmp_path_factory.mktemp("registered")
    settings = Settings(
        workspace=folder / "workspace",
        mlflow=MlflowSettings(port=free_port(), model_name="promoted"),
    )
    for seed in range(3):
        register_small_model(settings, folder / str(seed), seed=seed)
    for version in ("1", "2"):
        let_through(settings, version)
    fetch_version(settings, "1", to_serve=True)
    Registry.of(settings).crown(["1", "2"])
    assert sync_champion(settings) == "2"
    return settings


@pytest.fixture
def serving(registered: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A copy of that workspace, with a history of no payments."""
    shutil.copytree(registered.workspace, tmp_path / "workspace")
    monkeypatch.setattr(promotion, "score_history", lambda *_, **__: 0)
    return registered.model_copy(update={"workspace": tmp_path / "workspace"})


def served(settings: Settings) -> str:
    champion = champion_of(settings)
    assert champion is not None
    return champion.version


def line_up_is(settings: Settings, *experiments: Experiment, by: str, why: str) -> None:
    def change(_: LineUp) -> LineUp:
        return LineUp(experiments=experiments)

    change_line_up(settings, change, by=by, why=why, at_us=9)


@pytest.mark.parametrize("anew", [False, True], ids=["stopped", "stopped and started anew"])
def test_an_experiment_that_is_stopped_while_the_history_is_scored_makes_no_champion(
    serving: Settings, monkeypatch: pytest.MonkeyPatch, anew: bool
) -> None:
    let_through(serving, "3")
    challenger = Experiment(name="ab", kind="challenger", version="3", share=0.1, started_at_us=1)
    line_up_is(serving, challenger, by="ann", why="a test")

    def stopped_meanwhile(*_: object, **__: object) -> int:
        line_up_is(serving, by="guardrails", why="it declines 40 % of the payments")
        if anew:
            again = Experiment(
                name="ab", kind="challenger", version="3", share=0.1, started_at_us=2
            )
            line_up_is(serving, again, by="bob", why="once more")
        return 0

    monkeypatch.setattr(promotion, "score_history", stopped_meanwhile)
    with pytest.raises(GateWaits) as refused:
        promote_experiment(serving, "ab", by="the nightly run", why="it is better")
    said = str(refused.value)
    assert "'ab' was stopped by guardrails while version 3 was being promoted" in said
    assert "it declines 40 % of the payments. The champion stays." in said
    assert "`sentinel promote 3`" in said
    assert (Registry.of(serving).champions(), served(serving)) == (["1", "2"], "2")


def passed(version: str, champion: str) -> GateReport:
    """What a gate says that lets a version through."""
    return GateReport(
        version=version,
        champion=champion,
        rows=100,
        frauds=20,
        start_us=0,
        end_us=1,
        candidate_ap=0.5,
        champion_ap=0.2,
        difference=Estimate(0.3, 0.2, 0.4),
    )


def followed(settings: Settings) -> str | None:
    """One look of a follower."""
    with open_registry(settings) as server:
        return bring_champion(settings, server)


@pytest.fixture
def stepped_back(serving: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Version 2 was rolled back while the registry was away; it is there again."""

    def away(*_: object) -> None:
        raise Unavailable("MLflow does not answer.")

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(promotion, "settle", away)
        assert rollback(serving).untold
    assert (Registry.of(serving).champions(), served(serving)) == (["1", "2"], "1")
    return serving


def test_a_follower_tells_of_no_rollback_while_somebody_promotes(
    stepped_back: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, lock = Registry.of(stepped_back), stepped_back.workspace / "promotion.lock"
    with only_one(lock, "a promotion"):
        assert followed(stepped_back) == "1", "what serves stays"
        assert registry.champions() == ["1", "2"]
    crown_there, told = RegistryInFiles.crown, []

    def telling(self: RegistryInFiles, name: str, champions: list[str]) -> None:
        with pytest.raises(WorkspaceError), only_one(lock, "a promotion"):
            pass
        told.append(champions)
        crown_there(self, name, champions)

    monkeypatch.setattr(RegistryInFiles, "crown", telling)
    assert followed(stepped_back) == "1"
    assert (told, registry.champions(), untold_rollback(stepped_back)) == ([["1"]], ["1"], None)


@pytest.mark.parametrize(
    "make_champion",
    [
        lambda settings: promote(settings, "3", report=passed("3", "1")),
        lambda settings: promote_challenger(settings, "3", instead_of="1"),
    ],
    ids=["by the gate", "from an experiment"],
)
def test_a_promotion_does_not_bring_back_what_was_rolled_back_while_the_registry_was_away(
    stepped_back: Settings, make_champion: Callable[[Settings], promotion.Promoted]
) -> None:
    let_through(stepped_back, "3")
    assert make_champion(stepped_back).replaced == "1"
    assert (Registry.of(stepped_back).champions(), served(stepped_back)) == (["1", "3"], "3")
    assert followed(stepped_back) == "3"
    assert rollback(stepped_back).version == "1"


@pytest.mark.parametrize("serves", ["2", "1"], ids=["follows", "is behind"])
def test_a_follower_that_saw_the_champion_before_a_rollback_does_not_put_it_back(
    serving: Settings, monkeypatch: pytest.MonkeyPatch, serves: str
) -> None:
    with changing(serving):
        crown(serving, serves)
    champion_there, pending = RegistryInFiles.champion, ["a rollback"]

    def seen_before(self: RegistryInFiles, name: str) -> RegisteredVersion | None:
        found = champion_there(self, name)
        if pending:
            pending.clear()
            assert rollback(serving).untold == ""
        return found

    monkeypatch.setattr(RegistryInFiles, "champion", seen_before)
    assert followed(serving) == served(serving) == "1"
    assert followed(serving) == "1"


def test_a_version_is_signed_as_the_promotion_under_way_leaves_it(serving: Settings) -> None:
    lock, begun = serving.workspace / "promotion.lock", threading.Event()

    def sign() -> str:
        begun.set()
        (done,) = sign_versions(serving, "3")
        return done.signed.statement.verdict

    with ThreadPoolExecutor(1) as thread:
        with only_one(lock, "a promotion"):
            signed = thread.submit(sign)
            assert begun.wait(10)
            with pytest.raises(TimeoutError):
                signed.result(1.5)  # it waits, and reads nothing that may change
            let_through(serving, "3")
            fetch_version(serving, "3", to_serve=True)
        assert signed.result(30) == "passed"
    assert fetch_version(serving, "3", to_serve=True).is_dir(), "it may still serve"


def test_a_promotion_that_goes_on_lets_nobody_sign_beside_it(
    serving: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meanwhile(*_: object, **__: object) -> int:
        with pytest.raises(WorkspaceError, match="a promotion, a rollback, a signature"):
            sign_versions(serving, "3")
        return 0

    monkeypatch.setattr(promotion, "score_history", meanwhile)
    assert promote(serving, "3", report=passed("3", "2")).version == "3"


def test_what_serves_is_not_adopted_beside_a_promotion(serving: Settings) -> None:
    for path in serving.models_dir.glob(f"*/{SIGNATURE_FILE}"):
        path.unlink()
    with (
        only_one(serving.workspace / "promotion.lock", "a promotion"),
        pytest.raises(WorkspaceError),
    ):
        adopt_what_serves(serving)
    assert not (folder_of(serving, "2") / SIGNATURE_FILE).exists()
    assert "2" in adopt_what_serves(serving)


class _NoParts:
    """The vectors of a history of no payments."""

    @staticmethod
    def open(*_: object) -> SimpleNamespace:
        return SimpleNamespace(manifest=SimpleNamespace(rows=0))


def test_a_pass_that_was_taken_back_since_the_look_promotes_nobody(
    serving: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = msgspec.structs.replace(passed("3", "2"), reference="1", state="passed")
    trial = Trial(
        version="3",
        procedure=load_manifest(fetch_version(serving, "3")).procedure,
        reference="1",
        opened_us=0,
        start_us=0,
        gap_us=None,
        looks=(Look(night=0, information=20.0, spent=0.025, z=4.0, bound=2.0),),
    )
    folder = serving.workspace / "trials" / "3-1-0"
    folder.mkdir(parents=True)
    trials = Trials(serving)
    trials.keep(folder, trial)
    monkeypatch.setattr(promotion, "FeatureParts", _NoParts)
    monkeypatch.setattr(
        promotion, "evaluate", lambda *_, **__: msgspec.structs.replace(looked, state="waits")
    )
    assert promote(serving, "3", report=looked, dry_run=True).version == "3"
    trials.withdraw("3", trial.procedure)  # another process promoted it, and went back
    with pytest.raises(GateWaits):
        promote(serving, "3", report=looked, dry_run=True)


def test_a_rollback_needs_no_database_of_mlflow_that_is_damaged(serving: Settings) -> None:
    database = serving.workspace / "mlflow.db"
    whole = database.read_bytes()
    database.write_bytes(b"no database at all, whatever its name says" * 100)
    view, away = registry_of(serving)
    assert view.champions == ("1", "2")
    assert "cannot be used (file is not a database)" in away
    with pytest.raises(Unavailable, match="restore it from a backup"):
        promote(serving, "3", report=passed("3", "2"))
    back = rollback(serving)
    assert (back.version, served(serving)) == ("1", "1")
    assert "file is not a database" in back.untold
    database.write_bytes(whole)
    assert followed(serving) == "1"
    assert Registry.of(serving).champions() == ["1"]


def test_a_rollback_goes_past_a_damaged_champion_once_that_is_retired(serving: Settings) -> None:
    let_through(serving, "3")
    Registry.of(serving).crown(["1", "2", "3"])
    assert sync_champion(serving) == "3"
    damaged = [folder_of(serving, "2") / "model.txt"]
    for found in (serving.workspace / "mlartifacts").rglob("model.txt"):
        if found.read_bytes() == damaged[0].read_bytes():
            damaged.append(found)
    assert len(damaged) == 2
    for file in damaged:
        file.write_bytes(b"tree")
    with pytest.raises(ModelFormatError, match="`sentinel models retire 2 --why TEXT`"):
        rollback(serving)
    assert served(serving) == "3"
    retire(serving, "2", by="ann", why="its files are damaged")
    assert rollback(serving).version == "1"
    assert served(serving) == "1"
