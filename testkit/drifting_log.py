"""Small logs of decisions whose payments change at some hour, and references of before that."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from sentinel.domain import Transaction
from sentinel.drift.bins import SCORE, freeze_bins
from sentinel.drift.counting import count_cells
from sentinel.drift.notices import HOUR_US
from sentinel.drift.open_streams import FollowedModel
from sentinel.drift.reference import DriftReference, freeze_reference
from sentinel.drift.segments import Segment, members
from sentinel.features.plan.parts import RequestFeature
from sentinel.features.plan.plan import Plan
from sentinel.ledger.base import Ledger
from sentinel.log.entries import (
    FLAG_DEGRADED,
    GROUP_FORMAT,
    DecisionGroup,
    GroupKind,
    decode_decisions,
    encode_group,
)
from sentinel.models.serving import model_folder
from sentinel.settings import Settings
from testkit.experiments import install_version

START_HOUR: Final = 490_000
MODEL: Final = "sentinel-fraud"
NAMES: Final = ("amount", "risk")
REFERENCE_DAYS: Final = 21
PLAN: Final = Plan(
    views=(),
    request=(
        RequestFeature(name="amount", kind="amount"),
        RequestFeature(name="risk", kind="number", column="risk"),
    ),
)
SEGMENTS: Final = (
    Segment("all payments"),
    Segment("amount below 50", "amount", high=50.0),
    Segment("amount from 50", "amount", low=50.0),
)


def vectors_of(
    random: np.random.Generator, rows: int, *, shift: float = 0.0
) -> npt.NDArray[np.float32]:
    """float32 (rows, 3): amount, risk, score; a twentieth of the risks is unknown."""
    X = np.empty((rows, 3), np.float32)
    X[:, 0] = random.exponential(60.0, rows)
    X[:, 1] = random.normal(shift, 1.0, rows)
    X[:, 2] = random.beta(1, 20, rows)
    X[random.random(rows) < 0.05, 1] = np.nan
    return X


def reference_of(
    seed: int = 1,
    *,
    per_hour: int = 120,
    days: int = REFERENCE_DAYS,
    until_hour: int = START_HOUR,
    shift: float = 0.0,
) -> DriftReference:
    """A reference of payments that do not change."""
    random = np.random.default_rng(seed)
    hours = np.arange(until_hour - days * 24, until_hour, dtype=np.int64)
    X = vectors_of(random, per_hour * len(hours), shift=shift)
    bins = freeze_bins(X, (*NAMES, SCORE), cells=9)
    counts = np.zeros((len(hours), len(SEGMENTS), bins.cells), np.uint32)
    for at in range(len(hours)):
        rows = X[at * per_hour : (at + 1) * per_hour]
        count_cells(bins, rows, members(SEGMENTS, rows, bins.names), counts[at])
    return freeze_reference(bins, SEGMENTS, hours, counts)


def followed(reference: DriftReference) -> FollowedModel:
    """A model whose vectors are those of `PLAN` alone."""
    own = np.arange(len(NAMES), dtype=np.int64)
    return FollowedModel(reference, lambda plan_hash: own if plan_hash == PLAN.hash else None)


def install_followed(settings: Settings, version: str, reference: DriftReference) -> None:
    """Put a model of `PLAN` with a reference where the monitor looks for it."""
    install_version(settings, PLAN, version, verdict=None)
    reference.save(model_folder(settings, version))


def fill_hours(
    ledger: Ledger,
    hours: Sequence[int],
    *,
    per_hour: int = 60,
    per_group: int = 20,
    shift: float = 0.0,
    version: str = "1",
    degraded: bool = True,
    late_by_us: int = 0,
    seed: int = 5,
) -> int:
    """Append hours of decisions; every tenth is degraded and knows no risk. Returns how many."""
    count = 0
    for hour in hours:
        random = np.random.default_rng((seed, hour))
        X = vectors_of(random, per_hour, shift=shift)
        times = hour * HOUR_US + np.sort(random.integers(0, HOUR_US, per_hour))
        for first in range(0, per_hour, per_group):
            rows = slice(first, min(first + per_group, per_hour))
            group = group_of(
                X[rows],
                times[rows],
                f"{version}-{seed}-{hour}-{first}",
                version,
                degraded,
                late_by_us,
            )
            n = len(group.transactions)
            end_us = max(int(times[rows][-1]), ledger.last_received_at_us())
            ids = [one.transaction_id for one in group.transactions]
            payload = encode_group(group)
            ledger.append(GroupKind.DECISIONS, n, end_us, payload, transaction_ids=ids)
            count += n
    return count


def group_of(
    X: npt.NDArray[np.float32],
    received_us: npt.NDArray[np.int64],
    name: str,
    version: str,
    degraded: bool,
    late_by_us: int,
) -> DecisionGroup:
    """A group of decisions."""
    n = len(X)
    flags = np.arange(n, dtype=np.uint32) % 3
    vectors = X[:, :-1].astype("<f4")
    if degraded:
        flags[::10] |= FLAG_DEGRADED
        vectors[::10, 1] = np.nan
    return DecisionGroup(
        format=GROUP_FORMAT,
        plan_hash=PLAN.hash,
        model_name=MODEL,
        model_version=version,
        transactions=[
            Transaction(
                transaction_id=f"{name}-{row}",
                event_time_us=int(at) - late_by_us,
                received_at_us=int(at),
                amount_minor=100,
            )
            for row, at in enumerate(received_us.tolist())
        ],
        vectors=vectors.tobytes(),
        scores=np.zeros(n).tobytes(),
        probabilities=X[:, -1].astype("<f8").tobytes(),
        flags=flags.astype("<u4").tobytes(),
        reason_features=np.full((n, 4), -1, "<i2").tobytes(),
        reason_contributions=np.zeros((n, 4), "<f4").tobytes(),
        latencies_us=np.zeros(n, "<u4").tobytes(),
    )


def decisions_in(ledger: Ledger) -> Iterator[DecisionGroup]:
    """The groups of decisions of a log."""
    for group in ledger.groups():
        if group.kind == GroupKind.DECISIONS:
            yield decode_decisions(group.payload)
