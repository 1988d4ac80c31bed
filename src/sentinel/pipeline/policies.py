"""The jobs around a policy: what it would do, applying it, and what is worked out of it daily."""

from __future__ import annotations

import math
import time
from typing import Final

import msgspec
import numpy as np

from sentinel.documents.store import restored
from sentinel.domain import ConfigurationError
from sentinel.features.plan.plan import DAY_US
from sentinel.models.champion import champion_of
from sentinel.models.dataset import FRAUD, MIN_FRAUDS
from sentinel.models.intervals import Estimate
from sentinel.models.weights import effective_size
from sentinel.pipeline.decided_payments import DecidedPayments, decided_payments
from sentinel.pipeline.policy_history import historic_payments
from sentinel.policy.exploration import exploration_key
from sentinel.policy.figures import (
    LINE_FIGURES,
    MONEY_FIGURES,
    Truth,
    control_group_precision,
    figures_at_lines,
)
from sentinel.policy.lines import outcomes_of
from sentinel.policy.previewed import Calibrated, Known, LinesAt, Preview
from sentinel.policy.store import open_policies
from sentinel.policy.versions import PolicyVersion, Terms
from sentinel.policy.working_out import WINDOW_DAYS, RecentPayments, Workings, work_out
from sentinel.settings import Settings

PREVIEW_DAYS: Final = 120.0
"""Days whose payments a preview looks at: mature truth is at least a maturity old."""
LEAST_DAYS: Final = 7.0
"""Decisions of fewer days say little of a month, and nothing of the days of a week."""
LINE_AMOUNTS_MINOR: Final = (1_000, 10_000, 100_000)
REFRESHED_BY: Final = "sentinel policy refresh"

_REPRESENTED: Final = 0.5
_APPROVE, _REVIEW, _DECLINE = range(3)


class Refreshed(msgspec.Struct, frozen=True, kw_only=True):
    """What a daily look at the policy found.

    Attributes:
        workings: What was worked out.
        version: The version that holds now; None if nobody ever stored one.
        changed: Whether it was made just now.
    """

    workings: Workings
    version: PolicyVersion | None
    changed: bool


def preview(settings: Settings, terms: Terms, *, days: float = PREVIEW_DAYS) -> Preview:
    """What a policy would do to the payments of the last weeks. Nothing is changed.

    Args:
        settings: The deployment.
        terms: The policy's.
        days: How far back it looks for mature truth.

    Raises:
        ConfigurationError: The terms cannot be.
        NoModel: Nothing was decided yet, and no model says what would be.
    """
    terms.check()
    rows, source = _payments(settings, terms, days)
    workings = work_out(terms, rows.recent(WINDOW_DAYS))
    outcomes = _outcomes(terms, workings.shadow_price_minor, rows)
    present = _present(settings)
    now = None if present is None else present.terms
    if now is not None and now.segments != terms.segments:
        # Segments are told apart while rows are read.
        rows_now, _ = _payments(settings, now, days)
    else:
        rows_now = rows
    workings_now = None if now is None else work_out(now, rows_now.recent(WINDOW_DAYS))
    figures, why = _figures(settings, terms, workings, rows, outcomes)
    figures_now, _ = _figures(settings, terms, workings, rows, rows.base_outcome)
    economics = None if terms.costs is None else terms.economics(workings.shadow_price_minor)
    return Preview(
        terms=terms,
        workings=workings,
        workings_now=workings_now,
        lines=[]
        if economics is None
        else [
            LinesAt(
                segment=name,
                amount_minor=amount,
                review=economics.line(_REVIEW, amount, code),
                decline=economics.line(_DECLINE, amount, code),
            )
            for code, name in enumerate(economics.names)
            for amount in LINE_AMOUNTS_MINOR
        ],
        known=_known(rows, outcomes, source),
        figures=figures,
        figures_now=figures_now,
        not_measured=why,
        calibration=_calibration(settings, rows, outcomes),
    )


def apply(
    settings: Settings,
    terms: Terms | None,
    *,
    by: str,
    why: str,
    version: int | None = None,
) -> tuple[PolicyVersion, Workings]:
    """Make a policy the one that holds, in every scorer within a second.

    Args:
        settings: The deployment.
        terms: The policy's; None if an older version is to hold again.
        by: Who does it.
        why: In their words.
        version: The older version whose terms are to hold again.

    Raises:
        ConfigurationError: The terms cannot be, or nobody says why.
        NotFound: There is no such version.
    """
    if not why.strip() or not by.strip():
        raise ConfigurationError("A change of the policy needs who makes it, and why: --why TEXT.")
    store = open_policies(settings)
    try:
        if terms is None:
            assert version is not None
            terms = restored(store, version).terms
        terms.check()
        workings = work_out(terms, _recent(settings, terms))
        made = _version(settings, terms, workings, by=by, why=why, restores=version)
        added = store.add(lambda _: made)
    finally:
        store.close()
    assert added is not None
    return added, workings


def refresh(settings: Settings, *, dry_run: bool = False) -> Refreshed:
    """Work out the price of reviews and the share of the control group for the next day.

    A version is made only where something changes. Where none is stored, nothing is changed, and
    what comes back says what cannot be known and what a budget would buy.

    Args:
        settings: The deployment.
        dry_run: Whether nothing is to be changed.

    Raises:
        NoModel: Nothing was decided yet, and no model says what would be.
    """
    store = open_policies(settings)
    try:
        present = store.read()
        terms = Terms() if present is None else present.terms
        workings = work_out(terms, _recent(settings, terms))
        if present is None or dry_run:
            return Refreshed(workings=workings, version=present, changed=False)
        why = "price of reviews and share of the control group of the day"
        made = _version(settings, terms, workings, by=REFRESHED_BY, why=why)

        def change(before: PolicyVersion | None) -> PolicyVersion | None:
            if before is None or before.terms != terms or before.same_content(made):
                return None  # somebody applied another one meanwhile, or nothing has moved
            return made

        added = store.add(change)
        return Refreshed(
            workings=workings, version=added or store.read(), changed=added is not None
        )
    finally:
        store.close()


