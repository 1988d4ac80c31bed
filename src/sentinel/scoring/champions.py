"""Which model is to serve, and the models that a scoring process has at hand."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from sentinel.models.approval import check_approval, read_approval
from sentinel.models.artifact import MANIFEST
from sentinel.models.champion import Champion
from sentinel.models.registry_view import VIEW, RegistryView, read_view
from sentinel.models.serving import model_folder
from sentinel.models.signature import Signed, check_folder
from sentinel.models.signing_keys import approvers_of, trusted_keys_of
from sentinel.scoring.serving_model import ServingModel
from sentinel.settings import Settings

_HELD: Final = 2


class _Held(NamedTuple):
    """A model in memory.

    Attributes:
        manifest: Of its folder; it has the hashes of all other files.
        model: The model.
        signed: Its signature.
        may_serve: Whether the signature was found to be enough for it to decide.
    """

    manifest: bytes
    model: ServingModel
    signed: Signed
    may_serve: bool


class WarmModels:
    """The model that serves, the one before it, and those of the line-up, all loaded and warm.

    Going back to the one before is then a change of one reference, whatever else is away.

    Args:
        settings: Where models are, and how their answers are worded.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._held: dict[str, _Held] = {}
        self._champions: list[str] = []
        self._beside: frozenset[str] = frozenset()

    def load(self, champion: Champion) -> ServingModel:
        """The champion of a folder: from memory, if that is what the folder still holds.

        Raises:
            ModelFormatError: A file is missing, changed or not readable.
            ModelNotSigned: No key that is trusted here signed the folder to serve, or no second
                key approved it where the settings ask for that.
            PlanMismatch: The folder's plan is not the one the model was trained with.
        """
        model = self._load(champion.folder, champion.version, to_serve=True)
        self._check_approved(champion.folder)
        others = [folder for folder in self._champions if folder != champion.folder]
        self._champions = [*others, champion.folder][-_HELD:]
        self._forget()
        return model

    def load_beside(self, version: str, *, to_serve: bool, approved: bool) -> ServingModel:
        """A version of the line-up; `keep_beside` says afterwards which of them stay.

        Args:
            version: Of the registry.
            to_serve: Whether it decides; a candidate will do otherwise.
            approved: Whether it decides on most payments, so that a second key approves it where
                the settings ask for that.

        Raises:
            ModelError: See `load`.
        """
        name = model_folder(self._settings, version).name
        model = self._load(name, version, to_serve=to_serve)
        if approved:
            self._check_approved(name)
        return model

    def keep_beside(self, versions: Iterable[str]) -> None:
        """Keep these versions of the line-up in memory, and no others of it."""
        self._beside = frozenset(model_folder(self._settings, one).name for one in versions)
        self._forget()

    @property
    def versions(self) -> list[str]:
        """Versions at hand, the champion asked for last first."""
        held = dict(self._held)  # a thread may load another one meanwhile
        last_first = [folder for folder in reversed(self._champions) if folder in held]
        others = [folder for folder in held if folder not in last_first]
        return [held[folder].model.version for folder in (*last_first, *others)]

    def signed(self, version: str) -> Signed | None:
        """The signature of a version at hand; None if it is not at hand."""
        for held in list(self._held.values()):
            if held.model.version == version:
                return held.signed
        return None

    def _load(self, name: str, version: str, *, to_serve: bool) -> ServingModel:
        folder = self._settings.models_dir / name
        try:
            manifest = (folder / MANIFEST).read_bytes()
        except OSError:
            manifest = b""
        held = self._held.get(name)
        if held is None or held.manifest != manifest or (to_serve and not held.may_serve):
            keys = trusted_keys_of(self._settings)
            signed = check_folder(folder, keys, version=version, to_serve=to_serve)
            if held is not None and held.manifest == manifest:
                model = held.model
            else:
                reasons = self._settings.scoring.reasons
                model = ServingModel.load(folder, self._settings.money, reasons=reasons)
            held = _Held(manifest, model, signed, to_serve)
            self._held[name] = held
        return held.model

    def _check_approved(self, name: str) -> None:
        approvers = approvers_of(self._settings)
        if approvers:
            text = read_approval(self._settings.models_dir / name)
            check_approval(text, approvers, self._held[name].signed)

    def _forget(self) -> None:
        wanted = {*self._champions, *self._beside}
        self._held = {name: held for name, held in self._held.items() if name in wanted}


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
