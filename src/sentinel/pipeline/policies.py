"""The jobs around a policy: what it would do, applying it, and what is worked out of it daily."""

from __future__ import annotations

import time
from typing import Final

import msgspec
import numpy as np

from sentinel.documents.store import restored
from sentinel.domain import ConfigurationError
from sentinel.features.plan.plan import DAY_US
from sentinel.models.champion import champion_of
from sentinel.pipeline.decided_payments import DecidedPayments, decided_payments
from sentinel.pipeline.policy_figures import calibration, differences, known_truth, measured
from sentinel.pipeline.policy_history import historic_payments
from sentinel.policy.exploration import exploration_key
from sentinel.policy.lines import outcomes_of
from sentinel.policy.previewed import LinesAt, Preview
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

_REVIEW, _DECLINE = 1, 2


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
    figures, why = measured(settings, terms, workings, rows, outcomes)
    figures_now, _ = measured(settings, terms, workings, rows, rows.base_outcome)
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
        known=known_truth(rows, outcomes, source),
        figures=figures,
        figures_now=figures_now,
        differences=differences(
            settings,
            terms,
            workings,
            rows,
            outcomes,
            names=[name for name in figures if name in figures_now],
        ),
        not_measured=why,
        calibration=calibration(settings, terms, rows, outcomes),
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
        added = store.add(lambda _: made, over_unreadable=True)
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
