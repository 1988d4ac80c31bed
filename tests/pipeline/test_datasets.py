"""A dataset on disk is what was built, and says so if it is not."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest

from sentinel.domain import WorkspaceError
from sentinel.pipeline.dataset_folder import (
    KEPT,
    forget_partial,
    load_dataset,
    write_dataset,
)
from sentinel.pipeline.datasets import build_dataset, dataset_of, split_of
from sentinel.pipeline.labelled_payments import labelled_payments
from sentinel.pipeline.served_vectors import Overridden
from sentinel.settings import Settings


def with_window(settings: Settings, days: float) -> Settings:
    training = settings.training.model_copy(update={"window_days": days})
    return settings.model_copy(update={"training": training})


def test_what_is_read_is_what_the_log_says(workspace: Settings) -> None:
    built = build_dataset(workspace)
    data = load_dataset(built.folder)
    assert data.manifest == built.manifest
    known = labelled_payments(workspace)
    about = built.manifest
    assert about.plan_hash == known.plan.hash == data.plan.hash
    assert about.log_through == known.parts.manifest.sequence
    for span, rows in ((about.fit, data.fit), (about.tail, data.tail), (about.test, data.test)):
        assert len(rows.X) == len(rows.fraud) == span.rows > 0
        assert rows.fraud.sum() == span.frauds > 0
        assert rows.event_time_us.min() >= span.start_us
        assert rows.event_time_us.max() < span.end_us
    places = np.flatnonzero(np.isin(known.payments.event_time_us, data.test.event_time_us))
    np.testing.assert_array_equal(known.vectors(places), data.test.X)


def test_any_tool_can_open_it(workspace: Settings) -> None:
    built = build_dataset(workspace)
    table = pq.read_table(built.folder / "fit.parquet")
    assert {"fraud", "event_time_us", "amount_minor", "card_count_1d"} <= set(table.column_names)


def test_the_same_data_are_the_same_dataset(workspace: Settings) -> None:
    first = build_dataset(workspace)
    assert build_dataset(workspace) == first
    other = build_dataset(with_window(workspace, 30))
    assert other.manifest.name != first.manifest.name
    assert other.manifest.fit.rows < first.manifest.fit.rows


def test_only_the_newest_are_kept(workspace: Settings) -> None:
    built = [build_dataset(with_window(workspace, 30 + n)) for n in range(KEPT + 1)]
    assert [one.folder.exists() for one in built] == [False] + [True] * KEPT
    assert len(list(built[0].folder.parent.iterdir())) == KEPT


def test_a_dataset_that_was_changed_is_not_used(workspace: Settings) -> None:
    folder = build_dataset(workspace).folder
    table = pq.read_table(folder / "tail.parquet")
    pq.write_table(table.slice(1), folder / "tail.parquet")
    with pytest.raises(WorkspaceError, match="not what it was"):
        load_dataset(folder)
    (folder / "tail.parquet").write_bytes(b"nothing")
    with pytest.raises(WorkspaceError, match="cannot be read"):
        load_dataset(folder)
    (folder / "tail.parquet").unlink()
    with pytest.raises(WorkspaceError, match="no dataset"):
        load_dataset(folder)


def test_a_test_that_is_too_long_for_the_log_gives_way_and_says_so(workspace: Settings) -> None:
    training = workspace.training.model_copy(update={"test_days": 140, "max_rows": 2_000})
    built = build_dataset(workspace.model_copy(update={"training": training}))
    assert any("instead of 140 days (training.test_days)" in note for note in built.manifest.notes)
    assert built.manifest.test.frauds > 0
    assert any("Fitted on 2,000 of " in note for note in built.manifest.notes)
    data = load_dataset(built.folder)
    assert data.fit.weight is not None
    assert data.fit.weight.sum() == pytest.approx(built.manifest.fit.rows)
    assert data.fit.fraud.sum() == built.manifest.fit.frauds


def test_features_without_a_value_are_named(workspace: Settings) -> None:
    known = labelled_payments(workspace)
    names = known.plan.feature_names
    split = split_of(workspace, known, None)

    def notes_without(*lacking: str) -> list[str]:
        def vectors(rows: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.float32], Overridden]:
            X = known.vectors(rows).copy()
            X[:, [names.index(name) for name in lacking]] = np.nan
            return X, Overridden()

        data = dataset_of(workspace, known, split, log_through=1, vectors=vectors)
        return [note for note in data.manifest.notes if "unknown in every payment" in note]

    (own,) = notes_without()  # the world's payments have none of these
    assert own.startswith(f"5 of {len(names)} features are unknown in every payment")
    (two,) = notes_without("card_count_1d", "amount")
    assert two.startswith(f"7 of {len(names)} features")
    assert {"card_count_1d", "amount"} <= {
        name.strip() for name in two.partition(": ")[2].split(",")
    }
    (many,) = notes_without(*names[:13])
    assert " more. The payments lack" in many


def test_a_dataset_of_the_format_before_is_read(workspace: Settings) -> None:
    built = build_dataset(workspace)
    path = built.folder / "manifest.json"
    before = msgspec.json.decode(path.read_bytes())
    for name in ("fit", "tail", "test"):
        for added in ("effective_rows", "effective_frauds", "clipped_mass"):
            del before[name][added]
    path.write_bytes(msgspec.json.encode(before | {"format": 1}))
    data = load_dataset(built.folder)
    assert data.manifest.test == built.manifest.test
    assert (data.fit.weight, data.tail.weight, data.test.weight) == (None, None, None)
    path.write_bytes(msgspec.json.encode(before | {"format": 99}))
    with pytest.raises(WorkspaceError, match="not what it was"):
        load_dataset(built.folder)


def test_two_trainings_at_once_build_one_dataset(tmp_path: Path) -> None:
    folder, manifest = tmp_path / "datasets" / "d", cast(Any, {})

    class SlowPlan:
        feature_names = ()
        others = 1

        def save(self, path: Path) -> None:
            path.write_text("{}")
            if self.others:
                self.others -= 1
                write_dataset(folder, cast(Any, self), {}, manifest)

    write_dataset(folder, cast(Any, SlowPlan()), {}, manifest)
    assert [path.name for path in folder.parent.iterdir()] == ["d"]
    assert (folder / "manifest.json").exists()


def test_what_killed_trainings_left_is_deleted_after_a_day(tmp_path: Path) -> None:
    for name, age in (("partial-old", 90_000), ("partial-new", 60), ("d", 90_000)):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    forget_partial(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"partial-new", "d"}
