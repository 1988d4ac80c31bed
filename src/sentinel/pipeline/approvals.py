"""Approval by a second key: what is asked for by a promotion, and given by an approver."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import msgspec

from sentinel.domain import GateWaits, ModelError, ModelNotSigned
from sentinel.models.approval import (
    APPROVAL_TAG,
    Approval,
    check_approval,
    files_sha256,
    sign_approval,
    write_approval,
)
from sentinel.models.registry import Registry
from sentinel.models.signature import (
    SIGNATURE_TAG,
    check_folder,
    check_statement,
    read_signature,
    verify,
)
from sentinel.models.signing_keys import SigningKey, approvers_of, trusted_keys_of
from sentinel.pipeline.retirement import require_not_retired
from sentinel.pipeline.served import folder_of
from sentinel.settings import Settings

AWAITING_TAG: Final = "sentinel.awaiting-approval"
"""Of a version in the registry: that it awaits approval, an `ApprovalRequest` as JSON."""


class ApprovalRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A promotion that awaits approval.

    Attributes:
        by, why: Who asked for it, and what speaks for it.
        at_us: When, microseconds UTC.
        instead_of: The champion that the version is to replace; None if there is none.
        reference: The version whose procedure later candidates are held against.
        experiment: The one that ends with the promotion; empty if it came from no experiment.
    """

    by: str
    why: str
    at_us: int
    instead_of: str | None
    reference: str
    experiment: str = ""


def request_of(tags: dict[str, str]) -> ApprovalRequest | None:
    """The promotion that awaits approval, by what the registry notes; None if none does."""
    try:
        return msgspec.json.decode(tags.get(AWAITING_TAG, ""), type=ApprovalRequest)
    except msgspec.DecodeError:
        return None


def require_approval(
    settings: Settings, registry: Registry, version: str, folder: Path, request: ApprovalRequest
) -> None:
    """Let a version be promoted if a second key approved it; otherwise note that it awaits that.

    Args:
        settings: Say whether approval is asked for, and by which keys.
        registry: The registry.
        version: What is to be promoted.
        folder: Its folder, signed to serve; gets the approval.
        request: What is noted if it is not approved.

    Raises:
        GateWaits: It awaits approval.
    """
    approvers = approvers_of(settings)
    if not approvers:
        return
    signed = check_folder(folder, trusted_keys_of(settings), version=version, to_serve=True)
    text = registry.version(version).tags.get(APPROVAL_TAG, "")
    problem = ""
    try:
        approval = check_approval(text, approvers, signed).approval
    except ModelNotSigned as error:
        problem = str(error)
    else:
        if approval.by and approval.by == (approval.asked_by or request.by):
            problem = (
                f"Version {version} was approved by {approval.by}, who asks for its promotion, "
                "too: a second person has to. Approve it with `sentinel models approve "
                f"{version}`."
            )
    if problem:
        # Who asked first for the same thing stays known: a nightly run asks every night.
        first = request_of(registry.version(version).tags)
        if first is None or _what(first) != _what(request):
            registry.note(version, AWAITING_TAG, msgspec.json.encode(request).decode())
        raise GateWaits(f"{problem} The champion stays until then.")
    write_approval(folder, text)
    registry.note(version, AWAITING_TAG, "")


def _what(request: ApprovalRequest) -> tuple[str | None, str, str]:
    return (request.instead_of, request.reference, request.experiment)


def approve(
    settings: Settings, version: str, key: SigningKey, *, by: str, why: str
) -> ApprovalRequest | None:
    """Approve a version: it may be champion from now on.

    Args:
        settings: Name the approvers' keys.
        version: In the registry; the gate let it through.
        key: The approver's.
        by, why: Who approves it, and why.

    Returns:
        The promotion that awaited this; None if none did.

    Raises:
        ModelError: The one who asked, or the key that signed, cannot approve; or it is retired.
        ModelNotSigned: The gate did not let it through.
        NoModel: There is no such version.
        Unavailable: MLflow does not answer.
    """
    registry = Registry.of(settings)
    found = registry.version(version)
    require_not_retired(version, found.tags)
    what = f"Version {version} of {settings.mlflow.model_name}"
    signed = verify(found.tags.get(SIGNATURE_TAG, ""), trusted_keys_of(settings), what)
    about = signed.statement
    check_statement(
        about,
        name=settings.mlflow.model_name,
        version=version,
        run_id=found.run_id,
        to_serve=True,
    )
    approvers = approvers_of(settings)
    if key.key_id not in approvers.ids:
        raise ModelError(
            f"Key {key.key_id} is no approver's. Add {key.public} to SENTINEL_SIGNING__APPROVERS "
            "of every scorer, follower and training, or approve with a key that is there."
        )
    request = request_of(found.tags)
    if key.key_id == signed.key_id or (request is not None and request.by == by):
        who = f"key {key.key_id}, which signed it" if key.key_id == signed.key_id else by
        raise ModelError(
            f"Version {version} cannot be approved by {who}: a second person with another key has "
            "to."
        )
    approval = Approval(
        name=about.name,
        version=version,
        run_id=about.run_id,
        files_sha256=files_sha256(about),
        by=by,
        why=why,
        asked_by="" if request is None else request.by,
        approved_at_us=time.time_ns() // 1000,
    )
    text = sign_approval(approval, key)
    check_approval(text, approvers, signed)
    registry.note(version, APPROVAL_TAG, text)
    folder = folder_of(settings, version)
    if read_signature(folder):
        write_approval(folder, text)
    return request
