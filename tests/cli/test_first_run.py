"""What a first run does with a workspace that something is in already."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from sentinel.cli.first_run import FirstRun
from sentinel.domain import LedgerInUse, WorkspaceError
from sentinel.ledger.base import Ledger
from sentinel.ledger.open import open_reader, open_writer
from sentinel.models.registry_place import away
from sentinel.pipeline.importing import import_history
from sentinel.settings import Settings
from sentinel.sources.registry import open_source
from tests.cli.test_commands import MAPPING

NOW_US = time.time_ns() // 1000


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(workspace=tmp_path / "w")


def mapping(folder: Path, name: str, payments: int) -> Path:
    rows = [f"{name}-{n},2026-01-01T10:{n:02}:00Z,12.50,c{n % 3},s1" for n in range(payments)]
    (folder / f"{name}.csv").write_text("ref,created,amount,customer,shop\n" + "\n".join(rows))
    path = folder / f"{name}.toml"
    path.write_text(MAPPING.replace("payments.csv", f"{name}.csv"))
    return path


def first_run(settings: Settings, data: Path | None) -> FirstRun:
    return FirstRun(settings, data, 20, 30.0, NOW_US)


def entries(settings: Settings) -> int:
    with open_reader(settings) as ledger:
        return ledger.last_sequence()


def cut(stage: str, done: int, total: int | None) -> None:
    if stage == "log" and done:
        raise KeyboardInterrupt


def test_what_was_imported_before_stays(settings: Settings, tmp_path: Path) -> None:
    one, other = mapping(tmp_path, "one", 9), mapping(tmp_path, "other", 5)
    for path in (one, other):
        import_history(settings, open_source(path), now_us=NOW_US)
    run = first_run(settings, one)
    run.check()
    run.prepare()
    assert entries(settings) == 14


def test_simulated_payments_are_not_added_to_somebodys_own(
    settings: Settings, tmp_path: Path
) -> None:
    import_history(settings, open_source(mapping(tmp_path, "one", 9)), now_us=NOW_US)
    run = first_run(settings, None)
    with pytest.raises(WorkspaceError, match=r"holds 9 entries.*--data FILE"):
        run.check()
    with pytest.raises(WorkspaceError, match="holds 9 entries"):
        run.prepare()
    assert entries(settings) == 9


def test_a_start_that_was_cut_after_its_import_goes_on_with_its_world(
    settings: Settings,
) -> None:
    settings.workspace.mkdir()
    first = FirstRun(settings, None, 20, 30.0, NOW_US)
    first.prepare()
    before = entries(settings)
    progress = settings.workspace / "up.json"
    progress.unlink()  # as if it had been killed before it wrote that down
    later = FirstRun(settings, None, 20, 30.0, NOW_US + 86_400_000_000)
    later.check()
    later.prepare()
    assert entries(settings) == before > 300


def test_an_import_that_was_cut_short_is_begun_anew(settings: Settings, tmp_path: Path) -> None:
    one = mapping(tmp_path, "one", 9)
    with pytest.raises(KeyboardInterrupt):
        import_history(settings, open_source(one), now_us=NOW_US, progress=cut)
    # The mapping was wrong, which is why somebody stopped it: nothing of it may stay.
    mapping(tmp_path, "one", 4)
    run = first_run(settings, one)
    run.check()
    run.prepare()
    assert entries(settings) == 4


def test_an_import_of_other_data_that_was_cut_short_stays(
    settings: Settings, tmp_path: Path
) -> None:
    one, other = mapping(tmp_path, "one", 9), mapping(tmp_path, "other", 5)
    import_history(settings, open_source(one), now_us=NOW_US)
    with pytest.raises(KeyboardInterrupt):
        import_history(settings, open_source(other), now_us=NOW_US, progress=cut)
    before = entries(settings)
    first_run(settings, other).prepare()
    assert before <= entries(settings) == 14


def test_an_import_that_runs_is_left_alone(settings: Settings, tmp_path: Path) -> None:
    one = mapping(tmp_path, "one", 9)
    with pytest.raises(KeyboardInterrupt):
        import_history(settings, open_source(one), now_us=NOW_US, progress=cut)
    with open_writer(settings), pytest.raises(LedgerInUse):
        first_run(settings, one).prepare()
    assert (settings.workspace / "ledger.db").exists()


def test_an_import_that_ends_after_the_look_at_it_stays(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = mapping(tmp_path, "one", 9)
    with pytest.raises(KeyboardInterrupt):
        import_history(settings, open_source(one), now_us=NOW_US, progress=cut)

    def begin_to_write(opened: Settings) -> Ledger:
        monkeypatch.undo()
        import_history(settings, open_source(one), now_us=NOW_US)  # by hand, in another process
        mapping(tmp_path, "one", 4)
        return open_writer(opened)

    monkeypatch.setattr("sentinel.cli.first_run.open_writer", begin_to_write)
    first_run(settings, one).prepare()
    assert entries(settings) == 9


def test_a_later_start_needs_no_data_again(settings: Settings, tmp_path: Path) -> None:
    one, other = mapping(tmp_path, "one", 9), mapping(tmp_path, "other", 5)
    first_run(settings, one).prepare()
    one.unlink()
    again = first_run(settings, None)
    again.check()
    again.prepare()
    assert (again.simulated, entries(settings)) == (False, 9)
    with pytest.raises(WorkspaceError, match=r"`sentinel import .*other.toml --workspace"):
        first_run(settings, other)


def test_a_workspace_with_somebodys_champion_is_told_what_starts_its_services(
    settings: Settings, tmp_path: Path
) -> None:
    """`sentinel up` refused it, and without MLflow the follower said: start it with that."""
    import_history(settings, open_source(mapping(tmp_path, "one", 9)), now_us=NOW_US)
    settings.models_dir.mkdir(parents=True)
    (settings.models_dir / "champion.json").write_text("{}")
    with pytest.raises(WorkspaceError, match="champion that a first run would replace") as refused:
        first_run(settings, None).check()
    said = str(away("http://127.0.0.1:9", OSError("refused")))
    assert "Start it with `sentinel mlflow`" in said
    for command in ("serve", "mlflow", "follow", "monitor", "dashboard"):
        assert f"`sentinel {command}`" in str(refused.value)
