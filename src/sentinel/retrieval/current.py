"""Features of entities as they are now, all of one moment, and what gives them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Row = dict[str, str]
"""Entity column to key; a column that is not there is unknown."""


@dataclass(frozen=True)
class CurrentFeatures:
    """Features of entities at a moment.

    Attributes:
        plan_hash: The plan they were computed with.
        now_us: The moment, microseconds.
        features: Names of the columns.
        values: float32 (n_rows, n_features), NaN = unknown.
    """

    plan_hash: str
    now_us: int
    features: tuple[str, ...]
    values: npt.NDArray[np.float32]


class FeatureReader(Protocol):
    """Gives features of entities from some form of the state."""

    def read(
        self, rows: Sequence[Row], features: Sequence[str], now_us: int | None
    ) -> CurrentFeatures:
        """Features of entities, in the order asked for.

        Args:
            rows: One row an entity, or a combination of entities.
            features: Names of features of the running plan.
            now_us: The moment to read at; None for now.

        Raises:
            DefinitionError: A feature is not in the running plan.
            StateUnavailable: State cannot be read right now.
        """
        ...
