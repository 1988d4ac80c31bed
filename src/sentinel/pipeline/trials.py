"""A candidate's wait for truth, kept over the nights.

    <workspace>/trials/<name>/
        trial.json      whose procedures, since when, and every look so far
        candidate/      a model of the candidate's procedure
        reference/      one of the reference's, fitted to the same cut-off

Both models stay as they are for the whole wait, and each night judges them on all payments after
the cut-off whose labels have matured by then. Another model of the candidate's procedure goes on
with the wait instead of beginning one. A trial that ended is kept for as long as a wait lasts, so
that a procedure that was refused is not tried again at once.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from sentinel.features.plan.plan import DAY_US
from sentinel.models.noninferiority import NIGHTS, Look, SequentialTest, State
from sentinel.models.procedure import Procedure
from sentinel.settings import Settings

TRIAL: Final = "trial.json"
CANDIDATE: Final = "candidate"
REFERENCE: Final = "reference"


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
    """

    version: str
    procedure: Procedure | None
    reference: str
    opened_us: int
    start_us: int
    gap_us: int | None
    looks: tuple[Look, ...] = ()
    refused: str = ""

    def night(self, now_us: int) -> int:
        """Nights since it began."""
        return max(0, now_us - self.opened_us) // DAY_US

    def state(self, now_us: int) -> State:
        """What has become of the candidate."""
        if self.refused:
            return "refused"
        return SequentialTest(self.looks).state(self.night(now_us))

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

    def find(
        self, version: str, procedure: Procedure | None, reference: str, now_us: int
    ) -> tuple[Path, Trial] | None:
        """The newest trial of a candidate, with its folder; None if there is none to go on with.

        Args:
            version: The candidate.
            procedure: Of it.
            reference: Version whose procedure it is held against.
            now_us: The clock; a trial that was refused and began longer ago than a wait is over.
        """
        about = [
            (folder, trial)
            for folder, trial in self._all()
            if trial.is_about(version, procedure, reference)
        ]
        if not about:
            return None
        folder, trial = max(about, key=lambda one: one[1].opened_us)
        if trial.night(now_us) >= NIGHTS and trial.state(now_us) == "refused":
            return None
        return folder, trial

    def refused(self, procedure: Procedure, now_us: int) -> bool:
        """Whether the newest trial of a procedure ended with a refusal, as far as one is kept.

        Args:
            procedure: How models are made.
            now_us: The clock.
        """
        about = [
            trial
            for _, trial in self._all()
            if trial.procedure is not None and procedure.is_that_of(trial.procedure)
        ]
        newest = max(about, key=lambda one: one.opened_us, default=None)
        return newest is not None and newest.state(now_us) == "refused"

    def open(self, trial: Trial, candidate: Path, reference: Path) -> Path:
        """Begin a trial.

        Args:
            trial: Its state.
            candidate, reference: Folders of the two models; they are copied.

        Returns:
            Its folder.
        """
        self._forget_old(trial.opened_us)
        folder = self._folder / f"{trial.version}-{trial.reference}-{trial.opened_us}"
        shutil.rmtree(folder, ignore_errors=True)  # what an interrupted beginning left
        folder.mkdir(parents=True)
        shutil.copytree(candidate, folder / CANDIDATE)
        shutil.copytree(reference, folder / REFERENCE)
        self.keep(folder, trial)
        return folder

    def keep(self, folder: Path, trial: Trial) -> None:
        """Write a trial's state; whoever reads sees the old or the new one, whole."""
        partial = folder / f"{TRIAL}.partial"
        partial.write_bytes(msgspec.json.format(msgspec.json.encode(trial), indent=2))
        partial.replace(folder / TRIAL)

    def _all(self) -> Iterator[tuple[Path, Trial]]:
        for path in sorted(self._folder.glob(f"*/{TRIAL}")):
            try:
                yield path.parent, msgspec.json.decode(path.read_bytes(), type=Trial)
            except (OSError, msgspec.DecodeError):
                continue  # it begins anew

    def _forget_old(self, now_us: int) -> None:
        for folder, trial in self._all():
            if trial.night(now_us) > 2 * NIGHTS:
                shutil.rmtree(folder, ignore_errors=True)
