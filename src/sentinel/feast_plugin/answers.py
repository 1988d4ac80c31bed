"""What the online store gets when it asks for features: values of one moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Row = dict[str, str]
"""Entity column to key; a column that is not there is unknown."""


@dataclass(frozen=True)
class Answer:
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


class Reader(Protocol):
    """Answers for the state of entities."""

    def read(self, rows: Sequence[Row], features: Sequence[str], now_us: int | None) -> Answer:
        """Features of entities, in the order asked for.

        Args:
            rows: One row an entity, or a combination of entities.
            features: Names of features of the running plan.
            now_us: The moment of the question; None: now.

        Raises:
            DefinitionError: A feature is not in the running plan.
            StateUnavailable: State cannot be read right now.
        """
        ...
