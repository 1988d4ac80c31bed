"""A version that is not to be used again: the registry says so, and nothing is deleted.

Its aliases go, it is no step of a rollback any more, and no promotion or experiment takes it. Its
files stay in the registry; a folder that decisions refer to stays as long as that of any other
version (`sentinel.pipeline.retired`), so that they can be explained.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from itertools import groupby

import msgspec

from sentinel.domain import ModelError
from sentinel.experiments.lineup import NO_LINE_UP
from sentinel.experiments.store import open_line_ups
from sentinel.models.registry import CHAMPION, Registry
from sentinel.models.registry_view import RETIRED_TAG, Retirement, retirement_of
from sentinel.models.serving import serving_of
from sentinel.pipeline.registry_files import open_registry
from sentinel.pipeline.registry_look import look
from sentinel.pipeline.registry_sync import settle
from sentinel.pipeline.workspace import only_promotion
from sentinel.settings import Settings


def retire(settings: Settings, version: str, *, by: str, why: str) -> Retirement:
    """Retire a version.

    Args:
        settings: The deployment.
        version: In the registry.
        by, why: Who does it, and why.

    Raises:
        ModelError: It serves, is in the line-up, or is retired already.
        NoModel: There is no such version.
        Unavailable: MLflow does not answer; nothing has changed.
    """
    with (
        only_promotion(settings),
        open_registry(settings) as server,
    ):
        settle(settings, server)  # a rollback that it has not been told of counts
        registry = Registry.of(settings)
        found = registry.version(version)
        require_not_retired(version, found.tags)
        _require_unused(settings, registry, version)
        said = Retirement(by=by, why=why, at_us=time.time_ns() // 1000)
        registry.note(version, RETIRED_TAG, msgspec.json.encode(said).decode())
        look(settings, server)
        try:
            # A scorer may have started an experiment with it before it could see the note.
            _require_unused(settings, registry, version)
        except ModelError:
            registry.note(version, RETIRED_TAG, "")
            look(settings, server)
            raise
        champions = registry.champions()
        if version in champions:
            registry.crown(without(champions, version))
        pointing = {one.version: one.aliases for one in registry.versions()}
        for alias in pointing.get(version, ()):
            registry.unpoint(alias)
        look(settings, server)
    return said


def require_not_retired(version: str, tags: dict[str, str]) -> None:
    """Raise ModelError if a version is retired.

    Args:
        version: It.
        tags: What the registry notes of it.
    """
    said = retirement_of(tags)
    if said is not None:
        raise ModelError(
            f"Version {version} is retired, by {said.by or 'somebody'}: {said.why or 'no reason'}. "
            "Train another one with `sentinel train`."
        )


def without(champions: Iterable[str], version: str) -> list[str]:
    """Who was champion, without a version, and none twice in a row.

    >>> without(["1", "2", "1", "3"], "2")
    ['1', '3']
    """
    return [one for one, _ in groupby(one for one in champions if one != version)]


def _require_unused(settings: Settings, registry: Registry, version: str) -> None:
    champion, serving = registry.by_alias(CHAMPION), serving_of(settings)
    served = {} if serving is None else serving.roles
    if version in [model.version for model in served.values()] or (
        champion is not None and champion.version == version
    ):
        raise ModelError(
            f"Version {version} serves, and cannot be retired. Promote another one first, or go "
            "back with `sentinel rollback`."
        )
    store = open_line_ups(settings)
    try:
        line_up = store.read() or NO_LINE_UP
    finally:
        store.close()
    names = [one.name for one in line_up.experiments if one.version == version]
    if names:
        raise ModelError(
            f"Version {version} is in the line-up, in {', '.join(names)}, and cannot be retired. "
            f"Stop it first with `sentinel experiment stop {names[0]}`."
        )