def history(settings: Settings, most: int = 50) -> list[PolicyVersion]:
    """The latest versions, newest first."""
    store = open_policies(settings)
    try:
        return store.history(most)
    finally:
        store.close()


def _version(
    settings: Settings,
    terms: Terms,
    workings: Workings,
    *,
    by: str,
    why: str,
    restores: int | None = None,
) -> PolicyVersion:
    return PolicyVersion(
        terms=terms,
        shadow_price_minor=workings.shadow_price_minor,
        share=workings.share,
        by=by,
        why=why,
        at_us=time.time_ns() // 1000,
        restores=restores,
        key_check=exploration_key(settings).check if workings.share > 0 else "",
    )


def _present(settings: Settings) -> PolicyVersion | None:
    store = open_policies(settings)
    try:
        return store.read()
    finally:
        store.close()


def _payments(settings: Settings, terms: Terms, days: float) -> tuple[DecidedPayments, str]:
    """Decisions; while they span too little, what the champion would say of all payments."""
    rows = decided_payments(settings, terms, days)
    spanned = (rows.end_us - int(rows.received_at_us[0])) / DAY_US if len(rows) else 0.0
    if spanned >= LEAST_DAYS:
        return rows, "decisions"
    if len(rows) and champion_of(settings) is None:
        return rows, "decisions"
    history = historic_payments(settings, terms, days)
    # A deployment that began without history has nothing older than its decisions.
    longer = len(history) and (not len(rows) or history.received_at_us[0] < rows.received_at_us[0])
    return (history, "history") if longer or not len(rows) else (rows, "decisions")


def _recent(settings: Settings, terms: Terms) -> RecentPayments:
    return _payments(settings, terms, WINDOW_DAYS)[0].recent(WINDOW_DAYS)


def _outcomes(
    terms: Terms, shadow_price_minor: float, rows: DecidedPayments
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """What a policy rules on decisions; degraded ones keep what they got."""
    if terms.costs is not None:
        economics = terms.economics(shadow_price_minor)
        ruled = economics.outcomes(rows.probability, rows.amount_minor, rows.segment)
    elif terms.bands is not None:
        ruled = outcomes_of(terms.bands, rows.probability, rows.amount_minor, rows.segment)
    else:
        ruled = rows.base_outcome
    return np.where(rows.degraded, rows.base_outcome, ruled)


def _known(
    rows: DecidedPayments, outcomes: np.ndarray[tuple[int], np.dtype[np.int64]], source: str
) -> Known:
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


def _figures(
    settings: Settings,
    terms: Terms,
    workings: Workings,
    rows: DecidedPayments,
    outcomes: np.ndarray[tuple[int], np.dtype[np.int64]],
) -> tuple[dict[str, Estimate], dict[str, str]]:
    """What outcomes do on mature truth, and what the truth is too little for."""
    weight = rows.weight()
    here = weight > 0
    fraud = rows.truth() == FRAUD
    economics = None if terms.costs is None else terms.economics(workings.shadow_price_minor)
    options = settings.training
    frauds = int(np.count_nonzero(fraud & here))
    names = LINE_FIGURES if economics is None else (*LINE_FIGURES, *MONEY_FIGURES)
    if frauds < MIN_FRAUDS:
        return {}, dict.fromkeys(names, f"{frauds} known mature frauds; it takes {MIN_FRAUDS}")
    found = figures_at_lines(
        outcomes[here],
        Truth(
            fraud=fraud[here],
            amount_minor=rows.amount_minor[here],
            segment=rows.segment[here],
            weight=weight[here],
            card=rows.card[here],
        ),
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


def _around(estimate: Estimate, value: float) -> Estimate:
    """A rate that is known of all payments, with the width of its estimate on some."""
    if math.isnan(estimate.value):
        return Estimate(value, value, value)
    shift = value - estimate.value
    return Estimate(value, max(0.0, estimate.low + shift), min(1.0, estimate.high + shift))


def _calibration(
    settings: Settings,
    rows: DecidedPayments,
    outcomes: np.ndarray[tuple[int], np.dtype[np.int64]],
) -> list[Calibrated]:
    """Predicted against observed, at the lines and by 30 days."""
    weight = rows.weight()
    fraud = rows.truth() == FRAUD
    age = (rows.end_us - rows.received_at_us) // (30 * 86_400_000_000)
    parts = [
        (name, outcomes == code) for code, name in enumerate(("approved", "reviewed", "declined"))
    ]
    parts += [
        (f"{30 * month} to {30 * month + 30} days ago", age == month)
        for month in sorted(set(age[weight > 0].tolist()))
    ]
    found = []
    for name, members in parts:
        here = members & (weight > 0)
        if not here.any():
            continue
        w = weight[here]
        truth = Truth(
            fraud=fraud[here],
            amount_minor=rows.amount_minor[here],
            segment=rows.segment[here],
            weight=w,
            card=rows.card[here],
        )
        observed = figures_at_lines(
            np.full(int(here.sum()), _DECLINE),
            truth,
            rounds=settings.training.bootstrap_rounds,
            seed=settings.training.seed,
        )["precision_of_declines"]
        predicted = float((w * rows.probability[here]).sum() / w.sum())
        found.append(Calibrated(of=name, predicted=predicted, observed=observed))
    return found
