"""What is said of a policy before it applies."""

from __future__ import annotations

import msgspec

from sentinel.models.intervals import Estimate
from sentinel.policy.versions import Terms
from sentinel.policy.working_out import Workings


class LinesAt(msgspec.Struct, frozen=True, kw_only=True):
    """The lines of an amount.

    Attributes:
        segment: Its name; empty for payments of none.
        amount_minor: Minor units.
        review, decline: Probabilities from which on a payment is not approved, and is declined;
            1 if there is none.
    """

    segment: str
    amount_minor: int
    review: float
    decline: float


class Calibrated(msgspec.Struct, frozen=True, kw_only=True):
    """What was predicted of some payments, and what came.

    Attributes:
        of: Which payments.
        predicted: Mean probability.
        observed: Share of fraud.
    """

    of: str
    predicted: float
    observed: Estimate


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """The truth that figures rest on.

    Attributes:
        mature: Payments that are old enough.
        unknown: Those of them whose truth nobody can know: stopped, without a verdict.
        frauds: Known frauds.
        effective_frauds: Frauds of equal weight that say as much.
        explored: Payments that the control group let through and that are mature.
        stopped_precision: The share of fraud among what was stopped, as they show it.
        represented: Payments that the policy would stop, as far as known payments stand for them:
            1 = all of them, 0 = none.
        source: Where the probabilities are from: "decisions" or "history".
    """

    mature: float
    unknown: float
    frauds: int
    effective_frauds: float
    explored: int
    stopped_precision: Estimate
    represented: float
    source: str


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """What a policy would do, beside what the one in charge does on the same payments.

    Attributes:
        terms: Of the policy.
        workings, workings_now: Of the last 28 days; None if no other one is in charge.
        lines: By segment and amount; empty if bands decide.
        known: What truth there is.
        figures, figures_now: On mature truth; see `sentinel.policy.figures`.
        differences: How the first of them differ from the second, on the same draws of cards; of
            those that both have.
        not_measured: Figures that the truth is too little for, and why.
        calibration: Of the payments that it would approve, review and decline, over time, and by
            segment.
    """

    terms: Terms
    workings: Workings
    workings_now: Workings | None
    lines: list[LinesAt]
    known: Known
    figures: dict[str, Estimate]
    figures_now: dict[str, Estimate]
    differences: dict[str, Estimate]
    not_measured: dict[str, str]
    calibration: list[Calibrated]
