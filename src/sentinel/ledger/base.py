"""What a ledger backend does. SQLite and PostgreSQL keep the same contract."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from sentinel.ledger.groups import Group, GroupKind


class Ledger(Protocol):
    """An append-only sequence of groups.

    Appends may come from one thread at a time; reads may come from any process meanwhile.
    """

    def append(self, kind: GroupKind, entries: int, received_at_us: int, payload: bytes) -> int:
        """Append a group; when this returns, it is on disk.

        Args:
            kind: What the payload is.
            entries: Number of log entries in it, at least 1.
            received_at_us: Of the last entry; must not be below that of the group before.
            payload: See `Group`.

        Returns:
            The sequence of the first entry.

        Raises:
            LedgerUnavailable: The record could not be made durable; nothing was appended.
        """
        ...

    def last_sequence(self) -> int:
        """Sequence of the last entry, 0 if there is none."""
        ...

    def last_received_at_us(self) -> int:
        """`received_at_us` of the last entry, 0 if there is none."""
        ...

    def groups(self, after: int = 0) -> Iterator[Group]:
        """Groups that hold entries with a sequence above ``after``, in order."""
        ...

    def close(self) -> None:
        """Release files and connections."""
        ...
