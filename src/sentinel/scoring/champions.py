"""Which model is to serve, and the models that a scoring process has at hand."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from sentinel.models.artifact import MANIFEST
from sentinel.models.champion import Champion
from sentinel.models.registry_view import VIEW, RegistryView, read_view
from sentinel.models.signature import Signed, check_folder
from sentinel.models.signing_keys import trusted_keys_of
from sentinel.scoring.serving_model import ServingModel
from sentinel.settings import Settings

_HELD: Final = 2


class WarmModels:
    """The model that serves and the one before it, both loaded and warm.

    Going back to the one before is then a change of one reference, whatever else is away.

    Args:
        settings: Where models are, and how their answers are worded.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._held: OrderedDict[str, tuple[bytes, ServingModel]] = OrderedDict()
        self._signed: dict[str, Signed] = {}

    def load(self, champion: Champion) -> ServingModel:
        """The model of a folder: from memory, if that is what the folder still holds.

        Raises:
            ModelFormatError: A file is missing, changed or not readable.
            ModelNotSigned: No key that is trusted here signed the folder to serve.
            PlanMismatch: The folder's plan is not the one the model was trained with.
        """
        folder = self._settings.models_dir / champion.folder
        try:
            manifest = (folder / MANIFEST).read_bytes()  # it has the hashes of all other files
        except OSError:
            manifest = b""
        held = self._held.get(champion.folder)
        if held is None or held[0] != manifest:
            keys = trusted_keys_of(self._settings)
            signed = check_folder(folder, keys, version=champion.version, to_serve=True)
            self._signed[champion.folder] = signed
            model = ServingModel.load(
                folder, self._settings.money, reasons=self._settings.scoring.reasons
            )
            self._held[champion.folder] = held = (manifest, model)
        self._held.move_to_end(champion.folder)
        while len(self._held) > _HELD:
            dropped, _ = self._held.popitem(last=False)
            del self._signed[dropped]
        return held[1]

    @property
    def versions(self) -> list[str]:
        """Versions at hand, the one asked for last first."""
        return [model.version for _, model in reversed(self._held.values())]

    def signed(self, version: str) -> Signed | None:
        """The signature of a version at hand; None if it is not at hand."""
        for folder, (_, model) in self._held.items():
            if model.version == version:
                return self._signed[folder]
        return None


class RegistryWatch:
    """What the follower saw in the registry, read again when it changes."""

    def __init__(self, settings: Settings) -> None:
        self._models = settings.models_dir
        self._seen: tuple[int, int] | None = None
        self._view: RegistryView | None = None

    def look(self) -> RegistryView | None:
        """What was seen last; None where no follower has looked."""
        try:
            status = (self._models / VIEW).stat()
        except FileNotFoundError:
            return self._view
        if (status.st_mtime_ns, status.st_ino) != self._seen:
            self._seen = (status.st_mtime_ns, status.st_ino)
            self._view = read_view(self._models)
        return self._view
