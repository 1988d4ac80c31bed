"""The registry's aliases follow the line-up: MLflow says which version has which role.

The first challenger of the line-up is ``challenger``, the next ones ``challenger-2``,
``challenger-3``; shadows and segment models alike. ``champion`` is moved by a promotion. The
line-up is what holds: an alias that is moved by hand comes back.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from typing import Final

import msgspec

from sentinel.domain import SentinelError
from sentinel.experiments.lineup import KINDS, MOST_EXPERIMENTS, NO_LINE_UP, LineUp
from sentinel.experiments.store import open_line_ups
from sentinel.models.registry_view import KnownVersion
from sentinel.pipeline.registry_files import RegistryReader, open_registry
from sentinel.settings import Settings

log = logging.getLogger(__name__)


def _name(kind: str, place: int) -> str:
    return kind if place == 1 else f"{kind}-{place}"


ROLE_ALIASES: Final = frozenset(
    _name(kind, place) for kind in KINDS for place in range(1, MOST_EXPERIMENTS + 1)
)
"""Aliases that are moved here, and nowhere else."""


def aliases_of(line_up: LineUp) -> dict[str, str]:
    """Versions by the aliases of their roles.

    Args:
        line_up: Its experiments are in the order of their start.
    """
    seen: Counter[str] = Counter()
    found = {}
    for experiment in line_up.experiments:
        seen[experiment.kind] += 1
        found[_name(experiment.kind, seen[experiment.kind])] = experiment.version
    return found


def follow_roles(
    settings: Settings, server: RegistryReader, versions: Iterable[KnownVersion]
) -> list[KnownVersion]:
    """Point the registry's aliases of roles to the versions of the line-up.

    Args:
        settings: The deployment.
        server: The registry.
        versions: All that it has, with the aliases that it has now.

    Returns:
        The same versions with the aliases that it has afterwards.

    Raises:
        SentinelError: The line-up cannot be read, or the registry does not take it.
    """
    store = open_line_ups(settings)
    try:
        line_up = store.read() or NO_LINE_UP
    finally:
        store.close()
    known = list(versions)
    there = {one.version for one in known}
    wanted = {alias: one for alias, one in aliases_of(line_up).items() if one in there}
    present = {alias: one.version for one in known for alias in one.aliases}
    name = settings.mlflow.model_name
    for alias in sorted((present.keys() & ROLE_ALIASES) - wanted.keys()):
        server.unpoint(name, alias)
    for alias, version in wanted.items():
        if present.get(alias) != version:
            server.point(name, alias, version)
    kept = {alias: one for alias, one in present.items() if alias not in ROLE_ALIASES}
    after = kept | wanted
    return [
        msgspec.structs.replace(
            one, aliases=tuple(sorted(alias for alias, v in after.items() if v == one.version))
        )
        for one in known
    ]


def tell_roles(settings: Settings) -> None:
    """Tell the registry of a line-up that was just changed; a follower tells it if this fails."""
    try:
        with open_registry(settings) as server:
            follow_roles(settings, server, server.model(settings.mlflow.model_name)[1])
    except SentinelError as error:
        log.warning("The registry does not know of the line-up's roles yet. %s", error)
