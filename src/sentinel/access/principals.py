"""Who calls, and the gatekeeper: what a process knows of keys, and how current that is.

Keys are held in memory, so that checking one costs an HMAC and no look-up. A thread looks at the
store several times a second. What changed is taken over on the event loop, and whatever remembers
a principal (the heads of the fast path) is told to forget it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

import msgspec

from sentinel.access.keys import LONGEST_KEY, Pepper, StoredKey, fits, id_of_key
from sentinel.access.scopes import ALL_SCOPES, Scope
from sentinel.access.store import KeysRead, KeyStore, check_pepper
from sentinel.domain import (
    AccessUnavailable,
    ConfigurationError,
    Forbidden,
    SentinelError,
    Unauthenticated,
)

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 0.25
"""Between two looks at the store."""
USES_SECONDS: Final = 60.0
"""Between two notes of when keys were used. What remembers a principal forgets it as often."""


class Principal(msgspec.Struct, frozen=True):
    """Who calls.

    Attributes:
        key_id: The key's; empty = nobody: loopback while there is no key.
        name: Who holds it, in words.
        scopes: What it may be used for.
        origins: Label origins that it may record; empty = any.
        sender: Prefix of the transaction ids that it may use; empty = any.
        requests_per_minute, payments_per_minute: Limits of its own; None = those of the settings.
    """

    key_id: str
    name: str
    scopes: frozenset[Scope]
    origins: tuple[str, ...] = ()
    sender: str = ""
    requests_per_minute: int | None = None
    payments_per_minute: int | None = None

    def require(self, scopes: frozenset[Scope]) -> None:
        """Let pass who has one of these scopes.

        Raises:
            Forbidden: It has none of them.
        """
        if self.scopes.isdisjoint(scopes):
            raise Forbidden(
                f"The key {self.key_id!r} lacks the scope {' or '.join(sorted(scopes))}; it has "
                f"{', '.join(sorted(self.scopes))}. The operator makes keys with `sentinel keys "
                "create`."
            )

    def require_own(self, identifier: str, field: str) -> None:
        """Let an id pass that this sender may use.

        Args:
            identifier: A transaction's or a label's, as it was sent.
            field: Where it stands in the request.

        Raises:
            Forbidden: It does not begin with the sender's prefix.
        """
        if not identifier.startswith(self.sender):
            raise Forbidden(
                f"The key {self.key_id!r} may use ids that begin with {self.sender!r} alone; "
                f"{field} does not.",
                fields={field: f"must begin with {self.sender!r}"},
            )

    def require_origin(self, origin: str, field: str) -> None:
        """Let a label's origin pass that this key may record.

        Args:
            origin: As it was sent.
            field: Where it stands in the request.

        Raises:
            Forbidden: It is another's.
        """
        if self.origins and origin not in self.origins:
            allowed = ", ".join(self.origins)
            raise Forbidden(
                f"The key {self.key_id!r} may record labels of the origin {allowed} alone; {field} "
                "is another.",
                fields={field: f"must be {allowed}"},
            )


NOBODY: Final = Principal(key_id="", name="nobody", scopes=ALL_SCOPES)
"""Who calls where there is no key yet."""

STRANGER: Final = Principal(key_id="", name="a stranger", scopes=frozenset())
"""Who calls a route that is open to all."""

_NO_KEY: Final = StoredKey(
    key_id="", name="", scopes=(), created_at_us=0, secret_hash=bytes(32), secret_created_at_us=0
)
"""What the hash of an unknown key is compared with, so that it takes as long as a known one."""


class _Look(NamedTuple):
    """What a look at the store found.

    Attributes:
        read: The keys; None if nothing has changed.
        pepper: To check them with; None if there are none, or if they cannot be checked.
        problem: Why they cannot; empty if they can.
    """

    read: KeysRead | None
    pepper: Pepper | None
    problem: str = ""


class Gatekeeper:
    """Says who calls. Lives on one event loop.

    Args:
        store: Where the keys are.
        pepper: Gives the deployment's pepper; asked once there are keys.
        outage_seconds: How long keys stay good while the store cannot be reached.
        clock_us: The wall clock.

    Attributes:
        is_open: Whether there was never a key, so that anyone may come in.
        forget: Called whenever principals may have changed.
    """

    def __init__(
        self,
        store: KeyStore,
        pepper: Callable[[], Pepper],
        *,
        outage_seconds: float,
        clock_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self.is_open = True
        self.forget: list[Callable[[], None]] = []
        self._store = store
        self._find_pepper = pepper
        self._pepper: Pepper | None = None
        self._outage_seconds = outage_seconds
        self._clock_us = clock_us
        self._version = 0
        self._known: dict[str, tuple[StoredKey, Principal]] = {}
        self._next_end_us: int | None = None
        self._problem = ""
        self._reached = time.monotonic()
        self._out_of_reach = False
        self._used: dict[str, int] = {}
        self._noting: dict[str, int] = {}
        self._noted = time.monotonic()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="keys")

    def start(self) -> None:
        """Read the keys for the first time, and wait for it.

        Raises:
            ConfigurationError, WorkspaceError: The keys cannot be checked by this process.
            LedgerUnavailable: The store cannot be reached.
        """
        look = self._look({})
        if look.problem:
            raise ConfigurationError(look.problem)
        self._take(look)

    def admit(self, key: str | None) -> Principal:
        """Who calls with a key.

        Args:
            key: As it came; None if none did.

        Raises:
            Unauthenticated: There is none, or it is not good.
            AccessUnavailable: Keys cannot be checked right now.
        """
        if self.is_open:
            return NOBODY
        if self._problem or self._pepper is None:
            raise AccessUnavailable(self._problem)
        if key is None:
            raise Unauthenticated(
                "A key is needed: send `Authorization: Bearer ID.SECRET`. The operator makes one "
                "with `sentinel keys create`."
            )
        hashed = self._pepper.hash(key[: LONGEST_KEY + 1])
        stored, principal = self._known.get(id_of_key(key) or "", (_NO_KEY, NOBODY))
        now_us = self._clock_us()
        if not fits(stored, hashed, now_us) or stored is _NO_KEY:
            raise Unauthenticated(
                "The key is not known. Check that it was copied whole, ID.SECRET; one that was "
                "rotated ends some time after it."
            )
        ended = stored.ended_at(now_us)
        if ended:
            raise Unauthenticated(
                f"The key {stored.key_id!r} is {ended}. The operator makes another with `sentinel "
                "keys create`."
            )
        self._used[stored.key_id] = now_us
        return principal

    async def watch(self) -> None:
        """Keep current, until cancelled."""
        loop = asyncio.get_running_loop()
        looking: asyncio.Future[_Look] | None = None
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                if looking is None:
                    looking = loop.run_in_executor(self._thread, self._look, self._uses_to_note())
                await asyncio.wait({looking}, timeout=LOOK_SECONDS)
                if looking.done():
                    done, looking = looking, None
                    self._take_look(done)
                self._end_what_is_over()
            except Exception:
                log.exception("Keys could not be looked at; trying again.")

    def close(self) -> None:
        """End the thread, and release the store. Waits."""
        self._thread.shutdown(cancel_futures=True)
        self._store.close()

    # In the thread.

    def _look(self, uses: dict[str, int]) -> _Look:
        """Look whether keys have changed, and read them if they have; note uses on the way.

        Args:
            uses: When keys were used; empty afterwards if it was noted.
        """
        read = None if self._store.version() == self._version else self._store.read()
        if uses:
            try:
                self._store.note_uses(uses)
                uses.clear()
            except SentinelError as error:
                log.warning("When keys were used could not be noted. %s", error)
        if read is None or not read.version:
            return _Look(read, self._pepper)
        try:
            pepper = self._pepper or self._find_pepper()
            check_pepper(read, pepper)
        except ConfigurationError as error:
            return _Look(read, None, str(error))
        return _Look(read, pepper)

    # On the event loop.

    def _uses_to_note(self) -> dict[str, int]:
        if time.monotonic() - self._noted < USES_SECONDS:
            return {}
        self._noted = time.monotonic()
        self._noting, self._used = self._used, {}
        self._forget()  # a key whose principal is remembered would not be seen to be used
        return self._noting

    def _take_look(self, looked: asyncio.Future[_Look]) -> None:
        """Take over what a look found; the keys that are known stay if it found nothing."""
        self._used = self._noting | self._used  # what was not noted is noted the next time
        self._noting = {}
        try:
            look = looked.result()
            if look.read is not None and not look.read.version:
                raise AccessUnavailable(f"The keys in {self._store.shown} are gone.")
        except Exception as error:  # noqa: BLE001 -- whatever it is, nothing opens
            if not self._out_of_reach:
                log.error("Keys cannot be read; those that are known stay good. %s", error)  # noqa: TRY400
            self._out_of_reach = True
            return
        if self._out_of_reach:
            log.info("Keys can be read again.")
        self._out_of_reach = False
        self._reached = time.monotonic()
        if look.read is not None:
            self._take(look)
        elif self._pepper is not None:
            self._problem = ""

    def _take(self, look: _Look) -> None:
        if look.read is None or not look.read.version:
            return
        if self.is_open:
            log.info("There are keys: from now on callers need one.")
        self.is_open = False
        self._pepper = look.pepper
        if look.problem:  # read again at the next look
            if self._problem != look.problem:
                log.error("%s", look.problem)
            self._problem = look.problem
        else:
            self._problem = ""
            self._version = look.read.version
            self._known = {key.key_id: (key, _principal(key)) for key in look.read.keys.values()}
            self._next_end_us = self._find_next_end()
        self._forget()

    def _end_what_is_over(self) -> None:
        """Forget principals of keys that expire, and all if the store is away for too long."""
        if self._next_end_us is not None and self._next_end_us <= self._clock_us():
            self._next_end_us = self._find_next_end()
            self._forget()
        silent = time.monotonic() - self._reached
        if not self.is_open and not self._problem and silent > self._outage_seconds:
            self._problem = (
                f"Keys could not be checked against {self._store.shown} for {silent:.0f} s, longer "
                "than access.outage_seconds allows. Try again in a moment."
            )
            log.error("%s", self._problem)
            self._forget()

    def _find_next_end(self) -> int | None:
        """When the next secret of a live key ends; None if none does."""
        now_us = self._clock_us()
        ends = [
            end
            for key, _ in self._known.values()
            if not key.ended_at(now_us)
            for end in (key.expires_at_us, key.old_ends_at_us)
            if end is not None and end > now_us
        ]
        return min(ends, default=None)

    def _forget(self) -> None:
        for forget in self.forget:
            forget()


def _principal(key: StoredKey) -> Principal:
    return Principal(
        key_id=key.key_id,
        name=key.name,
        scopes=frozenset(key.scopes),
        origins=key.origins,
        sender=key.sender,
        requests_per_minute=key.requests_per_minute,
        payments_per_minute=key.payments_per_minute,
    )
