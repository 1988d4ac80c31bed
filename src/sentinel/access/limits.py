"""Rates: how many requests and payments a caller may send, by a bucket of tokens for each.

A bucket holds what a minute allows and fills evenly. A caller is a key, or an address where the
settings say so. A batch may take more than is there once, and is paid off before the next one: so a
batch larger than a minute's payments can be sent at all.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from sentinel.access.principals import Principal
from sentinel.domain import Allowance, RateLimited
from sentinel.settings import AccessSettings

MOST_CALLERS: Final = 10_000
"""Callers whose rates are remembered; the one that was seen first is forgotten then."""
REQUESTS: Final = "requests"
PAYMENTS: Final = "payments"


class Bucket:
    """What a caller may still take.

    Args:
        name: What is counted.
        per_minute: How much a minute allows.
        now: Seconds of a clock that never goes back.

    Attributes:
        left: What may be taken now; below 0 after a batch that took more than there was.

    >>> bucket = Bucket("requests", 60, 0.0)
    >>> [bucket.take(30, 0.0), bucket.take(30, 0.0), bucket.take(1, 0.0), bucket.take(1, 1.0)]
    [True, True, False, True]
    """

    __slots__ = ("_at", "left", "name", "per_minute")

    def __init__(self, name: str, per_minute: int, now: float) -> None:
        self.name = name
        self.per_minute = per_minute
        self.left = float(per_minute)
        self._at = now

    def take(self, count: int, now: float) -> bool:
        """Take so many; False, and none is taken, where too little is left."""
        self.left = min(self.left + (now - self._at) * self.per_minute / 60, self.per_minute)
        self._at = now
        if self.left < min(count, self.per_minute):
            return False
        self.left -= count
        return True

    def allowance(self) -> Allowance:
        """What is left, for the caller to know."""
        left = max(int(self.left), 0)
        missing = self.per_minute - self.left
        return Allowance(self.name, self.per_minute, left, missing * 60 / self.per_minute)


class Rates:
    """The rates of all callers. Lives on one event loop.

    Args:
        settings: What callers may do where their key says nothing else.
        clock: Seconds.
    """

    def __init__(
        self, settings: AccessSettings, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._buckets: dict[str, tuple[Bucket, ...]] = {}

    def limits(self, principal: Principal) -> bool:
        """Whether a caller has limits."""
        return bool(self._wanted(principal))

    def spend(
        self, principal: Principal, peer: str, *, requests: int = 0, payments: int = 0
    ) -> None:
        """Let a caller take so many.

        Args:
            principal: Who calls.
            peer: The address of a caller without a key; empty if it is not known, and then such a
                caller has no limits.
            requests, payments: What is asked for.

        Raises:
            RateLimited: Too many.
        """
        buckets = self._of(principal, peer)
        now = self._clock()
        for bucket in buckets:
            count = requests if bucket.name == REQUESTS else payments
            if count and not bucket.take(count, now):
                missing = min(count, bucket.per_minute) - bucket.left
                seconds = max(missing * 60 / bucket.per_minute, 1.0)
                caller = f"The key {principal.key_id!r}" if principal.key_id else "This address"
                raise RateLimited(
                    f"{caller} may send {bucket.per_minute:,} {bucket.name} a minute. Come again "
                    f"in {seconds:.0f} s.",
                    allowances=tuple(bucket.allowance() for bucket in buckets),
                    retry_after_seconds=seconds,
                )

    def left(self, principal: Principal, peer: str) -> tuple[Allowance, ...]:
        """What a caller may still send; empty for one without limits."""
        return tuple(bucket.allowance() for bucket in self._of(principal, peer))

    def _wanted(self, principal: Principal) -> tuple[tuple[str, int], ...]:
        """Names and sizes of the buckets of a caller."""
        settings = self._settings
        if not principal.key_id and not settings.limit_addresses:
            return ()
        requests, payments = principal.requests_per_minute, principal.payments_per_minute
        each = (
            (REQUESTS, settings.requests_per_minute if requests is None else requests),
            (PAYMENTS, settings.payments_per_minute if payments is None else payments),
        )
        return tuple((name, per_minute) for name, per_minute in each if per_minute)

    def _of(self, principal: Principal, peer: str) -> tuple[Bucket, ...]:
        wanted = self._wanted(principal)
        if not wanted or not (principal.key_id or peer):
            return ()
        # There is no space in the id of a key.
        caller = principal.key_id or f"address {peer}"
        found = self._buckets.get(caller)
        if found is None or tuple((b.name, b.per_minute) for b in found) != wanted:
            if found is None and len(self._buckets) >= MOST_CALLERS:
                del self._buckets[next(iter(self._buckets))]
            now = self._clock()
            found = tuple(Bucket(name, per_minute, now) for name, per_minute in wanted)
            self._buckets[caller] = found
        return found
