"""The registry as people read it: aliases follow roles, and a version says where it comes from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sentinel.cli.main import app
from sentinel.domain import ModelError, NoModel, WorkspaceError
from sentinel.experiments.lineup import Experiment
from sentinel.models.code_version import head_of, this_code
from sentinel.models.lineage import noted_lineage
from sentinel.models.registry import CANDIDATE, CHAMPION, PREVIOUS_CHAMPION, Registry
from sentinel.models.registry_view import retirement_of
from sentinel.pipeline import experiments, retirement
from sentinel.pipeline.experiments import start, stop
from sentinel.pipeline.promotion import promote, promote_challenger, rollback
from sentinel.pipeline.registered import registry_of
from sentinel.pipeline.registry_fetch import fetch_version
from sentinel.pipeline.registry_look import look
from sentinel.pipeline.registry_sync import sync_champion
from sentinel.pipeline.retirement import retire
from sentinel.pipeline.served import folder_of
from sentinel.pipeline.workspace import only_one
from sentinel.settings import Settings
from testkit.experiments import run_experiments
from testkit.signed_models import let_through
from testkit.small_models import register_small_model


@pytest.fixture
def served(settings: Settings, tmp_path: Path) -> Settings:
    """Version 2 is the champion, 1 was before, 3 and 4 may decide."""
    for seed in range(4):
        register_small_model(settings, tmp_path / str(seed), seed=seed)
    for version in ("1", "2", "3", "4"):
        let_through(settings, version)
    Registry.of(settings).crown(["1", "2"])
    sync_champion(settings)
    return settings


def aliases(settings: Settings) -> dict[str, str]:
    versions = Registry.of(settings).versions()
    return {alias: one.version for one in versions for alias in one.aliases}


OTHERS = {CHAMPION: "2", PREVIOUS_CHAMPION: "1", CANDIDATE: "4"}


def test_aliases_follow_the_roles_of_the_line_up(served: Settings) -> None:
    for wanted in (
        Experiment(name="b", kind="challenger", version="4", share=0.1),
        Experiment(name="a.b", kind="challenger", version="3", share=0.1),
        Experiment(name="night", kind="shadow", version="3"),
        Experiment(name="big", kind="segment", version="4", condition="amount_minor > 50000"),
    ):
        start(served, wanted, by="ann", why="a test")
    assert aliases(served) == OTHERS | {
        "challenger": "4",
        "challenger-2": "3",
        "shadow": "3",
        "segment": "4",
    }
    stop(served, "b", by="ann", why="enough")
    assert aliases(served) == OTHERS | {"challenger": "3", "shadow": "3", "segment": "4"}


def test_an_alias_of_a_role_that_was_moved_by_hand_comes_back(served: Settings) -> None:
    start(served, Experiment(name="n", kind="shadow", version="3"), by="ann", why="a test")
    registry = Registry.of(served)
    registry.point("shadow", "1")
    registry.point("segment", "1")
    registry.point("mine", "1")
    sync_champion(served)
    assert aliases(served) == OTHERS | {"shadow": "3", "mine": "1"}


def test_a_version_that_is_retired_is_used_by_nobody(served: Settings) -> None:
    registry = Registry.of(served)
    folder = folder_of(served, "1")
    fetch_version(served, "1")
    retire(served, "1", by="ann", why="it learnt from wrong labels")
    assert aliases(served) == {CHAMPION: "2", CANDIDATE: "4"}
    assert registry.champions() == ["2"]
    assert folder.is_dir(), "decisions may refer to it"
    said = "Version 1 is retired, by ann: it learnt from wrong labels"
    with pytest.raises(NoModel, match="no earlier champion"):
        rollback(served)
    for use in (
        lambda: retire(served, "1", by="bob", why="again"),
        lambda: promote(served, "1"),
        lambda: promote_challenger(served, "1"),
        lambda: start(
            served, Experiment(name="n", kind="shadow", version="1"), by="bob", why="a test"
        ),
    ):
        with pytest.raises(ModelError, match=said):
            use()
    view, _ = registry_of(served)
    known = view.find("1")
    assert known is not None
    assert retirement_of(known.tags) is not None
    assert known.aliases == ()


def test_the_newest_candidate_that_is_retired_is_no_candidate_any_more(served: Settings) -> None:
    retire(served, "4", by="ann", why="a mistake")
    with pytest.raises(NoModel, match="no candidate"):
        promote(served)


def test_what_serves_or_is_in_the_line_up_cannot_be_retired(served: Settings) -> None:
    start(served, Experiment(name="n", kind="shadow", version="3"), by="ann", why="a test")
    before = aliases(served)
    with pytest.raises(ModelError, match="Version 2 serves, and cannot be retired"):
        retire(served, "2", by="ann", why="x")
    with pytest.raises(ModelError, match=r"line-up, in n, .*sentinel experiment stop n"):
        retire(served, "3", by="ann", why="x")
    with pytest.raises(NoModel, match="no version '9'"):
        retire(served, "9", by="ann", why="x")
    assert aliases(served) == before


def test_a_champion_is_not_twice_in_a_row_when_the_one_between_is_retired(
    served: Settings,
) -> None:
    registry = Registry.of(served)
    registry.crown(["3", "1", "3", "2"])
    retire(served, "1", by="ann", why="x")
    assert registry.champions() == ["3", "2"]


def test_versions_and_their_origin_are_printed_in_80_columns(
    served: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SENTINEL_WORKSPACE", str(served.workspace))
    monkeypatch.setenv("SENTINEL_MLFLOW__MODEL_NAME", served.mlflow.model_name)
    monkeypatch.setenv("SENTINEL_MLFLOW__TRACKING_URI", served.tracking_uri)
    monkeypatch.setenv("COLUMNS", "80")
    run = CliRunner().invoke
    listed = run(app, ["models", "list"])
    assert listed.exit_code == 0, listed.output
    assert max(map(len, listed.output.splitlines())) <= 80
    assert "previous-champion" in listed.output
    shown = run(app, ["models", "show", "2"])
    assert shown.exit_code == 0, shown.output
    assert max(map(len, shown.output.splitlines())) <= 80
    assert "hash data-1" in " ".join(shown.output.split())
    said = json.loads(run(app, ["models", "show", "2", "--json"]).output)
    assert (said["aliases"], said["lineage"]["data_hash"]) == (["champion"], "data-1")
    refused = run(app, ["models", "retire", "2", "--why", "x"])
    assert refused.exit_code == 1
    assert "Version 2 serves" in refused.output
    done = run(app, ["models", "retire", "1", "--why", "it learnt from wrong labels"])
    assert done.exit_code == 0, done.output
    listed = run(app, ["models", "list"])
    assert "retired" in listed.output
    assert "previous-champion" not in listed.output
    assert "wrong labels" in run(app, ["models", "show", "1"]).output
    missing = run(app, ["models", "show", "9"])
    assert missing.exit_code == 1
    assert "has no version '9'. The newest are: 4, 3, 2, 1." in " ".join(missing.output.split())


def test_the_registry_notes_where_a_version_comes_from(served: Settings) -> None:
    tags = Registry.of(served).version("3").tags
    lineage = noted_lineage(tags)
    assert lineage is not None
    assert (lineage.data_hash, lineage.plan_hash) == ("data-2", tags["plan_hash"])
    assert (lineage.rows, lineage.frauds, lineage.end_us) == (2_000, 9, 1)
    # These small models stand for those of before code and parent were noted.
    assert lineage.words["code"] == lineage.words["parent"] == "not noted"


def test_the_code_is_named_by_its_source_too() -> None:
    code = this_code()
    assert len(code.source_sha256) == 64
    assert code.version
    assert str(code).endswith(f"source {code.source_sha256[:16]}")


def test_the_commit_of_a_checkout_is_read_as_git_writes_it(tmp_path: Path) -> None:
    git = tmp_path / "repository" / ".git"
    (git / "refs" / "heads").mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    assert head_of(git) == "", "it has no commit yet"
    (git / "packed-refs").write_text("# pack-refs with: peeled\naaaa refs/heads/main\n")
    assert head_of(git) == "aaaa"
    (git / "refs" / "heads" / "main").write_text("bbbb\n")
    assert head_of(git) == "bbbb"
    (git / "HEAD").write_text("cccc\n")
    assert head_of(git) == "cccc"
    worktree, own = tmp_path / "worktree", git / "worktrees" / "other"
    worktree.mkdir()
    own.mkdir(parents=True)
    (worktree / ".git").write_text(f"gitdir: {own}\n")
    (own / "commondir").write_text("../..\n")
    (own / "HEAD").write_text("ref: refs/heads/main\n")
    assert head_of(worktree / ".git") == "bbbb"


def test_a_version_is_not_retired_while_an_experiment_starts_with_it(
    served: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    night = Experiment(name="night", kind="shadow", version="3")
    monkeypatch.setattr(experiments, "START_WAIT_SECONDS", 0.1)
    # The lock of a retirement is that of a start.
    with (
        only_one(served.workspace / "promotion.lock", "a retirement"),
        pytest.raises(WorkspaceError, match="a retirement or the start of an experiment"),
    ):
        experiments.start(served, night, by="ann", why="x")
    assert experiments.line_up_of(served).experiments == ()

    # A scorer starts one over HTTP, which holds no lock: the retirement sees it and is taken back.
    def look_as_a_scorer_starts(*given: object) -> str:
        if experiments.line_up_of(served).find("night") is None:
            run_experiments(served, night)
        return look(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(retirement, "look", look_as_a_scorer_starts)
    with pytest.raises(ModelError, match="Version 3 is in the line-up, in night"):
        retire(served, "3", by="ann", why="x")
    assert retirement_of(Registry.of(served).version("3").tags) is None
