"""What a long benchmark has computed so far, kept in a folder so that another run goes on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Number = TypeVar("Number", bound=np.generic)


class Pieces:
    """Results by name and by what they depend on.

    Args:
        folder: Where they are; None keeps nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def arrays(
        self, name: str, depends_on: object, make: Callable[[], Sequence[npt.NDArray[Number]]]
    ) -> list[npt.NDArray[Number]]:
        """Arrays that were made before, else those that are made now."""
        path = self._path(name, depends_on, ".npz")
        if path is not None and path.exists():
            with np.load(path) as kept:
                return [kept[f"arr_{i}"] for i in range(len(kept.files))]
        made = list(make())
        if path is not None:
            partial = path.with_suffix(".partial.npz")
            np.savez(partial, *made)
            partial.replace(path)
        return made

    def record(
        self, name: str, depends_on: object, make: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        """A part of the result that was made before, else the one that is made now."""
        path = self._path(name, depends_on, ".json")
        if path is not None and path.exists():
            kept: dict[str, Any] = json.loads(path.read_text())
            return kept
        made = make()
        if path is not None:
            partial = path.with_suffix(".partial.json")
            partial.write_text(json.dumps(made))
            partial.replace(path)
        return made

    def _path(self, name: str, depends_on: object, suffix: str) -> Path | None:
        if self.folder is None:
            return None
        text = json.dumps(depends_on, sort_keys=True, default=str)
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        return self.folder / f"{name.replace(' ', '_')}-{digest}{suffix}"
