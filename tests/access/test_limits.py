"""A caller sends what a minute allows, evenly over time, and nobody else pays for it."""

from __future__ import annotations

from typing import Any

import pytest

from sentinel.access.limits import MOST_CALLERS, Rates
from sentinel.access.principals import NOBODY, Principal
from sentinel.access.scopes import ALL_SCOPES
from sentinel.domain import RateLimited
from sentinel.settings import AccessSettings


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def caller(name: str = "shop", **limits: Any) -> Principal:
    return Principal(key_id=name, name=name, scopes=ALL_SCOPES, **limits)


def rates(clock: Clock, **settings: int) -> Rates:
    return Rates(AccessSettings.model_validate(settings), clock)


def test_a_bucket_is_empty_after_a_minutes_requests_and_fills_evenly() -> None:
    clock = Clock()
    limits = rates(clock, requests_per_minute=60)
    for _ in range(60):
        limits.spend(caller(), "", requests=1)
    with pytest.raises(RateLimited, match="60 requests a minute") as refused:
        limits.spend(caller(), "", requests=1)
    assert refused.value.retry_after_seconds == pytest.approx(1.0)
    assert refused.value.allowances[0].left == 0
    clock.now += 3.0
    for _ in range(3):
        limits.spend(caller(), "", requests=1)
    with pytest.raises(RateLimited):
        limits.spend(caller(), "", requests=1)
    limits.spend(caller("another"), "", requests=1)


def test_a_key_has_limits_of_its_own_before_those_of_the_settings() -> None:
    limits = rates(Clock(), requests_per_minute=1)
    limits.spend(caller(requests_per_minute=2), "", requests=2)
    with pytest.raises(RateLimited):
        limits.spend(caller(requests_per_minute=2), "", requests=1)
    limits.spend(caller("free", requests_per_minute=0), "", requests=1_000)
    assert limits.left(caller("free", requests_per_minute=0), "") == ()


def test_a_batch_larger_than_a_minute_is_sent_once_and_paid_off() -> None:
    clock = Clock()
    limits = rates(clock, payments_per_minute=100)
    limits.spend(caller(), "", payments=300)
    with pytest.raises(RateLimited, match="payments"):
        limits.spend(caller(), "", payments=1)
    clock.now += 119
    with pytest.raises(RateLimited):
        limits.spend(caller(), "", payments=1)
    clock.now += 2
    limits.spend(caller(), "", payments=1)


def test_addresses_have_limits_only_where_the_settings_say_so() -> None:
    limits = rates(Clock(), requests_per_minute=1)
    limits.spend(NOBODY, "192.0.2.1", requests=1_000)
    assert not limits.limits(NOBODY)
    limits = rates(Clock(), requests_per_minute=1, limit_addresses=True)
    limits.spend(NOBODY, "192.0.2.1", requests=1)
    limits.spend(NOBODY, "192.0.2.2", requests=1)
    with pytest.raises(RateLimited, match="This address"):
        limits.spend(NOBODY, "192.0.2.1", requests=1)


def test_callers_that_are_remembered_are_bounded() -> None:
    limits = rates(Clock(), requests_per_minute=1, limit_addresses=True)
    for number in range(MOST_CALLERS + 5):
        limits.spend(NOBODY, f"address-{number}", requests=1)
    assert len(limits._buckets) == MOST_CALLERS
