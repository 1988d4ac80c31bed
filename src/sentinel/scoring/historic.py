"""What the champion says of a transaction that it never decided on: one of the history."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from sentinel.ledger.history_scores import HistoricScore, HistoryScores
from sentinel.scoring.serving_model import ServingModel
from sentinel.settings import Settings

if TYPE_CHECKING:
    from sentinel.state.online_history import OnlineHistory


class History(Protocol):
    """Answers for transactions that were never decided on."""

    def find(self, transaction_id: str) -> HistoricScore | None:
        """The score of a historic transaction; None if it has none."""
        ...

    def close(self) -> None:
        """Release files and connections."""
        ...


def open_history(settings: Settings, model: Callable[[], ServingModel | None]) -> History:
    """Answers for imported history: from Redis where it is materialized there.

    Args:
        settings: Where it is.
        model: Gives the model in charge.
    """
    url = settings.feast.online_url
    if not url:
        return HistoryScores(settings.workspace / "scores.db")
    from sentinel.state.online_history import OnlineHistory

    return OnlineHistoryScores(OnlineHistory(url), model)


class OnlineHistoryScores:
    """`HistoryScores` where history is in Redis, as scorers on other machines need it.

    The model in charge scores the materialized vector, so a new champion's answers are there at
    once. A vector of another plan it cannot score; then what the champion of that day said is the
    answer, if there was one.

    Args:
        online: Where the vectors are.
        model: Gives the model in charge.
    """

    def __init__(self, online: OnlineHistory, model: Callable[[], ServingModel | None]) -> None:
        self._online = online
        self._model = model

    def find(self, transaction_id: str) -> HistoricScore | None:
        """The score of a historic transaction; None if it has none.

        Raises:
            StateUnavailable: Redis did not answer.
        """
        found = self._online.find(transaction_id)
        if found is None:
            return None
        model = self._model()
        if (
            model is not None
            and model.plan.hash == found.plan_hash
            and len(found.vector) == len(model.plan.feature_names)
        ):
            _, probabilities = model.score(found.vector.reshape(1, -1))
            return HistoricScore(
                transaction_id=transaction_id,
                fraud_probability=float(probabilities[0]),
                is_fraud=bool(probabilities[0] >= model.manifest.thresholds.fraud),
                model_version=model.version,
            )
        if found.fraud_probability is None or found.model_version is None:
            return None
        return HistoricScore(
            transaction_id=transaction_id,
            fraud_probability=found.fraud_probability,
            is_fraud=bool(found.is_fraud),
            model_version=found.model_version,
        )

    def close(self) -> None:
        """Close the connections."""
        self._online.close()
