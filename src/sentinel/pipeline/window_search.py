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
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from sentinel.features.plan.plan import DAY_US, Plan
from sentinel.models.dataset import MIN_FRAUDS, LabelLog, PaymentLog, sample
from sentinel.models.families.installed import trainer_of
from sentinel.models.intervals import Counts, Estimate, cluster_codes, resamples
from sentinel.models.ranking import Ranking
from sentinel.models.sampling import thinned
from sentinel.models.splitting import Split
from sentinel.models.trainers import train
from sentinel.pipeline.labelled_payments import LabelledPayments
from sentinel.settings import Settings
from sentinel.sources.progress import ProgressCallback, no_progress

SHARES: Final = (0.5, 0.25, 0.125)
"""Lengths that are tried beside all there is, as shares of it."""
FOLDS: Final = 3
MOST_ROWS: Final = 100_000
"""Payments of the sample that every length and fold is cut from."""
MIN_FIT_FRAUDS: Final = 50
"""A length that holds fewer frauds in a fold is not tried."""

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


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


@dataclass(frozen=True, eq=False)
class Material:
    """What is compared on.

    Attributes:
        plan: Of the vectors.
        payments, labels: The log.
        vectors: From rows of payments, rising, to float32 (n, n_features).
        log_through: The last log entry that was looked at.
    """

    plan: Plan
    payments: PaymentLog
    labels: LabelLog
    vectors: Callable[[Ints], npt.NDArray[np.float32]]
    log_through: int = 0

    @classmethod
    def of(cls, known: LabelledPayments) -> Material:
        """The log and its vectors."""
        through = known.parts.manifest.sequence
        return cls(known.plan, known.payments, known.labels, known.vectors, through)


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
    search = _Search(settings, material, split, threads)
    folds = search.folds()
    if not folds:
        return nothing
    lengths = search.lengths(folds)
    if len(lengths) < 2:
        return nothing
    scores: dict[float, Floats] = {}
    total = len(lengths) * len(folds)
    for done, days in enumerate(lengths):
        parts = []
        for number, fold in enumerate(folds):
            progress("lengths", done * len(folds) + number, total)
            parts.append(search.score(days, fold))
        scores[days] = np.concatenate(parts)
    progress("lengths", total, total)
    tried = search.compared(folds, scores)
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


class _Search:
    """The sample, and what is fitted on and asked of its parts."""

    def __init__(
        self, settings: Settings, material: Material, split: Split, threads: int | None
    ) -> None:
        self._settings = settings
        self._material = material
        self._threads = threads
        self._start = split.fit.start_us
        self._end = split.tail.end_us
        self._gap = split.gap_us
        self._before_test = split.test.start_us - split.tail.end_us
        everything = sample(
            material.payments,
            material.labels,
            start_us=self._start,
            end_us=self._end,
            cutoff_us=split.fit.cutoff_us,
            maturity_us=self._gap,
        )
        stands_for = everything.weight
        keep, weight = thinned(
            everything.fraud, MOST_ROWS, seed=settings.training.seed, weight=stands_for
        )
        self.rows: Ints = everything.rows[keep]
        self._fraud = everything.fraud[keep]
        # Whole numbers, so that a bootstrap can count them. What is compared on counts each payment
        # of the control group once: its weight would let a few of them decide.
        self._counted: Ints = np.rint(weight / stands_for[keep]).astype(np.int64)
        self._weight: Floats = self._counted * stands_for[keep]
        self._times = material.payments.event_time_us[self.rows]
        self.fold_us = max(split.test.end_us - split.test.start_us, 1)
        self._vectors: npt.NDArray[np.float32] | None = None

    def folds(self) -> list[tuple[int, int]]:
        """Spans of time to score, the latest first; each leaves more than itself to fit on."""
        found = []
        for number in range(FOLDS):
            end = self._end - number * self.fold_us
            start = end - self.fold_us
            fitted = start - self._before_test - self._start
            inside = self._fraud[(self._times >= start) & (self._times < end)]
            if fitted < 2 * self.fold_us or not MIN_FRAUDS <= inside.sum() < len(inside):
                break
            found.append((start, end))
        return found

    def lengths(self, folds: list[tuple[int, int]]) -> list[float]:
        """Days to try, all there is (0) first."""
        fit_end = folds[-1][0] - self._before_test
        whole = fit_end - self._start
        found = [0.0]
        for share in SHARES:
            inside = (self._times >= fit_end - share * whole) & (self._times < fit_end)
            if int(self._fraud[inside].sum()) >= MIN_FIT_FRAUDS:
                found.append(share * whole / DAY_US)
        return found if int(self._fraud[self._times < fit_end].sum()) >= MIN_FIT_FRAUDS else []

    def score(self, days: float, fold: tuple[int, int]) -> Floats:
        """Scores of a fold's payments by a model of so many days before it."""
        fit_end = fold[0] - self._before_test
        start = fit_end - round(days * DAY_US) if days else self._start
        inside = np.flatnonzero((self._times >= start) & (self._times < fit_end))
        plan = self._material.plan
        model = train(
            self._settings.training.trainer,
            self._of(inside),
            self._fraud[inside],
            feature_names=plan.feature_names,
            categorical=plan.categorical,
            seed=self._settings.training.seed,
            weight=self._weight[inside],
            threads=self._threads,
            parameters=trainer_of(self._settings.training.trainer).quick,
        )
        return model.raw_score(self._of(self._places(fold)))

    def compared(
        self, folds: list[tuple[int, int]], scores: dict[float, Floats]
    ) -> list[TriedLength]:
        """Average precision of each length over all folds, and how much better than all it is."""
        places = np.concatenate([self._places(fold) for fold in folds])
        card = self._material.payments.card[self.rows[places]]
        cluster, n_clusters = cluster_codes(card)
        weight = self._counted[places]
        fraud = self._fraud[places]
        rankings = {days: Ranking(fraud, given) for days, given in scores.items()}

        def precision(counts: Counts, days: float) -> Floats:
            ranking = rankings[days]
            drawn = (counts[:, cluster] * weight).astype(np.int32)
            return ranking.totals(drawn[:, ranking.order]).average_precision()

        once = np.ones((1, n_clusters), dtype=np.int32)
        value = {days: float(precision(once, days)[0]) for days in scores}
        options = self._settings.training
        differences: dict[float, list[Floats]] = {days: [] for days in scores if days}
        for counts in resamples(
            n_clusters, options.bootstrap_rounds, options.seed, n_rows=len(places)
        ):
            whole = precision(counts, 0.0)
            for days, found in differences.items():
                found.append(precision(counts, days) - whole)
        return [
            TriedLength(
                days,
                value[days],
                Estimate.of(value[days] - value[0.0], np.concatenate(differences[days]))
                if days
                else None,
            )
            for days in scores
        ]

    def _places(self, fold: tuple[int, int]) -> Ints:
        return np.flatnonzero((self._times >= fold[0]) & (self._times < fold[1]))

    def _of(self, places: Ints) -> npt.NDArray[np.float32]:
        if self._vectors is None:
            self._vectors = self._material.vectors(self.rows)
        return self._vectors[places]


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
