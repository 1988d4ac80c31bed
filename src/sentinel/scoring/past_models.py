"""Models that no longer decide, for questions about what they decided."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from sentinel.domain import SentinelError
from sentinel.models.serving import serving_of
from sentinel.models.signature import check_folder
from sentinel.models.signing_keys import trusted_keys_of
from sentinel.scoring.serving_model import ServingModel
from sentinel.settings import Settings

MOST_LOADED: Final = 4
"""Models that no longer decide and are kept in memory."""


class Found(NamedTuple):
    """What was found of a model.

    Attributes:
        model: None if it is not here.
        where: ``memory`` or ``folder``.
        problem: Why a folder that is here cannot be used; empty if there is none.
    """

    model: ServingModel | None
    where: str = ""
    problem: str = ""


def fetched_models(settings: Settings) -> Path:
    """Where models are kept that were fetched to explain what they decided."""
    return settings.workspace / "past_models"


class PastModels:
    """Finds the model of a version wherever this process may have it. For one thread.

    Args:
        settings: The deployment.
        in_charge: The models that decide now.
    """

    def __init__(self, settings: Settings, in_charge: Callable[[], Sequence[ServingModel]]) -> None:
        self._settings = settings
        self._in_charge = in_charge
        self._loaded: OrderedDict[tuple[str, str], ServingModel] = OrderedDict()

    def find(self, name: str, version: str) -> Found:
        """The model of a version, if it is in memory or in a folder that a trusted key signed."""
        for model in self._in_charge():
            if (model.name, model.version) == (name, version) and model.explains:
                return Found(model, "memory")
        key = (name, version)
        held = self._loaded.get(key)
        if held is not None:
            self._loaded.move_to_end(key)
            return Found(held, "memory")
        problem = ""
        for folder in self._folders(name, version):
            if not folder.is_dir():
                continue
            try:
                model = self._load(folder, version)
            except SentinelError as error:
                problem = problem or str(error)
                continue
            if (model.name, model.version) != key:
                continue
            self._loaded[key] = model
            while len(self._loaded) > MOST_LOADED:
                self._loaded.popitem(last=False)
            return Found(model, "folder")
        return Found(None, problem=problem)

    def _folders(self, name: str, version: str) -> Iterator[Path]:
        models = self._settings.models_dir
        try:
            serving = serving_of(self._settings)
        except SentinelError:
            serving = None
        for role in () if serving is None else serving.roles.values():
            if role.version == version:
                yield models / role.folder
        folder = f"{name}-{version}"
        if Path(folder).name == folder:
            yield models / folder
            yield fetched_models(self._settings) / folder

    def _load(self, folder: Path, version: str) -> ServingModel:
        keys = trusted_keys_of(self._settings)
        check_folder(folder, keys, version=version, to_serve=False)
        return ServingModel.load(folder, self._settings.money)
