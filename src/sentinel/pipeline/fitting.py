"""A dataset into a model with its calibration, its thresholds and its figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from sentinel.models.calibration import Calibration, fit_calibration
from sentinel.models.evaluation import Figures, HeldOut, figures
from sentinel.models.state_dropout import drop_state
from sentinel.models.thresholds import Thresholds, choose_thresholds
from sentinel.models.trainers import FittedModel, TrainerName, Validation, train
from sentinel.pipeline.at_lines import cross_fitted_figures, held_out_figures
from sentinel.pipeline.dataset_folder import Dataset
from sentinel.settings import Settings

DROPOUT_FRAUDS: Final = 200
"""With fewer frauds to fit on, none of them loses what state says of it."""
FRAUD_WEIGHT: Final = "fraud_weight"
"""Parameter of every family: how many times a fraud counts in the fit."""


@dataclass(frozen=True, eq=False)
class Result:
    """A fitted model, and what it says of the test rows.

    Attributes:
        model, calibration, thresholds: What would serve.
        held_out: The test rows with its scores; None if they are not of both classes.
        figures: What can be said of it.
    """

    model: FittedModel
    calibration: Calibration
    thresholds: Thresholds
    held_out: HeldOut | None
    figures: Figures


def fit_and_measure(
    settings: Settings,
    name: TrainerName,
    data: Dataset,
    *,
    parameters: Mapping[str, Any] | None = None,
    threads: int | None = None,
) -> Result:
    """Fit a model on a dataset and measure it on the dataset's test rows.

    Args:
        settings: Give the seed, the alert budget and the precision of declines.
        name: The trainer.
        data: Where its tail is empty, calibration and thresholds come from the fitted rows.
        parameters: Changes to the trainer's own settings.
        threads: Default: the cores of this machine.
    """
    tail, test = data.tail, data.test
    model = fit(settings, name, data, parameters=parameters, threads=threads)
    later = tail if len(tail.fraud) else data.fit
    raw = model.raw_score(later.X)
    calibration = fit_calibration(raw, later.fraud, weight=later.weight)
    thresholds = choose_thresholds(
        calibration.apply(raw),
        later.fraud,
        alerts_per_1000=settings.training.alert_budget_per_1000,
        decline_precision=settings.training.decline_precision,
        weight=later.weight,
    )
    held_out = None
    if 0 < int(np.count_nonzero(test.fraud)) < len(test.fraud):
        scores = model.raw_score(test.X)
        held_out = HeldOut(
            fraud=test.fraud,
            score=scores,
            probability=calibration.apply(scores),
            card=test.card,
            event_time_us=test.event_time_us,
            amount_minor=test.amount_minor,
            weight=test.weight,
            unclipped=test.unclipped,
        )
    found = measure(settings, held_out)
    if held_out is not None and found.metrics:
        at_lines = held_out_figures(settings, held_out, thresholds)
    elif len(tail.fraud):
        at_lines = cross_fitted_figures(settings, raw, tail)
    else:
        at_lines = {}
    found = replace(found, metrics=found.metrics | at_lines)
    return Result(model, calibration, thresholds, held_out, found)


def fit(
    settings: Settings,
    name: TrainerName,
    data: Dataset,
    *,
    parameters: Mapping[str, Any] | None = None,
    threads: int | None = None,
) -> FittedModel:
    """Fit a model on a dataset; its tail, if it has one, says when to stop.

    In the tail each payment counts once: by weight, a few of the control group would stop the fit.
    A share of the rows (``training.state_dropout``) is fitted on as a degraded decision sees it,
    unless there are so few frauds that none may be wasted. Frauds count ``training.fraud_weight``
    times, which a parameter ``fraud_weight`` overrides: the probabilities of such a model are too
    high until `fit_calibration` has seen it on rows that count alike.
    """
    tail = data.tail
    validation = None
    if len(tail.fraud):
        validation = Validation(X=tail.X, y=tail.fraud)
    options = settings.training
    X = data.fit.X
    if np.count_nonzero(data.fit.fraud) >= DROPOUT_FRAUDS:
        X = drop_state(X, data.plan, options.state_dropout, seed=options.seed)
    changes = dict(parameters or {})
    fraud_weight = float(changes.pop(FRAUD_WEIGHT, options.fraud_weight))
    weight = data.fit.weight
    if fraud_weight != 1.0:
        alike = np.ones(len(data.fit.fraud)) if weight is None else weight
        weight = np.where(data.fit.fraud, fraud_weight * alike, alike)
    return train(
        name,
        X,
        data.fit.fraud,
        feature_names=data.plan.feature_names,
        categorical=data.plan.categorical,
        seed=options.seed,
        validation=validation,
        weight=weight,
        threads=threads,
        parameters=changes,
    )


def measure(settings: Settings, rows: HeldOut | None) -> Figures:
    """All figures of a model on held-out rows, as the settings ask for them."""
    options = settings.training
    return figures(
        rows,
        alerts_per_1000=options.alert_budget_per_1000,
        rounds=options.bootstrap_rounds,
        seed=options.seed,
    )
