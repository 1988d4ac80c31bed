"""What the gate found, in figures and in words."""

from __future__ import annotations

from pathlib import Path

import msgspec

from sentinel.domain import WorkspaceError
from sentinel.models.intervals import Estimate
from sentinel.models.line_guard import LineFigure
from sentinel.models.noninferiority import NIGHTS, State


class GateReport(msgspec.Struct, frozen=True, kw_only=True):
    """How a candidate and the champion compare.

    Attributes:
        version: The candidate.
        champion: What it was compared with; None if with knowing nothing.
        rows, frauds: Payments they were compared on, all with matured labels.
        start_us, end_us: Their event times, the end exclusive.
        candidate_ap: The candidate's average precision; None where it cannot be had.
        champion_ap: The champion's, or the share of fraud; likewise.
        difference: Candidate minus champion. This is what the gate looks at; likewise.
        candidate_metrics, champion_metrics: All figures of both on the same payments, to look at;
            none of a champion that is not there.
        candidate_not_measured, champion_not_measured: Why others are missing, by name.
        provisional: Why there is too little truth to judge it; empty if there is enough.
        state: What has become of its wait; None where there is none: a first model, a refit, or a
            champion that is provisional.
        reference: Version whose procedure it is held against; empty where there is no wait.
        refit: Whether it is a model of the champion's own procedure.
        unnoted: Whether what it is held against was made before procedures were noted. If it
            passes, candidates are held against its own procedure from then on.
        better: Whether it is shown to be better than the reference, and so becomes it.
        night: Nights that it has waited.
        effective_frauds: Equally weighted frauds of different cards that say as much as those that
            it was judged on.
        needed_frauds: How many of them four of five candidates as good as the reference need.
        lines: Both models at their lines.
        refused: Why it was refused though it ranks well enough; empty if it was not.
        held_by: Experiments whose challengers are judged against the champion, so that a candidate
            that passes waits for them; see `experiments.hold_promotion`.
    """

    version: str
    champion: str | None
    rows: int
    frauds: int
    start_us: int
    end_us: int
    candidate_ap: float | None
    champion_ap: float | None
    difference: Estimate | None
    candidate_metrics: dict[str, Estimate] = {}
    champion_metrics: dict[str, Estimate] = {}
    candidate_not_measured: dict[str, str] = {}
    champion_not_measured: dict[str, str] = {}
    provisional: str = ""
    state: State | None = None
    reference: str = ""
    refit: bool = False
    unnoted: bool = False
    better: bool = False
    night: int = 0
    effective_frauds: float = 0.0
    needed_frauds: float = 0.0
    lines: tuple[LineFigure, ...] = ()
    refused: str = ""
    held_by: tuple[str, ...] = ()

    @classmethod
    def load(cls, path: Path) -> GateReport:
        """Read a report that `evaluate` wrote.

        Raises:
            WorkspaceError: It is not there, or is not one.
        """
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except (FileNotFoundError, msgspec.DecodeError) as error:
            raise WorkspaceError(
                f"{path} is not the report of an evaluation ({error}). Make one with "
                "`sentinel evaluate`."
            ) from None

    @property
    def words(self) -> str:
        """The verdict in a sentence."""
        if self.provisional:
            return f"version {self.version} may serve provisionally: {self.provisional}"
        if self.refit and self.passed and self.unnoted:
            return (
                f"version {self.version} has the trainer and the features of champion "
                f"{self.champion}, which was made before procedures were noted, so it counts as "
                "its refit; its procedure is the approved one from now on"
            )
        if self.refit and self.passed:
            return f"version {self.version} is a refit of the approved procedure"
        if self.state == "waits":
            return f"too little truth has matured to tell it from the reference: {self._needs}"
        if self.refused:
            return f"at its lines it is worse than {self._other}: {self.refused}"
        if self.passed:
            return f"version {self.version} is not worse than {self._other}"
        if self.champion is None:
            return "its average precision is not above that of knowing nothing"
        if self.state == "refused" and not self._worse:
            return f"its wait of {NIGHTS} nights is over, and it did not prove as good"
        return f"its average precision is worse than that of {self._other}"

    @property
    def passed(self) -> bool:
        """Whether the candidate may become champion."""
        if self.refit:
            return not self._worse
        if self.state is not None:
            return self.state == "passed" and not self.refused
        if self.difference is None or self.provisional:
            return bool(self.provisional)
        if self.champion is None:
            return self.difference.low > 0
        return self.difference.high >= 0

    @property
    def held(self) -> bool:
        """Whether the candidate passes, and waits for experiments."""
        return bool(self.held_by) and self.passed

    @property
    def verdict(self) -> str:
        """Passed, provisional, waits or refused."""
        if self.provisional:
            return "provisional"
        if self.state == "waits" or self.held:
            return "waits"
        return "passed" if self.passed else "refused"

    @property
    def _other(self) -> str:
        if self.champion is None:
            return "no model"
        if self.reference and self.reference != self.champion:
            return f"reference {self.reference}"
        return f"champion {self.champion}"

    @property
    def _worse(self) -> bool:
        return self.difference is not None and self.difference.high < 0

    @property
    def _needs(self) -> str:
        there = f"{self.effective_frauds:,.0f} effective frauds are there"
        if self.needed_frauds > self.effective_frauds:
            more = self.needed_frauds - self.effective_frauds
            there += f", about {more:,.0f} more are needed"
        return f"{there} (night {self.night + 1} of {NIGHTS})"

    def __str__(self) -> str:
        if self.held:
            names = ", ".join(self.held_by)
            many = len(self.held_by) > 1
            return (
                f"{self._figures}; it passes and waits for experiment{'s' * many} {names}, which "
                f"{'are' if many else 'is'} judged against champion {self.champion}"
            )
        return self._figures

    @property
    def _figures(self) -> str:
        rows = f"on {self.rows:,} payments with {self.frauds:,} frauds"
        difference = self.difference
        if difference is None:
            said = self.words if self.refit or self.state else self.provisional
            figure = self.candidate_metrics.get("average_precision")
            measured = f", average precision {figure}" if figure else ""
            return f"candidate {self.version}: {said}{measured} ({rows})"
        says_more = self.refit or self.state in ("waits", "refused")
        said = self.provisional or (self.words if says_more else "")
        ending = f": {said}" if said else ""
        return (
            f"candidate {self.version}: average precision {self.candidate_ap:.3f}, {self._other}: "
            f"{self.champion_ap:.3f}, difference {difference.value:+.3f} "
            f"[{difference.low:+.3f}, {difference.high:+.3f}] {rows}{ending}"
        )
