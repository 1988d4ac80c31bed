"""A policy rules on probabilities; degraded decisions have bands, or an outcome, of their own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.domain import ConfigurationError, Outcome
from sentinel.log.entries import (
    FLAG_DEGRADED,
    FLAG_IS_FRAUD,
    FLAG_LATE_EVENT,
    OUTCOMES,
)
from sentinel.models.thresholds import Thresholds
from sentinel.policy.degraded import DegradedPolicy, degraded_policy
from sentinel.policy.ruling import Policy
from sentinel.settings import PolicySettings

LINES = Thresholds(fraud=0.4, review=0.3, decline=0.8)
_shares = st.floats(0, 1, exclude_max=True)


def outcomes(flags: np.ndarray) -> list[Outcome]:
    return [OUTCOMES[code] for code in (flags & 3).tolist()]


@given(st.lists(_shares, min_size=1, max_size=40), _shares, _shares, _shares)
def test_a_line_belongs_to_what_it_begins(
    probabilities: list[float], fraud: float, one: float, other: float
) -> None:
    lines = Thresholds(fraud=fraud, review=min(one, other), decline=max(one, other))
    asked = [*probabilities, fraud, one, other]
    ruled = Policy(lines).rule(np.array(asked), np.zeros(len(asked), np.uint8)).flags
    assert outcomes(ruled) == [
        OUTCOMES[int(p >= lines.review) + int(p >= lines.decline)] for p in asked
    ]
    assert ((ruled & FLAG_IS_FRAUD) != 0).tolist() == [p >= fraud for p in asked]


def test_what_is_known_of_an_event_stays_in_its_flags() -> None:
    given_flags = np.array([FLAG_LATE_EVENT, FLAG_DEGRADED, 1 << 31], np.uint32)
    ruled = Policy(LINES).rule(np.array([0.35, 0.95, 0.95]), given_flags).flags
    assert ruled.tolist() == [
        FLAG_LATE_EVENT | 1,
        FLAG_DEGRADED,  # approved by default, whatever a model makes of a vector without state
        1 << 31 | FLAG_IS_FRAUD | 2,
    ]


@pytest.mark.parametrize(
    ("outcome", "is_fraud"), [("approve", False), ("review", False), ("decline", True)]
)
def test_all_degraded_decisions_can_have_one_outcome(outcome: str, is_fraud: bool) -> None:
    settings = PolicySettings.model_validate({"degraded": outcome})
    policy = Policy(LINES, degraded_policy(settings))
    probabilities = np.array([0.0, 0.5, 0.999])
    degraded = policy.rule(probabilities, np.full(3, FLAG_DEGRADED, np.uint8)).flags
    assert set(outcomes(degraded)) == {outcome}
    assert ((degraded & FLAG_IS_FRAUD) != 0).tolist() == [is_fraud] * 3
    ordinary = policy.rule(probabilities, np.zeros(3, np.uint8)).flags
    assert outcomes(ordinary) == ["approve", "review", "decline"]


def test_degraded_decisions_can_have_bands_of_their_own() -> None:
    settings = PolicySettings(degraded="bands", degraded_review=0.6, degraded_decline=0.9)
    policy = Policy(LINES, degraded_policy(settings))
    ruled = policy.rule(np.array([0.5, 0.85, 0.95]), np.full(3, FLAG_DEGRADED, np.uint8))
    assert outcomes(ruled.flags) == ["approve", "review", "decline"]
    only = degraded_policy(PolicySettings(degraded="bands", degraded_decline=0.9))
    ruled = Policy(LINES, only).rule(np.array([0.85, 0.95]), np.full(2, FLAG_DEGRADED, np.uint8))
    assert outcomes(ruled.flags) == ["approve", "decline"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"degraded": "bands"}, "needs policy.degraded_review"),
        ({"degraded": "review", "degraded_review": 0.5}, 'policy.degraded = "bands"'),
        (
            {"degraded": "bands", "degraded_review": 0.9, "degraded_decline": 0.5},
            "begins at a lower",
        ),
    ],
)
def test_settings_that_contradict_themselves_say_how_to_go_on(
    settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        degraded_policy(PolicySettings.model_validate(settings))


def test_a_policy_is_named_by_all_that_it_rules_by() -> None:
    names = {
        policy.hash
        for policy in (
            Policy(LINES),
            Policy(LINES, DegradedPolicy("review")),
            Policy(LINES, DegradedPolicy("", LINES)),
            Policy(Thresholds(fraud=0.4, review=0.3, decline=0.81)),
        )
    }
    assert len(names) == 4
    assert Policy(LINES).hash == Policy(LINES).hash == "eea12b4b8f2d4f3f"
