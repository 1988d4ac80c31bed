"""Users of the dashboard and their sessions, in one SQLite file that only its owner can read.

The file is the dashboard's own, not a table of the ledger: a process that many people's browsers
talk to needs no way into the ledger's database. `sentinel users` changes it while the dashboard
runs; the dashboard takes changes over within half a second.
"""

from __future__ import annotations

import os
import re
import secrets
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from sentinel.dashboard.login.passwords import (
    hash_of_nobody,
    hash_password,
    is_outdated,
    matches,
    require_good,
)
from sentinel.domain import ConfigurationError, NotFound

NAMES: Final = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,63}")
"""What a user may be called."""

_BUSY_SECONDS: Final = 5.0
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS users (
    name TEXT PRIMARY KEY,
    password TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    changed_us INTEGER NOT NULL,
    seen_us INTEGER
) STRICT;
CREATE TABLE IF NOT EXISTS sessions (
    digest BLOB PRIMARY KEY,
    name TEXT NOT NULL,
    how TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    seen_us INTEGER NOT NULL,
    address TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS secrets (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
"""


class User(msgspec.Struct, frozen=True):
    """Who may log in with a password.

    Attributes:
        name: What the user types.
        created_us, changed_us: When the user was made, and the password set, microseconds UTC.
        seen_us: The last login; None if there was none.
    """

    name: str
    created_us: int
    changed_us: int
    seen_us: int | None


class KeptUser(msgspec.Struct, frozen=True):
    """A user in a backup.

    Attributes:
        name: What the user types.
        password: Its argon2id hash.
        created_us, changed_us: See `User`.
    """

    name: str
    password: str
    created_us: int
    changed_us: int


class Session(msgspec.Struct):
    """A browser that is logged in.

    Attributes:
        digest: SHA-256 of the token in its cookie, which is kept nowhere.
        name: The user.
        how: `password` or `oidc`.
        created_us: The login, microseconds UTC.
        seen_us: The last request, or moment of an open page.
        address: Where the login came from.
    """

    digest: bytes
    name: str
    how: str
    created_us: int
    seen_us: int
    address: str


class UserStore:
    """The file.

    Args:
        path: Made with mode 0600 where it is missing.

    Raises:
        ConfigurationError: Others can read the file, or it is something else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        except FileExistsError:
            if path.stat().st_mode & 0o077:
                raise ConfigurationError(
                    f"{path} holds users of the dashboard and others can read it. Run `chmod 600 "
                    f"{path}`; if somebody may have read it, set new passwords."
                ) from None
        try:
            with self._open() as database:
                database.executescript(_SCHEMA)
        except sqlite3.DatabaseError as error:
            raise ConfigurationError(
                f"{path} cannot be used as the dashboard's file of users ({error}). Move it away; "
                "`sentinel users create` makes a new one."
            ) from error

    # --------------------------------------------------------------------------------- users
    def create(self, name: str, password: str) -> None:
        """Add a user.

        Raises:
            ConfigurationError: The name is taken or not allowed, or the password is too weak.
        """
        if not NAMES.fullmatch(name):
            raise ConfigurationError(
                f"A user's name has 1 to 64 of a-z, 0-9, and . _ @ + - after the first; {name!r} "
                "has not."
            )
        require_good(password, name)
        now_us = _now_us()
        row = (name, hash_password(password), now_us, now_us)
        try:
            with self._open() as database:
                database.execute("INSERT INTO users VALUES (?, ?, ?, ?, NULL)", row)
        except sqlite3.IntegrityError:
            raise ConfigurationError(
                f"There is a user {name} already. `sentinel users password {name}` sets a new "
                "password."
            ) from None

    def set_password(self, name: str, password: str) -> None:
        """Replace a password, and end all of the user's sessions.

        Raises:
            NotFound: There is no such user.
            ConfigurationError: The password is too weak.
        """
        self.require(name)
        require_good(password, name)
        with self._open() as database:
            values = (hash_password(password), _now_us(), name)
            database.execute("UPDATE users SET password = ?, changed_us = ? WHERE name = ?", values)
            database.execute("DELETE FROM sessions WHERE name = ?", (name,))

    def remove(self, name: str) -> None:
        """Forget a user, and end all of the user's sessions.

        Raises:
            NotFound: There is no such user.
        """
        self.require(name)
        with self._open() as database:
            database.execute("DELETE FROM users WHERE name = ?", (name,))
            database.execute("DELETE FROM sessions WHERE name = ?", (name,))

    def users(self) -> list[User]:
        """All users, by name."""
        asked = "SELECT name, created_us, changed_us, seen_us FROM users ORDER BY name"
        with self._open() as database:
            return [User(*row) for row in database.execute(asked).fetchall()]

    def kept(self) -> list[KeptUser]:
        """All users with the hashes of their passwords, for a backup."""
        asked = "SELECT name, password, created_us, changed_us FROM users ORDER BY name"
        with self._open() as database:
            return [KeptUser(*row) for row in database.execute(asked).fetchall()]

    def replace(self, users: Sequence[KeptUser]) -> None:
        """Put the users of a backup in the place of all, and end all sessions.

        Raises:
            ConfigurationError: A name is not allowed, or a password is no hash of ours.
        """
        for user in users:
            if not NAMES.fullmatch(user.name) or not user.password.startswith("$argon2id$"):
                raise ConfigurationError(
                    f"{user.name[:64]!r} is no user of `sentinel users export`. Nothing "
                    "was changed."
                )
        rows = [msgspec.structs.astuple(user) for user in users]
        with self._open() as database:
            database.execute("DELETE FROM sessions")
            database.execute("DELETE FROM users")
            database.executemany("INSERT OR REPLACE INTO users VALUES (?, ?, ?, ?, NULL)", rows)

    def require(self, name: str) -> None:
        """Make sure that there is a user.

        Raises:
            NotFound: There is none of this name.
        """
        if name not in {user.name for user in self.users()}:
            raise NotFound(
                f"There is no user {name}. `sentinel users list` names all; `sentinel users create "
                f"{name}` makes one."
            )

    def check(self, name: str, password: str) -> str:
        """Whether a password is that of a user; takes as long where there is no such user.

        Returns:
            The hash that is kept of it, for `add_session`; empty if it is not the user's.
        """
        with self._open() as database:
            found = database.execute(
                "SELECT password FROM users WHERE name = ?", (name,)
            ).fetchone()
        hashed = hash_of_nobody() if found is None else str(found[0])
        if not matches(hashed, password) or found is None:
            return ""
        accepted = hash_password(password) if is_outdated(hashed) else hashed
        with self._open() as database:
            is_still = database.execute(
                "UPDATE users SET password = ?, seen_us = ? WHERE name = ? AND password = ?",
                (accepted, _now_us(), name, hashed),
            ).rowcount
        return accepted if is_still else self.check(name, password)

    # ------------------------------------------------------------------------------ sessions
    def add_session(
        self, session: Session, *, most: int, most_of_user: int, accepted: str | None = None
    ) -> bool:
        """Keep a session; those that were used longest ago make room for it.

        Args:
            session: What is kept.
            most: Sessions that there may be.
            most_of_user: Sessions that one user may have.
            accepted: The hash by which `check` accepted the user's password; None: the user came
                in without one.

        Returns:
            False if the password was changed since, or the user removed; then nothing is kept.
        """
        with self._open() as database:
            values = msgspec.structs.astuple(session)
            added = database.execute(
                "INSERT INTO sessions SELECT ?, ?, ?, ?, ?, ? WHERE ? IS NULL"
                " OR EXISTS (SELECT 1 FROM users WHERE name = ? AND password = ?)",
                (*values, accepted, session.name, accepted),
            ).rowcount
            if not added:
                return False
            database.execute(
                "DELETE FROM sessions WHERE name = ? AND digest NOT IN (SELECT digest FROM sessions"
                " WHERE name = ? ORDER BY seen_us DESC LIMIT ?)",
                (session.name, session.name, most_of_user),
            )
            database.execute(
                "DELETE FROM sessions WHERE digest NOT IN"
                " (SELECT digest FROM sessions ORDER BY seen_us DESC LIMIT ?)",
                (most,),
            )
        return True

    def sessions(self) -> list[Session]:
        """All sessions, also those that have run out."""
        with self._open() as database:
            return [Session(*row) for row in database.execute("SELECT * FROM sessions").fetchall()]

    def note_seen(self, seen: dict[bytes, int]) -> None:
        """Remember when sessions were used, microseconds UTC by digest."""
        with self._open() as database:
            rows = [(moment, digest) for digest, moment in seen.items()]
            database.executemany("UPDATE sessions SET seen_us = ? WHERE digest = ?", rows)

    def end_session(self, digest: bytes) -> None:
        """Forget one session."""
        with self._open() as database:
            database.execute("DELETE FROM sessions WHERE digest = ?", (digest,))

    def end_sessions(self, name: str) -> int:
        """Forget all sessions of a user, also of one who comes in by OIDC; how many there were."""
        with self._open() as database:
            return database.execute("DELETE FROM sessions WHERE name = ?", (name,)).rowcount

    # ------------------------------------------------------------------------------- secrets
    def secret(self, name: str) -> bytes:
        """32 random bytes that stay the same, made on first use."""
        with self._open() as database:
            made = (name, secrets.token_bytes(32))
            database.execute("INSERT OR IGNORE INTO secrets VALUES (?, ?)", made)
            held = database.execute("SELECT value FROM secrets WHERE name = ?", (name,)).fetchone()
        return bytes(held[0])

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        database = sqlite3.connect(self.path, timeout=_BUSY_SECONDS)
        try:
            with database:
                yield database
        finally:
            database.close()


def _now_us() -> int:
    return time.time_ns() // 1000
