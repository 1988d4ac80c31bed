"""The signature of a model folder: who vouches for its files, and what the gate said of them.

    <folder>/manifest.sig
        {"name": ..., "version": "3", "verdict": "passed", "files": {...}, ...}
        ed25519 3b6a27bcceb6a42d 5f0c...

The first line is the `Statement`, and what is signed; the second names the key and holds the
signature in hex. The statement has the SHA-256 of every other file, so a folder with one byte, one
file more or one file less than it is refused. The registry keeps the same two lines as a tag of the
version, where the follower finds them; it never has the private key.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final, Literal

import msgspec

from sentinel.domain import ModelNotSigned
from sentinel.models.signing_keys import SigningKey, TrustedKeys

SIGNATURE_FILE: Final = "manifest.sig"
APPROVAL_FILE: Final = "approval.sig"
"""An approval is no part of what is signed; see `sentinel.models.approval`."""
SIGNATURE_TAG: Final = "sentinel.signature"
"""Of a version in the registry: its signature, the two lines of the file."""
STATEMENT_FORMAT: Final = 1

SignedVerdict = Literal["candidate", "passed", "provisional", "adopted"]
MAY_SERVE: Final[frozenset[str]] = frozenset({"passed", "provisional", "adopted"})

_CONTEXT: Final = b"sentinel model signature 1\n"
_ALGORITHM: Final = "ed25519"


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """What a signature says.

    Attributes:
        name, version: Under which the registry knows the model.
        run_id: The training run that it came from.
        verdict: "candidate": trained here, and judged by no gate yet. "passed" and "provisional":
            what the gate said. "adopted": served before there were signatures, and an operator
            vouched for it.
        reason: What the gate found, in a sentence, or why there is no verdict of a gate.
        files: SHA-256 in hex of every file of the folder but the signature, by path.
        signed_at_us: When it was signed, microseconds UTC.
        format: Version of this layout.
    """

    name: str
    version: str
    run_id: str
    verdict: SignedVerdict
    reason: str
    files: dict[str, str]
    signed_at_us: int
    format: int = STATEMENT_FORMAT

    @property
    def may_serve(self) -> bool:
        """Whether a gate or an operator let it serve."""
        return self.verdict in MAY_SERVE


class Signed(msgspec.Struct, frozen=True):
    """A statement whose signature was verified.

    Attributes:
        statement: What is said.
        key_id: The trusted key that says so.
    """

    statement: Statement
    key_id: str


def sign(statement: Statement, key: SigningKey) -> str:
    """The two lines of a signature."""
    said = msgspec.json.encode(statement)
    signature = key.sign(_CONTEXT + said).hex()
    return f"{said.decode()}\n{_ALGORITHM} {key.key_id} {signature}\n"


def verify(text: str, keys: TrustedKeys, what: str) -> Signed:
    """The statement of a signature that a trusted key made.

    Args:
        text: The two lines.
        keys: Those that are trusted.
        what: The model, for the message: "Version 3 of sentinel-fraud".

    Raises:
        ModelNotSigned: There is no signature, it is damaged, or no trusted key made it.
    """
    if not text:
        raise ModelNotSigned(
            f"{what} is not signed: no training and no gate of this deployment vouches for it. "
            "`sentinel models sign VERSION` does, after checks."
        )
    if not keys:
        raise ModelNotSigned(
            f"{what} cannot be checked: no key is trusted here. Set "
            "SENTINEL_SIGNING__TRUSTED_KEYS to what `sentinel models signing-key` prints where "
            "models are trained."
        )
    said, _, rest = text.partition("\n")
    words = rest.removesuffix("\n").split(" ")
    try:
        algorithm, key_id, digits = words
        signature = bytes.fromhex(digits)
    except ValueError:
        algorithm, key_id, signature = "", "", b""
    # One spelling only: a byte that is changed counts, even where the same bits would be meant.
    if text != f"{said}\n{_ALGORITHM} {key_id} {signature.hex()}\n" or algorithm != _ALGORITHM:
        raise ModelNotSigned(
            f"The signature of {_small(what)} is damaged. `sentinel models sign VERSION` makes "
            "another, after checks."
        )
    if key_id not in keys.ids:
        known = ", ".join(keys.ids)
        raise ModelNotSigned(
            f"{what} was signed with key {key_id}, which is not trusted here (trusted: {known}). "
            f"Sign it with `sentinel models sign VERSION`, or add that key to {keys.where}."
        )
    if not keys.verify(key_id, signature, _CONTEXT + said.encode()):
        raise ModelNotSigned(
            f"The signature of {_small(what)} does not fit what it says: it was changed after "
            "signing. `sentinel models sign VERSION` makes another, after checks."
        )
    try:
        statement = msgspec.json.decode(said, type=Statement)
    except msgspec.DecodeError as error:
        raise ModelNotSigned(
            f"The signature of {_small(what)} is of another version of Sentinel ({error}). Sign "
            "it again with `sentinel models sign VERSION`."
        ) from None
    return Signed(statement, key_id)


def check_statement(
    statement: Statement,
    *,
    name: str | None = None,
    version: str,
    run_id: str | None = None,
    to_serve: bool,
) -> None:
    """See that a statement is about the model that is meant, and enough for what is planned.

    Args:
        statement: Verified.
        name: The model's name in the registry; None for any.
        version: The version that is meant.
        run_id: Its training run; None for any.
        to_serve: Whether it is to decide; otherwise a candidate will do.

    Raises:
        ModelNotSigned: It is about another model, or no gate has judged the candidate.
    """
    meant = {"name": name, "version": version, "run_id": run_id}
    for field, wanted in meant.items():
        said = getattr(statement, field)
        if wanted is not None and said != wanted:
            raise ModelNotSigned(
                f"Version {version} carries the signature of another model: its {field} is "
                f"{said!r}, not {wanted!r}. Put the files and the signature of version {version} "
                f"back, or sign it with `sentinel models sign {version}`."
            )
    if to_serve and not statement.may_serve:
        raise ModelNotSigned(
            f"No gate has judged version {version}: it is signed as a candidate only. "
            f"`sentinel promote {version}` asks the gate."
        )


def check_folder(
    folder: Path,
    keys: TrustedKeys,
    *,
    name: str | None = None,
    version: str,
    run_id: str | None = None,
    to_serve: bool,
) -> Signed:
    """See that a folder is signed, and holds what was signed: no byte, no file more or less.

    Args:
        folder: Of the model.
        keys: Those that are trusted.
        name, version, run_id, to_serve: See `check_statement`.

    Raises:
        ModelNotSigned: It is not, or does not.
    """
    signed = verify(read_signature(folder), keys, f"Version {version} in {folder}")
    check_statement(signed.statement, name=name, version=version, run_id=run_id, to_serve=to_serve)
    check_files(folder, signed.statement)
    return signed


def check_files(folder: Path, statement: Statement) -> None:
    """See that a folder holds the files of a statement, and no others.

    Raises:
        ModelNotSigned: It does not.
    """
    found = hashes_of(folder)
    if found == statement.files:
        return
    name = next(
        name
        for name in sorted(found.keys() | statement.files.keys())
        if found.get(name) != statement.files.get(name)
    )
    how = "was changed after signing"
    if name not in found:
        how = "is missing"
    elif name not in statement.files:
        how = "was added after signing"
    raise ModelNotSigned(
        f"{folder / name} {how}. Fetch version {statement.version} from the registry again, or "
        "run `sentinel rollback`."
    )


def hashes_of(folder: Path) -> dict[str, str]:
    """SHA-256 in hex of every file of a folder but signature and approval, by path.

    Raises:
        ModelNotSigned: It holds something else than files and folders, a link for instance.
    """
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise ModelNotSigned(f"{path} is no plain file. A model folder holds nothing else.")
        if path.is_file() and name not in (SIGNATURE_FILE, APPROVAL_FILE):
            with path.open("rb") as file:
                found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def read_signature(folder: Path) -> str:
    """The signature of a folder; empty if it has none, or none that can be read."""
    return read_beside(folder, SIGNATURE_FILE)


def write_signature(folder: Path, text: str) -> None:
    """Put a signature beside the files that it is about, durably and at once."""
    write_beside(folder, SIGNATURE_FILE, text)


def read_beside(folder: Path, name: str) -> str:
    """What stands beside the files of a model; empty if nothing does that can be read."""
    try:
        return (folder / name).read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def write_beside(folder: Path, name: str, text: str) -> None:
    """Put a text beside the files of a model, durably and at once."""
    # Not in the folder: one that is left there would be a file too many.
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.{name}")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(folder / name)


def _small(what: str) -> str:
    return what[:1].lower() + what[1:]
