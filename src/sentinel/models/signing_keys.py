"""The keys that vouch for models: one that signs, and those whose signatures are trusted.

The private key belongs to the deployment. Training and promotion use it, and nobody else has it:
neither MLflow, nor the follower, nor a scorer. It is ``signing.private_key`` of the settings, or
``signing.key`` of the workspace (mode 0600, made on first use). Its text is 64 hex digits: the 32
random bytes that an Ed25519 key is made of.

Trusted are the public keys of ``signing.trusted_keys``, or those in ``signing.pub`` of the
workspace, each as ``ed25519:`` and 64 hex digits. There may be several, so that a key can be
replaced while models that the old one signed go on serving.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from sentinel.domain import ConfigurationError, WorkspaceError
from sentinel.private_files import made_secret
from sentinel.settings import Settings

KEY_FILE: Final = "signing.key"
TRUSTED_FILE: Final = "signing.pub"

_SEED: Final = re.compile(r"[0-9a-f]{64}")
_PUBLIC: Final = re.compile(r"ed25519:([0-9a-f]{64})")
_SEPARATORS: Final = re.compile(r"[\s,]+")


class SigningKey:
    """A private key.

    Args:
        seed: Its 32 random bytes.

    Attributes:
        public: The public key that belongs to it, as text.
        key_id: Names that one in signatures.

    >>> key = SigningKey(bytes(32))
    >>> key.public[:15], key.key_id
    ('ed25519:3b6a27b', '3b6a27bcceb6a42d')
    """

    def __init__(self, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = f"ed25519:{self._key.public_key().public_bytes_raw().hex()}"
        self.key_id = key_id_of(self.public)

    def sign(self, message: bytes) -> bytes:
        """The signature of a message, 64 bytes."""
        return self._key.sign(message)


class TrustedKeys:
    """Public keys whose signatures count.

    Args:
        keys: As text, ``ed25519:`` and 64 hex digits each.
        where: What to change to trust others, for messages.

    Raises:
        ConfigurationError: A text is no public key.
    """

    def __init__(self, keys: list[str], where: str) -> None:
        self.where = where
        self._keys: dict[str, Ed25519PublicKey] = {}
        for text in keys:
            found = _PUBLIC.fullmatch(text)
            if found is None:
                raise ConfigurationError(
                    f"{text[:24]!r} in {where} is no public key: one is ed25519: and 64 hex "
                    "digits. `sentinel models signing-key` prints it."
                )
            key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(found[1]))
            self._keys[key_id_of(text)] = key

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def public(self) -> tuple[str, ...]:
        """The keys as text."""
        return tuple(f"ed25519:{key.public_bytes_raw().hex()}" for key in self._keys.values())

    @property
    def ids(self) -> tuple[str, ...]:
        """Their names, in the order of the settings or the file."""
        return tuple(self._keys)

    def verify(self, key_id: str, signature: bytes, message: bytes) -> bool:
        """Whether one of them made a signature of a message.

        Args:
            key_id: Which one.
            signature: 64 bytes.
            message: What was signed.
        """
        key = self._keys.get(key_id)
        if key is None:
            return False
        try:
            key.verify(signature, message)
        except InvalidSignature:
            return False
        return True


def key_id_of(public: str) -> str:
    """The name of a public key in signatures: its first 16 hex digits."""
    return public.removeprefix("ed25519:")[:16]


def signing_key_of(settings: Settings) -> SigningKey:
    """The private key of a deployment; makes the workspace's own on first use, and trusts it.

    Raises:
        ConfigurationError: The settings' key is none.
        WorkspaceError: The workspace's key cannot be made or read.
    """
    given = settings.signing.private_key.get_secret_value().strip()
    if given:
        return _key(given, "signing.private_key")
    path = settings.workspace / KEY_FILE
    try:
        text = path.read_text(encoding="ascii")
    except FileNotFoundError:
        text = ""
    except (OSError, UnicodeDecodeError) as error:
        raise WorkspaceError(
            f"The key that signs models, {path}, cannot be read ({error}). Make it readable for "
            "this process alone."
        ) from None
    try:
        if not text:
            settings.workspace.mkdir(parents=True, exist_ok=True)
            text = made_secret(path).decode("ascii")
        key = _key(text.strip(), str(path))
        _trust(settings.workspace / TRUSTED_FILE, key.public)
    except OSError as error:
        raise WorkspaceError(
            f"The key that signs models cannot be made in {settings.workspace}: {error}."
        ) from None
    return key


def may_sign(settings: Settings) -> bool:
    """Whether this process has a private key already."""
    given = bool(settings.signing.private_key.get_secret_value().strip())
    return given or (settings.workspace / KEY_FILE).is_file()


def trusted_keys_of(settings: Settings) -> TrustedKeys:
    """The public keys that a deployment trusts; none if it has none yet.

    Raises:
        ConfigurationError: The settings hold what is no key.
        WorkspaceError: The workspace's file cannot be read.
    """
    given = settings.signing.trusted_keys.strip()
    if given:
        return TrustedKeys(_SEPARATORS.split(given), "signing.trusted_keys")
    path = settings.workspace / TRUSTED_FILE
    keys = _trusted_in(path)
    private = settings.signing.private_key.get_secret_value().strip()
    if private:
        keys.append(_key(private, "signing.private_key").public)
    return TrustedKeys(keys, str(path))


def approvers_of(settings: Settings) -> TrustedKeys:
    """The keys one of which must approve a champion; none if no approval is asked for.

    Raises:
        ConfigurationError: The settings hold what is no key.
    """
    given = settings.signing.approvers.strip()
    return TrustedKeys(_SEPARATORS.split(given) if given else [], "signing.approvers")


def key_in(path: Path) -> SigningKey:
    """The private key of a file.

    Raises:
        ConfigurationError: It cannot be read, or holds none.
    """
    try:
        return _key(path.read_text(encoding="ascii").strip(), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"The key in {path} cannot be read: {error}.") from None


def replace_key(settings: Settings) -> SigningKey:
    """Make another private key for the workspace; the public key of the old one stays trusted.

    Raises:
        ConfigurationError: The key is one of the settings, which this cannot change.
        WorkspaceError: The workspace's key cannot be made.
    """
    if settings.signing.private_key.get_secret_value().strip():
        raise ConfigurationError(
            "The key that signs models is signing.private_key of the settings. Put another one "
            "there, and its public key beside the old one into signing.trusted_keys."
        )
    signing_key_of(settings)  # the old one is trusted before it goes
    path = settings.workspace / KEY_FILE
    try:
        replacement = path.with_name(f"{KEY_FILE}.next")
        replacement.unlink(missing_ok=True)
        made_secret(replacement)
        replacement.replace(path)
    except OSError as error:
        raise WorkspaceError(f"{path} cannot be replaced: {error}.") from None
    return signing_key_of(settings)


def forget_key(settings: Settings, key_id: str) -> None:
    """Trust a public key of the workspace no longer.

    Raises:
        ConfigurationError: It is not trusted, it signs, or the settings say which are trusted.
    """
    path = settings.workspace / TRUSTED_FILE
    if settings.signing.trusted_keys.strip():
        raise ConfigurationError(
            "signing.trusted_keys of the settings says which keys are trusted. Take it out there."
        )
    keys = _trusted_in(path)
    kept = [key for key in keys if key_id_of(key) != key_id]
    if len(kept) == len(keys):
        known = ", ".join(key_id_of(key) for key in keys) or "none"
        raise ConfigurationError(f"{path} has no key {key_id!r}; it has {known}.")
    if may_sign(settings) and signing_key_of(settings).key_id == key_id:
        raise ConfigurationError(
            f"Key {key_id} is the one that signs. Make another one first: `sentinel models "
            "signing-key --new`, then `sentinel models sign`."
        )
    _write_trusted(path, kept)


def _key(text: str, where: str) -> SigningKey:
    if _SEED.fullmatch(text) is None:
        raise ConfigurationError(
            f"{where} is not the private key of an Ed25519 pair: 64 hex digits. `openssl rand "
            "-hex 32` makes one."
        )
    return SigningKey(bytes.fromhex(text))


def _trusted_in(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").split()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise WorkspaceError(
            f"The keys that are trusted, {path}, cannot be read: {error}."
        ) from None


def _trust(path: Path, public: str) -> None:
    keys = _trusted_in(path)
    if public not in keys:
        _write_trusted(path, [*keys, public])


def _write_trusted(path: Path, keys: list[str]) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text("".join(f"{key}\n" for key in keys), encoding="ascii")
    partial.replace(path)
