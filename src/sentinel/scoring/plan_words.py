"""Names and words of the features that past decisions speak of, by plan."""

from __future__ import annotations

from typing import Final

from sentinel.domain import Reason
from sentinel.features.plan.plan import Plan
from sentinel.ledger.index import number_features
from sentinel.models.explanations import Words, compile_words
from sentinel.settings import MoneySettings

MOST_PLANS: Final = 64
"""Plans of which past decisions are told by name: the latest ones."""


class PlanWords:
    """Tells reasons that the log has by number in the words of the plan they are of.

    Args:
        money: How amounts are worded.
    """

    def __init__(self, money: MoneySettings) -> None:
        self._money = money
        self._plans: dict[str, tuple[tuple[str, ...], list[Words]]] = {}

    def note(self, plan: Plan) -> None:
        """Know a plan from now on; the one that was noted first is forgotten for it."""
        self._plans.pop(plan.hash, None)  # the latest come last
        while len(self._plans) >= MOST_PLANS:
            del self._plans[next(iter(self._plans))]
        self._plans[plan.hash] = (plan.feature_names, compile_words(plan, self._money))

    def feature_name(self, plan_hash: str, feature: int) -> str | None:
        """Name of a feature by its number in a plan; None if there is no such feature or plan."""
        known = self._plans.get(plan_hash)
        if known is None or not 0 <= feature < len(known[0]):
            return None
        return known[0][feature]

    def explain(
        self, plan_hash: str, feature: int, value: float | None, contribution: float
    ) -> Reason:
        """A recorded reason in words, or by its number where the plan is not at hand."""
        known = self._plans.get(plan_hash)
        if known is None:
            return number_features(plan_hash, feature, value, contribution)
        names, words = known
        return Reason(
            feature=names[feature],
            value=value,
            contribution=contribution,
            words=words[feature](value),
        )
