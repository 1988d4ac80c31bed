"""What a family of models is: how one is fitted, and what a search for parameters may try."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from sentinel.models.fitted import FittedModel, Floats, Matrix

ENOUGH_TO_STOP: Final = 100
"""With fewer frauds among the later rows, boosting goes on for `least_rounds` at least."""
LEAST_LEARNT: Final = 15.0
"""Rounds times learning rate that few frauds may not cut short."""


@dataclass(frozen=True, kw_only=True)
class Validation:
    """Later rows than those fitted on, by which boosting decides when to stop.

    Attributes:
        X: float32 (n_rows, n_features), NaN = unknown.
        y: (n_rows,), 1 = fraud.
        weight: float64 (n_rows,), how many rows of a sample each stands for; None if each is one.
            Weights of the control group have no place here: a handful of heavy payments would
            decide when to stop.
    """

    X: Matrix
    y: npt.NDArray[Any]
    weight: Floats | None = None


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a model is fitted on.

    Attributes:
        X: float32 (n_rows, n_features), NaN = unknown.
        y: int8 (n_rows,), 1 = fraud; both classes are there.
        feature_names: In column order.
        categorical: Names of the features that hold category codes.
        seed: Of everything random.
        validation: Later rows for early stopping; None if there are none.
        weight: float64 (n_rows,), how many rows each stands for; None if each is one.
        threads: Cores to use.
        parameters: Changes to the family's own settings.
    """

    X: Matrix
    y: npt.NDArray[np.int8]
    feature_names: tuple[str, ...]
    categorical: tuple[str, ...]
    seed: int
    validation: Validation | None
    weight: Floats | None
    threads: int
    parameters: dict[str, Any]


@dataclass(frozen=True)
class Between:
    """Values of a parameter that a search may try.

    Attributes:
        low, high: Both may be tried. Where both are whole numbers, only whole ones are.
        usual: What the family takes where nothing else is said.
        log: Whether equal factors are equal steps.
    """

    low: float
    high: float
    usual: float
    log: bool = False

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are tried."""
        return isinstance(self.low, int) and isinstance(self.high, int)


class Trainer(ABC):
    """A family of models.

    Attributes:
        name: In settings and manifests, in lower case with underscores.
        title: For people.
        served: Whether its models can serve; the others are baselines to compare with.
        defaults: Its own settings, where they differ from the library's.
        quick: Changes to these for comparisons whose models nobody keeps.
        space: What a search tries, by parameter.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    served: ClassVar[bool] = True
    defaults: ClassVar[Mapping[str, Any]] = {}
    quick: ClassVar[Mapping[str, Any]] = {}
    space: ClassVar[Mapping[str, Between]] = {}

    @abstractmethod
    def fit(self, task: Task) -> FittedModel:
        """Fit a model; the same task gives the same model."""


def least_rounds(validation: Validation, learning_rate: float) -> int:
    """Rounds of boosting before later rows may end it; 0 if they may at any time.

    Stopping too early costs ranking, and a model that is held back loses next to nothing by going
    on. So a few frauds, whose loss may rise by chance or because fraud has changed, do not stop it
    before it has learnt for that long.

    >>> few = Validation(X=np.zeros((3, 1), np.float32), y=np.array([0, 0, 1]))
    >>> least_rounds(few, 0.05), least_rounds(few, 0.1)
    (300, 150)
    """
    if np.count_nonzero(validation.y) >= ENOUGH_TO_STOP:
        return 0
    return math.ceil(LEAST_LEARNT / learning_rate)


def curvature(y: npt.NDArray[Any], weight: Floats | None = None) -> float:
    """Curvature of the loss on all rows together, n p (1 - p): what holds leaves back.

    With five frauds it is less than five, so that restraints made for fifty allow no split at all.

    Args:
        y: (n_rows,), 1 = fraud.
        weight: (n_rows,), how many rows each stands for.
    """
    n_rows = float(len(y) if weight is None else weight.sum())
    frauds = float(y.sum() if weight is None else weight[np.asarray(y) == 1].sum())
    return frauds * (1.0 - frauds / n_rows)
