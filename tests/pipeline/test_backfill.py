from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sentinel.domain import DefinitionError, WorkspaceError
from sentinel.features.plan.plan import Plan
from sentinel.features.plan.program import compile_program
from sentinel.ledger.log import append_import, read_log
from sentinel.pipeline.apply import apply_definitions
from sentinel.pipeline.backfill import backfill
from sentinel.pipeline.feature_parts import FeatureParts
from sentinel.pipeline.fold_memory import KEPT_FREE, free_memory
from sentinel.pipeline.verify import verify
from sentinel.pipeline.workspace import ledger_reader, ledger_writer
from sentinel.settings import Settings
from sentinel.state.budget import process_memory
from sentinel.state.embedded import restore


def vectors(parts: FeatureParts) -> pa.Table:
    return pa.concat_tables(parts.tables())


def same(one: pa.Table, other: pa.Table) -> bool:
    """Equal bit for bit, NaN included."""
    return one.num_rows == other.num_rows and all(
        a.to_numpy().tobytes() == b.to_numpy().tobytes()
        if pa.types.is_floating(a.type)
        else a.equals(b)
        for a, b in zip(one.combine_chunks().columns, other.combine_chunks().columns, strict=True)
    )


def test_nothing_changed_compiles_nothing(workspace: Settings) -> None:
    script = (
        "import sys, pathlib\n"
        "from sentinel.settings import Settings\n"
        "from sentinel.pipeline.apply import apply_definitions\n"
        f"workspace = pathlib.Path({str(workspace.workspace)!r})\n"
        f"repository = pathlib.Path({str(workspace.feature_store)!r})\n"
        "settings = Settings(workspace=workspace, feature_store=repository)\n"
        "print(apply_definitions(settings).changed, 'feast' in sys.modules)\n"
    )
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert output.stdout.split() == ["False", "False"], output.stderr


def test_a_category_keeps_its_code(workspace: Settings, tmp_path: Path) -> None:
    before = Plan.load(workspace.plan_path)
    with ledger_reader(workspace) as ledger:
        _, batch = next(read_log(ledger, max_rows=2_000))
    at = batch.schema.get_field_index("attributes.channel")
    other = pa.array(["hologram"] * batch.num_rows, pa.string())
    ids = pa.array([f"new-{i}" for i in range(batch.num_rows)], pa.string())
    batch = batch.set_column(at, "attributes.channel", other)
    place = batch.schema.get_field_index("transaction_id")
    batch = batch.set_column(place, batch.schema.field(place), ids)
    with ledger_writer(workspace) as ledger:
        append_import(ledger, batch)
    repository = tmp_path / "feature_store"
    shutil.copytree(workspace.feature_store, repository)
    edited = workspace.model_copy(update={"feature_store": repository})
    with (repository / "definitions.py").open("a") as definitions:
        definitions.write("\n# Another line, the same features.\n")
    assert apply_definitions(edited).plan == before
    relearned = apply_definitions(edited, relearn=True)
    assert relearned.changed
    (channel,) = (f for f in relearned.plan.request if f.column == "channel")
    assert "hologram" in channel.categories


def test_a_folder_without_definitions_is_named(workspace: Settings, tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match="no feature definitions in"):
        apply_definitions(workspace.model_copy(update={"feature_store": tmp_path / "nowhere"}))


def test_backfilled_vectors_are_what_serving_computes(workspace: Settings) -> None:
    done = backfill(workspace, part_rows=9_000)
    assert len(done.parts.manifest.parts) > 2
    result = verify(workspace)
    assert (result.mismatches, result.rows) == (0, done.new_rows)
    assert result.features == len(Plan.load(workspace.plan_path).feature_names)
    program = compile_program(Plan.load(workspace.plan_path))
    state = restore(program, workspace.state_dir)
    assert state.sequence == done.sequence
    assert len(state.known) == done.new_rows


def test_a_changed_value_is_found(workspace: Settings) -> None:
    done = backfill(workspace)
    path = done.parts.paths[0]
    table = pq.read_table(path)
    at = table.schema.get_field_index("card_count_1d")
    counts = table.column(at).to_numpy().copy()
    counts[777] = np.nextafter(counts[777], np.float32(np.inf))
    pq.write_table(table.set_column(at, "card_count_1d", pa.array(counts)), path)
    result = verify(workspace)
    assert result.mismatches == 1
    (example,) = result.examples
    assert example.feature == "card_count_1d"
    assert example.transaction_id == table.column("transaction_id")[777].as_py()


def test_an_increment_continues_where_the_last_one_ended(
    workspace: Settings, tmp_path: Path
) -> None:
    """Also where later labels are about payments that were folded before."""
    shorter = workspace.model_copy(update={"workspace": tmp_path / "shorter"})
    with ledger_reader(workspace) as ledger:
        batches = [batch for _, batch in read_log(ledger, max_rows=5_000)]
    shorter.plan_path.parent.mkdir()
    shutil.copy(workspace.plan_path, shorter.plan_path)
    for batch in batches:
        with ledger_writer(shorter) as ledger:
            append_import(ledger, batch)
        step = backfill(shorter)
    again = backfill(shorter)
    assert (again.new_rows, again.sequence) == (0, step.sequence)
    assert same(vectors(again.parts), vectors(backfill(workspace).parts))
    assert verify(shorter).agree


