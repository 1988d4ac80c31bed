"""Where online learners have got to, on disk, so that a kill loses nothing.

    online/
      state.json              `OnlineState`: names the files of the day that is reached
      base/                   the model whose trees are refitted
      learners/DAY.txt        the refitted trees, LightGBM's text
      learners/DAY.json       River's learner
      scores/DAY.npz          what every learner said of the payments of a day, before their truth

A day's files are written before the state names them. Whatever a kill left behind it is written
again with the same bytes, since each day depends on the day before and the log alone.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from sentinel.domain import WorkspaceError
from sentinel.models.signature import hashes_of
from sentinel.settings import Settings

KEPT_DAYS: Final = 2
"""Days whose learners are kept: the one that is reached and the one before."""
MOST_SCORED_DAYS: Final = 400
"""Days whose scores are kept."""

Scores = dict[str, np.ndarray]


class OnlineState(msgspec.Struct, frozen=True, kw_only=True):
    """Where the learners are.

    Attributes:
        base: Version whose trees are refitted.
        plan_hash: Of its vectors.
        gap_us: How long after a payment its silence counts.
        base_log_odds: What the first tree of the base holds.
        first_day: Day whose payments were scored first, days since 1970.
        next_day: Day whose payments are scored next.
        trees_sha256, river_sha256: Of the learners that score it, in hex.
        trees_rows: Payments that the last refit saw.
        base_sha256: Of the base's files, in hex; empty if learners began before it was noted.
        format: Version of this layout.
    """

    base: str
    plan_hash: str
    gap_us: int
    base_log_odds: float
    first_day: int
    next_day: int
    trees_sha256: str
    river_sha256: str
    trees_rows: int = 0
    base_sha256: str = ""
    format: int = 1


class OnlinePlace:
    """The folder of the learners.

    Args:
        settings: The deployment.
    """

    def __init__(self, settings: Settings) -> None:
        self.folder = settings.workspace / "online"

    def state(self) -> OnlineState | None:
        """Where the learners are; None if they have not begun."""
        try:
            content = (self.folder / "state.json").read_bytes()
        except FileNotFoundError:
            return None
        try:
            return msgspec.json.decode(content, type=OnlineState)
        except msgspec.DecodeError as error:
            raise self._broken(f"its state cannot be read: {error}") from None

    def base(self, state: OnlineState | None = None) -> Path:
        """The folder of the model whose trees are refitted.

        Args:
            state: Where the learners are; None if they have not begun.

        Raises:
            WorkspaceError: It is not what it was when they began.
        """
        folder = self.folder / "base"
        if state is not None and state.base_sha256 and self.base_sha256() != state.base_sha256:
            raise self._broken("the model that they began with is not what it was")
        return folder

    def base_sha256(self) -> str:
        """Of the names and contents of all files of the base, in hex."""
        files = hashes_of(self.folder / "base")
        return _sha256(msgspec.json.encode(files, order="sorted"))

    def learners(self, state: OnlineState) -> tuple[str, bytes]:
        """The trees and River's learner of the day that is reached.

        Raises:
            WorkspaceError: They are not what they were.
        """
        try:
            trees = self._learner(state.next_day, "txt").read_bytes()
            river = self._learner(state.next_day, "json").read_bytes()
        except FileNotFoundError as error:
            raise self._broken(f"a file is missing: {error}") from None
        if (_sha256(trees), _sha256(river)) != (state.trees_sha256, state.river_sha256):
            raise self._broken("its learners are not what they were")
        return trees.decode(), river

    def keep(self, state: OnlineState, trees: str, river: bytes) -> OnlineState:
        """Keep the learners of a day; from here on it is the day that is reached.

        Returns:
            The state with their hashes.
        """
        told = msgspec.structs.replace(
            state, trees_sha256=_sha256(trees.encode()), river_sha256=_sha256(river)
        )
        _write(self._learner(state.next_day, "txt"), trees.encode())
        _write(self._learner(state.next_day, "json"), river)
        _write(self.folder / "state.json", msgspec.json.encode(told))
        for path in (self.folder / "learners").iterdir():
            if path.stem.isdigit() and int(path.stem) <= state.next_day - KEPT_DAYS:
                path.unlink(missing_ok=True)
        return told

    def keep_scores(self, day: int, scores: Scores) -> None:
        """Keep what was said of the payments of a day; each array is (n_payments,)."""
        path = self.folder / "scores" / f"{day}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        with partial.open("wb") as file:
            np.savez(file, **scores)  # type: ignore[arg-type]
        partial.replace(path)
        (path.parent / f"{day - MOST_SCORED_DAYS}.npz").unlink(missing_ok=True)

    def scores(self, state: OnlineState) -> list[tuple[int, Scores]]:
        """What was said of the payments of each day, oldest first."""
        found = []
        for day in range(state.first_day, state.next_day):
            path = self.folder / "scores" / f"{day}.npz"
            if path.exists():
                with np.load(path, allow_pickle=False) as kept:
                    found.append((day, {name: kept[name] for name in kept.files}))
        return found

    def clear(self) -> None:
        """Forget everything."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _learner(self, day: int, ending: str) -> Path:
        return self.folder / "learners" / f"{day}.{ending}"

    def _broken(self, why: str) -> WorkspaceError:
        return WorkspaceError(
            f"The online learners in {self.folder} cannot go on: {why}. Begin anew with `sentinel "
            "learn --restart`."
        )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
