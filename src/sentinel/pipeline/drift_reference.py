"""The reference of a model that was just trained: what its payments looked like.

The rows are those that the measured model was not fitted on, where they span four weeks or more:
its scores of them are as those of new payments will be. Where they span less, all rows are taken,
and scores of rows that a model has seen lie a little further apart than those of new payments.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from sentinel.drift.bins import SCORE, freeze_bins
from sentinel.drift.counting import count_cells
from sentinel.drift.reference import DriftReference, freeze_reference
from sentinel.drift.segments import default_segments, members
from sentinel.features.plan.plan import DAY_US, Plan
from sentinel.pipeline.dataset_folder import Dataset, Rows
from sentinel.pipeline.fitting import Result
from sentinel.settings import Settings

UNSEEN_DAYS: Final = 28
"""Days of rows that the model was not fitted on that are enough by themselves."""

MOST_ROWS: Final = 1_000_000
"""Payments of a reference, the latest ones; a payment that stands for several may be in twice."""

_HOUR_US: Final = 3_600_000_000


def reference_of(settings: Settings, data: Dataset, result: Result) -> DriftReference | None:
    """Freeze the reference of a model.

    Args:
        settings: Give the bins, and the days that count.
        data: What the model was fitted and measured on.
        result: The measured model. A refit of it has the same reference: its probabilities are
            equated with those of this one.

    Returns:
        The reference; None if there are no rows.
    """
    parts = [part for part in (data.tail, data.test) if len(part.X)]
    if not parts or _days(parts) < UNSEEN_DAYS:
        parts = [part for part in (data.fit, data.tail, data.test) if len(part.X)]
    if not parts:
        return None
    newest = max(int(part.event_time_us.max()) for part in parts)
    after = newest - settings.drift.reference_days * DAY_US
    times = np.concatenate([part.event_time_us for part in parts])
    weight = np.concatenate(
        [np.ones(len(part.X)) if part.weight is None else part.weight for part in parts]
    )
    order = np.argsort(times, kind="stable")
    rows = order[times[order] >= after][-MOST_ROWS:]
    rows = _stand_for(rows, weight, seed=settings.training.seed)
    X, hours = _vectors(parts, rows), times[rows] // _HOUR_US
    score = result.calibration.apply(result.model.raw_score(X)).astype(np.float32)
    X = np.column_stack((X, score))
    names = (*data.plan.feature_names, SCORE)
    dictionaries = {f.name: f.categories for f in data.plan.request if f.kind == "category"}
    bins = freeze_bins(
        X,
        names,
        categorical=data.plan.categorical,
        dictionaries=dictionaries,
        definitions=definitions_of(data.plan),
        cells=settings.drift.bins,
    )
    segments = default_segments(
        X,
        names,
        amount=next((f.name for f in data.plan.request if f.kind == "amount"), None),
        categories=data.plan.categorical,
        dictionaries=dictionaries,
    )
    belongs = members(segments, X, names)
    present, starts = np.unique(hours, return_index=True)
    counts = np.zeros((len(present), len(segments), bins.cells), np.uint32)
    for at, (start, end) in enumerate(zip(starts, [*starts[1:], len(hours)], strict=True)):
        count_cells(bins, X[start:end], belongs[start:end], counts[at])
    return freeze_reference(bins, segments, present, counts)


def definitions_of(plan: Plan) -> tuple[str, ...]:
    """A hash of each feature's definition without its words, in vector order."""
    told = plan.unworded
    defined = (
        *((view.name, view.keys, one) for view in told.views for one in view.aggregates),
        *told.request,
        *told.ratios,
    )
    return tuple(
        hashlib.sha256(msgspec.json.encode(one, order="sorted")).hexdigest()[:16] for one in defined
    )


def _vectors(parts: Sequence[Rows], rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Rows of the parts as if they were one; rows that are not wanted are not copied."""
    X = np.empty((len(rows), parts[0].X.shape[1]), np.float32)
    first = 0
    for part in parts:
        here = (rows >= first) & (rows < first + len(part.X))
        X[here] = part.X[rows[here] - first]
        first += len(part.X)
    return X


def _days(parts: Sequence[Rows]) -> float:
    first = min(int(part.event_time_us.min()) for part in parts)
    last = max(int(part.event_time_us.max()) for part in parts)
    return (last - first) / DAY_US


def _stand_for(
    rows: npt.NDArray[np.int64], weight: npt.NDArray[np.float64], *, seed: int
) -> npt.NDArray[np.int64]:
    """Rows as often as they count: those of the usual weight once, others by chance in between."""
    often = weight[rows] / np.median(weight[rows])
    drawn = np.random.default_rng(seed).random(len(rows))
    return np.repeat(rows, np.floor(often + drawn).astype(np.int64))
