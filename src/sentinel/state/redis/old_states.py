"""States in Redis that no scorer asks for: of an older format, or of a plan that serves no more.

A scorer asks several times in a second whether its state is still loaded, whatever its version. So
the time since Redis was last asked for that key tells whether any scorer still uses a state.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Final, NamedTuple

from sentinel.domain import ConfigurationError, StateUnavailable
from sentinel.state.redis.resp import pack
from sentinel.state.redis.wire import Wire

_SAMPLED: Final = 100


class StoredState(NamedTuple):
    """The records of a plan in one format.

    Attributes:
        base: Begins its keys.
        value_format: Of its records.
        plan_hash: The plan.
        keys: How many there are.
        unused_seconds: Since a scorer asked for it.
    """

    base: str
    value_format: int
    plan_hash: str
    keys: int
    unused_seconds: int


def stored_states(wire: Wire, prefix: str) -> list[StoredState]:
    """All states of a deployment.

    Raises:
        StateUnavailable: Redis did not answer.
        ConfigurationError: It does not tell when keys were used.
    """
    name = re.compile(rb"\{?(%b:(\d+):([0-9a-f]+))\}?:(.*)" % re.escape(prefix).encode(), re.DOTALL)
    keys: Counter[bytes] = Counter()
    loaded: dict[bytes, bytes] = {}
    samples: dict[bytes, list[bytes]] = {}
    for pattern in (f"{prefix}:*", f"{{{prefix}:*"):
        for some in wire.scan(pattern.encode()):
            for key in some:
                found = name.fullmatch(key)
                if found is None:
                    continue
                base = found[1]
                keys[base] += 1
                if found[4] == b"loaded":
                    loaded[base] = key
                elif len(samples.setdefault(base, [])) < _SAMPLED:
                    samples[base].append(key)
    states = []
    for base, number in sorted(keys.items()):
        asked = [loaded[base]] if base in loaded else samples[base]
        _, value_format, plan_hash = base.decode().rsplit(":", 2)
        unused = _unused_seconds(wire, asked)
        states.append(StoredState(base.decode(), int(value_format), plan_hash, number, unused))
    return states


def drop_state(wire: Wire, state: StoredState, unused_seconds: int) -> bool:
    """Delete a state, unless somebody has asked for it since; whether it was deleted.

    Should a scorer want it later after all, it loads it anew from the log.

    Raises:
        StateUnavailable: Redis did not answer. What is left is found the next time.
    """
    for loaded in (f"{state.base}:loaded", f"{{{state.base}}}:loaded"):
        key = loaded.encode()
        if wire.call(key, "EXISTS", key):
            if _unused_seconds(wire, [key]) < unused_seconds:
                return False
            wire.call(key, "UNLINK", key)  # first of all: nobody takes the rest for whole
    for pattern in (f"{state.base}:*", f"{{{state.base}}}:*", f"{{*}}:{state.base}:checkpoint"):
        for some in wire.scan(pattern.encode()):
            wire.exchange([(key, pack("UNLINK", key)) for key in some])
    return True


def _unused_seconds(wire: Wire, keys: list[bytes]) -> int:
    """Seconds since the last use of any of some keys."""
    try:
        found = [wire.call(key, "OBJECT", "IDLETIME", key) for key in keys]
    except StateUnavailable as error:
        if "LFU" in str(error):
            raise ConfigurationError(
                "Redis counts how often keys are used (maxmemory-policy ...-lfu) and not when, so "
                "that nobody can tell which state is still used. Set maxmemory-policy noeviction."
            ) from error
        raise
    return min((int(seconds) for seconds in found if seconds is not None), default=0)
