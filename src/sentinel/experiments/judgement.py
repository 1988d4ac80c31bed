"""An experiment judged: figures, intervals, a verdict, and what is missing for one."""

from __future__ import annotations

import math

import msgspec
import numpy as np

from sentinel.experiments.estimates import PrecisionEstimate, estimate
from sentinel.experiments.judging import (
    Counts,
    Kinds,
    Rules,
    Verdict,
    days_missing,
    part_estimate,
    part_interval,
    sides,
    verdicts,
)
from sentinel.experiments.lineup import Experiment
from sentinel.experiments.observed import DAY_US, Frauds, Observed


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What was known when the payments of so many days were mature.

    Attributes:
        day: Days since the first payment.
        champion, challenger: Frauds that came to light and that only this one would catch.
        part, low, high: The challenger's part of them, weighted, and its interval over all looks.
            One half: both are worth the same. `part` is None before the first fraud.
    """

    day: int
    champion: int
    challenger: int
    part: float | None
    low: float
    high: float


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a challenger.

    Attributes:
        verdict: "wait", "promote", "keep" or "stop".
        why: In words.
        looks: One for each mature day; the last one is what the verdict rests on.
        days: Of mature payments.
        payments, decided: That were compared, and that the challenger decided.
        budget: Share of payments that both may alert on.
        extra_frauds: Frauds that the challenger would have caught more than the champion, had each
            decided all mature payments; an estimate.
        extra_minor: Their amounts, minor units; an estimate.
        days_missing: Days until a promotion if all goes on as it was; None if never, or if there
            is a verdict.
        immature_champion, immature_challenger: Frauds of payments that are not mature, which do
            not count yet: those that are reported first may be of a kind of their own.
        disagreements: Payments that only one of the two would alert on, fraud or not.
        agreed: Those that the other one decided and stopped all the same.
        repeated, late, degraded: What was left out; see `Observed`.
        champion_precision, challenger_precision: Estimates for all alerts, mature or not.
    """

    verdict: str
    why: str
    looks: tuple[Look, ...]
    days: float
    payments: int
    decided: int
    budget: float | None
    extra_frauds: float
    extra_minor: float
    days_missing: float | None
    immature_champion: int
    immature_challenger: int
    disagreements: int
    agreed: int
    repeated: int
    late: int
    degraded: int
    champion_precision: PrecisionEstimate | None
    challenger_precision: PrecisionEstimate | None


class ExperimentState(msgspec.Struct, frozen=True, kw_only=True):
    """An experiment, and what is known of it.

    Attributes:
        experiment: As it runs, or as it ran last.
        running: Whether it runs.
        share: The share right now; 0 if it does not decide.
        ended_by, ended_why: Who stopped it and why; empty if it runs.
        not_served: That its model has scored none of the latest payments although it is in the
            line-up, in words; empty if it has, or if there were none.
        judgement: None for a shadow or a segment model: only challengers share payments with the
            champion by chance.
    """

    experiment: Experiment
    running: bool
    share: float
    ended_by: str
    ended_why: str
    judgement: Judgement | None
    not_served: str = ""


