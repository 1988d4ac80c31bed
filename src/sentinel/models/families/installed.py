"""Which families there are: whatever an installed package names as `sentinel.trainers`."""

from __future__ import annotations

from importlib import metadata
from typing import Final

from sentinel.domain import ConfigurationError
from sentinel.models.families.trainer import Trainer

GROUP: Final = "sentinel.trainers"

_OWN: Final = {
    "lightgbm": "sentinel.models.families.lightgbm:LightGBM",
    "xgboost": "sentinel.models.families.xgboost:XGBoost",
    "random_forest": "sentinel.models.families.random_forest:RandomForest",
    "lightgbm_forest": "sentinel.models.families.lightgbm_forest:LightGBMForest",
    "logistic_regression": "sentinel.models.families.logistic_regression:LogisticRegression",
}
"""The entry points of Sentinel itself, for a source tree that runs without being installed."""


def spelled(name: str) -> str:
    """A family's name as manifests have it.

    >>> spelled("random-forest"), spelled("logistic"), spelled("lightgbm")
    ('random_forest', 'logistic_regression', 'lightgbm')
    """
    own = name.replace("-", "_")
    return "logistic_regression" if own == "logistic" else own


def families() -> tuple[str, ...]:
    """Names of all that are installed, those of Sentinel first."""
    others = {point.name for point in metadata.entry_points(group=GROUP)}
    return (*_OWN, *sorted(others.difference(_OWN)))


def trainer_of(name: str) -> Trainer:
    """The family of a name.

    Raises:
        ConfigurationError: None is installed, or it does not load.
    """
    own = spelled(name)
    found = list(metadata.entry_points(group=GROUP, name=own))
    if not found and own in _OWN:
        found = [metadata.EntryPoint(own, _OWN[own], GROUP)]
    if not found:
        raise ConfigurationError(
            f"There is no trainer {name!r}. There is: {', '.join(families())}."
        )
    try:
        trainer = found[0].load()()
    except Exception as error:
        raise ConfigurationError(
            f"Trainer {name!r} ({found[0].value}) does not load: {error}. Install what it needs, "
            "or set training.trainer to another one."
        ) from error
    if not isinstance(trainer, Trainer):
        raise ConfigurationError(
            f"Trainer {name!r} ({found[0].value}) is not a subclass of "
            "sentinel.models.families.trainer.Trainer."
        )
    return trainer
