"""Who signs a model, and when: training its candidates, promotion what the gate let through.

An operator signs what was there before models were signed (`sign_versions`). A workspace that
keeps everything itself signs what it serves by itself, once (`adopt_what_serves`).
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from sentinel.domain import GateRefused, ModelNotSigned, NoModel, SentinelError, Unavailable
from sentinel.models.artifact import load_manifest
from sentinel.models.registry import Registry
from sentinel.models.registry_view import KnownVersion, read_view
from sentinel.models.serving import serving_of
from sentinel.models.signature import (
    SIGNATURE_FILE,
    SIGNATURE_TAG,
    Signed,
    SignedVerdict,
    Statement,
    check_folder,
    check_statement,
    hashes_of,
    read_signature,
    sign,
    verify,
    write_signature,
)
from sentinel.models.signing_keys import TrustedKeys, signing_key_of, trusted_keys_of
from sentinel.pipeline.gate_report import GateReport
from sentinel.pipeline.registry_fetch import fetch_as_registered
from sentinel.pipeline.registry_files import RegistryReader, open_registry
from sentinel.pipeline.registry_http import RegisteredVersion
from sentinel.pipeline.served import changing, folder_of, is_whole
from sentinel.pipeline.workspace import only_promotion
from sentinel.settings import Settings

GATE_TAG: Final = "gate"
"""Of a version in the registry: what the gate said of it."""

_ADOPTED: Final = "served before models were signed"


@dataclass(frozen=True)
class NewlySigned:
    """A version that `sign_versions` signed.

    Attributes:
        signed: What is said of it.
        before: What there was: "unsigned", or the verdict of the signature before.
        untold: Why the registry has not got the signature; empty if it has.
    """

    signed: Signed
    before: str
    untold: str = ""


def sign_what_passed(settings: Settings, folder: Path, version: str, report: GateReport) -> str:
    """Sign a candidate that a gate let through; the files must be those that training signed.

    Args:
        settings: Have the key, and the keys that are trusted.
        folder: Of the candidate.
        version: The candidate.
        report: What the gate said: passed or provisional.

    Returns:
        The signature, for the registry.

    Raises:
        GateRefused: The gate did not let it through.
        ModelNotSigned: The folder is not what was trained here.
    """
    if not report.passed or report.version != version:
        raise GateRefused(f"Version {version} is not signed: {report.words}.")
    key = signing_key_of(settings)
    known = check_folder(folder, trusted_keys_of(settings), version=version, to_serve=False)
    statement = msgspec.structs.replace(
        known.statement,
        verdict="provisional" if report.provisional else "passed",
        reason=str(report),
        signed_at_us=time.time_ns() // 1000,
    )
    text = sign(statement, key)
    write_signature(folder, text)
    return text


def sign_versions(settings: Settings, version: str | None = None) -> list[NewlySigned]:
    """Vouch for versions of before models were signed, or sign them with another key.

    A version that a trusted key has signed keeps its verdict. One that was champion, or that the
    registry notes a verdict of the gate for, is adopted and may serve. Any other becomes a
    candidate, and the gate judges it when it is promoted. No promotion goes on meanwhile: what it
    would sign, or make of the registry, would be written over.

    Args:
        settings: The deployment.
        version: Which one, whether or not a gate has judged it; default: the one that serves here
            and the champions before it whose folders are here.

    Raises:
        NoModel: There is no such version, or nothing serves.
        ModelNotSigned: The champion was crowned without a gate.
        ModelFormatError: The files are not those that were registered.
        WorkspaceError: A promotion, a rollback or a retirement goes on, and not only for a moment.
    """
    with only_promotion(settings), open_registry(settings) as server:
        away: Unavailable | None = None
        try:
            champions, known = server.model(settings.mlflow.model_name)
        except Unavailable as error:
            view, away = read_view(settings.models_dir), error
            champions = [] if view is None else list(view.champions)
            known = [] if view is None else list(view.versions)
        if version is None:
            wanted = _served_here(settings, champions)
        else:
            wanted = [version]
        by_version = {one.version: one for one in known}
        return [
            _sign_one(
                settings,
                None if away is not None else server,
                by_version.get(one) or KnownVersion(version=one),
                champions,
                named=version is not None,
                untold="" if away is None else str(away),
            )
            for one in wanted
        ]


def _served_here(settings: Settings, champions: list[str]) -> list[str]:
    """What serves here and the champions before it: the alias in the registry proves nothing."""
    serving = serving_of(settings)
    if serving is None:
        raise NoModel(
            "No model serves here yet. Name the version that is to be signed: `sentinel models "
            "sign VERSION`."
        )
    present = serving.champion.version
    before = [one for one in champions if folder_of(settings, one).is_dir()]
    return list(dict.fromkeys([present, *reversed(before)]))


def _sign_one(
    settings: Settings,
    server: RegistryReader | None,
    known: KnownVersion,
    champions: Iterable[str],
    *,
    named: bool,
    untold: str,
) -> NewlySigned:
    version, name = known.version, settings.mlflow.model_name
    folder = folder_of(settings, version)
    registered: RegisteredVersion | None = None
    if server is not None:
        registered = server.version(name, version)
        folder = fetch_as_registered(settings, server, registered)
    elif not is_whole(folder, None):
        raise Unavailable(f"{folder} holds no whole model, and the registry is away. {untold}")
    texts = [read_signature(folder), "" if registered is None else registered.signature]
    before = _verified(texts, trusted_keys_of(settings), version)
    verdict, reason = _verdict(known, champions, before, named=named)
    manifest = load_manifest(folder)
    statement = Statement(
        name=manifest.name,
        version=version,
        run_id=manifest.run_id,
        verdict=verdict,
        reason=reason,
        files=hashes_of(folder),
        signed_at_us=time.time_ns() // 1000,
    )
    if before is not None and before.files != statement.files:
        raise ModelNotSigned(
            f"The files of version {version} are not those that were signed before. Restore them "
            "in the registry, or train anew."
        )
    key = signing_key_of(settings)
    text = sign(statement, key)
    with changing(settings):
        write_signature(folder, text)
    if server is not None:
        Registry.of(settings).note(version, SIGNATURE_TAG, text)
    return NewlySigned(
        Signed(statement, key.key_id), "unsigned" if before is None else before.verdict, untold
    )


def _verified(texts: Iterable[str], keys: TrustedKeys, version: str) -> Statement | None:
    """What a trusted key has said of a version already; the most if it has said several things."""
    found = None
    for text in texts:
        try:
            statement = verify(text, keys, f"Version {version}").statement
            check_statement(statement, version=version, to_serve=False)
        except ModelNotSigned:
            continue
        if found is None or statement.may_serve:
            found = statement
    return found


def _verdict(
    known: KnownVersion, champions: Iterable[str], before: Statement | None, *, named: bool
) -> tuple[SignedVerdict, str]:
    if before is not None:
        return before.verdict, before.reason
    gate = known.tags.get(GATE_TAG, "")
    if gate.startswith(("passed", "provisional")):
        return "adopted", f"{_ADOPTED}; the registry notes: {gate}"
    if known.version in champions and named:
        return "adopted", f"{_ADOPTED}, without a gate's verdict"
    if known.version in champions:
        raise ModelNotSigned(
            f"Version {known.version} is champion, and the registry notes no gate that let it "
            f"through. `sentinel models sign {known.version}` vouches for it all the same; "
            "`sentinel rollback` goes back to the one before."
        )
    return "candidate", "registered before models were signed, and judged by no gate yet"


def adopt_what_serves(settings: Settings) -> list[str]:
    """Sign what a workspace of before models were signed serves: trust on first use.

    Only where the workspace is the whole deployment (its own ledger, no keys in the settings), and
    only while no model of it is signed. See docs/decisions/430-models-are-signed.md.

    Args:
        settings: The deployment.

    Returns:
        The versions that were signed; none where there was nothing to do.

    Raises:
        WorkspaceError: A promotion goes on, and not only for a moment.
    """
    signing = settings.signing
    if settings.ledger.url or signing.trusted_keys or signing.private_key.get_secret_value():
        return []
    if _any_is_signed(settings) or serving_of(settings) is None:
        return []
    with only_promotion(settings):
        return [] if _any_is_signed(settings) else _adopt(settings)


def _any_is_signed(settings: Settings) -> bool:
    return any(settings.models_dir.glob(f"*/{SIGNATURE_FILE}"))


def _adopt(settings: Settings) -> list[str]:
    serving, view = serving_of(settings), read_view(settings.models_dir)
    if serving is None:
        return []
    folders = [settings.models_dir / model.folder for model in serving.roles.values()]
    folders += [folder_of(settings, one) for one in (() if view is None else view.champions)]
    adopted = []
    for folder in dict.fromkeys(folders):
        try:
            manifest = load_manifest(folder)
        except SentinelError:
            continue  # a scorer says so when it is to serve it
        gate = view.find(manifest.version) if view is not None else None
        noted = "" if gate is None else gate.tags.get(GATE_TAG, "")
        statement = Statement(
            name=manifest.name,
            version=manifest.version,
            run_id=manifest.run_id,
            verdict="adopted",
            reason=_ADOPTED + (f"; the registry notes: {noted}" if noted else ""),
            files=hashes_of(folder),
            signed_at_us=time.time_ns() // 1000,
        )
        write_signature(folder, sign(statement, signing_key_of(settings)))
        adopted.append(manifest.version)
    return adopted
