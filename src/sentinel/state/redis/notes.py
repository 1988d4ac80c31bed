"""What scorers that share records note for each other: labels that wait, doubts, whose turn."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

from sentinel.state.redis.layout import Layout, Record
from sentinel.state.redis.resp import pack
from sentinel.state.redis.wire import Wire

_AT_ONCE: Final = 500

CallFunction = Callable[..., Any]
"""(function, keys, *arguments) -> the reply of one of the functions of `functions.lua`."""


class Notes:
    """Notes beside the records of one plan. For one thread at a time.

    All raise StateUnavailable where Redis did not answer.

    Args:
        wire: To the server.
        layout: Of keys.
        call: Calls a function of the server.
    """

    def __init__(self, wire: Wire, layout: Layout, call: CallFunction) -> None:
        self._wire = wire
        self._call = call
        self._waiting_key = layout.beside("waiting")
        self._followed_key = layout.beside("followed")
        self._doubts_key = layout.beside("doubts")
        self._doubted_key = layout.beside("doubted")
        self._turn_key = layout.beside("turn")

    # Labels that wait.

    def waiting(self) -> dict[str, int]:
        """Transactions that a label called fraud before they came: the label's log entry, by id.

        Raises:
            StateUnavailable: Redis did not answer.
        """
        found = self._wire.call(self._waiting_key, "HGETALL", self._waiting_key)
        pairs = zip(found[::2], found[1::2], strict=True)
        entries = {identifier.decode(): int(entry) for identifier, entry in pairs}
        return {identifier: entry for identifier, entry in entries.items() if entry > 0}

    def waits(self) -> int:
        """How many transactions wait; see `waiting`.

        Raises:
            StateUnavailable: Redis did not answer.
        """
        return int(self._wire.call(self._waiting_key, "HLEN", self._waiting_key))

    def wait(self, transaction_id: str, sequence: int, *, taken_back: bool = False) -> None:
        """Note a label whose transaction has not come yet; later labels stand against earlier ones.

        Args:
            transaction_id: The transaction.
            sequence: The label's log entry.
            taken_back: It says that an earlier label was wrong: nothing waits any more, and this is
                kept until `stop_waiting`.
        """
        entry = b"%d" % (-sequence if taken_back else sequence)
        keys = (self._waiting_key, self._followed_key)
        self._call("wait", keys, transaction_id.encode(), entry)

    def stop_waiting(self, entries: Mapping[str, int]) -> None:
        """What was noted of transactions is done with: they came, or their label was taken back.

        Args:
            entries: By id the label's log entry; below 0 if it was taken back. One that says
                something else by now stays.
        """
        self._strike(self._waiting_key, {i.encode(): b"%d" % n for i, n in entries.items()})

    def load_waiting(self, entries: Mapping[str, int]) -> None:
        """Begin anew with labels that wait, whatever was followed before."""
        for identifier, sequence in entries.items():
            key = self._waiting_key
            self._wire.call(key, "HSET", key, identifier.encode(), sequence)

    # Records in doubt.

    def doubt(self, records: Sequence[Record]) -> None:
        """Note records that are to be put in place anew."""
        key = self._doubts_key
        for start in range(0, len(records), _AT_ONCE):
            part = records[start : start + _AT_ONCE]
            members = map(_member_of, part)
            self._wire.exchange([(key, pack("HINCRBY", key, member, 1)) for member in members])

    def doubted(self, limit: int) -> dict[Record, bytes]:
        """Some records that are to be put in place anew, each with what `resolve_doubts` takes."""
        key = self._doubts_key
        found = self._wire.call(key, "HRANDFIELD", key, limit, "WITHVALUES")
        pairs = zip(found[::2], found[1::2], strict=True)
        return {_record_of(member): times for member, times in pairs}

    def all_doubted(self) -> set[Record]:
        """The records that are to be put in place anew."""
        found = self._wire.call(self._doubts_key, "HGETALL", self._doubts_key)
        return {_record_of(member) for member in found[::2]}

    def still_doubted(self, records: Collection[Record]) -> set[Record]:
        """Those of some records that are to be put in place anew."""
        key, asked, found = self._doubts_key, list(records), set[Record]()
        for start in range(0, len(asked), _AT_ONCE):
            part = asked[start : start + _AT_ONCE]
            times = self._wire.exchange([(key, pack("HGET", key, _member_of(one))) for one in part])
            found.update(one for one, value in zip(part, times, strict=True) if value is not None)
        return found

    def doubts(self) -> int:
        """How many records are to be put in place anew."""
        return int(self._wire.call(self._doubts_key, "HLEN", self._doubts_key))

    def resolve_doubts(self, doubts: Mapping[Record, bytes]) -> None:
        """Records have been put in place anew. One that was doubted again since stays in doubt.

        Args:
            doubts: Of `doubted`.
        """
        members = {_member_of(record): times for record, times in doubts.items()}
        self._strike(self._doubts_key, members)

    def take_in_older_doubts(self) -> None:
        """Take over what scorers of an earlier version noted, which keep their doubts elsewhere."""
        key = self._doubted_key
        while members := self._wire.call(key, "SRANDMEMBER", key, _AT_ONCE):
            doubts = self._doubts_key
            self._wire.exchange([(doubts, pack("HINCRBY", doubts, m, 1)) for m in members])
            self._wire.call(key, "SREM", key, *members)

    # Whose turn it is.

    def take_turn(self, name: str, seconds: int) -> bool:
        """Whether it is this scorer's turn to look after the records, and for so long from now on.

        Raises:
            StateUnavailable: Redis did not answer.
        """
        return bool(self._call("hold", (self._turn_key,), name.encode(), b"%d" % seconds))

    def leave_turn(self, name: str) -> None:
        """Let another scorer have its turn at once."""
        self._call("hold", (self._turn_key,), name.encode(), b"0")

    def _strike(self, key: bytes, values: Mapping[bytes, bytes]) -> None:
        pairs = list(values.items())
        for start in range(0, len(pairs), _AT_ONCE):
            part = pairs[start : start + _AT_ONCE]
            self._call("strike", (key,), *(word for pair in part for word in pair))


def _member_of(record: Record) -> bytes:
    view, name = record
    return b"%d:%b" % (view, name.encode())


def _record_of(member: bytes) -> Record:
    view, _, name = member.partition(b":")
    return int(view), name.decode()