def test_records_without_room_in_memory_are_told_of_before_they_are_made(
    workspace: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert 0 < free_memory() <= process_memory()
    little = int(KEPT_FREE * process_memory()) + 1_000_000
    for module in ("backfill", "verify"):
        monkeypatch.setattr(f"sentinel.pipeline.{module}.free_memory", lambda: little)
    with pytest.raises(DefinitionError) as refused:
        backfill(workspace)
    said = str(refused.value)
    assert re.search(r"The view '\w+' takes the most: [\d,]+ entities so far, [\d,]+ bytes", said)
    assert "fewer windows or longer hops" in said
    monkeypatch.undo()
    whole = backfill(workspace)
    assert whole.new_rows > 0
    monkeypatch.setattr("sentinel.pipeline.verify.free_memory", lambda: little)
    with pytest.raises(DefinitionError, match="need more memory than there is"):
        verify(workspace)


def test_a_backfill_that_was_killed_goes_on(workspace: Settings) -> None:
    whole = backfill(workspace)
    expected = vectors(whole.parts)
    shutil.rmtree(workspace.offline_dir)
    script = (
        "import sys, pathlib, time\n"
        "from sentinel.settings import Settings\n"
        "from sentinel.pipeline.backfill import backfill\n"
        f"settings = Settings(workspace=pathlib.Path({str(workspace.workspace)!r}))\n"
        "backfill(settings, part_rows=4_000, progress=lambda *_: time.sleep(0.2))\n"
    )
    killed = subprocess.Popen([sys.executable, "-c", script])
    folder = whole.parts.folder
    deadline = time.monotonic() + 300
    while len(list(folder.glob("part-*.parquet"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    half = FeatureParts.open(workspace, whole.parts.manifest.plan_hash).manifest
    assert 0 < half.rows < expected.num_rows
    (folder / "part-00000000000000000099.parquet.partial").write_bytes(b"half")
    done = backfill(workspace)
    assert done.new_rows == expected.num_rows - half.rows
    assert same(vectors(done.parts), expected)
    assert not list(folder.glob("*.partial"))


def test_dear_checkpoints_are_rare(workspace: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state of all entities is not written after each part once that takes long."""
    monkeypatch.setattr("sentinel.pipeline.backfill._CHEAP_CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr("sentinel.pipeline.backfill._WORK_PER_CHECKPOINT", 1e9)
    plan = Plan.load(workspace.plan_path)
    committed = set()

    def note(stage: str, _done: int, _of: int | None) -> None:
        if stage == "backfill":
            committed.add(FeatureParts.open(workspace, plan.hash).manifest.sequence)

    done = backfill(workspace, rebuild=True, part_rows=2_000, progress=note)
    assert len(done.parts.manifest.parts) > 3
    # One after the first part; the last comes when there is no more progress to tell of.
    assert len(committed - {0}) == 1
    assert all(path.exists() for path in done.parts.paths)
    monkeypatch.undo()
    often = backfill(workspace, rebuild=True, part_rows=2_000)
    assert same(vectors(often.parts), vectors(done.parts))


def test_a_log_that_was_begun_anew_is_told_from_the_old_one(
    workspace: Settings, tmp_path: Path
) -> None:
    backfill(workspace)
    with ledger_reader(workspace) as ledger:
        batches = [batch for _, batch in read_log(ledger, max_rows=3_000)]
    for path in workspace.workspace.glob("ledger.db*"):
        path.unlink()
    with ledger_writer(workspace) as ledger:
        append_import(ledger, batches[1])
    done = backfill(workspace)
    assert done.sequence == batches[1].num_rows
    assert done.snapshot.stem == f"{done.sequence:020d}"
    assert [path.stem for path in done.snapshot.parent.iterdir()] == [done.snapshot.stem]
    assert verify(workspace).agree
    assert backfill(workspace).new_rows == 0


def test_a_torn_checkpoint_costs_a_backfill_and_no_more(workspace: Settings) -> None:
    whole = backfill(workspace, part_rows=9_000)
    (newest, *_) = sorted((whole.parts.folder / "checkpoint").rglob("*.snapshot"), reverse=True)
    newest.write_bytes(newest.read_bytes()[:-100])
    with ledger_reader(workspace) as ledger:
        _, batch = next(read_log(ledger, max_rows=10))
    at = batch.schema.get_field_index("transaction_id")
    ids = pa.array([f"later-{i}" for i in range(batch.num_rows)], pa.string())
    batch = batch.set_column(at, batch.schema.field(at), ids)
    with ledger_writer(workspace) as ledger:
        append_import(ledger, batch)
    done = backfill(workspace, part_rows=9_000)
    assert done.parts.manifest.rows == whole.parts.manifest.rows + batch.num_rows
    assert verify(workspace).agree


def test_two_backfills_of_a_plan_do_not_meet(workspace: Settings) -> None:
    def again(stage: str, done: int, total: int | None) -> None:
        with pytest.raises(WorkspaceError, match="Another process is doing the same"):
            backfill(workspace)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backfill(workspace, progress=again)


def test_verify_needs_something_to_verify(workspace: Settings) -> None:
    with pytest.raises(WorkspaceError, match="sentinel features backfill"):
        verify(workspace)
