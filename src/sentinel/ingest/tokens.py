"""Ids that are replaced by keyed hashes before anything is stored.

A token is ``tok1_`` and the HMAC-SHA256 of the id in base64url. The key is a secret of the
workspace: who has the log cannot try all card numbers, who has the secret gets the same token for
the same id at every door. What is a token already passes unchanged.

The secret is in ``tokens.secret`` of the workspace (mode 0600, made on first use) unless the
settings give one; which fields are tokenised is remembered in ``tokens.json`` beside it.
"""

from __future__ import annotations

import base64
import hmac
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
import pyarrow as pa
from filelock import FileLock

from sentinel.domain import ENTITY_COLUMNS, ConfigurationError, WorkspaceError
from sentinel.ingest.cards import card_digits
from sentinel.log.schema import ATTRIBUTE_PREFIX
from sentinel.private_files import made_secret
from sentinel.settings import Settings

KEY_FILE: Final = "tokens.secret"
RULES_FILE: Final = "tokens.json"
_PREFIX: Final = "tok1_"
_TOKEN: Final = re.compile(r"tok1_[A-Za-z0-9_-]{43}")
_SHORTEST_SECRET: Final = 16
_LOCK_SECONDS: Final = 60.0
_CHECK: Final = "sentinel"


class TokenField(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is kept of a field before it becomes a token.

    Attributes:
        bin: Attribute for the first six digits of a card number, empty: none.
        last_four: Attribute for its last four digits, empty: none.
    """

    bin: str = ""
    last_four: str = ""


class TokenRules(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which fields a workspace tokenises.

    Attributes:
        fields: Name to what is kept of it: ``transaction_id``, an entity, ``attributes.NAME``.
        exempt: Fields whose values look like card numbers and are none.
        check: Token of a known text, by which another secret is noticed.
    """

    fields: dict[str, TokenField] = {}
    exempt: tuple[str, ...] = ()
    check: str = ""


class Tokens:
    """Makes tokens with one secret.

    Args:
        secret: At least 16 bytes.

    >>> tokens = Tokens(b"0123456789abcdef")
    >>> token = tokens.of("4111 1111 1111 1111")
    >>> token == tokens.of("4111111111111111") == tokens.of(token), len(token)
    (True, 48)
    """

    def __init__(self, secret: bytes) -> None:
        if len(secret) < _SHORTEST_SECRET:
            raise ConfigurationError(
                f"The secret of tokens has {len(secret)} bytes; it needs {_SHORTEST_SECRET} or "
                "more. `openssl rand -hex 32` makes one."
            )
        self._secret = secret

    def of(self, text: str) -> str:
        """The token of an id in normal form; a token stays what it is."""
        if is_token(text):
            return text
        plain = card_digits(text) or text
        digest = hmac.digest(self._secret, plain.encode(), "sha256")
        return _PREFIX + base64.urlsafe_b64encode(digest).decode("ascii").rstrip("=")

    def column(self, ids: pa.Array) -> pa.Array:
        """The tokens of a column of ids, null where null; the twin of `of`."""
        encoded = ids.dictionary_encode()
        of = self.of
        made = pa.array([of(text) for text in encoded.dictionary.to_pylist()], pa.string())
        return made.take(encoded.indices)

    @property
    def check(self) -> str:
        """What tells this secret from others, and gives nothing away."""
        return self.of(_CHECK)


def is_token(text: str) -> bool:
    """Whether text is a token already.

    >>> is_token("tok1_" + "A" * 43), is_token("tok1_x"), is_token("4111111111111111")
    (True, False, False)
    """
    return text.startswith(_PREFIX) and _TOKEN.fullmatch(text) is not None


def card_parts(text: str) -> tuple[str, str] | None:
    """The first six and last four digits of a card number; None if it is none.

    >>> card_parts("4111-1111-1111-1111"), card_parts("tok-1")
    (('411111', '1111'), None)
    """
    digits = card_digits(text)
    return None if digits is None else (digits[:6], digits[-4:])


def card_part_columns(ids: pa.Array) -> tuple[pa.Array, pa.Array]:
    """The first six and the last four digits of a column of card numbers, null where none."""
    encoded = ids.dictionary_encode()
    parts = [card_parts(text) or (None, None) for text in encoded.dictionary.to_pylist()]
    first, last = (pa.array([part[i] for part in parts], pa.string()) for i in (0, 1))
    return first.take(encoded.indices), last.take(encoded.indices)


def tokens_of(settings: Settings) -> Tokens:
    """The tokens of a deployment; makes the workspace's secret on first use.

    Raises:
        ConfigurationError: The secret is too short.
        WorkspaceError: The file cannot be made or read.
    """
    given = settings.tokens.secret.get_secret_value()
    if given:
        return Tokens(given.encode())
    path = settings.workspace / KEY_FILE
    try:
        return Tokens(path.read_bytes().strip())
    except FileNotFoundError:
        pass
    except OSError as error:
        raise WorkspaceError(
            f"The secret of tokens in {path} cannot be read ({error}). Make it readable for this "
            "process; tokens of another secret would match nothing."
        ) from None
    try:
        settings.workspace.mkdir(parents=True, exist_ok=True)
        return Tokens(made_secret(path))
    except OSError as error:
        raise WorkspaceError(f"The secret of tokens cannot be made at {path}: {error}.") from None


def token_rules(settings: Settings) -> TokenRules:
    """Which fields are tokenised: those that imports have left in the workspace and the settings'.

    Raises:
        ConfigurationError: A field of the settings is none.
        WorkspaceError: The workspace's file cannot be read.
    """
    path = settings.workspace / RULES_FILE
    try:
        kept = msgspec.json.decode(path.read_bytes(), type=TokenRules)
    except FileNotFoundError:
        kept = TokenRules()
    except (OSError, msgspec.DecodeError) as error:
        raise WorkspaceError(
            f"{path} says which fields are tokenised, and cannot be read: {error}."
        ) from None
    fields = {name: TokenField() for name in _listed(settings.tokens.fields, "FIELDS")}
    exempt = (*kept.exempt, *_listed(settings.tokens.exempt, "EXEMPT"))
    return TokenRules(fields | kept.fields, tuple(dict.fromkeys(exempt)), kept.check)


def remember_rules(
    settings: Settings, fields: Mapping[str, TokenField], exempt: tuple[str, ...] = ()
) -> None:
    """Keep in the workspace which fields an import tokenises, so that other doors do the same.

    Raises:
        ConfigurationError: The workspace's tokens were made with another secret.
        WorkspaceError: The file cannot be read or written.
    """
    path = settings.workspace / RULES_FILE
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Imports into a shared ledger may go on beside each other.
        with FileLock(path.with_name(f"{RULES_FILE}.lock"), timeout=_LOCK_SECONDS):
            _add_rules(settings, path, fields, exempt)
    except OSError as error:
        raise WorkspaceError(f"{path} cannot be written: {error}.") from None


def _add_rules(
    settings: Settings, path: Path, fields: Mapping[str, TokenField], exempt: tuple[str, ...]
) -> None:
    before = token_rules(settings)
    check = before.check
    if fields:
        check = checked_tokens(settings, before).check
    rules = TokenRules(
        before.fields | dict(fields), tuple(dict.fromkeys((*before.exempt, *exempt))), check
    )
    if rules == before:
        return
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_bytes(msgspec.json.format(msgspec.json.encode(rules), indent=2) + b"\n")
    partial.replace(path)


def checked_tokens(settings: Settings, rules: TokenRules) -> Tokens:
    """The tokens of a deployment, if their secret is the one that its rules were made with.

    Raises:
        ConfigurationError: It is another one.
        WorkspaceError: It cannot be read or made.
    """
    tokens = tokens_of(settings)
    if rules.check and rules.check != tokens.check:
        raise ConfigurationError(
            "The tokens of this workspace were made with another secret, so that no card would be "
            f"known again. Bring back {KEY_FILE} or SENTINEL_TOKENS__SECRET as it was."
        )
    return tokens


def _listed(text: str, setting: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    own = ["transaction_id", *ENTITY_COLUMNS]
    if setting == "EXEMPT":
        own += ["label_id", "origin"]
    for name in names:
        if name not in own and not name.startswith(ATTRIBUTE_PREFIX):
            raise ConfigurationError(
                f"SENTINEL_TOKENS__{setting} names {name!r}; allowed are {', '.join(own)} and "
                f"{ATTRIBUTE_PREFIX}NAME, with commas between."
            )
    return names
