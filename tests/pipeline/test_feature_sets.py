"""The sets of definitions that come with Sentinel, and how a deployment gets one."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from sentinel import examples
from sentinel.domain import ConfigurationError, DefinitionError, WorkspaceError
from sentinel.feast_plugin.compile import compile_definitions
from sentinel.feature_sets import (
    DEFAULT,
    FEAST_FILES,
    HANDBOOK,
    IEEE_CIS,
    OF_SOURCES,
    SETS,
    complete,
    ensure,
    feast_text,
    install,
    is_as_shipped,
    set_text,
    suit,
)
from sentinel.features.plan.plan import Plan
from sentinel.features.plan.program import compile_program
from sentinel.pipeline.apply import Planned, apply_definitions, plan_definitions
from sentinel.settings import Settings
from sentinel.sources.registry import SOURCE_NAMES, open_source
from tests.sources.ieee_cis_fixture import write_ieee_cis


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a user who installed the package begins."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SENTINEL_FEATURE_STORE", raising=False)
    monkeypatch.delenv("SENTINEL_WORKSPACE", raising=False)
    return tmp_path


def test_the_checkouts_folder_is_the_default_set(root: Path) -> None:
    """Whoever changes one changes the other: `cp feature_store/... src/sentinel/feature_sets/`."""
    there = root / "feature_store"
    assert (there / "definitions.py").read_text() == set_text(DEFAULT)
    for file in FEAST_FILES:
        assert (there / file).read_text() == feast_text(file, there, root / ".sentinel")


def test_definitions_are_what_is_set_else_the_workspaces_own_else_those_here() -> None:
    settings = Settings()
    assert settings.definitions_dir == Path(".sentinel/feature_store")
    Path("feature_store").mkdir()
    assert settings.definitions_dir == Path("feature_store")
    Path(".sentinel/feature_store").mkdir(parents=True)
    assert settings.definitions_dir == Path(".sentinel/feature_store")
    assert Settings(feature_store=Path("mine")).definitions_dir == Path("mine")


def test_the_environment_and_the_settings_file_name_definitions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path(".sentinel/feature_store").mkdir(parents=True)
    Path("sentinel.toml").write_text('feature_store = "feature_store"\n')
    assert Settings().definitions_dir == Path("feature_store")
    monkeypatch.setenv("SENTINEL_FEATURE_STORE", "/elsewhere")
    assert Settings().definitions_dir == Path("/elsewhere")


def test_where_there_are_none_the_default_set_is_copied_once_and_said(tmp_path: Path) -> None:
    settings = Settings(workspace=Path("w"))
    applied = apply_definitions(settings)
    assert str(applied.installed) == (
        "The feature definitions are the set 'default', copied to w/feature_store."
    )
    assert applied.registry == str(tmp_path / "w" / "registry.db")
    assert (tmp_path / "w" / "registry.db").exists()
    assert applied.plan.hash == "54c7f00c3fce554d"
    definitions = settings.definitions_dir / "definitions.py"
    definitions.write_text(definitions.read_text().replace("count(QUARTER, hop=WEEK),\n", "\n"))
    again = apply_definitions(settings)
    assert again.installed is None
    assert "customer_merchant_count_90d" not in again.plan.feature_names


def test_definitions_that_are_there_are_used_and_left_as_they_are(root: Path) -> None:
    settings = Settings(feature_store=root / "feature_store")
    assert ensure(settings) is None
    assert not settings.workspace.exists()


def test_feasts_own_files_lead_from_the_definitions_to_the_workspace(tmp_path: Path) -> None:
    own = tmp_path / "w" / "feature_store"
    install(DEFAULT, own, tmp_path / "w")
    config = yaml.safe_load((own / "feature_store.yaml").read_text())
    assert (own / config["registry"]["path"]).resolve() == tmp_path / "w" / "registry.db"
    assert (own / config["offline_store"]["workspace"]).resolve() == tmp_path / "w"


def test_files_that_definitions_lack_are_added_and_those_they_have_stay(tmp_path: Path) -> None:
    (tmp_path / "feature_store.yaml").write_text("project: mine\n")
    complete(tmp_path, tmp_path / "w")
    assert (tmp_path / "feature_store.yaml").read_text() == "project: mine\n"
    assert (tmp_path / "production.yaml").exists()


def test_a_set_replaces_another_set_but_nothing_that_a_person_wrote(tmp_path: Path) -> None:
    folder = tmp_path / "definitions"
    install(DEFAULT, folder, tmp_path)
    install(IEEE_CIS, folder, tmp_path)
    assert (folder / "definitions.py").read_text() == set_text(IEEE_CIS)
    (folder / "more.py").write_text("SPAN = 7\n")
    assert not is_as_shipped(folder)
    with pytest.raises(WorkspaceError, match="left as they are"):
        install(DEFAULT, folder, tmp_path)
    with pytest.raises(ConfigurationError, match="There is: default, ieee_cis"):
        install("ieee-cis", tmp_path, tmp_path)


def test_data_of_its_own_kind_gets_its_set_unless_definitions_were_chosen(root: Path) -> None:
    assert suit(Settings(feature_store=root / "feature_store"), IEEE_CIS) is None
    fresh = Settings(workspace=Path("fresh"))
    assert suit(fresh, IEEE_CIS) is not None
    assert suit(fresh, IEEE_CIS) is None, "it is there now"
    assert (fresh.definitions_dir / "definitions.py").read_text() == set_text(IEEE_CIS)

    install(DEFAULT, Path("feature_store"), Path(".sentinel"))
    assert suit(Settings(workspace=Path("beside")), IEEE_CIS) is not None
    with Path("feature_store/definitions.py").open("a") as edited:
        edited.write("# mine\n")
    assert suit(Settings(workspace=Path("other")), IEEE_CIS) is None
    old = Settings(workspace=Path("old"))
    old.workspace.mkdir()
    old.plan_path.write_text("{}")
    assert suit(old, IEEE_CIS) is None


def test_a_source_that_has_a_set_is_one_that_can_be_imported() -> None:
    assert set(OF_SOURCES) < set(SOURCE_NAMES)
    assert set(OF_SOURCES.values()) < set(SETS)


def test_every_set_compiles_and_the_ieee_cis_set_uses_what_its_import_keeps(
    tmp_path: Path,
) -> None:
    plans = {}
    for name in SETS:
        install(name, tmp_path / name, tmp_path)
        plans[name] = compile_definitions(tmp_path / name)
    write_ieee_cis(tmp_path / "data", rows=50)
    kept = open_source("ieee-cis", path=tmp_path / "data").attributes
    used = {f.column: f.kind for f in plans[IEEE_CIS].request if f.column}
    assert {c: kept[c] for c in used} == used
    assert not compile_program(plans[IEEE_CIS]).warnings()
    assert not compile_program(plans[HANDBOOK]).warnings()
    superseded = {f"D{n}" for n in range(1, 16)} - {"D3", "D5", "D9"}
    assert set(kept) - set(used) == superseded, "each has the day that it counts from instead"


def test_the_plan_shows_what_an_apply_would_make_of_the_definitions() -> None:
    settings = Settings()
    with pytest.raises(DefinitionError, match="features apply"):
        plan_definitions(settings)
    applied = apply_definitions(settings).plan
    assert plan_definitions(settings) == Planned(applied)
    definitions = settings.definitions_dir / "definitions.py"
    edited = definitions.read_text().replace("count(QUARTER, hop=WEEK)", "count(MONTH, hop=WEEK)")
    definitions.write_text(edited.replace("since_last(QUARTER)", "since_last(MONTH)"))
    planned = plan_definitions(settings)
    assert planned.plan.hash != applied.hash == Plan.load(settings.plan_path).hash
    assert planned.added == ("customer_merchant_count_30d",)
    assert planned.removed == ("customer_merchant_count_90d",)
    assert planned.changed == ("customer_merchant_seconds_since_last",)


def test_examples_come_with_the_package_and_are_copied_beside_the_data(tmp_path: Path) -> None:
    assert {"sparkov", "ulb"} <= set(examples.names())
    target = examples.copy_to("sparkov", tmp_path)
    assert target.read_text() == examples.text_of("sparkov")
    assert "Sparkov" in examples.about("sparkov")
    assert examples.copy_to("sparkov", tmp_path) == target
    target.write_text("# mine\n")
    with pytest.raises(ConfigurationError, match="left as it is"):
        examples.copy_to("sparkov", tmp_path)
    with pytest.raises(ConfigurationError, match="There is: banksim"):
        examples.copy_to("sparkow", tmp_path)
