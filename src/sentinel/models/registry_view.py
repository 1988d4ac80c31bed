"""What a follower last saw in the registry, beside the models that serve.

    <models>/registry.json

Serving answers from it what versions there are and why the champion is not in charge, without a
client of the registry; a rollback finds in it who was champion before while the registry is away.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

VIEW: Final = "registry.json"

PROVISIONAL_TAG: Final = "provisional"
"""Of a version in the registry: why no gate could judge it, where none could."""

RETIRED_TAG: Final = "sentinel.retired"
"""Of a version in the registry: that it is retired, a `Retirement` as JSON."""


class Retirement(msgspec.Struct, frozen=True, kw_only=True):
    """That a version is not to be used again.

    Attributes:
        by, why: Who says so, and why.
        at_us: When, microseconds UTC.
    """

    by: str = ""
    why: str = ""
    at_us: int = 0


def retirement_of(tags: Mapping[str, str]) -> Retirement | None:
    """That a version is retired, by what the registry notes of it; None if it is not."""
    said = tags.get(RETIRED_TAG, "")
    if not said:
        return None
    try:
        return msgspec.json.decode(said, type=Retirement)
    except msgspec.DecodeError:
        return Retirement(why=said)  # noted by hand


class KnownVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A version in the registry.

    Attributes:
        version: Its number, as text.
        run_id: The training run that it came from.
        aliases: What it is for.
        description: A sentence about it.
        tags: What was noted of it.
        created_at_us: When it was registered, microseconds UTC.
        signed: Verdict of its signature, if a trusted key made it; empty if not.
        signed_by: That key's id; empty if none made it.
        approved: Who approved it as champion and why, if an approver's key says so; empty if not.
    """

    version: str
    run_id: str = ""
    aliases: tuple[str, ...] = ()
    description: str = ""
    tags: dict[str, str] = {}
    created_at_us: int = 0
    signed: str = ""
    signed_by: str = ""
    approved: str = ""


class RegistryView(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen.

    Attributes:
        name: Of the model.
        answered_at_us: When the registry last answered, microseconds UTC; 0: never.
        champions: The versions that were champion, oldest first; the last one is.
        versions: All of them, newest first.
        problem: Why the last look failed; empty if it did not.
        refused: Whether the registry has a champion that may not serve.
    """

    name: str
    answered_at_us: int = 0
    champions: tuple[str, ...] = ()
    versions: tuple[KnownVersion, ...] = ()
    problem: str = ""
    refused: bool = False

    def find(self, version: str) -> KnownVersion | None:
        """A version by its number."""
        return next((known for known in self.versions if known.version == version), None)


def read_view(models: Path) -> RegistryView | None:
    """What was seen last; None where nobody looked yet, or the file is no good."""
    try:
        return msgspec.json.decode((models / VIEW).read_bytes(), type=RegistryView)
    except (OSError, msgspec.DecodeError):
        return None


def write_view(models: Path, view: RegistryView) -> None:
    """Leave what was seen for others; they see the old or the new one, whole."""
    models.mkdir(parents=True, exist_ok=True)
    partial = models / f"{VIEW}.{os.getpid()}.partial"
    partial.write_bytes(msgspec.json.encode(view))
    partial.replace(models / VIEW)
