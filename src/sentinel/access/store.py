"""Keys at rest: one contract for both places where they may be.

They are in the ledger's database where that is PostgreSQL, so that all scorers know them, and in a
file of the workspace (mode 0600) elsewhere. A number grows with every change; scorers look at it
and read the keys again when it has moved.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, Protocol

from sentinel.access.keys import Pepper, StoredKey
from sentinel.domain import ConfigurationError

MOST_KEYS: Final = 10_000
"""Most keys of a deployment, revoked ones included: every scorer holds all of them."""


class KeysRead(NamedTuple):
    """What a store holds.

    Attributes:
        version: Grows with every change; 0 = there was never a key.
        pepper_check: `Pepper.check` of the pepper that the keys were made with.
        keys: All, by id, revoked ones included.
    """

    version: int
    pepper_check: bytes
    keys: Mapping[str, StoredKey]


NO_KEYS: Final = KeysRead(0, b"", {})

Change = Callable[[Mapping[str, StoredKey]], StoredKey]
"""Given all keys, the one to put in the place of the one with its id, or to add."""


class KeyStore(Protocol):
    """Where keys are kept. All methods are safe from any thread, and wait.

    All raise LedgerUnavailable where the store cannot be reached, and WorkspaceError where it is
    something else or may not be used by this process.

    Attributes:
        shown: Where it is, fit to be shown.
    """

    shown: str

    def version(self) -> int:
        """The number of the latest change; 0 if there was never a key."""
        ...

    def read(self) -> KeysRead:
        """Everything, as of one moment."""
        ...

    def change(self, change: Change, pepper_check: bytes) -> StoredKey:
        """Change a key, or add one; the store is made where there is none.

        Two changes at once come one after the other. What ``change`` raises leaves all as it was.

        Args:
            change: See `Change`.
            pepper_check: Of this process's pepper.

        Raises:
            ConfigurationError: The keys were made with another pepper, or are too many.
        """
        ...

    def note_uses(self, uses: Mapping[str, int]) -> None:
        """Note when keys were last used, microseconds by id; an earlier time changes nothing."""
        ...

    def uses(self) -> Mapping[str, int]:
        """When keys were last used, by id."""
        ...

    def close(self) -> None:
        """Release it."""
        ...


def changed(before: KeysRead, change: Change, pepper_check: bytes) -> StoredKey:
    """The key that a change makes of what a store holds.

    Raises:
        ConfigurationError: See `KeyStore.change`.
    """
    if before.pepper_check and before.pepper_check != pepper_check:
        raise another_pepper()
    made = change(before.keys)
    if made.key_id not in before.keys and len(before.keys) >= MOST_KEYS:
        raise ConfigurationError(f"There are {len(before.keys):,} keys, as many as there may be.")
    return made


def another_pepper() -> ConfigurationError:
    """The error where this process's pepper is not that of the keys."""
    return ConfigurationError(
        "The keys of this deployment were made with another pepper, so that no key would be known. "
        "Give this process the same SENTINEL_ACCESS__PEPPER, or the access.pepper file of the "
        "workspace that they were made in."
    )


def check_pepper(found: KeysRead, pepper: Pepper) -> None:
    """Hold a pepper against the one that keys were made with.

    Raises:
        ConfigurationError: It is another one.
    """
    if found.pepper_check and found.pepper_check != pepper.check:
        raise another_pepper()


def now_us() -> int:
    """The wall clock, microseconds UTC."""
    return time.time_ns() // 1000
