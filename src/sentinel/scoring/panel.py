"""The models that look at a payment, by role."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from sentinel.domain import NoModel
from sentinel.experiments.conditions import Condition
from sentinel.experiments.lineup import NO_LINE_UP, Kind, LineUp
from sentinel.models.thresholds import Thresholds
from sentinel.policy.ruling import Policy
from sentinel.scoring.serving_model import ServingModel


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelModel:
    """A model beside the champion.

    Attributes:
        name: Of its experiment.
        kind: Its role.
        model: Takes the same vectors as the champion.
        policy: Rules where it decides: the champion's, with its own lines.
        share: Of a challenger, right now.
        sample: Of a shadow.
        holds: Condition of a segment model; None for others.
    """

    name: str
    kind: Kind
    model: ServingModel
    policy: Policy
    share: float = 0.0
    sample: float = 1.0
    holds: Condition | None = None


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
    """

    champion: ServingModel | None = None
    others: tuple[PanelModel, ...] = ()
    line_up: LineUp = NO_LINE_UP
    failed: dict[str, str] = field(default_factory=dict, compare=False)

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
    def models(self) -> Sequence[ServingModel]:
        """All models, the champion first."""
        others = (other.model for other in self.others)
        return () if self.champion is None else (self.champion, *others)
