"""Folds of time before a test, on which choices are made: lengths of history, parameters.

The payments of a sample are cut into the latest spans of the test's length. A model for a span is
fitted on what lies a whole label gap before it, as a model that serves is, and nothing of the test
is looked at:

    |<----------------- fit ----------------->|<- gap ->| fold |          test
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sentinel.features.plan.plan import DAY_US, Plan
from sentinel.models.dataset import MIN_FRAUDS, LabelLog, PaymentLog, sample
from sentinel.models.intervals import Counts, Estimate, cluster_codes, resamples
from sentinel.models.ranking import Ranking
from sentinel.models.sampling import thinned
from sentinel.models.splitting import TAIL_SHARE, Split
from sentinel.models.trainers import Validation, train
from sentinel.pipeline.labelled_payments import LabelledPayments
from sentinel.settings import Settings

FOLDS: Final = 3

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Fold = tuple[int, int]
"""Start and end of a span of event time, microseconds; the end is exclusive."""


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


class ValidationFolds:
    """The sample, and what is fitted on and asked of its parts.

    Args:
        settings: Give seed and bootstrap rounds.
        material: The log.
        split: A split of it; its test is not looked at.
        most_rows: Payments of the sample: all frauds, and good ones that stand for the others.
        threads: Cores to use; None for all of this machine.

    Attributes:
        rows: Rows of the log that are in the sample.
        start_us: Where the history begins.
        fold_us: Length of a fold.
    """

    def __init__(
        self,
        settings: Settings,
        material: Material,
        split: Split,
        *,
        most_rows: int,
        threads: int | None = None,
    ) -> None:
        self._settings = settings
        self._material = material
        self._threads = threads
        self.start_us = split.fit.start_us
        self._end = split.tail.end_us
        self._gap = split.gap_us
        self._before_test = split.test.start_us - split.tail.end_us
        everything = sample(
            material.payments,
            material.labels,
            start_us=self.start_us,
            end_us=self._end,
            cutoff_us=split.fit.cutoff_us,
            maturity_us=self._gap,
        )
        stands_for = everything.weight
        keep, weight = thinned(
            everything.fraud, most_rows, seed=settings.training.seed, weight=stands_for
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

    def folds(self) -> list[Fold]:
        """Spans of time to score, the latest first; each leaves more than itself to fit on."""
        found = []
        for number in range(FOLDS):
            end = self._end - number * self.fold_us
            start = end - self.fold_us
            fitted = start - self._before_test - self.start_us
            inside = self._fraud[(self._times >= start) & (self._times < end)]
            before = self._fraud[self._between(self.start_us, self.fit_end((start, end)))]
            if fitted < 2 * self.fold_us or not all(
                MIN_FRAUDS <= rows.sum() < len(rows) for rows in (inside, before)
            ):
                break
            found.append((start, end))
        return found

    def frauds_before(self, end_us: int, start_us: int | None = None) -> int:
        """Frauds of the sample in a span of time; default start: that of the history."""
        start = self.start_us if start_us is None else start_us
        return int(self._fraud[(self._times >= start) & (self._times < end_us)].sum())

    def fit_end(self, fold: Fold) -> int:
        """Where the time ends that a model for a fold is fitted on."""
        return fold[0] - self._before_test

    def score(
        self,
        trainer: str,
        fold: Fold,
        *,
        days: float = 0.0,
        parameters: Mapping[str, Any] | None = None,
        stops_early: bool = False,
    ) -> Floats:
        """Scores of a fold's payments by a model of what lies before it.

        Args:
            trainer: The family.
            fold: One of `folds`.
            days: Days of history to fit on; 0: all there is.
            parameters: Changes to the family's own settings.
            stops_early: Whether the later part of the history says when to stop, as it does in a
                training that counts.
        """
        fit_end = self.fit_end(fold)
        start = fit_end - round(days * DAY_US) if days else self.start_us
        middle = fit_end - round((fit_end - start) * TAIL_SHARE) if stops_early else fit_end
        inside = self._between(start, middle)
        later = self._between(middle, fit_end)
        validation = None
        if all(0 < self._fraud[rows].sum() < len(rows) for rows in (inside, later)):
            validation = Validation(
                X=self._of(later),
                y=self._fraud[later],
                weight=self._counted[later].astype(np.float64),
            )
        else:
            inside = self._between(start, fit_end)
        plan = self._material.plan
        model = train(
            trainer,
            self._of(inside),
            self._fraud[inside],
            feature_names=plan.feature_names,
            categorical=plan.categorical,
            seed=self._settings.training.seed,
            validation=validation,
            weight=self._weight[inside],
            threads=self._threads,
            parameters=parameters,
        )
        return model.raw_score(self._of(self._between(*fold)))

    def average_precision(self, fold: Fold, score: Floats) -> float:
        """Of scores of a fold's payments."""
        places = self._between(*fold)
        ranking = Ranking(self._fraud[places], score)
        counts = self._counted[places].astype(np.int32)[None]
        return float(ranking.totals(counts[:, ranking.order]).average_precision()[0])

    def better_by(
        self, folds: list[Fold], scores: Mapping[Any, Floats]
    ) -> dict[Any, tuple[float, Estimate | None]]:
        """Average precision of each kind of scores over all folds, and by how much it is better.

        Args:
            folds: What is scored.
            scores: Of all folds one after another, by a key; the first key is what the others are
                compared with, paired on the same payments and bootstrapped by card.
        """
        places = np.concatenate([self._between(*fold) for fold in folds])
        card = self._material.payments.card[self.rows[places]]
        cluster, n_clusters = cluster_codes(card)
        weight = self._counted[places]
        fraud = self._fraud[places]
        rankings = {key: Ranking(fraud, given) for key, given in scores.items()}

        def precision(counts: Counts, key: Any) -> Floats:
            ranking = rankings[key]
            drawn = (counts[:, cluster] * weight).astype(np.int32)
            return ranking.totals(drawn[:, ranking.order]).average_precision()

        once = np.ones((1, n_clusters), dtype=np.int32)
        value = {key: float(precision(once, key)[0]) for key in scores}
        first, *others = scores
        options = self._settings.training
        differences: dict[Any, list[Floats]] = {key: [] for key in others}
        for counts in resamples(
            n_clusters, options.bootstrap_rounds, options.seed, n_rows=len(places)
        ):
            usual = precision(counts, first)
            for key, found in differences.items():
                found.append(precision(counts, key) - usual)
        return {first: (value[first], None)} | {
            key: (
                value[key],
                Estimate.of(value[key] - value[first], np.concatenate(differences[key])),
            )
            for key in others
        }

    def _between(self, start_us: int, end_us: int) -> Ints:
        return np.flatnonzero((self._times >= start_us) & (self._times < end_us))

    def _of(self, places: Ints) -> npt.NDArray[np.float32]:
        if self._vectors is None:
            self._vectors = self._material.vectors(self.rows)
        return self._vectors[places]
