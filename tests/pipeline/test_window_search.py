"""The length of history: all there is, unless recent data proves better."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sentinel.features.plan.parts import RequestFeature
from sentinel.features.plan.plan import DAY_US, Plan
from sentinel.models.dataset import LabelLog, PaymentLog
from sentinel.models.splitting import SplitRequest, split_by_time
from sentinel.pipeline.validation_folds import Material
from sentinel.pipeline.window_search import (
    ChosenWindow,
    remember,
    remembered,
    search_window,
)
from sentinel.settings import Settings, TrainingSettings

PLAN = Plan(
    views=(),
    request=(
        RequestFeature(name="a", kind="number", column="a"),
        RequestFeature(name="b", kind="number", column="b"),
    ),
)
DAYS = 400


def world(rows: int, *, changes_on_day: float, seed: int = 3) -> Material:
    """Frauds are told by a high ``a``; from a day on by a low one."""
    random = np.random.default_rng(seed)
    times = np.sort(random.random(rows) * DAYS * DAY_US).astype(np.int64)
    X = random.normal(size=(rows, 2)).astype(np.float32)
    sign = np.where(times < changes_on_day * DAY_US, 1.0, -1.0)
    margin = -5.0 + 2.0 * sign * X[:, 0] + X[:, 1]
    fraud = np.flatnonzero(random.random(rows) < 1.0 / (1.0 + np.exp(-margin)))
    payments = PaymentLog(
        event_time_us=times,
        received_at_us=times,
        amount_minor=np.full(rows, 100),
        card=random.integers(0, rows // 10, rows),
    )
    labels = LabelLog(
        row=fraud, fraud=np.ones(len(fraud), dtype=np.bool_), received_at_us=times[fraud]
    )

    def vectors(places: NDArray[np.int64]) -> NDArray[np.float32]:
        return X[places]

    return Material(PLAN, payments, labels, vectors)


def searched(material: Material, settings: Settings | None = None) -> ChosenWindow:
    spans = SplitRequest(
        now_us=DAYS * DAY_US, window_us=None, test_us=14 * DAY_US, maturity_us=5 * DAY_US
    )
    split = split_by_time(material.payments, material.labels, spans)
    given = settings or Settings(training=TrainingSettings(bootstrap_rounds=100))
    return search_window(given, material, split, threads=1)


def test_all_there_is_stays_where_the_world_stays() -> None:
    chosen = searched(world(20_000, changes_on_day=DAYS))
    assert chosen.days == 0
    assert len(chosen.tried) == 4
    assert chosen.folds == 3
    assert "did not prove better" in chosen.words


def test_recent_data_is_taken_once_it_proves_better() -> None:
    chosen = searched(world(20_000, changes_on_day=200))
    assert 0 < chosen.days < 200
    best = next(one for one in chosen.tried if one.days == chosen.days)
    assert best.better_by is not None
    assert best.better_by.low > 0
    assert best.average_precision > chosen.tried[0].average_precision
    assert f"The last {chosen.days:.3g} days" in chosen.words


def test_too_few_frauds_leave_all_there_is() -> None:
    chosen = searched(world(1_500, changes_on_day=DAYS))
    assert (chosen.days, chosen.tried) == (0, ())
    assert "too few frauds to compare" in chosen.words


def test_the_same_log_gives_the_same_choice(tmp_path: Path) -> None:
    settings = Settings(workspace=tmp_path, training=TrainingSettings(bootstrap_rounds=60))
    material = world(6_000, changes_on_day=250)
    first, second = (searched(material, settings) for _ in range(2))
    assert first.tried == second.tried
    assert first.tried
    remember(settings, first)
    assert remembered(settings, PLAN.hash) == first
    assert remembered(settings, "another plan") is None


@pytest.mark.parametrize("content", [b"", b"{}", b"nothing"])
def test_a_damaged_memory_is_no_memory(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "training_window.json").write_bytes(content)
    assert remembered(Settings(workspace=tmp_path), PLAN.hash) is None
