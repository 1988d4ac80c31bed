"""How often passwords may be tried, without a way to shut others out.

Tries are counted in three places. A browser that this user has logged in with before has a count
of its own, which nobody else can use up. All other browsers share one count per user and one per
address. So a stranger who tries passwords makes new browsers wait, and never those that are known.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

MOST_COUNTS: Final = 10_000
"""Counts that are remembered; the one that was used longest ago makes room."""

DEVICE_SECONDS: Final = 180 * 86_400
"""How long a browser is known after a login."""

_BURST: Final = 10
_SECONDS_EACH: Final = 30.0
_BURST_OF_ADDRESS: Final = 30
_SECONDS_EACH_OF_ADDRESS: Final = 6.0


class Counts:
    """Tries by key: so many at once, then one in so many seconds.

    >>> counts = Counts(burst=2, seconds_each=10.0)
    >>> [counts.take("k", now) for now in (0.0, 0.0, 0.0, 10.0)]
    [0.0, 0.0, 10.0, 0.0]
    """

    def __init__(self, *, burst: int, seconds_each: float) -> None:
        self._burst = burst
        self._seconds_each = seconds_each
        # The moment at which all tries of a key are available again.
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def take(self, key: str, now: float) -> float:
        """Use a try; seconds to wait for the next one if there is none, else 0."""
        full_at = max(self._full_at.get(key, now), now)
        wait = full_at + self._seconds_each - now - self._burst * self._seconds_each
        if wait > 0:
            return wait
        self._full_at[key] = full_at + self._seconds_each
        self._full_at.move_to_end(key)
        if len(self._full_at) > MOST_COUNTS:
            self._full_at.popitem(last=False)
        return 0.0

    def give_back(self, key: str) -> None:
        """Return a try."""
        if key in self._full_at:
            self._full_at[key] -= self._seconds_each


class Throttle:
    """The three counts.

    Args:
        secret: Signs what a known browser keeps in a cookie.
        clock: Seconds of a clock that only goes forward.
        wall_clock: Seconds since 1970.
    """

    def __init__(
        self,
        secret: bytes,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._secret = secret
        self._clock = clock
        self._wall_clock = wall_clock
        self._devices = Counts(burst=_BURST, seconds_each=_SECONDS_EACH)
        self._users = Counts(burst=_BURST, seconds_each=_SECONDS_EACH)
        self._addresses = Counts(burst=_BURST_OF_ADDRESS, seconds_each=_SECONDS_EACH_OF_ADDRESS)

    def take(self, name: str, address: str, device: str) -> float:
        """Use a try; seconds to wait if there is none, else 0.

        Args:
            name: The user that is tried.
            address: Where the try comes from.
            device: What the browser's cookie says; empty if it has none.
        """
        now = self._clock()
        if self.knows(device, name):
            return self._devices.take(device, now)
        return self._addresses.take(network_of(address), now) or self._users.take(name, now)

    def give_back(self, name: str, address: str, device: str) -> None:
        """Return the try that `take` used: the password was right."""
        if self.knows(device, name):
            self._devices.give_back(device)
        else:
            self._addresses.give_back(network_of(address))
            self._users.give_back(name)

    def new_device(self, name: str) -> str:
        """What the cookie of a browser says that a user has logged in with."""
        head = f"{secrets.token_urlsafe(16)}.{int(self._wall_clock()) + DEVICE_SECONDS}"
        return f"{head}.{self._signature(head, name)}"

    def knows(self, device: str, name: str) -> bool:
        """Whether this user has logged in with the browser that keeps this."""
        head, _, signature = device.rpartition(".")
        ends = head.rpartition(".")[2]
        return (
            hmac.compare_digest(signature.encode(), self._signature(head, name).encode())
            and ends.isdecimal()
            and int(ends) > self._wall_clock()
        )

    def _signature(self, head: str, name: str) -> str:
        text = f"device\n{head}\n{name}".encode("utf-8", "surrogateescape")
        return hmac.new(self._secret, text, hashlib.sha256).hexdigest()


def network_of(address: str) -> str:
    """What is counted as one address: of IPv6 the network that one customer has.

    >>> network_of("203.0.113.9"), network_of("2001:db8:1:2:3::4"), network_of("unix")
    ('203.0.113.9', '2001:db8:1:2::/64', 'unix')
    """
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if found.version == 4:
        return address
    return str(ipaddress.ip_network((found, 64), strict=False))
