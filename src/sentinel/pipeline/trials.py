"""A candidate's wait for truth, kept over the nights.

    <workspace>/trials/<name>/
        trial.json      whose procedures, since when, and every look so far
        candidate/      a model of the candidate's procedure
        reference/      one of the reference's, fitted to the same cut-off

Both models stay as they are for the whole wait, and each night judges them on all payments after
the cut-off whose labels have matured by then. Another model of the candidate's procedure goes on
with the wait instead of beginning one. A trial that ended counts for as long as a wait lasts, so
that a procedure that was refused is not tried again at once, and one that passed is not proved
twice. If what it let through is rolled back, it lets nobody through any more: a new wait begins.

A folder gets its name once all of it is there. Whoever changes a trial reads it anew under a lock,
so that an evaluation by hand and the nightly run lose nothing that the other one wrote.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

import msgspec

from sentinel.features.plan.plan import DAY_US
from sentinel.models.line_guard import LineFigure
from sentinel.models.noninferiority import (
    NIGHTS,
    Look,
    PairedPrecision,
    SequentialTest,
    State,
)
from sentinel.models.procedure import Procedure
from sentinel.pipeline.workspace import only_one
from sentinel.settings import Settings

TRIAL: Final = "trial.json"
CANDIDATE: Final = "candidate"
REFERENCE: Final = "reference"

_UNNAMED: Final = "."
"""What the names of folders begin with that are being made or deleted."""

_WAIT_SECONDS: Final = 60.0
"""How long another process may copy the models of a trial."""


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a wait.

    Attributes:
        version: The candidate that it began with.
        procedure: The candidate's; None if its model does not say.
        reference: Version whose procedure it is held against.
        opened_us: When it began, microseconds UTC.
        start_us: Payments from here on judge it: neither model has seen them.
        gap_us: How long after a payment its silence counts.
        looks: Oldest first.
        refused: Why it was refused at its lines; empty if it was not.
        ended: Whether its last look was made, on its last night or before.
        withdrawn: Whether a version of the procedure was rolled back since it passed.
    """

    version: str
    procedure: Procedure | None
    reference: str
    opened_us: int
    start_us: int
    gap_us: int | None
    looks: tuple[Look, ...] = ()
    refused: str = ""
    ended: bool = False
    withdrawn: bool = False

    def night(self, now_us: int) -> int:
        """Nights since it began."""
        return max(0, now_us - self.opened_us) // DAY_US

    @property
    def state(self) -> State:
        """What has become of the candidate; it waits until the last night's look was made."""
        if self.refused:
            return "refused"
        return SequentialTest(self.looks).state(NIGHTS if self.ended else 0)

    def after_night(
        self, compared: PairedPrecision | None, lines: Sequence[LineFigure], now_us: int
    ) -> Trial:
        """The trial after a night. One that was decided stays as it is.

        Args:
            compared: Candidate and reference on all that has matured; None if nothing that can be
                compared on has.
            lines: Both at their lines.
            now_us: The clock. From the last night on, the look spends what error is left, and the
                trial ends, however many nights went by without a look.
        """
        if self.state != "waits":
            return self
        test, night = SequentialTest(self.looks), self.night(now_us)
        if compared is not None:
            test.look(compared, night)
        state = test.state(night)
        worse = "; ".join(str(one) for one in lines if one.worse) if state == "passed" else ""
        return msgspec.structs.replace(
            self, looks=tuple(test.looks), refused=worse, ended=state != "waits"
        )

    def is_about(self, version: str, procedure: Procedure | None, reference: str) -> bool:
        """Whether it is the wait of such a candidate."""
        if self.reference != reference:
            return False
        if self.procedure is None or procedure is None:
            return self.version == version
        return procedure.is_that_of(self.procedure)


