"""The control group lets through a known share of what would be stopped, and nothing else."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from sentinel.domain import ConfigurationError, Transaction
from sentinel.features.plan.plan import DAY_US
from sentinel.log.entries import FLAG_DEGRADED, FLAG_IS_FRAUD, outcome_codes
from sentinel.models.thresholds import Thresholds
from sentinel.policy.exploration import (
    KEY_FILE,
    ControlGroup,
    ExplorationKey,
    exploration_key,
)
from sentinel.policy.ruling import Policy
from sentinel.settings import PolicySettings, Settings

LINES = Thresholds(fraud=0.4, review=0.3, decline=0.8)
KEY = ExplorationKey(b"0123456789abcdef")
SHARE = 0.05
POLICY = Policy(LINES, control=ControlGroup(share=SHARE))


def payments(
    n: int, amount: int = 100, *, card_id: str | None = None, customer_id: str | None = None
) -> list[Transaction]:
    return [
        Transaction(
            transaction_id=f"t{i}",
            event_time_us=i * 1_000_000,
            received_at_us=0,
            amount_minor=amount,
            card_id=card_id,
            customer_id=customer_id,
        )
        for i in range(n)
    ]


def test_the_share_of_stopped_payments_is_let_through_and_recorded() -> None:
    some = payments(20_000)
    probability = np.tile([0.1, 0.5, 0.9, 0.9], 5_000)
    given = np.zeros(len(some), np.uint8)
    ruling = POLICY.rule(probability, given, some, key=KEY)
    control = ruling.control
    assert control is not None
    base = Policy(LINES).rule(probability, given).flags
    assert control.base_outcomes.tolist() == outcome_codes(base).tolist()
    assert control.eligible.tolist() == (control.base_outcomes > 0).tolist()
    explored = control.eligible & (outcome_codes(ruling.flags) == 0)
    assert explored.sum() == pytest.approx(15_000 * SHARE, rel=0.12)  # 3.3 standard errors
    assert set(control.propensities[explored].tolist()) == {np.float32(SHARE)}
    kept = control.eligible & ~explored
    assert set(control.propensities[kept].tolist()) == {np.float32(1 - SHARE)}
    assert (control.propensities[~control.eligible] == 1).all()
    # What a model thinks of a payment does not change because it was let through.
    assert ((ruling.flags ^ base) & FLAG_IS_FRAUD == 0).all()


def test_a_card_meets_the_same_answer_all_day_and_is_drawn_anew_the_next() -> None:
    card = payments(1, card_id="c1")[0]
    draws = [
        KEY.draw(msgspec.structs.replace(card, transaction_id=f"t{n}", event_time_us=n * 3_600_000))
        for n in range(10)
    ]
    assert len(set(draws)) == 1
    tomorrow = msgspec.structs.replace(card, event_time_us=DAY_US)
    assert KEY.draw(tomorrow) != draws[0]
    assert ExplorationKey(b"fedcba9876543210").draw(card) != draws[0]


def test_without_a_card_the_customer_is_drawn_and_then_the_payment_itself() -> None:
    both = payments(1, card_id="x", customer_id="y")[0]
    customer = msgspec.structs.replace(both, card_id=None)
    nobody = msgspec.structs.replace(customer, customer_id=None)
    assert len({KEY.draw(one) for one in (both, customer, nobody)}) == 3
    again = msgspec.structs.replace(customer, transaction_id="another")
    assert KEY.draw(again) == KEY.draw(customer)
    assert KEY.draw(msgspec.structs.replace(nobody, transaction_id="another")) != KEY.draw(nobody)


def test_draws_are_even() -> None:
    found = np.sort([KEY.draw(one) for one in payments(5_000)])
    assert 0 <= found[0] <= found[-1] < 1
    assert abs(found - np.arange(5_000) / 5_000).max() < 0.025  # Kolmogorov-Smirnov at 0.4 %


def test_what_is_beyond_the_limits_is_not_eligible_and_says_so() -> None:
    group = ControlGroup(share=SHARE, most_amount_minor=1_000, count_feature="n", most_count=3)
    some = payments(6_000)
    some[::3] = payments(2_000, amount=1_001)
    counts = np.tile(np.array([1, 3, 4, 1, np.nan, 4], np.float32), 1_000)
    probability = np.full(len(some), 0.9)
    ruling = Policy(LINES, control=group).rule(
        probability, np.zeros(len(some), np.uint8), some, key=KEY, counts=counts
    )
    assert ruling.control is not None
    # Every third is too dear, every third is of a card that was too busy; unknown is not busy.
    assert ruling.control.eligible.tolist() == [False, True, False] * 2_000
    stopped = outcome_codes(ruling.flags) == 2
    assert stopped[~ruling.control.eligible].all()
    assert not stopped[ruling.control.eligible].all()


def test_degraded_decisions_are_never_let_through() -> None:
    some = payments(2_000)
    flags = np.full(len(some), FLAG_DEGRADED, np.uint8)
    declines = msgspec.structs.replace(
        POLICY, degraded=msgspec.structs.replace(POLICY.degraded, outcome="decline")
    )
    ruling = declines.rule(np.full(len(some), 0.9), flags, some, key=KEY)
    assert (outcome_codes(ruling.flags) == 2).all()
    assert ruling.control is None


@pytest.mark.parametrize(
    ("policy", "key"),
    [(Policy(LINES), KEY), (POLICY, None), (Policy(LINES, control=ControlGroup(share=0)), KEY)],
)
def test_without_a_share_or_a_key_nothing_is_random(
    policy: Policy, key: ExplorationKey | None
) -> None:
    some = payments(3_000)
    ruling = policy.rule(np.full(len(some), 0.9), np.zeros(len(some), np.uint8), some, key=key)
    assert ruling.control is None
    assert (outcome_codes(ruling.flags) == 2).all()


def test_the_secret_is_made_once_and_can_be_given(tmp_path: Path) -> None:
    settings = Settings(workspace=tmp_path / "w")
    made = exploration_key(settings)
    assert (tmp_path / "w" / KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert exploration_key(settings).check == made.check
    given = settings.model_copy(
        update={"policy": PolicySettings.model_validate({"control_group_secret": "a" * 20})}
    )
    assert exploration_key(given).check != made.check
    with pytest.raises(ConfigurationError, match="has 5 bytes; it needs 16"):
        ExplorationKey(b"short")


def test_a_share_beyond_the_most_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"it lies from 0 to 0\.05"):
        ControlGroup(share=0.06).check()
