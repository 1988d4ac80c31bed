"""Sessions as one dashboard knows them: a look-up in memory, everything on disk beside the loop."""

from __future__ import annotations

import hashlib
import logging
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable
from typing import Final

from sentinel.dashboard.login.users import Session, UserStore

log = logging.getLogger(__name__)

REFRESH_SECONDS: Final = 0.5
"""How soon a dashboard knows what `sentinel users` changed."""

MOST_SESSIONS: Final = 10_000
MOST_OF_ONE_USER: Final = 32

_NOTE_SECONDS: Final = 30.0
_HOUR_US: Final = 3_600_000_000
_SETTLED_NS: Final = 100_000_000


class Sessions:
    """Who is logged in.

    Args:
        store: The file that keeps users and sessions.
        hours: A session ends so long after its login.
        idle_minutes: A session ends so long after its last request; an open page is in use.
        now_us: The clock, microseconds UTC.
    """

    def __init__(
        self,
        store: UserStore,
        *,
        hours: float,
        idle_minutes: float,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._store = store
        self._longest_us = int(hours * _HOUR_US)
        self._idle_us = int(idle_minutes * _HOUR_US / 60)
        self._now_us = now_us
        self._lock = threading.Lock()
        self._known: dict[bytes, Session] = {}
        self._seen: dict[bytes, int] = {}
        self._read_of: tuple[int, int] | None = None
        self._noted = time.monotonic()
        self._stop = threading.Event()
        self.has_users = False
        self.refresh()
        self._thread = threading.Thread(target=self._follow, name="sessions", daemon=True)
        self._thread.start()

    def open(self, name: str, how: str, address: str, accepted: str | None = None) -> str:
        """Begin a session. Writes: not for the event loop.

        Args:
            name, how, address: See `Session`.
            accepted: See `UserStore.add_session`.

        Returns:
            The token for its cookie; empty if the password that was accepted is no longer the
            user's.
        """
        token = secrets.token_urlsafe(32)
        now_us = self._now_us()
        session = Session(_digest(token), name, how, now_us, now_us, address)
        if not self._store.add_session(
            session, most=MOST_SESSIONS, most_of_user=MOST_OF_ONE_USER, accepted=accepted
        ):
            return ""
        with self._lock:
            self._known[session.digest] = session
        return token

    def find(self, token: str) -> Session | None:
        """The session of a cookie; None if there is none, or it has run out."""
        session = self._known.get(_digest(token)) if token else None
        return session if session is not None and self.lives(session) else None

    def lives(self, session: Session) -> bool:
        """Whether a session goes on; notes that it is in use."""
        held = self._known.get(session.digest)
        if held is None or not self._in_time(held):
            return False
        held.seen_us = self._now_us()
        self._seen[held.digest] = held.seen_us
        return True

    def end(self, token: str) -> None:
        """End the session of a cookie. Writes: not for the event loop."""
        digest = _digest(token)
        self._store.end_session(digest)
        with self._lock:
            self._known.pop(digest, None)
            self._seen.pop(digest, None)

    def refresh(self) -> None:
        """Take over what the file holds now, and forget in it what has run out."""
        with self._lock:
            if time.monotonic() - self._noted >= _NOTE_SECONDS:
                seen, self._seen = self._seen, {}
                self._noted = time.monotonic()
                self._store.note_seen(seen)
            found = self._store.path.stat()
            read_of = (found.st_mtime_ns, found.st_size)
            if read_of != self._read_of:
                self.has_users = bool(self._store.users())
                held = self._known
                self._known = {session.digest: session for session in self._store.sessions()}
                for digest, session in self._known.items():
                    if digest in held:
                        session.seen_us = max(session.seen_us, held[digest].seen_us)
                # A file that changed just now may change again without a newer time.
                settled = time.time_ns() - found.st_mtime_ns > _SETTLED_NS
                self._read_of = read_of if settled else None
            for digest in [d for d, session in self._known.items() if not self._in_time(session)]:
                del self._known[digest]
                self._seen.pop(digest, None)
                self._store.end_session(digest)

    def close(self) -> None:
        """Stop looking at the file."""
        self._stop.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._stop.wait(REFRESH_SECONDS):
            try:
                self.refresh()
            except (OSError, sqlite3.Error):
                # Whoever is logged in stays so until the sessions run out.
                log.exception("The file of users and sessions cannot be read.")

    def _in_time(self, session: Session) -> bool:
        now_us = self._now_us()
        return (
            now_us - session.created_us < self._longest_us
            and now_us - session.seen_us < self._idle_us
        )


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
