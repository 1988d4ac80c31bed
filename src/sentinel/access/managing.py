"""Making keys, changing them, ending them: what `sentinel keys` does."""

from __future__ import annotations

import datetime as dt
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from sentinel.access.keys import (
    Pepper,
    StoredKey,
    check_id,
    fits,
    id_of_key,
    new_key,
)
from sentinel.access.scopes import Scope
from sentinel.access.store import KeyStore, now_us
from sentinel.domain import MAX_ID_LENGTH, ConfigurationError, WorkspaceError

GRACE_HOURS: Final = 24.0
"""How long the secret before stays good after a rotation, unless another time is given."""
_HOUR_US: Final = 3_600_000_000


@dataclass(frozen=True, kw_only=True)
class KeyRights:
    """What a key is for.

    Attributes:
        name: Who holds it, in words; empty: its id.
        scopes, origins, sender, requests_per_minute, payments_per_minute: See `Principal`.
        expires_at_us: When it ends; None = never.
    """

    name: str = ""
    scopes: frozenset[Scope]
    origins: Sequence[str] = ()
    sender: str = ""
    requests_per_minute: int | None = None
    payments_per_minute: int | None = None
    expires_at_us: int | None = None


def create_key(
    store: KeyStore, pepper: Pepper, key_id: str, rights: KeyRights, given: str | None = None
) -> str:
    """Make a key.

    Args:
        store: Where it is kept.
        pepper: The deployment's.
        key_id: Its id, unique for ever.
        rights: What it is for.
        given: Its text, made elsewhere; if the store holds just this key, its rights are changed.

    Returns:
        The text of the key, which nothing keeps.

    Raises:
        ConfigurationError: The id is taken, the text is no key of this id, or the rights do not
            fit together or with those of other keys.
    """
    check_id(key_id)
    _check_rights(rights)
    text = new_key(key_id) if given is None else given
    if id_of_key(text) != key_id:
        raise ConfigurationError(
            f"What was given is no key of the id {key_id!r}. A key reads {key_id}.snt_ and then 43 "
            "characters of A-Z, a-z, 0-9, - and _, which are 32 random bytes in base64."
        )
    hashed, now = pepper.hash(text), now_us()

    def change(keys: Mapping[str, StoredKey]) -> StoredKey:
        known = keys.get(key_id)
        if known is not None and (known.ended_at(now) or not fits(known, hashed, now)):
            ended = known.ended_at(now)
            raise ConfigurationError(
                f"There is a key {key_id!r} already"
                + (f", which is {ended}. An id is used once: " if ended else ". ")
                + ("choose another." if ended else f"`sentinel keys rotate {key_id}` renews it.")
            )
        _check_sender(rights.sender, key_id, keys, now)
        made = StoredKey(
            key_id=key_id,
            name=rights.name or key_id,
            scopes=tuple(sorted(rights.scopes)),
            origins=tuple(rights.origins),
            sender=rights.sender,
            requests_per_minute=rights.requests_per_minute,
            payments_per_minute=rights.payments_per_minute,
            created_at_us=now,
            expires_at_us=rights.expires_at_us,
            secret_hash=hashed,
            secret_created_at_us=now,
        )
        if known is None:
            return made
        return msgspec.structs.replace(
            made,
            created_at_us=known.created_at_us,
            secret_hash=known.secret_hash,
            secret_created_at_us=known.secret_created_at_us,
            old_hash=known.old_hash,
            old_ends_at_us=known.old_ends_at_us,
        )

    store.change(change, pepper.check)
    return text


def rotate_key(
    store: KeyStore,
    pepper: Pepper,
    key_id: str,
    *,
    grace_hours: float = GRACE_HOURS,
    given: str | None = None,
) -> str:
    """Give a key a new secret; the one before stays good for a while.

    Args:
        store: Where it is kept.
        pepper: The deployment's.
        key_id: Which key.
        grace_hours: How long the secret before stays good; that before it ends at once.
        given: The new text, made elsewhere.

    Returns:
        The new text of the key.

    Raises:
        ConfigurationError: There is no such key, it has ended, or the text is none of it.
    """
    text = new_key(key_id) if given is None else given
    if id_of_key(text) != key_id:
        raise ConfigurationError(f"What was given is no key of the id {key_id!r}.")
    hashed, now = pepper.hash(text), now_us()

    def change(keys: Mapping[str, StoredKey]) -> StoredKey:
        known = _live(keys, key_id, now)
        if fits(known, hashed, now):
            raise ConfigurationError(f"The key {key_id!r} has this secret already.")
        return msgspec.structs.replace(
            known,
            secret_hash=hashed,
            secret_created_at_us=now,
            old_hash=known.secret_hash,
            old_ends_at_us=now + round(grace_hours * _HOUR_US),
        )

    store.change(change, pepper.check)
    return text


def revoke_key(store: KeyStore, pepper: Pepper, key_id: str) -> None:
    """End a key with all its secrets, for ever.

    Raises:
        ConfigurationError: There is no such key, or it has been revoked before.
    """
    now = now_us()

    def change(keys: Mapping[str, StoredKey]) -> StoredKey:
        known = keys.get(key_id)
        if known is None:
            raise _unknown(keys, key_id)
        if known.revoked_at_us is not None:
            raise ConfigurationError(f"The key {key_id!r} is revoked already.")
        return msgspec.structs.replace(known, revoked_at_us=now)

    store.change(change, pepper.check)


