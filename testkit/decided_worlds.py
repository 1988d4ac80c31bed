"""Ledgers of decisions whose truth is known to the test, as scorers and analysts leave them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from sentinel.domain import Label, Transaction, Verdict
from sentinel.features.plan.plan import DAY_US
from sentinel.ledger.sqlite import SqliteLedger
from sentinel.log.columns import NO_COLUMNS, with_control_group
from sentinel.log.entries import (
    LABEL_FORMAT,
    N_REASONS,
    GroupKind,
    LabelGroup,
    decisions_payload,
    encode_group,
    outcome_codes,
)
from sentinel.policy.exploration import ExplorationKey
from sentinel.policy.ruling import Policy
from sentinel.settings import Settings

START_US: Final = 1_700_000_000_000_000
_GROUP: Final = 500


@dataclass(frozen=True, eq=False)
class _Figures:
    vectors: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float64]
    probabilities: npt.NDArray[np.float64]
    flags: npt.NDArray[np.uint32]
    reason_features: npt.NDArray[np.int16]
    reason_contributions: npt.NDArray[np.float32]
    positions: bytes = b""


@dataclass(frozen=True, eq=False)
class DecidedWorld:
    """What was decided, and the truth. All arrays are (n_rows,).

    Attributes:
        probability: float64, which is right.
        fraud: bool, the truth.
        outcome: int64, outcome codes.
        base_outcome: int64, the same before the control group.
    """

    probability: npt.NDArray[np.float64]
    fraud: npt.NDArray[np.bool_]
    outcome: npt.NDArray[np.int64]
    base_outcome: npt.NDArray[np.int64]


def decided_world(
    settings: Settings,
    policy: Policy,
    *,
    key: ExplorationKey | None = None,
    days: float = 90.0,
    payments: int = 30_000,
    seed: int = 7,
) -> DecidedWorld:
    """Fill the ledger of a workspace with decisions, chargebacks and verdicts of analysts.

    An approved fraud is labelled twenty days later, a reviewed payment within the hour; a declined
    one never is.
    """
    random = np.random.default_rng(seed)
    risky = random.random(payments) < 0.05
    probability = np.where(
        risky, random.beta(1.2, 0.9, payments), random.beta(0.3, 200.0, payments)
    )
    fraud = random.random(payments) < probability
    amount = np.round(np.exp(random.normal(8.0, 1.0, payments))).astype(np.int64)
    times = START_US + np.sort(random.integers(0, round(days * DAY_US), payments))
    transactions = [
        Transaction(
            transaction_id=f"t{n}",
            event_time_us=int(times[n]),
            received_at_us=int(times[n]),
            amount_minor=int(amount[n]),
            card_id=f"c{random.integers(payments)}",
            attributes={"channel": "app" if n % 4 == 0 else "pos"},
        )
        for n in range(payments)
    ]
    ruling = policy.rule(probability, np.zeros(payments, np.uint8), transactions, key=key)
    outcome = outcome_codes(ruling.flags).astype(np.int64)
    control = ruling.control
    base = outcome if control is None else control.base_outcomes.astype(np.int64)
    entries: list[tuple[int, int, bytes, GroupKind]] = []
    for first in range(0, payments, _GROUP):
        some = slice(first, first + _GROUP)
        n = len(transactions[some])
        columns = NO_COLUMNS
        if control is not None:
            columns = with_control_group(
                columns,
                control.base_outcomes[some],
                control.eligible[some],
                control.propensities[some],
            )
        payload = decisions_payload(
            transactions[some],
            _Figures(
                np.zeros((n, 1), np.float32),
                probability[some],
                probability[some],
                ruling.flags[some],
                np.full((n, N_REASONS), -1, np.int16),
                np.zeros((n, N_REASONS), np.float32),
            ),
            [100] * n,
            plan_hash="0" * 16,
            model_name="made-up",
            model_version="1",
            policy_hash=ruling.policy_hash,
            columns=columns,
        )
        entries.append((transactions[some][-1].received_at_us, n, payload, GroupKind.DECISIONS))
    after = {0: 20 * DAY_US, 1: DAY_US // 24}
    end_us = START_US + round(days * DAY_US)
    for n in np.flatnonzero((outcome == 1) | (fraud & (outcome == 0))).tolist():
        arrives = int(times[n]) + after[int(outcome[n])]
        if arrives < end_us:
            label = Label(
                label_id=f"l{n}",
                transaction_id=f"t{n}",
                verdict=Verdict.FRAUD if fraud[n] else Verdict.LEGITIMATE,
                received_at_us=arrives,
            )
            payload = encode_group(LabelGroup(LABEL_FORMAT, [label]))
            entries.append((arrives, 1, payload, GroupKind.LABELS))
    settings.workspace.mkdir(parents=True, exist_ok=True)
    with SqliteLedger.open_writer(settings.ledger_path) as ledger:
        for at_us, n, payload, kind in sorted(entries, key=lambda entry: entry[0]):
            ledger.append(kind, n, at_us, payload)
    return DecidedWorld(probability, fraud, outcome, base)
