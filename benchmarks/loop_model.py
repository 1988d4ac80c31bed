"""A model as a deployment of the benchmark `loop` holds it, which can be kept and read back."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from sentinel.scoring.serving_model import ServingModel
from sentinel.settings import Settings


class KeptModel(ServingModel):
    """A serving model that can be pickled: as the files of its folder.

    Attributes:
        files: Content by name.
    """

    files: dict[str, bytes]

    @classmethod
    def of(cls, folder: Path) -> KeptModel:
        """The model of a folder, which may go afterwards."""
        model = cls.load(folder, Settings().money, reasons=False)
        assert isinstance(model, cls)
        model.files = {path.name: path.read_bytes() for path in folder.iterdir()}
        return model

    def __reduce__(self) -> tuple[Any, ...]:
        return _of_files, (self.files,)


def _of_files(files: dict[str, bytes]) -> KeptModel:
    with tempfile.TemporaryDirectory(prefix="sentinel-loop-") as place:
        for name, content in files.items():
            Path(place, name).write_bytes(content)
        return KeptModel.of(Path(place))
