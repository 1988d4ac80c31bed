"""A procedure from the settings, and a model of it at a given cut-off."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import numpy as np

from sentinel.domain import ConfigurationError
from sentinel.features.plan.plan import DAY_US
from sentinel.models.artifact import TrainingWindow
from sentinel.models.dataset import Sample, sample
from sentinel.models.families.installed import trainer_of
from sentinel.models.label_delays import first_payment_us
from sentinel.models.procedure import Procedure
from sentinel.models.splitting import MOST_TAIL, TAIL_SHARE, Split
from sentinel.pipeline.dataset_folder import DatasetManifest
from sentinel.pipeline.datasets import dataset_of
from sentinel.pipeline.fitting import FRAUD_WEIGHT, Result, fit_and_measure
from sentinel.pipeline.labelled_payments import (
    LabelledPayments,
    maturity_is_default,
    maturity_us,
    served_over,
)
from sentinel.settings import Settings

_NO_PART_OF_IT: Final = ("seed",)


def procedure_of(
    settings: Settings, about: DatasetManifest, parameters: Mapping[str, Any] | None = None
) -> Procedure:
    """The procedure that a training follows.

    Args:
        settings: The deployment.
        about: What it is trained on.
        parameters: Changes to the trainer's own settings.
    """
    options = settings.training
    trainer = trainer_of(options.trainer)
    merged = {**trainer.defaults, **(parameters or {})}
    if options.fraud_weight != 1.0:
        merged.setdefault(FRAUD_WEIGHT, options.fraud_weight)
    return Procedure(
        trainer=trainer.name,
        parameters={name: merged[name] for name in sorted(merged) if name not in _NO_PART_OF_IT},
        plan_hash=about.plan_hash,
        window_days=about.window_days,
        max_rows=options.max_rows,
        maturity_days=None if maturity_is_default(settings) else settings.labels.maturity_days,
        alerts_per_1000=options.alert_budget_per_1000,
        decline_precision=options.decline_precision,
        state_dropout=options.state_dropout,
        window_searched=options.window_days == "auto",
    )


def fit_at(
    settings: Settings,
    procedure: Procedure,
    known: LabelledPayments,
    window: TrainingWindow,
    *,
    threads: int | None = None,
) -> tuple[Result, TrainingWindow]:
    """Fit a model of a procedure on what another one was fitted on.

    Its lines are drawn by the present settings, so that two models are held against each other
    by one rule.

    Args:
        settings: Give the seed and the lines.
        procedure: How it is made.
        known: The log, with vectors of the procedure's plan.
        window: Of the other model: gives the end, the cut-off and the gap.
        threads: Default: the cores of this machine.

    Returns:
        The model, and what it learnt from.

    Raises:
        ConfigurationError: The vectors are of another plan.
        ModelError: Its window holds rows of one class only.
    """
    if known.plan.hash != procedure.plan_hash:
        raise ConfigurationError(
            f"A procedure of plan {procedure.plan_hash} cannot learn from vectors of plan "
            f"{known.plan.hash}."
        )
    gap_us = maturity_us(settings) if window.gap_us is None else window.gap_us
    if procedure.maturity_days is not None:
        gap_us = round(procedure.maturity_days * DAY_US)
    start = window.start_us
    if len(known.payments):
        start = first_payment_us(known.payments, window.end_us)
    if procedure.window_days:
        start = max(start, window.end_us - round(procedure.window_days * DAY_US))
    middle = window.end_us - int((window.end_us - start) * TAIL_SHARE)

    def between(begin: int, end: int) -> Sample:
        return sample(
            known.payments,
            known.labels,
            start_us=begin,
            end_us=end,
            cutoff_us=window.cutoff_us,
            maturity_us=gap_us,
        )

    fit, tail = between(start, middle), between(middle, window.end_us)
    if not all(0 < part.frauds < len(part) for part in (fit, tail)):
        fit, tail = between(start, window.end_us), tail.take(slice(0))
    split = Split(
        fit=fit, tail=tail.take(slice(-MOST_TAIL, None)), test=fit.take(slice(0)), gap_us=gap_us
    )
    own = settings.model_copy(
        update={
            "training": settings.training.model_copy(
                update={
                    "max_rows": procedure.max_rows,
                    "state_dropout": procedure.state_dropout,
                    "fraud_weight": 1.0,  # one that differs is among the parameters
                }
            )
        }
    )
    data = dataset_of(
        own,
        known,
        split,
        log_through=known.parts.manifest.sequence,
        window=procedure.window_days,
        vectors=partial(served_over, settings, known),
    )
    # What is as it always is may still be loosened for a small history.
    usual = trainer_of(procedure.trainer).defaults
    changes = {
        name: value for name, value in procedure.parameters.items() if usual.get(name) != value
    }
    result = fit_and_measure(
        own,
        procedure.trainer,
        data,
        parameters=changes,
        threads=threads,
    )
    learnt = TrainingWindow(
        start_us=start,
        end_us=window.end_us,
        cutoff_us=window.cutoff_us,
        rows=len(fit) + len(tail),
        frauds=int(np.count_nonzero(fit.fraud) + np.count_nonzero(tail.fraud)),
        gap_us=gap_us,
    )
    return result, learnt
