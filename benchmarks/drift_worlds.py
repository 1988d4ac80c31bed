"""Worlds whose payments drift in a known way, for the benchmark `drift_labels`.

A payment has eight numbers that a model sees. Its probability of fraud is a known function of them,
with interactions; one draw of luck decides all payments that a card makes in a day, so that frauds
come together, and no two days are alike. A model is fitted and calibrated on a world before
anything moves, as the product does it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import lightgbm
import numpy as np
import numpy.typing as npt

from sentinel.drift.score_table import KnownPayments
from sentinel.models.calibration import Calibration, fit_calibration

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Shift = Literal["none", "covariate", "label", "concept"]

FEATURES: Final = 8
CARD_PAYMENTS: Final = 3
"""Payments of a card in a day, about."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """Payments of a world: (n, ...) each."""

    x: Floats
    fraud: Bools
    day: Ints


@dataclass(frozen=True, eq=False)
class World:
    """Where payments come from.

    Attributes:
        seed: Names it.
        weights: float64 (FEATURES,), how a payment's numbers make it suspicious.
        level: Log-odds of fraud at zero.
        towards: float64 (FEATURES,), where a covariate shift goes.
    """

    seed: int
    weights: Floats
    level: float
    towards: Floats

    @classmethod
    def of(cls, seed: int) -> World:
        """A world."""
        random = np.random.default_rng([seed, 0])
        weights = random.normal(0.0, 0.9, FEATURES)
        towards = random.normal(0.0, 1.0, FEATURES)
        return cls(seed, weights, random.uniform(-8.0, -7.0), towards / np.linalg.norm(towards))

    def probability(self, x: Floats, concept: float = 0.0) -> Floats:
        """The probability of fraud.

        Args:
            x: float64 (n, FEATURES).
            concept: How far what fraud looks like has moved; 1 = the two strongest signs have gone
                and two others are signs now.
        """
        order = np.argsort(-np.abs(self.weights))
        weights = self.weights.copy()
        weights[order[:2]] *= 1.0 - concept
        weights[order[-2:]] += 1.5 * concept
        both = 0.8 * (x[:, order[0]] > 1.0) * (x[:, order[2]] > 0.0)
        curved = 0.5 * np.abs(x[:, order[1]])
        return 1.0 / (1.0 + np.exp(-(self.level + x @ weights + 2.0 * both + curved)))

    def rows(
        self, part: int, days: int, per_day: int, *, shift: Shift = "none", size: float = 0.0
    ) -> Rows:
        """Payments.

        Args:
            part: Other parts of a world have other payments.
            days, per_day: How many.
            shift, size: What has moved, and how far: of a covariate shift standard deviations of
                the numbers, of a label shift the factor of fraud's odds as a logarithm to base 2.
        """
        random = np.random.default_rng([self.seed, part])
        more = 6 if shift == "label" else 1
        n = days * per_day * more
        day = np.arange(n) // (per_day * more)
        mood = random.normal(0.0, 0.12, (days, FEATURES))
        x = random.normal(0.0, 1.0, (n, FEATURES)) + mood[day]
        x[:, 0] = np.exp(0.6 * x[:, 0]) - 1.2
        x[:, 1] = np.round(2.0 * x[:, 1]) / 2.0
        if shift == "covariate":
            x += size * self.towards
        p = self.probability(x, size if shift == "concept" else 0.0)
        # A card's payments of a day share their luck; its payments are neighbours.
        card = np.arange(n) // CARD_PAYMENTS
        fraud = random.random(int(card[-1]) + 1)[card] < p
        if shift != "label":
            return Rows(x=x, fraud=fraud, day=day)
        # Frauds and good payments are taken from many so that their ratio moves and nothing else.
        rate, odds = fraud.mean(), 2.0**size
        weight = np.where(fraud, odds, 1.0) / (odds * rate + 1.0 - rate)
        taken = random.random(n) < weight / more
        return Rows(x=x[taken], fraud=fraud[taken], day=day[taken])


@dataclass(frozen=True, eq=False)
class Model:
    """A model of a world, calibrated on held-out payments."""

    trees: lightgbm.Booster
    calibration: Calibration

    @classmethod
    def fitted(cls, fit: Rows, held_out: Rows) -> Model:
        """A model as the product fits one."""
        trees = lightgbm.train(
            {
                "objective": "binary",
                "num_leaves": 15,
                "learning_rate": 0.08,
                "min_data_in_leaf": 40,
                "num_threads": 1,
                "verbosity": -1,
                "seed": 1,
            },
            lightgbm.Dataset(fit.x, fit.fraud.astype(np.float64)),
            num_boost_round=80,
        )
        raw = np.asarray(trees.predict(held_out.x, raw_score=True), np.float64)
        return cls(trees, fit_calibration(raw, held_out.fraud))

    def known(self, rows: Rows, weight: Floats | None = None) -> KnownPayments:
        """Payments with the model's probabilities."""
        raw = np.asarray(self.trees.predict(rows.x, raw_score=True), np.float64)
        return KnownPayments(
            probability=self.calibration.apply(raw),
            day=rows.day,
            fraud=rows.fraud,
            weight=np.ones(len(rows.fraud)) if weight is None else weight,
        )
