"""Who is changing what right now, and which records are to be rebuilt. Both live in Redis.

Before its changes a scorer writes down which records they touch, and strikes that out once they are
durable or undone. What a scorer leaves behind that ended in between is found by the others. Records
that may be wrong are marked; a mark stays until the record is rebuilt, whoever made it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sentinel.domain import StateUnavailable
from sentinel.state.redis.wire import pack
from sentinel.state.redis_records import RedisState

Record = tuple[int, str]
"""Number of a view, and an entity's key in it."""


class Mark(NamedTuple):
    """A record that is to be rebuilt.

    Attributes:
        view, key: Which record.
        ticket: Another whenever it is marked again.
    """

    view: int
    key: str
    ticket: int


class RedisMarks:
    """Intents and marks of one plan. For the thread that has the state.

    Attributes:
        pending: Records to mark as soon as Redis answers.
    """

    def __init__(self, state: RedisState) -> None:
        self.state = state
        self.pending: dict[Record, None] = {}
        # The braces keep the three together in a cluster.
        self._keys = tuple(
            f"{{{state.base}}}:{name}".encode() for name in ("intents", "marks", "tickets")
        )

    # Intents.

    def intent(self, token: bytes, records: Iterable[Record]) -> tuple[bytes, bytes]:
        """The command that says which records are about to be changed.

        It is sent in front of the changes, in their round trip (see `RedisFeatures.apply`).

        Args:
            token: 16 bytes that name this piece of work.
            records: All that it may change.
        """
        members = [_member(record) for record in records]
        packed = b"".join(struct.pack("<I", len(member)) + member for member in members)
        return self._command("intend", token, packed)

    def finish(self, tokens: Sequence[bytes]) -> list[bool]:
        """Strike out what is durable or undone.

        Returns:
            For each whether it was still there. Where it was not, others took its scorer for dead
            and may have rebuilt its records without it: mark them.

        Raises:
            StateUnavailable: Redis did not answer.
        """
        if not tokens:
            return []
        return [bool(found) for found in self._call("finish", *tokens)]

    def intents_of(self, record: Record) -> set[bytes]:
        """Tokens of the work in progress that may change a record.

        Raises:
            StateUnavailable: Redis did not answer.
        """
        key, wanted = self._keys[0], _member(record)
        (found,) = self.state.exchange([(key, pack("HGETALL", key))])
        pairs = zip(found[::2], found[1::2], strict=True)
        return {token for token, intent in pairs if wanted in _members(intent)}

    def abandon(self, older_than_seconds: float) -> int:
        """Mark the records of work that was begun so long ago and not finished.

        Returns:
            How many pieces of work that were.

        Raises:
            StateUnavailable: Redis did not answer.
        """
        return int(self._call("abandon", int(older_than_seconds * 1e6)))

    # Marks.

    def mark(self, records: Iterable[Record]) -> bool:
        """Mark records for repair, now or as soon as Redis answers (see `flush`)."""
        self.pending.update(dict.fromkeys(records))
        return self.flush()

    def flush(self) -> bool:
        """Write what is pending; False: Redis does not answer.

        What this thread sent without getting an answer is made sure to be over first: a change
        that is still on its way must not come after the rebuild.
        """
        try:
            self.state.wire.settle()
            if self.pending:
                self._call("mark", *[_member(record) for record in self.pending])
        except StateUnavailable:
            return False
        self.pending.clear()
        return True

    def marks(self, limit: int = 100) -> list[Mark]:
        """The records marked first, at most ``limit``.

        Raises:
            StateUnavailable: Redis did not answer.
        """
        key = self._keys[1]
        packed = pack("ZRANGE", key, 0, limit - 1, "WITHSCORES")
        (found,) = self.state.exchange([(key, packed)])
        return [
            Mark(*_record(member), int(ticket))
            for member, ticket in zip(found[::2], found[1::2], strict=True)
        ]

    def unmark(self, mark: Mark) -> bool:
        """Take a mark away; False: the record has been marked anew meanwhile, or is not marked.

        Raises:
            StateUnavailable: Redis did not answer.
        """
        return bool(self._call("unmark", _member((mark.view, mark.key)), mark.ticket))

    def _command(self, name: str, *arguments: bytes | str | int) -> tuple[bytes, bytes]:
        function = self.state.library.function(name)
        return self._keys[0], pack("FCALL", function, 3, *self._keys, *arguments)

    def _call(self, name: str, *arguments: bytes | str | int) -> Any:
        (reply,) = self.state.exchange([self._command(name, *arguments)])
        return reply


def _member(record: Record) -> bytes:
    return b"%d:%b" % (record[0], record[1].encode())


def _record(member: bytes) -> Record:
    view, _, key = member.partition(b":")
    return int(view), key.decode()


def _members(intent: bytes) -> list[bytes]:
    found, at = [], 8
    while at < len(intent):
        (size,) = struct.unpack_from("<I", intent, at)
        found.append(intent[at + 4 : at + 4 + size])
        at += 4 + size
    return found
