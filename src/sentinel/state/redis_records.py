"""Feature state in Redis, shared by many scorers.

A record is the same words as in memory, changed by one function on the server: it returns the
record as it was, makes the change, and numbers it. Features are computed by the scorer's own kernel
from what is returned, so they are the same bits as with state in memory.

Each (view, entity) is one key and each change one call with one key, so this works on a cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from redis.exceptions import ResponseError

from sentinel.domain import StateUnavailable
from sentinel.features.arena import Arena
from sentinel.features.plan.program import Program
from sentinel.state.known_ids import id_hash
from sentinel.state.redis.wire import Wire, pack
from sentinel.state.redis_library import VALUE_FORMAT, Library

FLAG_REPEATED: Final = 4
"""Beside FLAG_LATE and FLAG_EXPIRED: the change had been made before, so nothing was changed."""

_LOAD_RECORDS: Final = 500
_LABEL: Final = "\x1flabel\x1f"


class Call(NamedTuple):
    """A change of one record.

    Attributes:
        view: Number of the view.
        key: The entity's key in it.
        change: id, time, amount, kind, filters and distinct hashes: int64 words, little-endian.
    """

    view: int
    key: str
    change: bytes


class Reply(NamedTuple):
    """What a change found and did.

    Attributes:
        record: The record's bytes before the change, with more behind them; empty: none yet.
        position: The change's own; 0: a label that found no record.
        flags: FLAG_LATE, FLAG_EXPIRED, FLAG_REPEATED.
    """

    record: bytes
    position: int
    flags: int


def label_hash(label_id: str) -> int:
    """What a label's change is known by; never the hash of a transaction of the same id."""
    return id_hash(_LABEL + label_id)


