"""Versions of the policy at rest: one contract for both places where they may be.

They are in the ledger's database where that is PostgreSQL, so that all scorers rule alike, and in
a file of the workspace (mode 0600) elsewhere. The newest version holds. Scorers ask for its number
and read it when that has moved.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from sentinel.domain import ConfigurationError, NotFound
from sentinel.policy.versions import PolicyVersion

if TYPE_CHECKING:
    from sentinel.settings import Settings

MOST_VERSIONS: Final = 100_000
"""Most versions of a policy that are kept: one a day for 270 years."""

Change = Callable[[PolicyVersion | None], PolicyVersion | None]
"""Given the version that holds, the one to add; None adds none."""


class PolicyStore(Protocol):
    """Where versions are kept. All methods are safe from any thread, and wait.

    All raise LedgerUnavailable where the store cannot be reached, and WorkspaceError where it is
    something else or may not be used by this process.

    Attributes:
        shown: Where it is, fit to be shown.
    """

    shown: str

    def latest(self) -> int:
        """The number of the version that holds; 0 if there never was one."""
        ...

    def read(self, version: int | None = None) -> PolicyVersion | None:
        """A version, or the one that holds; None if there is none.

        Raises:
            ConfigurationError: It cannot be read by this Sentinel.
        """
        ...

    def history(self, most: int, before: int | None = None) -> list[PolicyVersion]:
        """The latest versions, newest first.

        Args:
            most: So many at most.
            before: Only versions with a smaller number.
        """
        ...

    def add(self, change: Change) -> PolicyVersion | None:
        """Add a version; the store is made where there is none.

        Two changes at once come one after the other. What ``change`` raises leaves all as it was.

        Returns:
            It, with its number; None if the change added none.

        Raises:
            ConfigurationError: There are `MOST_VERSIONS`.
        """
        ...

    def close(self) -> None:
        """Release it."""
        ...


def open_policies(settings: Settings) -> PolicyStore:
    """The versions of a deployment. Nothing is made or reached before it is asked.

    Raises:
        ConfigurationError: `ledger.url` is of no database.
    """
    if settings.ledger.url:
        from sentinel.ledger.database import database_of
        from sentinel.policy.postgres import PostgresPolicies

        return PostgresPolicies(database_of(settings))
    from sentinel.policy.sqlite import SqlitePolicies

    return SqlitePolicies(settings.workspace / "policy.db")


def migrate_policies(settings: Settings) -> None:
    """Make the table of versions beside a ledger in PostgreSQL, or bring it up to date.

    Raises:
        ConfigurationError, WorkspaceError, LedgerUnavailable: See `sentinel.ledger.open`.
    """
    if settings.ledger.url:
        from sentinel.ledger.database import database_of
        from sentinel.ledger.postgres import migrate
        from sentinel.policy.postgres import TABLES

        migrate(database_of(settings), TABLES)


def changed(before: PolicyVersion | None, change: Change) -> PolicyVersion | None:
    """The version that a change makes, with its number; None if it makes none.

    Raises:
        ConfigurationError: See `PolicyStore.add`.
    """
    made = change(before)
    if made is None:
        return None
    last = 0 if before is None else before.version
    if last >= MOST_VERSIONS:
        raise ConfigurationError(
            f"There are {last:,} versions of the policy, as many as there may be."
        )
    return msgspec.structs.replace(made, version=last + 1)


def restored(store: PolicyStore, version: int) -> PolicyVersion:
    """A version to go back to.

    Raises:
        NotFound: There is none of that number.
    """
    found = store.read(version)
    if found is None:
        raise NotFound(
            f"There is no version {version} of the policy; the latest one is {store.latest()}. "
            "`sentinel policy history` lists them."
        )
    return found
