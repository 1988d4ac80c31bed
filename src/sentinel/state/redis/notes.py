"""What scorers that share records note for each other: labels that wait, doubts, whose turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sentinel.state.redis.layout import Layout, Record
from sentinel.state.redis.wire import Wire

_AT_ONCE: Final = 500


class Notes:
    """Notes beside the records of one plan. For one thread at a time.

    All raise StateUnavailable where Redis did not answer.

    Args:
        wire: To the server.
        layout: Of keys.
    """

    def __init__(self, wire: Wire, layout: Layout) -> None:
        self._wire = wire
        self._waiting_key = layout.beside("waiting")
        self._doubted_key = layout.beside("doubted")
        self._reloading_key = layout.beside("reloading")
        self._turn_key = layout.beside("turn")

    def waiting(self) -> dict[str, int]:
        """Transactions that a label called fraud before they came: the label's log entry, by id.

        Raises:
            StateUnavailable: Redis did not answer.
        """
        found = self._wire.call(self._waiting_key, "HGETALL", self._waiting_key)
        pairs = zip(found[::2], found[1::2], strict=True)
        return {identifier.decode(): int(sequence) for identifier, sequence in pairs}

    def waits(self) -> int:
        """How many transactions wait; see `waiting`.

        Raises:
            StateUnavailable: Redis did not answer.
        """
        return int(self._wire.call(self._waiting_key, "HLEN", self._waiting_key))

    def wait(self, transaction_id: str, sequence: int | None) -> None:
        """Note a label whose transaction has not come yet; None if it is not fraud any more."""
        key, identifier = self._waiting_key, transaction_id.encode()
        if sequence is None:
            self._wire.call(key, "HDEL", key, identifier)
        else:
            self._wire.call(key, "HSET", key, identifier, sequence)

    def doubt(self, records: Sequence[Record]) -> None:
        """Note records that are to be put in place anew."""
        for start in range(0, len(records), _AT_ONCE):
            part = records[start : start + _AT_ONCE]
            members = [b"%d:%b" % (view, key.encode()) for view, key in part]
            self._wire.call(self._doubted_key, "SADD", self._doubted_key, *members)

    def take_doubted(self, limit: int) -> list[Record]:
        """Some records that are to be put in place anew, until `resolve_doubts` says that they are.

        Whoever notes one of them again from now on means something that came later: that doubt
        stands beside the one that is taken, and outlives it.
        """
        found = self._some_of(self._reloading_key, limit)
        for member in self._some_of(self._doubted_key, limit - len(found)):
            self._wire.call(
                self._doubted_key, "SMOVE", self._doubted_key, self._reloading_key, member
            )
            found.append(member)
        parts = [member.partition(b":") for member in dict.fromkeys(found)]
        return [(int(view), key.decode()) for view, _, key in parts]

    def _some_of(self, key: bytes, limit: int) -> list[bytes]:
        found: list[bytes] = self._wire.call(key, "SRANDMEMBER", key, limit) if limit > 0 else []
        return found

    def doubts(self) -> int:
        """How many records are to be put in place anew; one that was noted again counts twice."""
        # In this order: a record goes from the first to the second.
        keys = (self._doubted_key, self._reloading_key)
        return sum(int(self._wire.call(key, "SCARD", key)) for key in keys)

    def resolve_doubts(self, records: Sequence[Record]) -> None:
        """Records that were taken have been put in place anew."""
        if records:
            members = [b"%d:%b" % (view, key.encode()) for view, key in records]
            self._wire.call(self._reloading_key, "SREM", self._reloading_key, *members)

    def take_turn(self, name: str, seconds: int) -> bool:
        """Whether it is this scorer's turn to look after the records, and for so long from now on.

        Raises:
            StateUnavailable: Redis did not answer.
        """
        key = self._turn_key
        holder = self._wire.call(key, "GET", key)
        if holder is None:
            return self._wire.call(key, "SET", key, name, "NX", "EX", seconds) is not None
        if holder != name.encode():
            return False
        return bool(self._wire.call(key, "EXPIRE", key, seconds))

    def leave_turn(self, name: str) -> None:
        """Let another scorer have its turn at once."""
        if self._wire.call(self._turn_key, "GET", self._turn_key) == name.encode():
            self._wire.call(self._turn_key, "DEL", self._turn_key)