def holds(store: KeyStore, pepper: Pepper, key_id: str, text: str) -> bool:
    """Whether a text is a live secret of a key."""
    known = store.read().keys.get(key_id)
    return known is not None and fits(known, pepper.hash(text), now_us())


class ListedKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key as people see it.

    Attributes:
        key_id, name, scopes, origins, sender, requests_per_minute, payments_per_minute: As it is.
        state: "live", "until DATE", "old secret until DATE", "expired" or "revoked".
        created_at_us, expires_at_us, revoked_at_us, last_used_at_us: When; None = never.
        secret_created_at_us, old_ends_at_us: When it was rotated, and until when the secret
            before is good; None if there is none.
    """

    key_id: str
    name: str
    scopes: tuple[Scope, ...]
    origins: tuple[str, ...]
    sender: str
    requests_per_minute: int | None
    payments_per_minute: int | None
    state: str
    created_at_us: int
    expires_at_us: int | None
    revoked_at_us: int | None
    last_used_at_us: int | None
    secret_created_at_us: int
    old_ends_at_us: int | None


def listed(store: KeyStore) -> list[ListedKey]:
    """All keys, those that have ended last."""
    uses, now = store.uses(), now_us()
    keys = sorted(store.read().keys.values(), key=lambda key: (bool(key.ended_at(now)), key.key_id))
    return [
        ListedKey(
            key_id=key.key_id,
            name=key.name,
            scopes=key.scopes,
            origins=key.origins,
            sender=key.sender,
            requests_per_minute=key.requests_per_minute,
            payments_per_minute=key.payments_per_minute,
            state=_state(key, now),
            created_at_us=key.created_at_us,
            expires_at_us=key.expires_at_us,
            revoked_at_us=key.revoked_at_us,
            last_used_at_us=uses.get(key.key_id),
            secret_created_at_us=key.secret_created_at_us,
            old_ends_at_us=key.old_ends_at_us if key.old_ends_at_us > now else None,
        )
        for key in keys
    ]


def _state(key: StoredKey, now: int) -> str:
    ended = key.ended_at(now)
    if ended:
        return ended
    if key.old_ends_at_us > now:
        return f"old secret until {_day(key.old_ends_at_us)}"
    return "live" if key.expires_at_us is None else f"until {_day(key.expires_at_us)}"


def _day(at_us: int) -> str:
    return dt.datetime.fromtimestamp(at_us / 1e6, dt.UTC).strftime("%Y-%m-%d %H:%M")


def read_key_file(path: Path) -> str | None:
    """The key that a file holds; None if there is no file.

    Raises:
        WorkspaceError: It cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise WorkspaceError(f"The key in {path} cannot be read: {error}.") from None


def write_key_file(path: Path, key: str) -> None:
    """Leave a key in a file that only its owner can read; it is there whole or not at all.

    Raises:
        WorkspaceError: It cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(key + "\n")
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise WorkspaceError(f"The key cannot be written to {path}: {error}.") from None


def _check_rights(rights: KeyRights) -> None:
    if rights.origins and Scope.LABEL not in rights.scopes:
        raise ConfigurationError("Only a key with the scope label has origins.")
    if len(rights.sender) >= MAX_ID_LENGTH or not rights.sender.isprintable():
        raise ConfigurationError(
            f"A sender prefix has fewer than {MAX_ID_LENGTH} printable characters, as the ids that "
            "begin with it."
        )
    if rights.expires_at_us is not None and rights.expires_at_us <= now_us():
        raise ConfigurationError("The key would have expired already.")
    for limit in (rights.requests_per_minute, rights.payments_per_minute):
        if limit is not None and limit < 1:
            raise ConfigurationError("A limit per minute is 1 or more.")


def _check_sender(sender: str, key_id: str, keys: Mapping[str, StoredKey], now: int) -> None:
    """Two senders' prefixes must not overlap: one could take the other's ids."""
    for other in keys.values():
        if other.key_id == key_id or not other.sender or not sender or other.ended_at(now):
            continue
        if other.sender != sender and (
            other.sender.startswith(sender) or sender.startswith(other.sender)
        ):
            raise ConfigurationError(
                f"The sender prefix {sender!r} overlaps with {other.sender!r} of the key "
                f"{other.key_id!r}: ids of one could be taken by the other. End prefixes with a "
                "character that ids do not have before it, as in 'shop-a:'."
            )


def _live(keys: Mapping[str, StoredKey], key_id: str, now: int) -> StoredKey:
    known = keys.get(key_id)
    if known is None:
        raise _unknown(keys, key_id)
    ended = known.ended_at(now)
    if ended:
        raise ConfigurationError(
            f"The key {key_id!r} is {ended}; make another with `sentinel keys create`."
        )
    return known


def _unknown(keys: Mapping[str, StoredKey], key_id: str) -> ConfigurationError:
    names = ", ".join(sorted(keys)[:20]) or "none"
    return ConfigurationError(f"There is no key {key_id!r}; the keys are: {names}.")
