"""Tickets whose events are durable or voided, on their way to Redis."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterable
from typing import Final

_AT_ONCE: Final = 64


class SettledTickets:
    """Tickets that Redis has not been told of. Safe to share between threads."""

    def __init__(self) -> None:
        self._tickets: deque[bytes] = deque()

    def __bool__(self) -> bool:
        return bool(self._tickets)

    def add(self, ticket: bytes) -> None:
        """The events of a ticket are durable or voided."""
        self._tickets.append(ticket)

    def take(self) -> list[bytes]:
        """Some tickets to tell Redis of; another thread may take at the same time."""
        taken: list[bytes] = []
        with contextlib.suppress(IndexError):
            while len(taken) < _AT_ONCE:
                taken.append(self._tickets.popleft())
        return taken

    def put_back(self, taken: Iterable[bytes]) -> None:
        """Keep tickets that Redis may not have been told of; they are told again."""
        self._tickets.extendleft(reversed(list(taken)))
