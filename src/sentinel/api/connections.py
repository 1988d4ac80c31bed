"""What all connections share: their number, the bytes that they hold, the time they may take.

A request that is still coming in costs memory and is worth nothing yet. So all of them together
have a bound, and each has a deadline. Waits of one kind are equally long, so connections reach the
end of theirs in the order in which they began: one sweep looks at the oldest of each kind, and no
request needs a timer.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from sentinel.api.problems import ProblemError
from sentinel.settings import ApiSettings

LARGE_BYTES: Final = 65_536
"""A request that is coming in and has more bytes than this is large."""
MOST_REFUSED: Final = 256
"""Connections beyond the bound that get an answer; further ones are cut off."""
LINGER_SECONDS: Final = 2.0
"""How long a refused client may go on sending: it reads the answer when it is through."""
SILENT_SECONDS: Final = 1.0
"""A connection that has sent nothing for so long makes room for a new one."""
DISCARD_SECONDS: Final = 0.004
"""From one read of what a refused client still sends to the next; refused clients take turns."""
_ENDED_AT_ONCE: Final = 64
_LOOKS: Final = 8
"""Sweeps within the shortest wait."""


class Watched(Protocol):
    """A connection as it is seen from here.

    Attributes:
        held: Bytes that it keeps of requests; only `Connections.hold` writes it.
    """

    held: int

    def run_out(self, wait: Wait) -> None:
        """A wait of this connection is over; it no longer waits."""
        ...

    def make_room(self, problem: ProblemError) -> None:
        """End, so that another one can go on."""
        ...

    def discard(self) -> None:
        """Read once more of what is thrown away."""
        ...


class Wait:
    """Connections that wait for the same thing, the longest first.

    Args:
        seconds: How long they may.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.since: dict[Watched, float] = {}

    def begin(self, connection: Watched, now: float) -> None:
        """Let a connection wait from now on."""
        self.since.pop(connection, None)
        self.since[connection] = now

    def end(self, connection: Watched) -> None:
        """Let it wait no more."""
        self.since.pop(connection, None)

    def oldest(self, now: float, seconds: float) -> Watched | None:
        """The one that has waited longest; None if that is less than so many seconds."""
        for connection, since in self.since.items():
            return connection if now - since >= seconds else None
        return None


class Connections:
    """All connections of a process.

    Args:
        limits: The deployment's limits.
        most: Connections at once.
        most_bytes: Bytes of requests that they may keep together.

    Attributes:
        silent: Waits for the first byte of a connection.
        head: Waits for the rest of a head.
        body: Waits for the rest of a body.
        idle: Waits for a next request.
        reader: Waits for the client to take an answer.
        ending: Waits for the client to hang up.
    """

    def __init__(self, limits: ApiSettings, most: int, most_bytes: int) -> None:
        self.silent = Wait(limits.head_seconds)
        self.head = Wait(limits.head_seconds)
        self.body = Wait(limits.body_seconds)
        self.idle = Wait(limits.idle_seconds)
        self.reader = Wait(limits.answer_seconds)
        self.ending = Wait(LINGER_SECONDS)
        self._waits = (self.silent, self.head, self.body, self.idle, self.reader, self.ending)
        self._every = min(wait.seconds for wait in self._waits) / _LOOKS
        self._most = most
        self._most_bytes = most_bytes
        self._open = 0
        self._held = 0
        self._large: dict[Watched, None] = {}
        self._sweeping = False
        self._discarding: dict[Watched, None] = {}
        self._discards = False

    @property
    def open(self) -> int:
        """How many connections there are."""
        return self._open

    def opened(self) -> ProblemError | None:
        """Count a new connection; None if there is room for it."""
        loop = asyncio.get_running_loop()
        self._open += 1
        if not self._sweeping:
            self._sweeping = True
            loop.call_later(self._every, self._sweep, loop)
        if self._open <= self._most:
            return None
        problem = ProblemError(
            503,
            "too_many_connections",
            "Too many connections",
            f"There are {self._most:,} connections. Come again in a moment, or use one connection "
            "for many requests.",
        )
        for wait in (self.silent, self.idle, self.head):
            oldest = wait.oldest(loop.time(), SILENT_SECONDS)
            if oldest is not None:
                oldest.make_room(problem)
                return None
        return problem

    @property
    def can_answer(self) -> bool:
        """Whether a connection that there is no room for may have an answer."""
        return self._open <= self._most + MOST_REFUSED

    def closed(self, connection: Watched) -> None:
        """Forget a connection."""
        self._open -= 1
        self.release(connection)

    def release(self, connection: Watched) -> None:
        """A connection keeps nothing and waits for nothing any more."""
        if connection.held:
            self.hold(connection, 0)
        self._discarding.pop(connection, None)
        for wait in self._waits:
            wait.end(connection)

    def hold(self, connection: Watched, held: int, *, coming_in: bool = False) -> None:
        """Note how many bytes a connection keeps. Where all keep too many, one makes room.

        Args:
            connection: May itself be the one.
            held: Bytes.
            coming_in: They are of a request that is not complete.
        """
        self._held += held - connection.held
        connection.held = held
        if coming_in and held > LARGE_BYTES:
            self._large.setdefault(connection)
        elif self._large:
            self._large.pop(connection, None)
        while self._held > self._most_bytes and self._make_room():
            pass

    @property
    def full(self) -> bool:
        """Whether they keep as many bytes as they may."""
        return self._held >= self._most_bytes

    def discard_later(self, connection: Watched) -> None:
        """Let a refused connection read once more of what it throws away, when it is its turn.

        A client that pours as much as it can would otherwise keep the loop busy with reading it.
        """
        self._discarding.setdefault(connection)
        if not self._discards:
            self._discards = True
            loop = asyncio.get_running_loop()
            loop.call_later(DISCARD_SECONDS, self._discard, loop)

    def _discard(self, loop: asyncio.AbstractEventLoop) -> None:
        connection = next(iter(self._discarding), None)
        if connection is not None:
            del self._discarding[connection]
        try:
            if connection is not None:
                connection.discard()
        finally:
            self._discards = bool(self._discarding)
            if self._discards:
                loop.call_later(DISCARD_SECONDS, self._discard, loop)

    def _make_room(self) -> bool:
        """End the large request that has been coming in longest; a small one if none is large."""
        for waiting in (self._large, self.reader.since, self.body.since, self.head.since):
            for connection in waiting:
                connection.make_room(
                    ProblemError(
                        503,
                        "too_much_coming_in",
                        "Too much at once",
                        f"Requests that are coming in have {self._most_bytes:,} bytes together, "
                        "and this one took longest. Nothing of it was recorded; send it again in "
                        "a moment, or in smaller parts.",
                    )
                )
                return True
        return False

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """End what has waited too long; a bounded number at once."""
        now = loop.time()
        left = _ENDED_AT_ONCE
        for wait in self._waits:
            while left and (late := wait.oldest(now, wait.seconds)) is not None:
                wait.end(late)
                late.run_out(wait)
                left -= 1
        self._sweeping = self._open > 0
        if self._sweeping:
            loop.call_later(self._every if left else 0.001, self._sweep, loop)
