"""What the registry holds, for people: its versions, their roles and where they come from."""

from __future__ import annotations

from sentinel.domain import NoModel, SentinelError, Unavailable
from sentinel.models.artifact import load_manifest
from sentinel.models.lineage import Lineage, lineage_of, noted_lineage
from sentinel.models.registry_view import KnownVersion, RegistryView, read_view
from sentinel.pipeline.registry_files import open_registry
from sentinel.pipeline.registry_look import look
from sentinel.pipeline.served import folder_of, run_of
from sentinel.settings import Settings


def registry_of(settings: Settings) -> tuple[RegistryView, str]:
    """What the registry holds, and why it is what was seen last instead; empty if it is not.

    Raises:
        Unavailable: The registry does not answer, and nobody has looked before.
    """
    away = ""
    try:
        with open_registry(settings) as server:
            look(settings, server)
    except Unavailable as error:
        away = str(error)
        if read_view(settings.models_dir) is None:
            raise
    view = read_view(settings.models_dir)
    return view or RegistryView(name=settings.mlflow.model_name), away


def require_version(view: RegistryView, version: str) -> KnownVersion:
    """A version by its number.

    Raises:
        NoModel: There is none.
    """
    found = view.find(version)
    if found is None:
        there = ", ".join(one.version for one in view.versions[:10]) or "none"
        raise NoModel(
            f"{view.name} has no version {version!r}. The newest are: {there}. `sentinel models "
            "list` shows all."
        )
    return found


def lineage_in(settings: Settings, known: KnownVersion) -> Lineage | None:
    """Where a version comes from: by its manifest if it is here, else as the registry notes it.

    Returns:
        None for a version of before that was noted, whose files are not here.
    """
    folder = folder_of(settings, known.version)
    if run_of(folder) == known.run_id:
        try:
            return lineage_of(load_manifest(folder))
        except SentinelError:
            pass  # damaged; the registry has what it should say
    return noted_lineage(known.tags)
