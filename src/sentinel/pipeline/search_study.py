"""The journal of a search: trials that survive a kill, and whose order decides nothing else.

A trial draws its values from the trials that ended before it and from its own number, never from
the state of a generator in memory. So a search that was killed and goes on tries what it would have
tried, and finds the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import filelock

from sentinel.domain import WorkspaceError
from sentinel.models.families.trainer import Between

MOST_JOURNALS: Final = 20
"""Journals of searches that are kept, those that were written to last."""

JOURNAL: Final = ".journal"
UNFINISHED: Final = ".unfinished"
"""Ends the names of files that say what a search is about which has not ended."""

_STARTUP: Final = 8
"""Trials that are drawn at random, before the sampler has something to learn from."""
_UNPRUNED: Final = 5
"""Trials that are never given up, so that there is a median to be worse than."""

Values = dict[str, float | int]


class Study:
    """A search over the space of a family. Made by `open_study`.

    Args:
        study: Of Optuna.
        space: What may be tried.
        seed: Of the sampler.
        held: What serves meanwhile, tried second; None if that is the family's own settings.
    """

    def __init__(
        self, study: Any, space: Mapping[str, Between], seed: int, held: Values | None = None
    ) -> None:
        self._study = study
        self._space = space
        self._seed = seed
        usual: Values = {name: one.usual for name, one in space.items()}
        self._first = [usual] if held is None else [usual, held]

    @property
    def ended(self) -> list[Any]:
        """Trials that came to an end, given up or not, in their order."""
        from optuna.trial import TrialState

        return list(self._study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED)))

    @property
    def completed(self) -> list[Any]:
        """Trials that were scored on every fold, in their order."""
        from optuna.trial import TrialState

        return list(self._study.get_trials(states=(TrialState.COMPLETE,)))

    @property
    def best(self) -> Any:
        """The completed trial of the highest average precision; the earliest of equal ones."""
        return max(self.completed, key=lambda trial: (trial.value, -trial.number))

    def next(self, steps: int, measure: Callable[[Values, int], float]) -> None:
        """Run one trial: the family's own settings first, what serves, then what is drawn.

        Args:
            steps: How many folds there are.
            measure: Average precision with some values on a fold.
        """
        from optuna.trial import TrialState

        number = len(self.ended)
        self._study.sampler = self._sampler(number)
        waiting = self._study.get_trials(states=(TrialState.WAITING,))
        if number < len(self._first) and not waiting:
            self._study.enqueue_trial(self._first[number])
        trial = self._study.ask()
        values = {name: _draw(trial, name, one) for name, one in self._space.items()}
        total = 0.0
        for step in range(steps):
            total += measure(values, step)
            # Of the folds so far, so that trials are compared on the same ones.
            trial.report(total / (step + 1), step)
            if step + 1 < steps and trial.should_prune():
                self._study.tell(trial, state=TrialState.PRUNED)
                return
        self._study.tell(trial, total / steps)

    def importances(self) -> dict[str, float]:
        """How much each parameter explains of the differences between trials; sums to 1.

        Empty if fewer than four trials were completed, or all of them came out alike.
        """
        import optuna

        values = {trial.value for trial in self.completed}
        if len(self.completed) < 4 or len(values) < 2:
            return {}
        try:
            return dict(optuna.importance.get_param_importances(self._study))
        except (RuntimeError, ValueError):  # too alike for its trees
            return {}

    def _sampler(self, number: int) -> Any:
        import optuna

        seed = self._seed * 100_003 + number
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=_STARTUP)


@contextmanager
def open_study(
    folder: Path,
    name: str,
    space: Mapping[str, Between],
    *,
    seed: int,
    held: Values | None = None,
) -> Iterator[Study]:
    """A search, as far as it has come. Of other searches, the latest journals are kept.

    Args:
        folder: Where journals are; made if missing.
        name: Of the search; the same name goes on with what was begun.
        space: What may be tried.
        seed: Of the sampler.
        held: What serves meanwhile, tried second; None if that is the family's own settings.

    Raises:
        WorkspaceError: Another process is at this search.
    """
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    from optuna.trial import TrialState

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}{JOURNAL}"
    try:
        lock = filelock.FileLock(folder / f"{name}.in-use", timeout=0)
        lock.acquire()
    except filelock.Timeout:
        raise WorkspaceError(
            f"Another process is at the search {name} already. Wait for it, or stop it; a search "
            "that was stopped goes on where it was."
        ) from None
    try:
        _mend(path)
        _drop_old(folder, besides=path)
        study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(path))),
            study_name=name,
            direction="maximize",
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=_UNPRUNED),
        )
        for trial in study.get_trials(states=(TrialState.RUNNING,)):
            study.tell(trial.number, state=TrialState.FAIL)  # it was killed; it is run again
        yield Study(study, space, seed, held)
    finally:
        lock.release()


def values_of(trial: Any) -> Values:
    """What a trial tried, with the digits that it was tried with."""
    return {
        name: value if isinstance(value, int) else float(f"{value:.4g}")
        for name, value in trial.params.items()
    }


def _mend(path: Path) -> None:
    """Cut off a line that a kill left unfinished, and the journal's own lock with it."""
    for left in path.parent.glob(f"{path.name}.lock*"):
        left.unlink(missing_ok=True)
    if not path.exists():
        return
    with path.open("rb+") as file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            file.truncate(whole)
            os.fsync(file.fileno())


def _drop_old(folder: Path, besides: Path) -> None:
    """Delete journals beyond `MOST_JOURNALS`, those first that were written to longest ago.

    One that another process is at stays.
    """
    journals = sorted(
        (path for path in folder.glob(f"*{JOURNAL}") if path != besides),
        key=lambda path: path.stat().st_mtime_ns,
        reverse=True,
    )
    for journal in journals[MOST_JOURNALS - 1 :]:
        lock = filelock.FileLock(journal.with_suffix(".in-use"), timeout=0)
        try:
            lock.acquire()
        except filelock.Timeout:
            continue
        try:
            journal.unlink(missing_ok=True)
            journal.with_suffix(UNFINISHED).unlink(missing_ok=True)
            Path(lock.lock_file).unlink(missing_ok=True)
        finally:
            lock.release()


def _draw(trial: Any, name: str, one: Between) -> float | int:
    """A value, with four digits: more say nothing, and are hard to read."""
    if one.whole:
        return int(trial.suggest_int(name, int(one.low), int(one.high), log=one.log))
    return float(f"{trial.suggest_float(name, one.low, one.high, log=one.log):.4g}")
