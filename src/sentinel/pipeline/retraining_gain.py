"""What the last retraining bought: the money that the new model saved against the one it replaced.

Both models rule on the payments that came after either had learnt anything, by the lines that hold:
what the one stops and the other lets pass makes the difference. Truth is known of some of these
payments, under the same rules and with the same weights as in training
(`sentinel.models.dataset.sample`). Of those that only the newer one stops and of those that only
the older one stops, the known ones have to stand for half each; else no figure is given. The newer
model's own declines hide the first, and the second alone would make it look worse than it is.

A retraining of last night has no matured payment yet. So the report is about the newest one whose
payments hold enough known frauds, and says how many have come after it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from sentinel.models.artifact import ModelManifest, load_manifest, load_plan
from sentinel.models.dataset import MIN_FRAUDS, Sample
from sentinel.models.intervals import Estimate
from sentinel.models.registry import Registry
from sentinel.models.weights import effective_size
from sentinel.pipeline.at_lines import stored_costs
from sentinel.pipeline.contestants import held_out
from sentinel.pipeline.labelled_payments import LabelledPayments, labelled_payments, served_over
from sentinel.pipeline.registry_fetch import fetch_version
from sentinel.pipeline.scored_payments import BulkScorer
from sentinel.policy.economics import Costs, Economics
from sentinel.policy.figures import Truth, differences_at_lines
from sentinel.policy.lines import outcomes_of
from sentinel.settings import Settings
from sentinel.sources.progress import ProgressCallback, no_progress

MOST_PAYMENTS: Final = 200_000
"""Payments that are looked at; of more, the latest."""
REPRESENTED: Final = 0.5
"""Share of the payments that only one of two models stops that known ones have to stand for."""
GAIN_TAG: Final = "retraining_gain"
"""Of a version in the registry: what it bought against the one that it replaced."""

_SAVED: Final = "saved_per_1000_minor"

Codes = npt.NDArray[np.int64]


class RetrainingGain(msgspec.Struct, frozen=True, kw_only=True):
    """What a retraining bought.

    Attributes:
        version, replaced: The newer and the older model.
        start_us, end_us: Payments of this time are looked at; the end is exclusive.
        younger: Champions after the newer one, whose payments have not matured enough.
        payments: Mature ones, whether their truth is known or not.
        frauds: Known ones among them.
        effective_frauds: How many equally weighted ones say as much.
        differ: Share of the payments on which the two rule differently.
        represented: Share that payments of known truth stand for, of those that only the newer one
            stops or of those that only the older one stops, whichever is less.
        saved_per_1000_minor: What the newer one saves of 1,000 payments, minor units; None if the
            truth is too little.
        saved_minor: The same of all payments of this time.
        more_stopped: Share of the payments that the newer one stops in addition.
        costs: Whether there are costs. If not, what is saved is the amounts of stopped frauds, and
            stopped good payments cost nothing.
        why_not: Why there is no figure of money; empty if there is one.
    """

    version: str
    replaced: str
    start_us: int
    end_us: int
    younger: int
    payments: int
    frauds: int
    effective_frauds: float
    differ: float
    represented: float
    saved_per_1000_minor: Estimate | None
    saved_minor: Estimate | None
    more_stopped: float
    costs: bool
    why_not: str = ""

    def words(self, scale: int, currency: str) -> str:
        """What it bought, in a few sentences.

        Args:
            scale: Decimals of one unit of the currency.
            currency: Of all amounts.
        """
        period = f"{_day(self.start_us)} to {_day(self.end_us)}"
        younger = f" {self.younger} retrainings are younger than known truth." * bool(self.younger)
        found, per = self.saved_minor, self.saved_per_1000_minor
        if found is None or per is None:
            return (
                f"What version {self.version} bought against version {self.replaced} is not known: "
                f"{self.why_not}.{younger}"
            )
        what = "saved" if self.costs else "stopped of frauds (no costs are set)"
        all_of_it, each = (
            f"{one.value / 10**scale:+,.{scale}f} [{one.low / 10**scale:+,.{scale}f}, "
            f"{one.high / 10**scale:+,.{scale}f}] {currency}"
            for one in (found, per)
        )
        sure = "" if found.low > 0 or found.high < 0 else " The interval holds zero, too."
        return (
            f"Version {self.version} {what} {all_of_it} against version {self.replaced}, {each} "
            f"per 1,000 payments: {self.payments:,} mature payments of {period} with "
            f"{self.frauds:,} known frauds, of which the two rule differently on "
            f"{self.differ:.2%}.{sure}{younger}"
        )


def retraining_gain(
    settings: Settings,
    *,
    now_us: int | None = None,
    progress: ProgressCallback = no_progress,
) -> RetrainingGain | None:
    """Measure the newest retraining that enough payments have matured since.

    Args:
        settings: The deployment.
        now_us: The clock for the maturity of labels, microseconds UTC; default: the end of the
            log.
        progress: Told of the stages "labels" and "backfill".

    Returns:
        None where no model has replaced another one yet. Where no retraining has enough
        matured payments, what is known of the newest one.

    Raises:
        Unavailable: The registry does not answer.
        ModelNotSigned: A version was not trained by this deployment.
    """
    registry = Registry.of(settings)
    champions = registry.champions()
    if len(champions) < 2:
        return None
    known = labelled_payments(settings, progress=progress)
    # Frauds since a retraining are the more, the older it is: the newest that has enough is found
    # by halves, and few versions have to be fetched.
    low, high = 1, len(champions) - 1
    while low < high:
        middle = (low + high + 1) // 2
        rows = _known_since(settings, known, champions[middle - 1 : middle + 1], now_us)
        low, high = (middle, high) if rows.frauds >= MIN_FRAUDS else (low, middle - 1)
    oldest = _known_since(settings, known, champions[low - 1 : low + 1], now_us)
    if oldest.frauds < MIN_FRAUDS:
        low = len(champions) - 1
    pair, younger = champions[low - 1 : low + 1], len(champions) - 1 - low
    gain = gain_between(settings, known, pair, younger=younger, now_us=now_us, progress=progress)
    money = settings.money
    registry.note(champions[low], GAIN_TAG, gain.words(money.scale, money.currency))
    return gain


def _known_since(
    settings: Settings, known: LabelledPayments, pair: list[str], now_us: int | None
) -> Sample:
    """Payments of known truth that came after both models had learnt what they know."""
    manifests = [_manifest(settings, version) for version in pair]
    start_us = max(one.training.cutoff_us for one in manifests)
    return held_out(
        settings, known, start_us=start_us, now_us=now_us, gap_us=manifests[1].training.gap_us
    )


def _manifest(settings: Settings, version: str) -> ModelManifest:
    return load_manifest(fetch_version(settings, version))


def gain_between(
    settings: Settings,
    known: LabelledPayments,
    pair: list[str],
    *,
    younger: int = 0,
    now_us: int | None = None,
    progress: ProgressCallback = no_progress,
) -> RetrainingGain:
    """What one version bought against another.

    Args:
        settings: The deployment.
        known: The log.
        pair: The older and the newer version.
        younger: Champions after the newer one.
        now_us: The clock for the maturity of labels, microseconds UTC; default: the end of the
            log.
        progress: Told of the stages "labels" and "backfill", where a plan is not that of the log.
    """
    replaced, version = pair
    payments, rows = known.payments, _known_since(settings, known, pair, now_us)
    times = payments.event_time_us
    mature = (times >= rows.start_us) & (times < rows.end_us)
    if payments.void is not None:
        mature &= ~payments.void
    places = np.flatnonzero(mature)[-MOST_PAYMENTS:]
    start_us = int(times[places].min()) if len(places) else rows.start_us
    chosen, kept = np.isin(places, rows.rows), np.isin(rows.rows, places)
    rows = rows.take(np.flatnonzero(kept))
    costs = stored_costs(settings)
    amount = payments.amount_minor[places].astype(np.float64)
    new, old = (_ruled(settings, known, one, costs, places, amount, progress) for one in pair[::-1])
    weight = np.zeros(len(places))
    weight[chosen] = rows.weight
    differing = int(np.count_nonzero((new > 0) != (old > 0)))
    represented = least_represented(new, old, weight)
    why_not = ""
    if rows.frauds < MIN_FRAUDS:
        why_not = (
            f"{rows.frauds} known frauds have matured since it was trained; it takes {MIN_FRAUDS}"
        )
    elif represented < REPRESENTED:
        why_not = (
            f"of the {differing:,} payments that only one of the two stops, on one side those of "
            f"known truth stand for {represented:.0%}; a control group makes more of them known"
        )
    per_1000 = saved = None
    if not why_not:
        truth = Truth(
            fraud=rows.fraud,
            amount_minor=amount[chosen],
            segment=np.zeros(len(rows), dtype=np.int64),
            weight=rows.weight,
            card=payments.card[rows.rows],
        )
        # Without costs a fraud that passes costs its amount, and nothing else costs anything.
        paid = costs or Economics(costs=Costs())
        per_1000 = differences_at_lines(
            new[chosen],
            old[chosen],
            truth,
            paid,
            rounds=settings.training.bootstrap_rounds,
            seed=settings.training.seed,
        )[_SAVED]
        times_1000 = len(places) / 1000.0
        saved = Estimate(
            *(times_1000 * one for one in (per_1000.value, per_1000.low, per_1000.high))
        )
    return RetrainingGain(
        version=version,
        replaced=replaced,
        start_us=start_us,
        end_us=rows.end_us,
        younger=younger,
        payments=len(places),
        frauds=rows.frauds,
        effective_frauds=effective_size(rows.weight[rows.fraud]),
        differ=differing / max(len(places), 1),
        represented=represented,
        saved_per_1000_minor=per_1000,
        saved_minor=saved,
        more_stopped=float((new > 0).mean() - (old > 0).mean()) if len(places) else 0.0,
        costs=costs is not None,
        why_not=why_not,
    )


def least_represented(new: Codes, old: Codes, weight: npt.NDArray[np.float64]) -> float:
    """Share that known payments stand for, of those that one model alone stops; the lesser side's.

    Args:
        new, old: int64 (n,), outcome codes of two models.
        weight: float64 (n,), how many payments each stands for; 0 where its truth is not known.

    Returns:
        1 where the two differ on nothing.
    """
    sides = (new > 0) & (old == 0), (old > 0) & (new == 0)
    return min((float(weight[side].mean()) for side in sides if side.any()), default=1.0)


def _ruled(
    settings: Settings,
    known: LabelledPayments,
    version: str,
    costs: Economics | None,
    places: Codes,
    amount: npt.NDArray[np.float64],
    progress: ProgressCallback,
) -> Codes:
    """Outcome codes that a model gives to payments, int64 (n,), by costs or by its own lines."""
    folder = fetch_version(settings, version)
    model = BulkScorer(folder)
    plan = load_plan(folder, model.manifest)
    own = known
    if plan.hash != known.plan.hash:  # rows are the same, whatever the plan
        own = labelled_payments(settings, plan=plan, progress=progress)
    X, _ = served_over(settings, own, places)
    probability, _ = model.score(X)
    segment = np.zeros(len(places), dtype=np.int64)
    return outcomes_of(costs or model.manifest.thresholds, probability, amount, segment)


def _day(time_us: int) -> str:
    return f"{datetime.fromtimestamp(time_us / 1e6, UTC):%Y-%m-%d}"
