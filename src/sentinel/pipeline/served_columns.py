"""Where vectors in the log have the features of a plan, whichever plan served them.

A decision was made on vectors of the champion's plan of its time, or of the union of the plans of
all models that scored it. Features are found in them by their definitions.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sentinel.features.plan.definition_hashes import matching_columns
from sentinel.features.plan.plan import Plan
from sentinel.log.entries import DecisionGroup
from sentinel.models.plans import find_plan
from sentinel.settings import Settings


class ServedColumns:
    """Takes the features of a plan out of vectors that were served.

    Args:
        settings: The deployment, where plans are kept.
        plan: Whose features.
    """

    def __init__(self, settings: Settings, plan: Plan) -> None:
        self._settings = settings
        self.plan = plan
        everything = np.arange(len(plan.feature_names), dtype=np.int64)
        self._columns: dict[str, npt.NDArray[np.int64] | None] = {plan.hash: everything}

    def serve(self, plan_hash: str) -> bool:
        """Whether vectors of a plan have all the features."""
        return self._of(plan_hash) is not None

    def take(self, decided: DecisionGroup) -> npt.NDArray[np.float32] | None:
        """The features of a group's vectors, float32 (n, features of the plan).

        None if they lack some, or if their plan is not kept here.
        """
        columns = self._of(decided.plan_hash)
        if columns is None:
            return None
        vectors = decided.vector_array()
        return vectors if decided.plan_hash == self.plan.hash else vectors.take(columns, axis=1)

    def _of(self, plan_hash: str) -> npt.NDArray[np.int64] | None:
        if plan_hash not in self._columns:
            served = find_plan(self._settings, plan_hash)
            found = None if served is None else matching_columns(served, self.plan)
            whole = found is not None and bool((found >= 0).all())
            self._columns[plan_hash] = found if whole else None
        return self._columns[plan_hash]
