"""Groups of transactions under way to shared records on an event loop, one behind the other."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from sentinel.state.base import Hands
from sentinel.state.redis.adding import Added, Adding
from sentinel.state.redis.records import Records

log = logging.getLogger(__name__)

AddingDone = Callable[[Added | None, Exception | None], None]
"""Called on the event loop with what was read, or with why nothing was."""


class _UnderWay:
    """A group between its commands and what was read for it."""

    __slots__ = ("adding", "done", "error", "replies", "wants")

    def __init__(self, adding: Adding, done: AddingDone) -> None:
        self.adding = adding
        self.done = done
        self.replies: list[Any] | None = None
        self.error: Exception | None = None
        self.wants: Callable[[], Added] | None = None

    @property
    def is_answered(self) -> bool:
        return self.replies is not None or self.error is not None


class GroupsUnderWay:
    """Groups that are being added on an event loop, one behind the other.

    Redis is sent a group while those before it are under way. Replies are folded in the order of
    the commands: one that begins where a record stood when it was asked for goes on from where the
    groups before have brought the record. What has to wait is done in a thread, while nothing else
    is under way.

    Args:
        records: The records.
        emptied: Called when the last group has ended, before its ``done``.
    """

    def __init__(self, records: Records, emptied: Callable[[], None]) -> None:
        self._records = records
        self._emptied = emptied
        self._groups: deque[_UnderWay] = deque()
        self._waits = False

    def __len__(self) -> int:
        return len(self._groups)

    @property
    def may_go_on(self) -> bool:
        """Whether another group may be sent behind those under way."""
        return not self._waits

    def begin(self, hands: Hands, adding: Adding, done: AddingDone) -> None:
        """Send a group.

        Args:
            hands: Who does it; what has to wait is done in one of its threads.
            adding: The group.
            done: Called on the event loop later, with what was read or what `SharedFeatures.add`
                would raise. It is not called where this raises.
        """
        one = _UnderWay(adding, done)
        self._groups.append(one)
        try:
            self._records.wire.begin(hands.loop, adding.commands, partial(self._told, hands, one))
        except BaseException:
            self._groups.remove(one)
            adding.fail()
            raise

    def _told(
        self, hands: Hands, one: _UnderWay, replies: list[Any] | None, error: Exception | None
    ) -> None:
        one.replies, one.error = replies, error
        self._go_on(hands)

    def _go_on(self, hands: Hands) -> None:
        """End the groups that have been answered, in their order."""
        while self._groups and self._groups[0].is_answered:
            first = self._groups[0]
            if first.error is not None:
                self._end(None, first.error)
                continue
            if first.wants is None:
                added, error = None, None
                try:
                    added = self._read(first)
                except Exception as problem:  # noqa: BLE001 -- whoever waits gets the error
                    error = problem
                if added is not None or error is not None:
                    self._end(added, error)
                    continue
            self._waits = True
            if all(one.is_answered for one in self._groups):
                assert first.wants is not None
                work, first.replies = first.wants, None
                hands.in_thread(work, partial(self._waited, hands))
            return

    def _read(self, one: _UnderWay) -> Added | None:
        """What was read, or None if something has to wait, which the group wants from now on."""
        replies, adding = one.replies, one.adding
        assert replies is not None
        if any(isinstance(reply, Exception) for reply in replies):
            one.wants = partial(adding.put_straight, replies)
            return None
        if adding.fold(replies):
            one.wants = adding.read_stale
            return None
        return adding.added()

    def _waited(self, hands: Hands, added: Added | None, error: Exception | None) -> None:
        self._waits = False
        self._end(added, error)
        self._go_on(hands)

    def _end(self, added: Added | None, error: Exception | None) -> None:
        one = self._groups.popleft()
        if error is not None:
            one.adding.fail()
        one.adding.let_go(self._groups[0].adding if self._groups else None)
        if not self._groups:
            self._emptied()
        try:
            one.done(added, error)
        except Exception:
            log.exception("What was read for a group of payments could not be passed on.")
