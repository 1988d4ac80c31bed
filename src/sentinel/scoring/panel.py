"""The models that look at a payment, by role."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from sentinel.domain import NoModel
from sentinel.experiments.conditions import Condition
from sentinel.experiments.lineup import NO_LINE_UP, Kind, LineUp
from sentinel.features.plan.plan import Plan
from sentinel.models.many_scorers import ManyScorers
from sentinel.models.thresholds import Thresholds
from sentinel.policy.ruling import Policy
from sentinel.scoring.serving_model import ServingModel
from sentinel.scoring.union import Columns, Union


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PanelModel:
    """A model beside the champion.

    Attributes:
        name: Of its experiment.
        kind: Its role.
        model: It.
        columns: Where the vectors have its features; None if they are of its own plan.
        policy: Rules where it decides: the champion's, with its own lines.
        share: Of a challenger, right now.
        sample: Of a shadow.
        holds: Condition of a segment model; None for others.
    """

    name: str
    kind: Kind
    model: ServingModel
    policy: Policy
    columns: Columns | None = None
    share: float = 0.0
    sample: float = 1.0
    holds: Condition | None = None


class Together(NamedTuple):
    """Models that score all payments in one call: the champion, and others of its plan.

    Attributes:
        models: They, the champion first.
        numbers: The place of each in `Panel.models`.
        scorers: Score their vectors.
    """

    models: tuple[ServingModel, ...]
    numbers: tuple[int, ...]
    scorers: ManyScorers


@dataclass(slots=True)
class Failures:
    """How often a model beside the champion raised, since the process began."""

    count: int = 0


@dataclass(frozen=True, slots=True)
class Panel:
    """The models in charge. Immutable: a new champion or line-up is a new panel.

    Attributes:
        champion: The model that decides unless another one does; None while nothing has been
            promoted.
        others: Models beside it, in the order in which they are asked.
        line_up: The version of the line-up that they are of.
        failed: Why models of this panel no longer score, by name of the experiment; added to when
            one raises.
        union: The plan of the vectors, where it is not the champion's own.
        columns: Where the vectors have the champion's features; None without a union.
        together: Models that score in one call; None if the champion is the only one.
        failures: Counts what `failed` tells of, over all panels of a process.
    """

    champion: ServingModel | None = None
    others: tuple[PanelModel, ...] = ()
    line_up: LineUp = NO_LINE_UP
    failed: dict[str, str] = field(default_factory=dict, compare=False)
    union: Union | None = None
    columns: Columns | None = None
    together: Together | None = None
    failures: Failures = field(default_factory=Failures, compare=False)

    def require(self) -> ServingModel:
        """The champion.

        Raises:
            NoModel: Nothing has been promoted yet.
        """
        if self.champion is None:
            raise NoModel(
                "No model has been promoted yet. Train one with `sentinel train`, then promote "
                "it with `sentinel promote`."
            )
        return self.champion

    def with_lines(self, lines: Callable[[Thresholds], Policy]) -> Panel:
        """The same models under another policy.

        Args:
            lines: The policy, with the lines of a model.
        """
        others = tuple(
            replace(other, policy=lines(other.model.manifest.thresholds)) for other in self.others
        )
        return replace(self, others=others)

    @property
    def plan(self) -> Plan:
        """The plan of the vectors that the models take their columns of.

        Raises:
            NoModel: Nothing has been promoted yet.
        """
        return self.require().plan if self.union is None else self.union.plan

    @property
    def models(self) -> Sequence[ServingModel]:
        """All models, the champion first."""
        others = (other.model for other in self.others)
        return () if self.champion is None else (self.champion, *others)
