"""The models that look at a payment, by role."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sentinel.domain import NoModel
from sentinel.scoring.serving_model import ServingModel


@dataclass(frozen=True, slots=True)
class Panel:
    """The models in charge. Immutable: a new champion is a new panel.

    Attributes:
        champion: The model that decides; None while nothing has been promoted.
    """

    champion: ServingModel | None = None

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

    @property
    def models(self) -> Sequence[ServingModel]:
        """All models, the champion first."""
        return () if self.champion is None else (self.champion,)
