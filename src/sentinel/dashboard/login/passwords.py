"""Passwords: what one must be, and their argon2id hashes."""

from __future__ import annotations

import secrets
import unicodedata
from functools import cache
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from sentinel.domain import ConfigurationError

SHORTEST: Final = 12
LONGEST: Final = 256

# The second recommended choice of RFC 9106: 64 MiB, three passes, four lanes.
_HASHER: Final = PasswordHasher(time_cost=3, memory_cost=64 * 1024, parallelism=4)


def hash_password(password: str) -> str:
    """The hash of a password, in the usual text form with its parameters and salt."""
    return _HASHER.hash(_normal(password))


@cache
def hash_of_nobody() -> str:
    """What a password is compared with where there is no such user, so that it takes as long."""
    return hash_password(secrets.token_hex(16))


def matches(hashed: str, password: str) -> bool:
    """Whether a password is that of a hash; takes about 50 ms and 64 MiB."""
    if len(password) > LONGEST:
        return False
    try:
        return _HASHER.verify(hashed, _normal(password))
    except (VerificationError, InvalidHashError):
        return False


def is_outdated(hashed: str) -> bool:
    """Whether a hash was made with other parameters than today's."""
    return _HASHER.check_needs_rehash(hashed)


def require_good(password: str, name: str) -> None:
    """Refuse a password that is guessed too easily.

    Raises:
        ConfigurationError: It is too short, too long, or the user's name.
    """
    if not SHORTEST <= len(_normal(password)) <= LONGEST:
        raise ConfigurationError(
            f"A password has {SHORTEST} to {LONGEST} characters; this one has "
            f"{len(_normal(password))}. Four random words make a good one."
        )
    if len(set(_normal(password).casefold())) < 4 or name.casefold() in password.casefold():
        raise ConfigurationError(
            "This password is guessed at once: it holds the user's name, or hardly any different "
            "characters. Four random words make a good one."
        )


def _normal(password: str) -> str:
    """The same text, however a keyboard composes its characters."""
    return unicodedata.normalize("NFKC", password)
