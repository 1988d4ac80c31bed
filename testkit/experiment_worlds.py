"""Weeks of an experiment with known truth, as groups of the log and labels.

Payments are drawn by a hash of their card. Each has a score of the champion and one of the
challenger; the one that decides stops the payment if its score is above a line. Of frauds, a part
is caught by the champion alone and a part by the challenger alone. Frauds that were let pass are
reported days later.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sentinel.domain import Label, Transaction, Verdict
from sentinel.ledger.open import open_writer
from sentinel.log.columns import DecisionColumns, RoleScores, with_control_group
from sentinel.log.entries import (
    GROUP_FORMAT,
    LABEL_FORMAT,
    N_REASONS,
    DecisionGroup,
    GroupKind,
    LabelGroup,
    encode_group,
)
from sentinel.settings import Settings

DAY_US = 86_400_000_000


@dataclass(frozen=True)
class World:
    """What happens; `days` days from `start_us` on."""

    name: str = "better-trees"
    days: int = 60
    payments_a_day: int = 600
    frauds_a_day: int = 40
    only_champion: float = 0.08
    only_challenger: float = 0.20
    share: float = 0.5
    passes: float = 0.0
    """Share of what would be stopped that a control group lets through."""
    payments_a_card: int = 1
    label_days: float = 3.0
    line: float = 0.7
    start_us: int = 1_767_225_600_000_000
    seed: int = 1


@dataclass(frozen=True, eq=False)
class Day:
    """A day's decisions, the labels of its frauds, and how many frauds each catches alone."""

    group: DecisionGroup
    labels: list[Label]
    only_champion: int
    only_challenger: int


def draw(name: str, unit: str) -> float:
    """A number in [0, 1) for a card in an experiment, always the same."""
    import xxhash

    return (xxhash.xxh3_64_intdigest(f"{name}\n{unit}".encode()) >> 11) * 2.0**-53


def days_of(world: World) -> Iterator[Day]:
    """The days, oldest first; a group of decisions each."""
    random = np.random.default_rng(world.seed)
    for day in range(world.days):
        yield _day(world, day, random)


def fill_log(settings: Settings, days: list[Day]) -> None:
    """Write decisions and labels to a deployment's log in the order in which they came."""
    labels = sorted((one for day in days for one in day.labels), key=lambda x: x.received_at_us)
    with open_writer(settings) as ledger:
        for day in days:
            last = day.group.transactions[-1].received_at_us
            payload = encode_group(day.group)
            ledger.append(GroupKind.DECISIONS, len(day.group.transactions), last, payload)
            due = [one for one in labels if one.received_at_us <= last]
            labels = labels[len(due) :]
            if due:
                said = encode_group(LabelGroup(LABEL_FORMAT, due))
                ledger.append(GroupKind.LABELS, len(due), last, said)


def _day(world: World, day: int, random: np.random.Generator) -> Day:
    n = world.payments_a_day
    fraud = np.zeros(n, dtype=np.bool_)
    fraud[random.choice(n, world.frauds_a_day, replace=False)] = True
    # Half of the frauds are caught by both; of good payments, one in a hundred by each.
    kind = random.random(n)
    alone_c, alone_h = world.only_champion, world.only_challenger
    champion = np.where(fraud, (kind < alone_c) | (kind > 0.5), random.random(n) < 0.01)
    challenger = np.where(
        fraud,
        ((kind >= alone_c) & (kind < alone_c + alone_h)) | (kind > 0.5),
        random.random(n) < 0.01,
    )
    # The one that catches more frauds has as much fewer false alerts: both alert alike.
    scores = [_scores(random, caught, world.line) for caught in (champion, challenger)]
    at = world.start_us + day * DAY_US + np.sort(random.integers(0, DAY_US, n))
    cards = [f"c{day}-{row // world.payments_a_card}" for row in range(n)]
    transactions = [
        Transaction(
            transaction_id=f"t{day}-{row}",
            event_time_us=int(at[row]),
            received_at_us=int(at[row]),
            amount_minor=int(random.integers(500, 20_000)),
            card_id=cards[row],
        )
        for row in range(n)
    ]
    taken = np.array([draw(world.name, f"card/{card}") < world.share for card in cards])
    deciding = np.where(taken, scores[1], scores[0])
    stopped = deciding >= world.line
    let_through = stopped & (random.random(n) < world.passes)
    flags = np.where(stopped & ~let_through, 2, 0).astype("<u4")
    columns = DecisionColumns(
        roles=(RoleScores(world.name, "sentinel", "2", scores[1].tobytes(), scores[1].tobytes()),),
        deciders=taken.astype(np.uint8).tobytes(),
    )
    if world.passes:
        propensity = np.where(stopped, np.where(let_through, world.passes, 1 - world.passes), 1.0)
        columns = with_control_group(
            columns,
            np.where(stopped, 2, 0).astype(np.uint8),
            stopped,
            propensity.astype(np.float32),
        )
    group = DecisionGroup(
        format=GROUP_FORMAT,
        plan_hash="p",
        model_name="sentinel",
        model_version="1",
        transactions=transactions,
        vectors=np.zeros((n, 1), dtype="<f4").tobytes(),
        scores=scores[0].tobytes(),
        probabilities=scores[0].tobytes(),
        flags=flags.tobytes(),
        reason_features=np.full((n, N_REASONS), -1, dtype="<i2").tobytes(),
        reason_contributions=np.zeros((n, N_REASONS), dtype="<f4").tobytes(),
        latencies_us=np.zeros(n, dtype="<u4").tobytes(),
        columns=columns,
    )
    labels = [
        Label(
            label_id=f"l{day}-{row}",
            transaction_id=f"t{day}-{row}",
            verdict=Verdict.FRAUD,
            received_at_us=int(at[row] + random.exponential(world.label_days) * DAY_US),
        )
        for row in np.flatnonzero(fraud & (flags == 0)).tolist()
    ]
    return Day(
        group,
        labels,
        int(np.count_nonzero(fraud & champion & ~challenger)),
        int(np.count_nonzero(fraud & challenger & ~champion)),
    )


def _scores(
    random: np.random.Generator, caught: np.ndarray, line: float
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    below, above = random.random((2, len(caught)))
    return np.asarray(np.where(caught, line + (1 - line) * above, line * below), "<f8")