def judge(observed: Observed, rules: Rules) -> Judgement:
    """Judge what was observed.

    Args:
        observed: The experiment.
        rules: When it is decided.
    """
    frauds = observed.frauds
    kinds, of_kind = _kinds(frauds)
    first = observed.blocks[0].start_us if observed.blocks else 0
    days = math.ceil(observed.mature_days)
    counts = _daily(frauds, of_kind, len(kinds.share), first, days)
    numbers = np.arange(1.0, days + 1)
    verdict, missing = Verdict.WAIT, math.inf
    looks: tuple[Look, ...] = ()
    if days:
        interval = part_interval(kinds, counts, rules)
        part = part_estimate(kinds, counts)
        champion, challenger = sides(kinds, counts)
        looks = tuple(
            Look(
                day=day + 1,
                champion=int(champion[day]),
                challenger=int(challenger[day]),
                part=None if math.isnan(part[day]) else float(part[day]),
                low=float(interval.low[day]),
                high=float(interval.high[day]),
            )
            for day in range(days)
        )
        verdict = Verdict(int(verdicts(kinds, counts, numbers, rules)[-1]))
        if verdict is Verdict.WAIT:
            missing = days_missing(kinds, counts[-1], float(days), rules)
    mature = frauds.mature
    sign = np.where(frauds.challenger, 1.0, -1.0)
    weights = _weights(frauds)
    blocks = observed.blocks
    payments = observed.payments
    return Judgement(
        verdict=verdict.name.lower(),
        why=_why(verdict, looks, missing, rules),
        looks=looks,
        days=observed.mature_days,
        payments=payments,
        decided=sum(block.decided for block in blocks),
        budget=sum(b.budget * b.payments for b in blocks) / payments if payments else None,
        extra_frauds=float((sign * weights)[mature].sum()),
        extra_minor=float((sign * weights * frauds.amount_minor)[mature].sum()),
        days_missing=None if math.isinf(missing) else missing,
        immature_champion=int(np.count_nonzero(~mature & ~frauds.challenger)),
        immature_challenger=int(np.count_nonzero(~mature & frauds.challenger)),
        disagreements=observed.champion_alone.payments + observed.challenger_alone.payments,
        agreed=observed.champion_alone.agreed + observed.challenger_alone.agreed,
        repeated=observed.repeated,
        late=observed.late,
        degraded=observed.degraded,
        champion_precision=estimate(observed.champion),
        challenger_precision=estimate(observed.challenger),
    )


def _weights(frauds: Frauds) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    ones = np.ones(len(frauds.share))
    return Kinds(challenger=frauds.challenger, share=frauds.share, propensity=ones).weights


def _kinds(frauds: Frauds) -> tuple[Kinds, Counts]:
    """Kinds of the frauds, and which one each is of, (n,)."""
    rows = np.column_stack([frauds.challenger.astype(np.float64), frauds.share])
    distinct, of_kind = np.unique(rows, axis=0, return_inverse=True)
    kinds = Kinds(
        challenger=distinct[:, 0] > 0, share=distinct[:, 1], propensity=np.ones(len(distinct))
    )
    return kinds, np.asarray(of_kind, np.int64).ravel()


def _daily(frauds: Frauds, of_kind: Counts, kinds: int, first_us: int, days: int) -> Counts:
    """int64 (days, kinds): mature frauds until the end of each day."""
    counts = np.zeros((days, kinds), dtype=np.int64)
    rows = np.flatnonzero(frauds.mature)
    day = np.minimum((frauds.received_at_us[rows] - first_us) // DAY_US, max(days - 1, 0))
    if days:
        np.add.at(counts, (day, of_kind[rows]), 1)
    return np.asarray(counts.cumsum(axis=0), np.int64)


def _why(verdict: Verdict, looks: tuple[Look, ...], missing: float, rules: Rules) -> str:
    if not looks:
        return "No payment is mature yet, so nothing counts."
    last = looks[-1]
    if verdict is Verdict.PROMOTE:
        return (
            f"Of the frauds that only one model catches, the challenger catches "
            f"{last.low:.0%} to {last.high:.0%}: more than half."
        )
    if verdict is Verdict.KEEP:
        return (
            f"Of the frauds that only one model catches, the challenger catches "
            f"{last.low:.0%} to {last.high:.0%}: less than half."
        )
    if verdict is Verdict.STOP:
        return (
            f"A promotion is out of reach within {rules.most_days} days of mature payments: the "
            "two models differ too little, or too few frauds come to light. A share nearer to "
            "one half shows more."
        )
    lacking = [
        f"{rules.least_side - seen} more frauds that only the {who} catches"
        for who, seen in (("champion", last.champion), ("challenger", last.challenger))
        if seen < rules.least_side
    ]
    said = f"Missing: {' and '.join(lacking)}. " if lacking else ""
    if math.isinf(missing):
        return said + "As it is going, the interval will not leave one half."
    return said + f"As it is going, about {missing:.0f} more days of mature payments."
