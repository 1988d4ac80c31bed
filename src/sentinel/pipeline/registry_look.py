"""What the registry holds, noted beside the models that serve: ``<models>/registry.json``.

Serving shows it, and a rollback goes by it while the registry is away; see
`sentinel.models.registry_view`.
"""

from __future__ import annotations

import logging
import time

import msgspec

from sentinel.domain import ModelError, ModelNotSigned, SentinelError
from sentinel.models.approval import APPROVAL_TAG, check_approval
from sentinel.models.registry_view import KnownVersion, RegistryView, read_view, write_view
from sentinel.models.signature import SIGNATURE_TAG, check_statement, verify
from sentinel.models.signing_keys import TrustedKeys, approvers_of, trusted_keys_of
from sentinel.pipeline.registry_files import RegistryReader
from sentinel.pipeline.role_aliases import follow_roles
from sentinel.settings import Settings

log = logging.getLogger(__name__)


def look(settings: Settings, server: RegistryReader) -> str:
    """Note what the registry holds, for serving and for a rollback without it.

    Returns:
        Why its aliases of roles do not follow the line-up; empty if they do.
    """
    untold = ""
    champions, versions = server.model(settings.mlflow.model_name)
    try:
        versions = follow_roles(settings, server, versions)
    except SentinelError as error:  # it may be read only from here
        untold = f"The registry's aliases do not follow the line-up. {error}"
    keys = trusted_keys_of(settings)
    view = RegistryView(
        name=settings.mlflow.model_name,
        answered_at_us=time.time_ns() // 1000,
        champions=tuple(champions),
        versions=tuple(
            _with_signature(version, keys, approvers_of(settings)) for version in versions
        ),
    )
    write_view(settings.models_dir, view)
    return untold


def _with_signature(known: KnownVersion, keys: TrustedKeys, approvers: TrustedKeys) -> KnownVersion:
    """A version as others see it: what signature and approval say in place of the two."""
    hidden = (SIGNATURE_TAG, APPROVAL_TAG)
    tags = {key: value for key, value in known.tags.items() if key not in hidden}
    signature, text = (known.tags.get(key, "") for key in hidden)
    known = msgspec.structs.replace(known, tags=tags)
    try:
        signed = verify(signature, keys, f"Version {known.version}")
        check_statement(signed.statement, version=known.version, to_serve=False)
    except ModelNotSigned:
        return known
    known = msgspec.structs.replace(known, signed=signed.statement.verdict, signed_by=signed.key_id)
    try:
        approval = check_approval(text, approvers, signed).approval
    except ModelNotSigned:
        return known
    return msgspec.structs.replace(known, approved=f"{approval.by}: {approval.why}")


def note_problem(
    settings: Settings, server: RegistryReader, error: SentinelError | OSError
) -> None:
    """Let serving show why it has not got the registry's champion."""
    refused = isinstance(error, ModelError)
    try:
        if refused:  # it answers, so others may as well see what it has
            look(settings, server)
        view = read_view(settings.models_dir) or RegistryView(name=settings.mlflow.model_name)
        write_view(settings.models_dir, _with_problem(view, str(error), refused=refused))
    except (SentinelError, OSError) as another:
        log.warning("What the registry holds could not be noted. %s", another)


def _with_problem(view: RegistryView, problem: str, *, refused: bool) -> RegistryView:
    return RegistryView(
        name=view.name,
        answered_at_us=view.answered_at_us,
        champions=view.champions,
        versions=view.versions,
        problem=problem,
        refused=refused,
    )