class RedisState:
    """Records of one plan in Redis. For one thread; another thread makes its own.

    Args:
        program: The compiled plan.
        url: ``redis://``, ``rediss://`` or ``unix://``; any node of a cluster.
        timeout_seconds: Longest time for one exchange.
        prefix: Begins every key, so that deployments can share a server.
        rest_seconds: After a failure, so long calls fail at once instead of waiting again.
        restarted: Told the address of a server found running anew; it may have lost its latest
            changes, or all.
    """

    def __init__(
        self,
        program: Program,
        url: str,
        *,
        timeout_seconds: float = 0.1,
        prefix: str = "sentinel",
        rest_seconds: float = 0.0,
        restarted: Callable[[str], None] | None = None,
    ) -> None:
        self.program = program
        self.library = Library(program)
        self.wire = Wire(
            url, timeout_seconds=timeout_seconds, rest_seconds=rest_seconds, restarted=restarted
        )
        self.base = f"{prefix}:{VALUE_FORMAT}:{program.plan.hash}"
        self._prefixes = tuple(f"{self.base}:{view.name}:".encode() for view in program.plan.views)
        self._loaded_key = f"{self.base}:loaded".encode()
        name = self.library.function("change")
        self._call_head = b"*6\r\n$5\r\nFCALL\r\n$%d\r\n%b\r\n$1\r\n1\r\n" % (len(name), name)
        self._call_views = tuple(
            b"\r\n$%d\r\n%d\r\n$%d\r\n" % (len(str(v)), v, self.library.change_bytes)
            for v in range(len(self._prefixes))
        )
        self._read_tails = tuple(
            b"\r\n$1\r\n0\r\n$%d\r\n%d\r\n" % (len(str(size - 1)), size - 1)
            for size in self.library.record_bytes
        )

    def key(self, view: int, key: str) -> bytes:
        """Where a record is kept."""
        return self._prefixes[view] + key.encode()

    def change(
        self, calls: Sequence[Call], intent: tuple[bytes, bytes] | None = None
    ) -> list[Reply]:
        """Make changes in order, in one round trip.

        Args:
            calls: The changes.
            intent: `RedisMarks.intent`, sent in front of them.

        Raises:
            StateUnavailable: Redis did not answer. Each change may have been made or not.
        """
        head, prefixes, views = self._call_head, self._prefixes, self._call_views
        commands = []
        for view, entity, change in calls:
            key = prefixes[view] + entity.encode()
            packed = b"%b$%d\r\n%b%b%b\r\n" % (head, len(key), key, views[view], change)
            commands.append((key, packed))
        if intent is not None:
            return [Reply(*reply) for reply in self.exchange([intent, *commands])[1:]]
        return [Reply(*reply) for reply in self.exchange(commands)]

    def read(self, records: Sequence[tuple[int, str]]) -> list[bytes]:
        """The bytes of records as they are now, empty where there is none, in one round trip.

        Raises:
            StateUnavailable: Redis did not answer.
        """
        commands = []
        for view, entity in records:
            key = self._prefixes[view] + entity.encode()
            packed = b"*4\r\n$8\r\nGETRANGE\r\n$%d\r\n%b%b" % (
                len(key),
                key,
                self._read_tails[view],
            )
            commands.append((key, packed))
        return self.exchange(commands)

    def get_range(self, view: int, key: str, first: int) -> bytes:
        """What a record's key holds from a byte on."""
        where = self.key(view, key)
        (found,) = self.exchange([(where, pack("GETRANGE", where, first, -1))])
        raw: bytes = found
        return raw

    def function(self, name: str, view: int, key: str, *arguments: bytes | str | int) -> Any:
        """Call one of the library's functions on a record."""
        where = self.key(view, key)
        packed = pack("FCALL", self.library.function(name), 1, where, view, *arguments)
        (reply,) = self.exchange([(where, packed)])
        return reply

    # Whole states.

    def load(self, arena: Arena, through_sequence: int) -> int:
        """Put the records of a finished fold in the place of what there is.

        For a plan that no scorer runs yet. What the log got meanwhile is added like any change
        (`RedisFeatures.apply`), its own ids keeping it from being added twice.

        Args:
            arena: State after the log entry ``through_sequence``.
            through_sequence: Kept beside the records, see `loaded_through`.

        Returns:
            How many records were written.

        Raises:
            StateUnavailable: Redis did not answer; `loaded_through` is None then.
        """
        self.wire.call(self._loaded_key, "DEL", self._loaded_key)
        self._clear(f"{self.base}:*")  # the records; marks and intents stay
        written = 0
        for view, keys in enumerate(arena.keys):
            names = list(keys)
            for start in range(0, len(names), _LOAD_RECORDS):
                part = names[start : start + _LOAD_RECORDS]
                commands = []
                for name in part:
                    where = self.key(view, name)
                    record = arena.record(view, name).tobytes()
                    commands.append((where, pack("SET", where, record)))
                self.exchange(commands)
                written += len(part)
        self.wire.load_library(self.library.text)
        self.wire.call(self._loaded_key, "SET", self._loaded_key, through_sequence)
        return written

    def loaded_through(self) -> int | None:
        """The log entry through which this plan's state was loaded; None: it was not, or is lost.

        Raises:
            StateUnavailable: Redis did not answer.
        """
        found = self.wire.call(self._loaded_key, "GET", self._loaded_key)
        return None if found is None else int(found)

    def count(self) -> int:
        """How many records there are.

        Raises:
            StateUnavailable: Redis did not answer.
        """
        keys = sum(len(found) for found in self.wire.scan(f"{self.base}:*".encode()))
        return keys - (self.loaded_through() is not None)

    def drop(self) -> int:
        """Delete this plan's state and functions; returns the number of keys there were."""
        dropped = self._clear(f"{self.base}:*") + self._clear(f"{{{self.base}}}:*")
        self.wire.delete_library(self.library.name)
        return dropped

    def _clear(self, pattern: str) -> int:
        cleared = 0
        for keys in self.wire.scan(pattern.encode()):
            self.exchange([(key, pack("UNLINK", key)) for key in keys])
            cleared += len(keys)
        return cleared

    def close(self) -> None:
        """Disconnect."""
        self.wire.close()

    def exchange(self, commands: list[tuple[bytes, bytes]]) -> list[Any]:
        """Commands with their keys, in one round trip; loads the functions where they are missing.

        Raises:
            StateUnavailable: Redis did not answer, or refused a command.
        """
        replies = self.wire.exchange(commands)
        failed = [i for i, reply in enumerate(replies) if isinstance(reply, Exception)]
        if not failed:
            return replies
        if all("Function not found" in str(replies[i]) for i in failed):
            # A server that started without it, or the first call ever.
            self.wire.load_library(self.library.text)
            for i, reply in zip(
                failed, self.wire.exchange([commands[i] for i in failed]), strict=True
            ):
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
