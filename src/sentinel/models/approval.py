"""A second key says that a version may be champion: four eyes on what decides about money.

    <folder>/approval.sig
        {"name": ..., "version": "3", "files_sha256": ..., "by": "ann", "why": ..., ...}
        ed25519 9f86d081884c7d65 71a2...

The first line is the `Approval`, the second names the approver's key and holds its signature, in
hex. Where ``signing.approvers`` names keys, a champion needs an approval by one of them that is not
the key of its own signature (`sentinel.models.signature`). The registry keeps the same two lines as
a tag of the version, where the follower finds them.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from sentinel.domain import ModelNotSigned
from sentinel.models.signature import (
    APPROVAL_FILE,
    Signed,
    Statement,
    read_beside,
    write_beside,
)
from sentinel.models.signing_keys import SigningKey, TrustedKeys

APPROVAL_TAG: Final = "sentinel.approval"
"""Of a version in the registry: its approval, the two lines of the file."""

_CONTEXT: Final = b"sentinel model approval 1\n"
_ALGORITHM: Final = "ed25519"


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """What an approver says.

    Attributes:
        name, version, run_id: Which model, as its signature says.
        files_sha256: Of the hashes of its files, in hex: another model of that number has others.
        by, why: Who approved it, and why.
        asked_by: Who wanted it promoted; empty if nobody had asked yet.
        approved_at_us: When, microseconds UTC.
        format: Version of this layout.
    """

    name: str
    version: str
    run_id: str
    files_sha256: str
    by: str
    why: str
    asked_by: str = ""
    approved_at_us: int = 0
    format: int = 1


class Approved(NamedTuple):
    """An approval whose signature was verified.

    Attributes:
        approval: What is said.
        key_id: The approver's key.
    """

    approval: Approval
    key_id: str


def files_sha256(statement: Statement) -> str:
    """One hash for all files of a signed model, in hex."""
    return hashlib.sha256(msgspec.json.encode(statement.files, order="sorted")).hexdigest()


def sign_approval(approval: Approval, key: SigningKey) -> str:
    """The two lines of an approval."""
    said = msgspec.json.encode(approval)
    return f"{said.decode()}\n{_ALGORITHM} {key.key_id} {key.sign(_CONTEXT + said).hex()}\n"


def check_approval(text: str, approvers: TrustedKeys, signed: Signed) -> Approved:
    """See that an approver's key, and not the one that signed a model, lets it be champion.

    Args:
        text: The two lines; empty if there are none.
        approvers: Keys whose approval counts.
        signed: The model's own signature, verified.

    Raises:
        ModelNotSigned: There is no such approval, or it is damaged or about another model.
    """
    version = signed.statement.version
    remedy = f"Approve it with `sentinel models approve {version}`."
    if not text:
        raise ModelNotSigned(f"Version {version} awaits approval by a second key. {remedy}")
    said, _, rest = text.partition("\n")
    words = rest.removesuffix("\n").split(" ")
    try:
        algorithm, key_id, digits = words
        signature = bytes.fromhex(digits)
        approval = msgspec.json.decode(said, type=Approval)
    except (ValueError, msgspec.DecodeError):
        raise ModelNotSigned(f"The approval of version {version} is damaged. {remedy}") from None
    if key_id not in approvers.ids:
        raise ModelNotSigned(
            f"Version {version} was approved with key {key_id}, which is none of "
            f"{approvers.where} ({', '.join(approvers.ids)}). {remedy}"
        )
    if key_id == signed.key_id:
        raise ModelNotSigned(
            f"Version {version} was approved with key {key_id}, which signed it, too: a second key "
            f"has to. {remedy}"
        )
    if algorithm != _ALGORITHM or not approvers.verify(key_id, signature, _CONTEXT + said.encode()):
        raise ModelNotSigned(
            f"The approval of version {version} was changed after it was signed. {remedy}"
        )
    about = signed.statement
    if (approval.name, approval.version, approval.run_id, approval.files_sha256) != (
        about.name,
        about.version,
        about.run_id,
        files_sha256(about),
    ):
        raise ModelNotSigned(f"The approval of version {version} is of another model. {remedy}")
    return Approved(approval, key_id)


def read_approval(folder: Path) -> str:
    """The approval of a folder; empty if it has none, or none that can be read."""
    return read_beside(folder, APPROVAL_FILE)


def write_approval(folder: Path, text: str) -> None:
    """Put an approval beside the files that it is about, durably and at once."""
    write_beside(folder, APPROVAL_FILE, text)
