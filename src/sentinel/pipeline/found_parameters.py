"""What searches for parameters have found, kept for the trainings that follow.

``training_parameters.json`` of the workspace has, by family, what the last search found and what
held before it. A training takes what was found last, night after night. If the gate refuses the
procedure that these parameters make, the training after it goes back to those before.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

import msgspec

from sentinel.models.families.installed import spelled
from sentinel.models.intervals import Estimate
from sentinel.pipeline.workspace import only_one
from sentinel.settings import Settings

Parameters = dict[str, float | int]

_WAIT_SECONDS: Final = 10.0


class FoundParameters(msgspec.Struct, frozen=True, kw_only=True):
    """What a search found.

    Attributes:
        trainer: The family.
        parameters: Changes to its own settings; empty if nothing was better than what held, or if
            these settings are better than what held.
        before: The changes that held before.
        average_precision: Over all folds, with the parameters; of what held if nothing was better.
        usual: The same with the family's own settings.
        held: The same with the changes that held; None if there were none.
        better_by: The difference to what held, paired, with its interval; None if nothing was
            better.
        trials, pruned: How many were tried, and how many of them were given up early.
        folds: How many, each ``fold_days`` long.
        rows: Payments of the sample.
        plan_hash: Of the vectors.
        log_through: The last log entry that it looked at.
        seconds: How long it took here; what ran before an interruption is not in it.
        run_id: Where it is tracked.
    """

    trainer: str
    parameters: Parameters
    before: Parameters = {}
    average_precision: float = 0.0
    usual: float = 0.0
    held: float | None = None
    better_by: Estimate | None = None
    trials: int = 0
    pruned: int = 0
    folds: int = 0
    fold_days: float = 0.0
    rows: int = 0
    plan_hash: str = ""
    log_through: int = 0
    seconds: float = 0.0
    run_id: str = ""

    @property
    def words(self) -> str:
        """What was found, in a few sentences."""
        if not self.folds:
            return (
                f"No parameters of {self.trainer} were tried: there are too few frauds before the "
                "test rows to compare on."
            )
        where = f"on {self.folds} folds of {self.fold_days:.3g} days before the test rows"
        how = f"{self.trials} trials ({self.pruned} given up early) {where}"
        usual = f"the family's own settings {self.usual:.3f}"
        held = "" if self.held is None else f"the parameters that held {self.held:.3f}"
        both = " and ".join(one for one in (held, usual) if one)
        if self.better_by is None:
            return (
                f"{how}: nothing was better than what trainings take now (average precision with "
                f"{both}); that stays."
            )
        named = ", ".join(f"{name} {value:g}" for name, value in self.parameters.items())
        return (
            f"{how}: average precision {self.average_precision:.3f}, with {both} "
            f"(difference to the former {self.better_by}; the best of many trials looks better "
            f"than it is). Kept for the trainings that follow: {named or 'the own settings'}."
        )


def remember_parameters(settings: Settings, found: FoundParameters) -> None:
    """Keep what a search found for the next trainings of its family."""
    with _changing(settings):
        _remember(settings, found)


def _remember(settings: Settings, found: FoundParameters) -> None:
    every = _read(settings) | {found.trainer: found}
    path = _path(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_bytes(msgspec.json.format(msgspec.json.encode(every), indent=2))
    partial.replace(path)


def remembered_parameters(settings: Settings, family: str = "") -> FoundParameters | None:
    """What the last search over a family found; None if there was none.

    Args:
        settings: The deployment.
        family: Default: that of the settings.
    """
    return _read(settings).get(spelled(family or settings.training.trainer))


def keep_found(settings: Settings, found: FoundParameters) -> FoundParameters:
    """Keep what a search found, with what held before it; what held stays if nothing was better.

    Args:
        settings: The deployment.
        found: By the search.

    Returns:
        What was found, with what held before it.
    """
    if found.better_by is None:
        return found
    with _changing(settings):
        held = remembered_parameters(settings)
        before: Parameters = {}
        if held is not None:
            same = held.parameters == found.parameters
            before = held.before if same else held.parameters
        found = msgspec.structs.replace(found, before=before)
        _remember(settings, found)
    return found


def go_back(settings: Settings, found: FoundParameters) -> FoundParameters:
    """Let those parameters hold again that held before a search, and before them nothing.

    Returns:
        What holds now.
    """
    found = msgspec.structs.replace(found, parameters=found.before, before={})
    remember_parameters(settings, found)
    return found


def _changing(settings: Settings) -> AbstractContextManager[None]:
    """Hold this while changing the file, which has what was found for every family."""
    return only_one(
        settings.workspace / "training_parameters.lock",
        "a change of the parameters that trainings take",
        wait_seconds=_WAIT_SECONDS,
    )


def _read(settings: Settings) -> dict[str, FoundParameters]:
    try:
        return msgspec.json.decode(_path(settings).read_bytes(), type=dict[str, FoundParameters])
    except (FileNotFoundError, msgspec.DecodeError):
        return {}


def _path(settings: Settings) -> Path:
    return settings.workspace / "training_parameters.json"
