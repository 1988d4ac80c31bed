"""How much history to learn from: all that is mature, unless recent data proves better.

Each length is fitted and scored on folds of time before the test, on one sample of the payments
that all lengths share. A shorter one is taken only if its average precision over all folds is
better beyond chance, paired on the same payments and bootstrapped by card; of several the best.

    |<------------------- all ------------------->|<- gap ->| fold |
                          |<------- half -------->|
                                     |<- quarter->|
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from sentinel.features.plan.plan import DAY_US
from sentinel.models.families.installed import trainer_of
from sentinel.models.intervals import Estimate
from sentinel.models.splitting import Split
from sentinel.pipeline.validation_folds import Fold, Material, ValidationFolds
from sentinel.settings import Settings
from sentinel.sources.progress import ProgressCallback, no_progress

SHARES: Final = (0.5, 0.25, 0.125)
"""Lengths that are tried beside all there is, as shares of it."""
MOST_ROWS: Final = 100_000
"""Payments of the sample that every length and fold is cut from."""
MIN_FIT_FRAUDS: Final = 50
"""A length that holds fewer frauds in a fold is not tried."""

Floats = npt.NDArray[np.float64]


class TriedLength(msgspec.Struct, frozen=True):
    """A length of history, and how it did.

    Attributes:
        days: Its length; 0: all there is.
        average_precision: Over all folds.
        better_by: Than all there is, with its interval; None for all there is.
    """

    days: float
    average_precision: float
    better_by: Estimate | None = None


class ChosenWindow(msgspec.Struct, frozen=True, kw_only=True):
    """What a search found.

    Attributes:
        plan_hash: Of the vectors.
        log_through: The last log entry that it looked at.
        days: The length to train on; 0: all there is.
        tried: Every length, all there is first; empty if there was too little to compare.
        folds: How many, each ``fold_days`` long.
        rows: Payments of the sample.
        seconds: How long it took.
    """

    plan_hash: str
    log_through: int
    days: float
    tried: tuple[TriedLength, ...] = ()
    folds: int = 0
    fold_days: float = 0.0
    rows: int = 0
    seconds: float = 0.0

    @property
    def words(self) -> str:
        """What was found, in a sentence."""
        if not self.tried:
            return "All that is mature is trained on: there are too few frauds to compare lengths."
        best = next(one for one in self.tried if one.days == self.days)
        if best.better_by is None:
            others = ", ".join(f"{one.days:.3g}" for one in self.tried[1:])
            return (
                f"All that is mature is trained on: on {self.folds} folds of {self.fold_days:.3g} "
                f"days, the last {others} days alone did not prove better."
            )
        whole = self.tried[0].average_precision
        return (
            f"The last {self.days:.3g} days are trained on: on {self.folds} folds of "
            f"{self.fold_days:.3g} days they gave an average precision of "
            f"{best.average_precision:.3f}, all that is mature {whole:.3f} (difference "
            f"{best.better_by})."
        )

    def differs_from(self, days: float) -> bool:
        """Whether another length was trained on; lengths are shares of a log that grows."""
        if self.days == 0 or days == 0:
            return self.days != days
        return not 0.75 < self.days / days < 1.34


def search_window(
    settings: Settings,
    material: Material,
    split: Split,
    *,
    threads: int | None = None,
    progress: ProgressCallback = no_progress,
) -> ChosenWindow:
    """Compare lengths of history on folds before the test of a split.

    Args:
        settings: Give trainer, seed and bootstrap rounds.
        material: The log.
        split: A split of it that was drawn with all that is mature.
        threads: Default: the cores of this machine.
        progress: Told of the stage "lengths".
    """
    began = time.monotonic()
    nothing = ChosenWindow(plan_hash=material.plan.hash, log_through=material.log_through, days=0.0)
    trainer = trainer_of(settings.training.trainer)
    search = ValidationFolds(settings, material, split, most_rows=MOST_ROWS, threads=threads)
    folds = search.folds()
    if not folds:
        return nothing
    lengths = _lengths(search, folds)
    if len(lengths) < 2:
        return nothing
    scores: dict[float, Floats] = {}
    total = len(lengths) * len(folds)
    for done, days in enumerate(lengths):
        parts = []
        for number, fold in enumerate(folds):
            progress("lengths", done * len(folds) + number, total)
            parts.append(search.score(trainer.name, fold, days=days, parameters=trainer.quick))
        scores[days] = np.concatenate(parts)
    progress("lengths", total, total)
    compared = search.better_by(folds, scores)
    tried = [TriedLength(days, *found) for days, found in compared.items()]
    proven = [one for one in tried if one.better_by is not None and one.better_by.low > 0]
    best = max(proven, key=lambda one: one.average_precision, default=tried[0])
    return msgspec.structs.replace(
        nothing,
        days=best.days,
        tried=tuple(tried),
        folds=len(folds),
        fold_days=search.fold_us / DAY_US,
        rows=len(search.rows),
        seconds=time.monotonic() - began,
    )


def _lengths(search: ValidationFolds, folds: list[Fold]) -> list[float]:
    """Days to try, all there is (0) first."""
    fit_end = search.fit_end(folds[-1])
    whole = fit_end - search.start_us
    if search.frauds_before(fit_end) < MIN_FIT_FRAUDS:
        return []
    return [0.0] + [
        share * whole / DAY_US
        for share in SHARES
        if search.frauds_before(fit_end, round(fit_end - share * whole)) >= MIN_FIT_FRAUDS
    ]


def remember(settings: Settings, chosen: ChosenWindow) -> None:
    """Keep what a search found for the next training."""
    path = _path(settings)
    partial = path.with_suffix(".partial")
    partial.write_bytes(msgspec.json.format(msgspec.json.encode(chosen), indent=2))
    partial.replace(path)


def remembered(settings: Settings, plan_hash: str) -> ChosenWindow | None:
    """What the last search over vectors of a plan found; None if there was none."""
    try:
        chosen = msgspec.json.decode(_path(settings).read_bytes(), type=ChosenWindow)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    return chosen if chosen.plan_hash == plan_hash else None


def _path(settings: Settings) -> Path:
    return settings.workspace / "training_window.json"