class Trials:
    """The trials of a workspace.

    Args:
        settings: The deployment.
    """

    def __init__(self, settings: Settings) -> None:
        self._folder = settings.workspace / "trials"
        self._lock = settings.workspace / "trials.lock"

    def find(
        self, version: str, procedure: Procedure | None, reference: str, now_us: int
    ) -> tuple[Path, Trial] | None:
        """The newest trial of a candidate, with its folder; None if there is none to go on with.

        Args:
            version: The candidate.
            procedure: Of it.
            reference: Version whose procedure it is held against.
            now_us: The clock; a trial that was decided and began longer ago than a wait is over.
        """
        found = self._newest(version, procedure, reference)
        if found is None:
            return None
        folder, trial = found
        over = trial.night(now_us) >= NIGHTS and trial.state != "waits"
        return None if over or trial.withdrawn else (folder, trial)

    def stands(
        self, version: str, procedure: Procedure | None, reference: str, state: State | None
    ) -> bool:
        """Whether the newest trial of a candidate still says what a look at it said.

        Args:
            version, procedure, reference: See `find`.
            state: What the look said.
        """
        found = self._newest(version, procedure, reference)
        return found is not None and not found[1].withdrawn and found[1].state == state

    def withdraw(self, version: str, procedure: Procedure | None) -> None:
        """Let nobody through any more by trials that let a version through.

        Args:
            version: It was rolled back.
            procedure: Of it; None if that is not known.
        """
        with self._changing():
            for folder, trial in self._all():
                if trial.state == "passed" and trial.is_about(version, procedure, trial.reference):
                    self.keep(folder, msgspec.structs.replace(trial, withdrawn=True))

    def refused(self, procedure: Procedure) -> bool:
        """Whether the newest trial of a procedure ended with a refusal, as far as one is kept."""
        about = [
            trial
            for _, trial in self._all()
            if trial.procedure is not None and procedure.is_that_of(trial.procedure)
        ]
        newest = max(about, key=lambda one: one.opened_us, default=None)
        return newest is not None and newest.state == "refused"

    def open(self, trial: Trial, candidate: Path, reference: Path) -> tuple[Path, Trial]:
        """Begin a trial, unless another process has begun one of the same candidate meanwhile.

        Args:
            trial: Its state.
            candidate, reference: Folders of the two models; they are copied.

        Returns:
            The folder and the state of the trial to go on with.

        Raises:
            WorkspaceError: Another process is at the trials for more than a minute.
        """
        with self._changing():
            self._sweep()
            self._forget_old(trial.opened_us)
            found = self.find(trial.version, trial.procedure, trial.reference, trial.opened_us)
            if found is not None:
                return found
            name = f"{trial.version}-{trial.reference}-{trial.opened_us}"
            unnamed, folder = self._folder / f"{_UNNAMED}{name}", self._folder / name
            unnamed.mkdir(parents=True)
            shutil.copytree(candidate, unnamed / CANDIDATE)
            shutil.copytree(reference, unnamed / REFERENCE)
            self.keep(unnamed, trial)
            self._delete(folder)  # of a trial of that moment that lets nobody through any more
            unnamed.replace(folder)
        return folder, trial

    def update(self, folder: Path, change: Callable[[Trial], Trial]) -> Trial | None:
        """Change a trial as it is by now.

        Args:
            folder: Of the trial.
            change: Makes the new state of the present one.

        Returns:
            The new state; None if the trial is gone.

        Raises:
            WorkspaceError: Another process is at the trials for more than a minute.
        """
        with self._changing():
            present = self._read(folder / TRIAL)
            if present is None:
                return None
            changed = change(present)
            if changed != present:
                self.keep(folder, changed)
            return changed

    def drop(self, folder: Path) -> None:
        """Delete a trial whose models cannot be read, so that it begins anew."""
        with self._changing():
            self._delete(folder)

    def keep(self, folder: Path, trial: Trial) -> None:
        """Write a trial's state, whatever it is by now; see `update`.

        Whoever reads sees the old or the new one, whole.
        """
        partial = folder / f"{TRIAL}.partial"
        partial.write_bytes(msgspec.json.format(msgspec.json.encode(trial), indent=2))
        partial.replace(folder / TRIAL)

    def _changing(self) -> AbstractContextManager[None]:
        return only_one(self._lock, "a change of the gate's trials", wait_seconds=_WAIT_SECONDS)

    def _newest(
        self, version: str, procedure: Procedure | None, reference: str
    ) -> tuple[Path, Trial] | None:
        about = [one for one in self._all() if one[1].is_about(version, procedure, reference)]
        return max(about, key=lambda one: one[1].opened_us, default=None)

    def _all(self) -> Iterator[tuple[Path, Trial]]:
        for path in sorted(self._folder.glob(f"*/{TRIAL}")):
            if path.parent.name.startswith(_UNNAMED):
                continue
            trial = self._read(path)
            if trial is not None:  # else it begins anew
                yield path.parent, trial

    def _read(self, path: Path) -> Trial | None:
        try:
            return msgspec.json.decode(path.read_bytes(), type=Trial)
        except (OSError, msgspec.DecodeError):
            return None

    def _forget_old(self, now_us: int) -> None:
        for folder, trial in self._all():
            if trial.night(now_us) > 2 * NIGHTS:
                self._delete(folder)

    def _delete(self, folder: Path) -> None:
        """Take a folder's name first: one that is deleted in part is no trial."""
        if folder.exists():
            unnamed = folder.with_name(f"{_UNNAMED}{folder.name}.deleted")
            folder.replace(unnamed)
            shutil.rmtree(unnamed, ignore_errors=True)

    def _sweep(self) -> None:
        """Delete what beginnings and deletions left that were interrupted."""
        for folder in list(self._folder.glob("*/")):
            if folder.name.startswith(_UNNAMED) or not (folder / TRIAL).exists():
                shutil.rmtree(folder, ignore_errors=True)
