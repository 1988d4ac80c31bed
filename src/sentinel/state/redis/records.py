"""Shared records of one plan: what is appended to them, and what comes back.

Each (view, entity) is one key and each change one call with one key, so this works on a cluster. A
call appends events and returns those that the caller lacks; the scorer's own kernel folds them. No
call waits for another, and none has to be made again.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from redis.exceptions import ResponseError

from sentinel.domain import StateUnavailable
from sentinel.features.arena import Arena
from sentinel.features.plan.program import Program
from sentinel.state.redis.fold import pack_record
from sentinel.state.redis.layout import (
    EPOCHS_OF_A_LOAD,
    HEADER,
    Layout,
    Library,
    Record,
    epoch_start,
)
from sentinel.state.redis.load_lock import LOST, LoadLock
from sentinel.state.redis.notes import Notes
from sentinel.state.redis.resp import pack
from sentinel.state.redis.wire import Wire

REPLY: Final = struct.Struct("<qqII")
_APPEND: Final = struct.Struct("<IIqq")
_FOLLOW_MANY: Final = struct.Struct("<IIq")
_COMPACT: Final = struct.Struct("<IIqqq")
_RELOAD: Final = struct.Struct("<IIqqqq")
_LOAD_RECORDS: Final = 500


class Stored(NamedTuple):
    """A record's value, taken apart.

    Attributes:
        base: The packed record, int64.
        position: Of the base.
        through: The step of the log that a follower has appended last.
        tail: The events, int64 (n, words of an event).
    """

    base: npt.NDArray[np.int64]
    position: int
    through: int
    tail: npt.NDArray[np.int64]


class Loaded(NamedTuple):
    """What was put in place when the plan's state was loaded.

    Attributes:
        epoch: Of the positions since then.
        sequence: The log entry through which it was folded.
    """

    epoch: int
    sequence: int


class NotInUse(StateUnavailable):
    """The state in Redis is not the one that this scorer has used so far."""


class Records:
    """Records of one plan in Redis. For one thread at a time.

    Args:
        program: The compiled plan.
        wire: To the server.
        prefix: Begins every key, so that deployments can share a server.

    Attributes:
        layout: Of keys and events.
        epoch: Of records that are new.
        notes: What scorers tell each other.
    """

    def __init__(self, program: Program, wire: Wire, *, prefix: str = "sentinel") -> None:
        self.program = program
        self.wire = wire
        self.layout = Layout(program, prefix)
        self.library = Library()
        self.epoch = EPOCHS_OF_A_LOAD
        self._in_use: bytes | None = None
        self._loaded_key = self.layout.beside("loaded")
        self._followed_key = self.layout.beside("followed")
        self._intents_key = self.layout.beside("intents")
        self.notes = Notes(wire, self.layout, self._call)
        self._heads = {
            name: b"*5\r\n$5\r\nFCALL\r\n$%d\r\n%b\r\n$1\r\n1\r\n"
            % (len(self.library.function(name)), self.library.function(name))
            for name in ("append", "read", "follow", "follow_many", "void", "compact", "reload")
        }

    # The scoring path.

    def append_commands(
        self, records: Iterable[Record], arguments: Iterable[bytes], *, only_ask: bool = False
    ) -> list[tuple[bytes, bytes]]:
        """Append events to records and ask for those that are not known; see `functions.lua`.

        Args:
            records: Which.
            arguments: For each what `fold.write_arguments` writes.
            only_ask: Whether there are no events.
        """
        head, prefixes = self._heads["read" if only_ask else "append"], self.layout.prefixes
        found = []
        for (view, key), argument in zip(records, arguments, strict=True):
            where = prefixes[view] + key.encode()
            packed = b"%b$%d\r\n%b\r\n$%d\r\n%b\r\n" % (
                head, len(where), where, len(argument), argument
            )  # fmt: skip
            found.append((where, packed))
        return found

    def intent_command(self, ticket: bytes, intent: bytes) -> tuple[bytes, bytes]:
        """Write down what is about to be changed under a ticket."""
        return self._intents_key, pack("HSET", self._intents_key, ticket, intent)

    def loaded_command(self) -> tuple[bytes, bytes] | None:
        """Ask whether the state is still the one of `use`; None if none is in use."""
        if self._in_use is None:
            return None
        return self._loaded_key, pack("GET", self._loaded_key)

    def use(self, loaded: Loaded) -> None:
        """Append to this load of the state, and to no other."""
        self.epoch = loaded.epoch
        self._in_use = _text_of(loaded)

    def uses(self, loaded: Loaded) -> bool:
        """Whether `use` was told of this load."""
        return self._in_use == _text_of(loaded)

    def check_in_use(self, reply: bytes | None) -> None:
        """Hold the first reply of an exchange that began with `loaded_command` against `use`.

        Raises:
            NotInUse: The state was lost, or was loaded anew.
        """
        if self._in_use is not None and reply != self._in_use:
            what = "has lost the feature state" if reply is None else "holds another load of it"
            raise NotInUse(f"Redis {what}; it is looked at before it is used again.")

    def settled_command(self, tickets: Sequence[bytes]) -> tuple[bytes, bytes]:
        """Strike tickets out whose events are durable or voided."""
        return self._intents_key, pack("HDEL", self._intents_key, *tickets)

    # What happens beside it.

    def intents(self) -> dict[bytes, bytes]:
        """What is being changed, by ticket.

        Raises:
            StateUnavailable: Redis did not answer.
        """
        found = self._ask(self._intents_key, "HGETALL", self._intents_key)
        return dict(zip(found[::2], found[1::2], strict=True))

    def settled(self, tickets: Sequence[bytes]) -> None:
        """See `settled_command`."""
        if tickets:
            self.exchange([self.settled_command(tickets)])

    def follow(self, changes: Sequence[tuple[int, str, int, bytes]]) -> list[int]:
        """Append what log entries do to records, each once, in one round trip.

        Args:
            changes: View, key, step of the log and event of each.

        Returns:
            The position of each event; 0 if it is part of the base already.

        Raises:
            StateUnavailable: Redis did not answer. Make the same call again.
        """
        first = epoch_start(self.epoch)
        widths = self.layout.widths
        return self.exchange(
            [
                self._command(
                    "follow", view, key, _APPEND.pack(widths[view], 0, first, step) + event
                )
                for view, key, step, event in changes
            ]
        )

    def follow_many(self, view: int, changes: Sequence[tuple[str, bytes]]) -> list[bytes]:
        """`follow` for records of a view with several events each, by rising step.

        Args:
            view: Of all records.
            changes: Key and events of each.

        Returns:
            What `functions.lua` says of each.
        """
        head = _FOLLOW_MANY.pack(self.layout.widths[view], 0, epoch_start(self.epoch))
        return self.exchange(
            [self._command("follow_many", view, key, head + events) for key, events in changes]
        )

    def void(self, changes: Sequence[tuple[int, str, bytes]]) -> list[tuple[int, int] | None]:
        """Take events back that did not reach the log, in one round trip.

        Args:
            changes: View, key and the first three words of the event.

        Returns:
            Positions of each event and of its void; None if the record does not hold it.

        Raises:
            StateUnavailable: Redis did not answer. Make the same call again.
        """
        replies = self.exchange(
            [
                self._command(
                    "void", view, key, struct.pack("<II", self.layout.widths[view], 0) + b
                )
                for view, key, b in changes
            ]
        )
        return [(reply[0], reply[1]) if reply else None for reply in replies]

    def stored(self, records: Sequence[Record]) -> list[Stored | None]:
        """Values of records as they are now, in one round trip; None where there is none.

        Raises:
            StateUnavailable: Redis did not answer.
        """
        keys = [self.layout.key(view, key) for view, key in records]
        raw = self.exchange([(key, pack("GET", key)) for key in keys])
        return [
            None if value is None else self._taken_apart(view, value)
            for (view, _), value in zip(records, raw, strict=True)
        ]

    def compact(
        self, changes: Sequence[tuple[Record, int, int, int, npt.NDArray[np.int64]]]
    ) -> list[bool]:
        """Fold the oldest events of tails into bases, in one round trip.

        Args:
            changes: The record, the base's position before and after, the position through which
                the tail was seen, and the packed base of each.

        Returns:
            Whether each was done. Where not, the record has changed too much.
        """
        commands = []
        for (view, key), before, after, seen, base in changes:
            head = _COMPACT.pack(self.layout.widths[view], 0, before, after, seen)
            commands.append(self._command("compact", view, key, head + base.tobytes()))
        return [bool(done) for done in self.exchange(commands)]

    def reload(
        self,
        record: Record,
        before: int,
        seen: int,
        dropped: Sequence[int],
        words: npt.NDArray[np.int64],
        epoch: int,
        through: int,
    ) -> int:
        """Put what the log says in a record's place.

        Args:
            record: Which.
            before: The base's position as it was seen; -1: there was no record.
            seen: The position through which the tail was seen.
            dropped: Positions in the tail of what the log holds, or what was voided.
            words: The record as the log has it, int64.
            epoch: Of the positions from now on; above that of the record.
            through: The step of the log that the words contain.

        Returns:
            How many events of the tail were kept; -1: the record has changed too much, try again.
        """
        view, key = record
        head = _RELOAD.pack(
            self.layout.widths[view], len(dropped), before, epoch_start(epoch), seen, through
        )
        drops = np.array(dropped, dtype="<i8").tobytes()
        base = self.packed(words).tobytes()
        (kept,) = self.exchange([self._command("reload", view, key, head + drops + base)])
        return int(kept)

    # Whole states.

    def load(
        self,
        arena: Arena,
        loaded: Loaded,
        through: int,
        waiting: Mapping[str, int] | None = None,
        lock: LoadLock | None = None,
    ) -> int:
        """Put the records of a finished fold in the place of what there is.

        Args:
            arena: The state after the log entry ``loaded.sequence``.
            loaded: What is told by `loaded` from then on.
            through: The step of the log that the records contain.
            waiting: See `Notes.waiting`.
            lock: Held while records are written; default: nobody else loads.

        Returns:
            How many records were written.

        Raises:
            StateUnavailable: Redis did not answer, or somebody else loads; nothing is loaded then.
        """
        if lock is not None:
            lock.hold()
        self._ask(self._loaded_key, "DEL", self._loaded_key)
        self._clear(f"{self.layout.base}:*")
        for name in ("intents", "waiting", "doubts", "doubted", "checkpointed"):
            key = self.layout.beside(name)
            self._ask(key, "DEL", key)
        self.notes.load_waiting(waiting or {})
        self.epoch = loaded.epoch
        position = epoch_start(loaded.epoch)
        written = 0
        for view, keys in enumerate(arena.keys):
            names = list(keys)
            for start in range(0, len(names), _LOAD_RECORDS):
                commands = []
                for name in names[start : start + _LOAD_RECORDS]:
                    base = self.packed(arena.record(view, name)).tobytes()
                    value = HEADER.pack(len(base), 0, position, through) + base
                    where = self.layout.key(view, name)
                    commands.append((where, pack("SET", where, value)))
                if lock is not None:
                    lock.hold()
                self.exchange(commands)
                written += len(commands)
        self.need_functions()
        self._ask(self._followed_key, "SET", self._followed_key, loaded.sequence)
        if lock is None:
            self._ask(self._loaded_key, "SET", self._loaded_key, _text_of(loaded))
        elif not self._call(
            "set_locked", (lock.key, self._loaded_key), lock.holder, _text_of(loaded)
        ):
            raise StateUnavailable(LOST)
        return written

    def lock(self) -> LoadLock:
        """The lock of whoever loads the state."""
        return LoadLock(self.layout.beside("loading"), self._call)

    def need_functions(self) -> None:
        """See that the functions are there; who may load functions loads them where they are not.

        Raises:
            StateUnavailable: Redis did not answer, or they are missing and this user may not.
        """
        # Moves nothing: no watermark is a word.
        self._call("advance", (self._followed_key,), b"none", b"none")

    def unload(self) -> None:
        """Say that the state is lost: whoever looks next loads it anew."""
        self._ask(self._loaded_key, "DEL", self._loaded_key)

    def loaded(self) -> Loaded | None:
        """How this plan's state was loaded; None if it was not, or is lost.

        Raises:
            StateUnavailable: Redis did not answer.
        """
        found = self._ask(self._loaded_key, "GET", self._loaded_key)
        if found is None:
            return None
        loaded = Loaded(*map(int, found.split()))
        self.epoch = loaded.epoch
        return loaded

    def followed(self) -> int:
        """The log entry through which a follower has brought its effects into the records.

        Raises:
            StateUnavailable: Redis did not answer.
        """
        found = self._ask(self._followed_key, "GET", self._followed_key)
        return 0 if found is None else int(found)

    def set_followed(self, sequence: int) -> None:
        """See `followed`."""
        self._ask(self._followed_key, "SET", self._followed_key, sequence)

    def advance_followed(self, begun: int, through: int) -> bool:
        """Move the watermark on, unless somebody has moved it since it stood at ``begun``."""
        words = (b"%d" % begun, b"%d" % through)
        return bool(self._call("advance", (self._followed_key,), *words))

    def every(self) -> Iterator[list[Record]]:
        """All records, some at a time."""
        for keys in self.wire.scan(f"{self.layout.base}:*".encode()):
            found = (self.layout.record_of(key) for key in keys)
            yield [record for record in found if record is not None]

    def count(self) -> int:
        """How many records there are.

        Raises:
            StateUnavailable: Redis did not answer.
        """
        return sum(len(found) for found in self.every())

    def drop(self) -> int:
        """Delete this plan's state; returns the number of keys there were."""
        base = self.layout.base
        patterns = (f"{base}:*", f"{{{base}}}:*", f"{{*}}:{base}:checkpoint")
        return sum(self._clear(pattern) for pattern in patterns)

    def close(self) -> None:
        """Disconnect."""
        self.wire.close()

    def packed(self, words: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """A record's words as a base, int64; empty if there was no event."""
        if words[0] == 0:
            return np.empty(0, dtype=np.int64)
        room = np.empty(len(words) + len(words) // 64 + 1, dtype=np.int64)
        return room[: pack_record(np.ascontiguousarray(words), room)]

    def exchange(self, commands: list[tuple[bytes, bytes]]) -> list[Any]:
        """Commands with their keys, in one round trip; loads the functions where they are missing.

        Raises:
            StateUnavailable: Redis did not answer, or refused a command.
        """
        if not commands:
            return []
        return self.settled_replies(commands, self.wire.exchange(commands))

    def settled_replies(self, commands: list[tuple[bytes, bytes]], replies: list[Any]) -> list[Any]:
        """The replies of commands, without errors: what lacked the functions is made again.

        Raises:
            StateUnavailable: See `exchange`.
        """
        failed = [i for i, reply in enumerate(replies) if isinstance(reply, Exception)]
        if not failed:
            return replies
        if all("Function not found" in str(replies[i]) for i in failed):
            # A server that started without it, or the first call ever.
            self.wire.load_library(self.library.text)
            again = self.wire.exchange([commands[i] for i in failed])
            for i, reply in zip(failed, again, strict=True):
                replies[i] = reply
            failed = [i for i in failed if isinstance(replies[i], Exception)]
        if failed:
            error = replies[failed[0]]
            assert isinstance(error, ResponseError)
            raise StateUnavailable(
                f"Redis refused {len(failed)} of {len(commands)} commands on feature state: "
                f"{error}."
            )
        return replies

    def exchange_behind(self, commands: list[tuple[bytes, bytes]], first: int) -> list[Any]:
        """`exchange`; what follows the first few commands is made after them on every server."""
        if first and self.wire.is_cluster():
            return self.exchange(commands[:first]) + self.exchange(commands[first:])
        return self.exchange(commands)

    def _command(self, function: str, view: int, key: str, arg: bytes) -> tuple[bytes, bytes]:
        where = self.layout.key(view, key)
        head = self._heads[function]
        return where, b"%b$%d\r\n%b\r\n$%d\r\n%b\r\n" % (head, len(where), where, len(arg), arg)

    def _ask(self, key: bytes, *command: bytes | str | int) -> Any:
        return self.wire.call(key, *command)

    def _call(self, function: str, keys: Sequence[bytes], *args: bytes) -> Any:
        """Call one of the functions for keys that are no records'."""
        name = self.library.function(function)
        (reply,) = self.exchange([(keys[0], pack("FCALL", name, len(keys), *keys, *args))])
        return reply

    def _taken_apart(self, view: int, value: bytes) -> Stored:
        base_bytes, _, position, through = HEADER.unpack_from(value)
        words = np.frombuffer(value, dtype="<i8", offset=HEADER.size)
        base, tail = words[: base_bytes // 8], words[base_bytes // 8 :]
        return Stored(base, position, through, tail.reshape(-1, self.layout.widths[view] // 8))

    def _clear(self, pattern: str) -> int:
        cleared = 0
        for keys in self.wire.scan(pattern.encode()):
            self.exchange([(key, pack("UNLINK", key)) for key in keys])
            cleared += len(keys)
        return cleared


def _text_of(loaded: Loaded) -> bytes:
    return b"%d %d" % loaded
