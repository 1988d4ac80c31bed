"""What a model does at its lines: figures beside those of its ranking.

They are measured on test rows, which neither the model nor its calibration has seen. Where there
are none, lines are drawn through the rows that the calibration was fitted on, and every row is
ruled by lines that were drawn without its card (`sentinel.policy.lines.cross_fit`).
"""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt

from sentinel.models.calibration import fit_calibration
from sentinel.models.dataset import MIN_FRAUDS
from sentinel.models.evaluation import HeldOut
from sentinel.models.intervals import Estimate
from sentinel.models.thresholds import Thresholds, choose_thresholds
from sentinel.pipeline.dataset_folder import Rows
from sentinel.policy.economics import Economics
from sentinel.policy.figures import Truth, figures_at_lines
from sentinel.policy.lines import LineRows, Lines, cross_fit, outcomes_of
from sentinel.policy.store import open_policies
from sentinel.settings import Settings

Floats = npt.NDArray[np.float64]


def stored_costs(settings: Settings) -> Economics | None:
    """The costs that hold, with the price of a review; None where bands decide.

    Segments are told apart by fields of a payment, which datasets do not have, so that all payments
    count as of none.
    """
    store = open_policies(settings)
    try:
        present = store.read()
    finally:
        store.close()
    if present is None or present.terms.costs is None:
        return None
    return Economics(costs=present.terms.costs, shadow_price_minor=present.shadow_price_minor)


def held_out_figures(
    settings: Settings, rows: HeldOut, thresholds: Thresholds
) -> dict[str, Estimate]:
    """What lines do to test rows.

    Args:
        settings: Give the bootstrap, and where the policy is.
        rows: With the model's probabilities.
        thresholds: The model's own lines; they hold where nobody has set costs.
    """
    costs = stored_costs(settings)
    amount = rows.amount_minor.astype(np.float64)
    segment = np.zeros(len(amount), dtype=np.int64)
    outcomes = outcomes_of(costs or thresholds, rows.probability, amount, segment)
    weight = np.ones(len(amount)) if rows.weight is None else rows.weight
    return _figures(settings, outcomes, rows.fraud, amount, weight, rows.card, costs)


def cross_fitted_figures(settings: Settings, raw: Floats, unseen: Rows) -> dict[str, Estimate]:
    """What lines do to the rows that they are drawn through, each ruled by others' lines.

    Args:
        settings: Give the budgets, the bootstrap, and where the policy is.
        raw: (n_rows,), raw scores.
        unseen: The rows; the model has not seen them.

    Returns:
        None of the figures where the frauds are too few to leave some out.
    """
    costs = stored_costs(settings)
    rows = LineRows(
        raw=raw,
        fraud=np.asarray(unseen.fraud, dtype=np.bool_),
        amount_minor=unseen.amount_minor.astype(np.float64),
        segment=np.zeros(len(raw), dtype=np.int64),
        weight=np.ones(len(raw)) if unseen.weight is None else unseen.weight,
        card=unseen.card,
    )
    if int(np.count_nonzero(rows.fraud)) < MIN_FRAUDS:
        return {}
    outcomes = cross_fit(rows, partial(_draw, settings, costs), seed=settings.training.seed)
    return _figures(
        settings, outcomes, rows.fraud, rows.amount_minor, rows.weight, rows.card, costs
    )


def _draw(settings: Settings, costs: Economics | None, rows: LineRows) -> Lines:
    calibration = fit_calibration(rows.raw, rows.fraud, weight=rows.weight)
    if costs is not None:
        return Lines(calibration, costs)
    options = settings.training
    bands = choose_thresholds(
        calibration.apply(rows.raw),
        rows.fraud,
        alerts_per_1000=options.alert_budget_per_1000,
        decline_precision=options.decline_precision,
        weight=rows.weight,
    )
    return Lines(calibration, bands)


def _figures(
    settings: Settings,
    outcomes: npt.NDArray[np.int64],
    fraud: npt.NDArray[np.bool_],
    amount_minor: Floats,
    weight: Floats,
    card: npt.NDArray[np.int64],
    costs: Economics | None,
) -> dict[str, Estimate]:
    options = settings.training
    found = figures_at_lines(
        outcomes,
        Truth(
            fraud=fraud,
            amount_minor=amount_minor,
            segment=np.zeros(len(outcomes), dtype=np.int64),
            weight=weight,
            card=card,
        ),
        costs,
        rounds=options.bootstrap_rounds,
        seed=options.seed,
    )
    return {name: value for name, value in found.items() if not np.isnan(value.value)}
