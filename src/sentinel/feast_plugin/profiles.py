"""Fields of a slow-changing view: statistics over all transactions of an entity.

The Feast objects stay the only definition: each function makes a `Field` whose tags say what it
is, and `read_profile` reads a view back, from the repository or from Feast's registry.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from feast import Field
from feast.feature_view import DUMMY_ENTITY_NAME
from feast.types import Int64, String, UnixTimestamp

from sentinel.domain import ENTITY_COLUMNS, DefinitionError
from sentinel.feast_plugin.tags import did_you_mean

STATISTICS: Final = {
    "first_seen": UnixTimestamp,
    "last_seen": UnixTimestamp,
    "transactions": Int64,
    "usual": String,
    "amount_quantile": Int64,
}
"""Statistics and their types."""
_KEYS: Final = ("statistic", "column", "level")


def first_seen(name: str) -> Field:
    """When the entity's first transaction happened: its age."""
    return Field(name=name, dtype=UnixTimestamp, tags={"statistic": "first_seen"})


def last_seen(name: str) -> Field:
    """When the entity's last transaction happened."""
    return Field(name=name, dtype=UnixTimestamp, tags={"statistic": "last_seen"})


def transactions(name: str) -> Field:
    """How many transactions the entity has."""
    return Field(name=name, dtype=Int64, tags={"statistic": "transactions"})


def usual(name: str, column: str) -> Field:
    """The most frequent value of an attribute or identifier; the first by alphabet of several.

    Args:
        name: Of the feature.
        column: The attribute, such as ``mcc``, or identifier.
    """
    return Field(name=name, dtype=String, tags={"statistic": "usual", "column": column})


def amount_quantile(name: str, level: float) -> Field:
    """A quantile of the amounts: the smallest amount that reaches the level.

    Args:
        name: Of the feature.
        level: 0 to 1; 0.5 is the median.
    """
    return Field(
        name=name, dtype=Int64, tags={"statistic": "amount_quantile", "level": f"{level:g}"}
    )


@dataclass(frozen=True)
class Statistic:
    """One field of a profile.

    Attributes:
        name: Of the feature.
        kind: One of `STATISTICS`.
        column: What ``usual`` looks at.
        level: Of ``amount_quantile``.
    """

    name: str
    kind: str
    column: str = ""
    level: float = 0.0


@dataclass(frozen=True)
class Profile:
    """A slow-changing view.

    Attributes:
        keys: Entity columns.
        statistics: Its fields.
    """

    keys: tuple[str, ...]
    statistics: tuple[Statistic, ...]


def read_profile(view: Any) -> Profile:
    """What a view over `EntityProfiles` holds.

    Raises:
        DefinitionError: A field is not understood, or the view has no entity of the log.
    """
    keys = tuple(column.name for column in view.entity_columns)
    if not keys or DUMMY_ENTITY_NAME in view.entities:
        raise DefinitionError(
            f"View {view.name!r} has no entity. A profile is of an entity: give it one."
        )
    for key in keys:
        if key not in ENTITY_COLUMNS:
            raise DefinitionError(
                f"View {view.name!r} is joined by {key!r}, which is no identifier of a "
                f"transaction. {did_you_mean(key, ENTITY_COLUMNS)}"
            )
    fields = [field for field in view.features if field.name not in keys]
    return Profile(keys, tuple(_statistic(field, view.name) for field in fields))


def _statistic(field: Field, view: str) -> Statistic:
    where = f"Feature {field.name!r} of view {view!r}"
    for key in field.tags:
        if key not in _KEYS:
            raise DefinitionError(f"{where} has the tag {key!r}. {did_you_mean(key, _KEYS)}")
    kind = field.tags.get("statistic", "")
    if kind not in STATISTICS:
        raise DefinitionError(
            f"{where} says no statistic that there is ({kind!r}). {did_you_mean(kind, STATISTICS)} "
            "Make the field with a function of sentinel.feast_plugin.profiles."
        )
    if field.dtype != STATISTICS[kind]:
        raise DefinitionError(
            f"{where} is of type {field.dtype}; {kind} is of type {STATISTICS[kind]}."
        )
    column = field.tags.get("column", "")
    if bool(column) != (kind == "usual"):
        raise DefinitionError(f"{where}: usual, and nothing else, names the column it looks at.")
    level = _level(field.tags.get("level", "0"), where)
    return Statistic(field.name, kind, column, level)


def _level(text: str, where: str) -> float:
    try:
        level = float(text)
    except ValueError:
        level = -1.0
    if not 0 <= level <= 1:
        raise DefinitionError(f"{where} has the level {text!r}; a level is a number from 0 to 1.")
    return level
