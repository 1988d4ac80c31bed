"""What experiments are worth: a champion that they replace, against the first one that stays.

Fraud changes: every few weeks a new kind of it appears, grows, and crowds out older ones. A
candidate is trained each month (LightGBM, on payments whose labels are mature) and decides on half
of the cards beside the champion. Both alert on the same number of payments a day. The rule that
judges real experiments (`sentinel.experiments.judging`) looks every day at the frauds that came to
light on mature payments, and promotes the candidate or ends it. Money is the amounts of frauds that
whoever decided has stopped; the other arm is the first champion with the same alerts on the same
payments.

Labels for training are those of all mature payments: stopped ones are taken to be reviewed.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Final

import lightgbm as lgb
import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

from sentinel.experiments.judging import Rules, Verdict, kinds_of, verdicts

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

SEEDS: Final = 8
DAYS: Final = 480
FIRST_DAYS: Final = 120
"""Days before the first champion begins; nothing is counted on them."""
PAYMENTS_A_DAY: Final = 2_000
FRAUDS_A_DAY: Final = 40
ALERTS_A_DAY: Final = 40
FEATURES: Final = 12
NEW_KIND_EVERY_DAYS: Final = 45
KIND_LIVES_DAYS: Final = 240
TRAINED_ON_DAYS: Final = 60
CANDIDATE_EVERY_DAYS: Final = 30
MATURITY_DAYS: Final = 30
SHARE: Final = 0.5
RULES: Final = Rules()

_TREES: Final = {"objective": "binary", "num_leaves": 15, "verbose": -1, "num_threads": 1}


@dataclass(frozen=True, eq=False)
class World:
    """Payments of all days, in order: rows (n,) each."""

    features: npt.NDArray[np.float32]
    fraud: Flags
    amounts: Floats
    challenged: Flags
    """Whether the draw of its card gives a payment to a challenger."""


@dataclass
class Arm:
    """What became of a world.

    Attributes:
        saved, stayed: Amounts stopped by whoever decided, and by the first champion.
        lost: Amounts of all frauds.
        promoted, ended: Experiments, by how they ended.
        days: Days that promoted ones took, from start to promotion.
    """

    saved: float = 0.0
    stayed: float = 0.0
    lost: float = 0.0
    promoted: int = 0
    ended: int = 0
    days: list[int] = field(default_factory=list)


def world_of(seed: int) -> World:
    """Payments of a world whose fraud changes."""
    random = np.random.default_rng(seed)
    n = DAYS * PAYMENTS_A_DAY
    features = random.standard_normal((n, FEATURES)).astype(np.float32)
    fraud = np.zeros((DAYS, PAYMENTS_A_DAY), dtype=np.bool_)
    fraud[:, :FRAUDS_A_DAY] = True
    day = np.repeat(np.arange(DAYS), FRAUDS_A_DAY)
    births = np.arange(-KIND_LIVES_DAYS, DAYS, NEW_KIND_EVERY_DAYS)
    age = day[:, None] - births[None, :]
    # A kind grows for a third of its life, and fades.
    weight = np.where((age >= 0) & (age < KIND_LIVES_DAYS), np.minimum(age, 80) + 5, 0)
    weight = weight * np.clip((KIND_LIVES_DAYS - age) / KIND_LIVES_DAYS, 0, 1)
    chance = weight.cumsum(axis=1) / weight.sum(axis=1, keepdims=True)
    kind = (random.random(len(day))[:, None] > chance).sum(axis=1)
    marks = np.zeros((len(births), FEATURES), dtype=np.float32)
    for row in marks:
        chosen = random.choice(FEATURES, 3, replace=False)
        row[chosen] = random.choice([-1.0, 1.0], 3) * random.uniform(1.5, 2.6, 3)
    rows = np.flatnonzero(fraud.ravel())
    features[rows] += marks[kind]
    amounts = random.lognormal(4.0, 1.0, n)
    return World(features, fraud.ravel(), amounts, random.random(n) < SHARE)


def _train(world: World, until_day: int, seed: int) -> lgb.Booster:
    """A model of the days whose labels are mature at a day."""
    end = max(until_day - MATURITY_DAYS, 1) * PAYMENTS_A_DAY
    rows = slice(max(end - TRAINED_ON_DAYS * PAYMENTS_A_DAY, 0), end)
    known = lgb.Dataset(world.features[rows], world.fraud[rows].astype(np.int8))
    return lgb.train({**_TREES, "seed": seed}, known, 60)


def _alerts(model: lgb.Booster, world: World, first: int, last: int) -> Flags:
    """Bool (days, payments a day): what a model would alert on, as much on each day."""
    rows = slice(first * PAYMENTS_A_DAY, last * PAYMENTS_A_DAY)
    scores = np.asarray(model.predict(world.features[rows], num_threads=1))
    by_day = scores.reshape(-1, PAYMENTS_A_DAY)
    line = np.partition(by_day, -ALERTS_A_DAY, axis=1)[:, -ALERTS_A_DAY]
    return np.asarray(by_day >= line[:, None], np.bool_)


def live_through(seed: int) -> Arm:
    """A world from its first champion to its end."""
    world, arm = world_of(seed), Arm()
    fraud = world.fraud.reshape(DAYS, -1)
    amounts = world.amounts.reshape(DAYS, -1)
    challenged = world.challenged.reshape(DAYS, -1)

    def stopped_by(model: lgb.Booster, first: int) -> Flags:
        """The same of all days; of those before the first, nothing."""
        whole = np.zeros((DAYS, PAYMENTS_A_DAY), dtype=np.bool_)
        whole[first:] = _alerts(model, world, first, DAYS)
        return whole

    champion = stopped_by(_train(world, FIRST_DAYS, seed), FIRST_DAYS)
    first_champion = champion
    challenger: Flags | None = None
    began = FIRST_DAYS
    seen = np.zeros((DAYS, 2), dtype=np.int64)
    for day in range(FIRST_DAYS, DAYS):
        if challenger is None and (day - FIRST_DAYS) % CANDIDATE_EVERY_DAYS == 0:
            if day > FIRST_DAYS:
                challenger = stopped_by(_train(world, day, seed + day), day)
                began, seen = day, np.zeros((DAYS, 2), dtype=np.int64)
        taken = challenged[day] if challenger is not None else np.False_
        stops = (
            champion[day] if challenger is None else np.where(taken, challenger[day], champion[day])
        )
        arm.saved += float(amounts[day][stops & fraud[day]].sum())
        arm.stayed += float(amounts[day][first_champion[day] & fraud[day]].sum())
        arm.lost += float(amounts[day][fraud[day]].sum())
        if challenger is None:
            continue
        # A fraud comes to light where whoever decided let it pass.
        alone = fraud[day] & champion[day] & ~challenger[day] & taken
        other = fraud[day] & challenger[day] & ~champion[day] & ~taken
        seen[day] = alone.sum(), other.sum()
        mature = day - MATURITY_DAYS + 1
        if mature <= began:
            continue
        counts = seen[began:mature].sum(axis=0)
        verdict = verdicts(kinds_of(SHARE), counts, np.array(float(mature - began)), RULES)
        if verdict == Verdict.PROMOTE:
            champion, challenger = challenger, None
            arm.promoted += 1
            arm.days.append(day - began)
        elif verdict != Verdict.WAIT:
            challenger = None
            arm.ended += 1
    return arm


def money(seeds: int = SEEDS) -> dict[str, Any]:
    """What experiments save, over worlds, with the interval of the mean (Student's t, 95 %)."""
    began = time.perf_counter()
    arms = [live_through(1_000 * (seed + 1)) for seed in range(seeds)]
    days = DAYS - FIRST_DAYS
    more = np.array([(arm.saved - arm.stayed) / days for arm in arms])
    part = np.array([(arm.saved - arm.stayed) / arm.lost for arm in arms])
    spread = student.ppf(0.975, seeds - 1) * more.std(ddof=1) / np.sqrt(seeds)
    took = [days for arm in arms for days in arm.days]
    return {
        "money_saved_against_static": round(float(more.mean()), 1),
        "money": {
            "unit": "a day, of the currency",
            "low": round(float(more.mean() - spread), 1),
            "high": round(float(more.mean() + spread), 1),
            "worlds": seeds,
            "days": days,
            "fraud_a_day": round(float(np.mean([arm.lost / days for arm in arms])), 1),
            "stopped_by_first_champion": round(
                float(np.mean([arm.stayed / arm.lost for arm in arms])), 4
            ),
            "stopped_with_experiments": round(
                float(np.mean([arm.saved / arm.lost for arm in arms])), 4
            ),
            "part_of_fraud_saved_more": [round(float(one), 4) for one in np.sort(part)],
            "promoted": sum(arm.promoted for arm in arms),
            "ended": sum(arm.ended for arm in arms),
            "median_days_to_promotion": float(np.median(took)) if took else None,
            "seconds": round(time.perf_counter() - began, 1),
        },
    }
