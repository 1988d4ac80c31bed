"""Signatures for models that tests and benchmarks make themselves, by the workspace's own key."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from sentinel.models.artifact import load_manifest
from sentinel.models.registry import Registry
from sentinel.models.signature import (
    SIGNATURE_TAG,
    SignedVerdict,
    Statement,
    hashes_of,
    sign,
    verify,
    write_signature,
)
from sentinel.models.signing_keys import SigningKey, signing_key_of, trusted_keys_of
from sentinel.settings import Settings, SigningSettings


def sign_folder(
    settings: Settings,
    folder: Path,
    *,
    verdict: SignedVerdict = "passed",
    key: SigningKey | None = None,
) -> Statement:
    """Sign a model folder as a gate would have."""
    manifest = load_manifest(folder)
    statement = Statement(
        name=manifest.name,
        version=manifest.version,
        run_id=manifest.run_id,
        verdict=verdict,
        reason="made for a test",
        files=hashes_of(folder),
        signed_at_us=time.time_ns() // 1000,
    )
    write_signature(folder, sign(statement, key or signing_key_of(settings)))
    return statement


def let_through(settings: Settings, version: str, *, verdict: SignedVerdict = "passed") -> None:
    """Sign a candidate of the registry as a gate would have that let it through."""
    registry = Registry.of(settings)
    text = registry.version(version).tags[SIGNATURE_TAG]
    said = verify(text, trusted_keys_of(settings), f"Version {version}").statement
    passed = msgspec.structs.replace(said, verdict=verdict)
    registry.note(version, SIGNATURE_TAG, sign(passed, signing_key_of(settings)))


def trusting(settings: Settings) -> SigningSettings:
    """What another machine of the deployment is told: the public keys, and no private one."""
    return SigningSettings(trusted_keys=" ".join(trusted_keys_of(settings).public))
