"""What a policy's outcomes do on the mature truth of past decisions, for a preview of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from sentinel.features.plan.plan import DAY_US
from sentinel.models.dataset import FRAUD, MIN_FRAUDS
from sentinel.models.intervals import Estimate
from sentinel.models.weights import effective_size
from sentinel.pipeline.decided_payments import DecidedPayments
from sentinel.policy.economics import Economics
from sentinel.policy.figures import (
    LINE_FIGURES,
    MONEY_FIGURES,
    Truth,
    control_group_precision,
    differences_at_lines,
    figures_at_lines,
)
from sentinel.policy.previewed import Calibrated, Known
from sentinel.policy.versions import Terms
from sentinel.policy.working_out import Workings
from sentinel.settings import Settings

Codes = npt.NDArray[np.int64]

_REPRESENTED: Final = 0.5
_REVIEW, _DECLINE = 1, 2


def known_truth(rows: DecidedPayments, outcomes: Codes, source: str) -> Known:
    """What truth there is.

    Args:
        rows: Decisions.
        outcomes: (n_rows,), what a policy rules on them.
        source: Where their probabilities are from.
    """
    truth, weight = rows.truth(), rows.weight()
    mature = rows.mature
    explored = mature & rows.explored
    fraud = truth == FRAUD
    stopped = mature & (outcomes > 0)
    all_stopped = float(rows.rows[stopped].sum())
    return Known(
        mature=float(rows.rows[mature].sum()),
        unknown=float(rows.rows[mature & (truth < 0)].sum()),
        frauds=int(np.count_nonzero(fraud & (weight > 0))),
        effective_frauds=effective_size(weight[fraud]),
        explored=int(np.count_nonzero(explored)),
        stopped_precision=control_group_precision(fraud[explored], rows.draw[explored]),
        represented=float(weight[stopped].sum()) / all_stopped if all_stopped else 1.0,
        source=source,
    )


def measured(
    settings: Settings,
    terms: Terms,
    workings: Workings,
    rows: DecidedPayments,
    outcomes: Codes,
) -> tuple[dict[str, Estimate], dict[str, str]]:
    """What outcomes do on mature truth, and what the truth is too little for."""
    weight = rows.weight()
    here = weight > 0
    fraud = rows.truth() == FRAUD
    economics = _economics(terms, workings)
    options = settings.training
    frauds = int(np.count_nonzero(fraud & here))
    names = LINE_FIGURES if economics is None else (*LINE_FIGURES, *MONEY_FIGURES)
    if frauds < MIN_FRAUDS:
        return {}, dict.fromkeys(names, f"{frauds} known mature frauds; it takes {MIN_FRAUDS}")
    found = figures_at_lines(
        outcomes[here],
        _truth_of(rows, here),
        economics,
        rounds=options.bootstrap_rounds,
        seed=options.seed,
    )
    # How many payments are stopped needs no truth.
    mature = rows.mature
    mass = float(rows.rows[mature].sum())
    why: dict[str, str] = {}
    kinds = ((_REVIEW, "review", "reviewed"), (_DECLINE, "decline", "declined"))
    for code, name, done in kinds:
        all_of_it = float(rows.rows[mature & (outcomes == code)].sum())
        represented = float(weight[here & (outcomes == code)].sum())
        exact = all_of_it / mass
        found[f"{name}_rate"] = _around(found[f"{name}_rate"], exact)
        if all_of_it > 0 and represented < _REPRESENTED * all_of_it:
            stand_for = 100 * represented / all_of_it
            reason = f"known payments stand for {stand_for:.0f} % of what is {done}"
            hidden = [f"precision_of_{name}s", "fraud_declined", "fraud_stopped", "money_stopped"]
            for figure in (*hidden, "cost_per_1000_minor", "saved_per_1000_minor"):
                if figure in found:
                    why.setdefault(figure, reason)
    for figure, estimate in found.items():
        if math.isnan(estimate.value):
            why.setdefault(figure, "there is none of it")
    return {name: value for name, value in found.items() if name not in why}, why


def differences(
    settings: Settings,
    terms: Terms,
    workings: Workings,
    rows: DecidedPayments,
    outcomes: Codes,
    names: Sequence[str],
) -> dict[str, Estimate]:
    """How figures of outcomes differ from those of what was decided, on the same draws of cards.

    Args:
        settings: The deployment.
        terms, workings: Of the policy.
        rows: Decisions.
        outcomes: (n_rows,), what the policy rules on them.
        names: Figures that the truth is enough for on both sides.
    """
    if not names:
        return {}
    here = rows.weight() > 0
    found = differences_at_lines(
        outcomes[here],
        rows.base_outcome[here],
        _truth_of(rows, here),
        _economics(terms, workings),
        rounds=settings.training.bootstrap_rounds,
        seed=settings.training.seed,
    )
    mature = rows.mature
    of_mature = rows.rows[mature]
    for code, name in ((_REVIEW, "review_rate"), (_DECLINE, "decline_rate")):
        more = (outcomes == code).astype(np.int64) - (rows.base_outcome == code)
        exact = float((of_mature * more[mature]).sum() / of_mature.sum())
        found[name] = _around(found[name], exact, least=-1.0)
    return {name: found[name] for name in names}


def _economics(terms: Terms, workings: Workings) -> Economics | None:
    return None if terms.costs is None else terms.economics(workings.shadow_price_minor)


def _truth_of(rows: DecidedPayments, here: npt.NDArray[np.bool_]) -> Truth:
    return Truth(
        fraud=rows.truth()[here] == FRAUD,
        amount_minor=rows.amount_minor[here],
        segment=rows.segment[here],
        weight=rows.weight()[here],
        card=rows.card[here],
    )


def _around(estimate: Estimate, value: float, *, least: float = 0.0) -> Estimate:
    """A rate that is known of all payments, with the width of its estimate on some."""
    if math.isnan(estimate.value):
        return Estimate(value, value, value)
    shift = value - estimate.value
    return Estimate(value, max(least, estimate.low + shift), min(1.0, estimate.high + shift))


def calibration(
    settings: Settings, terms: Terms, rows: DecidedPayments, outcomes: Codes
) -> list[Calibrated]:
    """Predicted against observed, at the lines, by 30 days, and by segment where there are some."""
    weight = rows.weight()
    age = (rows.end_us - rows.received_at_us) // (30 * DAY_US)
    parts = [
        (name, outcomes == code) for code, name in enumerate(("approved", "reviewed", "declined"))
    ]
    parts += [
        (f"{30 * month} to {30 * month + 30} days ago", age == month)
        for month in sorted(set(age[weight > 0].tolist()))
    ]
    if terms.costs is not None and terms.segments:
        parts += [
            (f"segment {name}" if name else "in no segment", rows.segment == code)
            for code, name in enumerate(terms.economics(0.0).names)
        ]
    found = []
    for name, members in parts:
        here = members & (weight > 0)
        if not here.any():
            continue
        observed = figures_at_lines(
            np.full(int(here.sum()), _DECLINE),
            _truth_of(rows, here),
            rounds=settings.training.bootstrap_rounds,
            seed=settings.training.seed,
        )["precision_of_declines"]
        predicted = float((weight * rows.probability)[here].sum() / weight[here].sum())
        found.append(Calibrated(of=name, predicted=predicted, observed=observed))
    return found
