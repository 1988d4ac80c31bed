"""A key: its text, what is kept of it, and how a text is held against that.

The text is ``id.secret``. The id is chosen by people and stands in the log; the secret is 256
random bits that are shown once. What is kept is an HMAC of both with the pepper of the deployment:
whoever reads the store can neither use a key nor make one that fits.
"""

from __future__ import annotations

import hmac
import re
import secrets
from typing import Final

import msgspec

from sentinel.access.scopes import Scope
from sentinel.domain import ConfigurationError

SECRET_PREFIX: Final = "snt_"  # noqa: S105 -- no secret itself
"""Begins every secret, so that scanners for leaked secrets can find one."""
LONGEST_KEY: Final = 128
"""Characters of the longest key there can be; a longer text is no key."""

_SECRET_BYTES: Final = 32
_ID: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_SECRET: Final = re.compile(SECRET_PREFIX + r"[A-Za-z0-9_-]{43}")
_SHORTEST_PEPPER: Final = 16
_CHECK: Final = "the pepper of a deployment"


class StoredKey(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A key as it is kept.

    Attributes:
        key_id: Unique for ever; the log names callers by it.
        name: Who holds it, in words.
        scopes: What it may be used for.
        origins: Label origins that it may record; empty = any.
        sender: Prefix of the transaction ids that it may use; empty = any.
        requests_per_minute, payments_per_minute: Limits of its own; None = those of the settings.
        created_at_us, expires_at_us, revoked_at_us: When; None = never.
        secret_hash: HMAC-SHA256 of its text, 32 bytes.
        secret_created_at_us: When this secret was made.
        old_hash: HMAC of the secret before; empty if there is none.
        old_ends_at_us: Until when that one is good.
    """

    key_id: str
    name: str
    scopes: tuple[Scope, ...]
    origins: tuple[str, ...] = ()
    sender: str = ""
    requests_per_minute: int | None = None
    payments_per_minute: int | None = None
    created_at_us: int
    expires_at_us: int | None = None
    revoked_at_us: int | None = None
    secret_hash: bytes
    secret_created_at_us: int
    old_hash: bytes = b""
    old_ends_at_us: int = 0

    def ended_at(self, now_us: int) -> str:
        """Why it is good no more: "revoked", "expired", or empty if it is good."""
        if self.revoked_at_us is not None:
            return "revoked"
        if self.expires_at_us is not None and self.expires_at_us <= now_us:
            return "expired"
        return ""


class Pepper:
    """Makes the hashes of keys with one secret of the deployment.

    Args:
        secret: At least 16 bytes.

    Raises:
        ConfigurationError: It is shorter.
    """

    def __init__(self, secret: bytes) -> None:
        if len(secret) < _SHORTEST_PEPPER:
            raise ConfigurationError(
                f"The pepper of keys has {len(secret)} bytes; it needs {_SHORTEST_PEPPER} or more. "
                "`openssl rand -hex 32` makes one."
            )
        self._secret = secret

    def hash(self, key: str) -> bytes:
        """What is kept of a key's text: 32 bytes."""
        return hmac.digest(self._secret, key.encode(), "sha256")

    @property
    def check(self) -> bytes:
        """What tells this pepper from others, and gives nothing away: 32 bytes."""
        return self.hash(_CHECK)


def new_key(key_id: str) -> str:
    """The text of a new key, with 256 random bits."""
    return f"{key_id}.{SECRET_PREFIX}{secrets.token_urlsafe(_SECRET_BYTES)}"


def id_of_key(key: str) -> str | None:
    """The id in the text of a key; None if it has not the form of one.

    >>> id_of_key("shop-a.snt_" + "x" * 43), id_of_key("shop-a.snt_x"), id_of_key("shop-a")
    ('shop-a', None, None)
    """
    if len(key) > LONGEST_KEY:
        return None
    key_id, dot, secret = key.partition(".")
    if not dot or _ID.fullmatch(key_id) is None or _SECRET.fullmatch(secret) is None:
        return None
    return key_id


def check_id(key_id: str) -> str:
    """An id that a key can have.

    Raises:
        ConfigurationError: It cannot.
    """
    if _ID.fullmatch(key_id) is None:
        raise ConfigurationError(
            f"{key_id!r} cannot be the id of a key. An id has 1 to 63 of a-z, 0-9, - and _, and "
            "begins with a letter or a digit: shop-a."
        )
    return key_id


def fits(stored: StoredKey, found: bytes, now_us: int) -> bool:
    """Whether a hash is that of a live secret of a key. Takes as long for a wrong one."""
    current = hmac.compare_digest(stored.secret_hash, found)
    old = hmac.compare_digest(stored.old_hash or bytes(32), found)
    return current or (old and now_us < stored.old_ends_at_us)
