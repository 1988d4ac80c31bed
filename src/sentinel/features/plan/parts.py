"""What a plan is made of: windowed features by entity, features of a request, and ratios."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from sentinel.domain import ENTITY_COLUMNS
from sentinel.features.plan.functions import Function

FilterOperator = Literal["==", "!=", "<", "<=", ">", ">="]
RequestKind = Literal["amount", "hour_of_day", "day_of_week", "category", "number"]

ENTITY_SEPARATOR: Final = "+"
"""Between the keys of an entity."""


class Filter(msgspec.Struct, frozen=True):
    """A condition on a transaction's own fields; unknown values never satisfy it.

    Attributes:
        column: ``amount_minor``, an entity column or an attribute.
        operator: Comparison; text knows ``==`` and ``!=`` only.
        value: What the column is compared with.
    """

    column: str
    operator: FilterOperator
    value: str | float

    def __post_init__(self) -> None:
        # 5 and 5.0 are one value: a plan's hash must not depend on how it was written down.
        if isinstance(self.value, int):
            msgspec.structs.force_setattr(self, "value", float(self.value))


class Aggregate(msgspec.Struct, frozen=True, omit_defaults=True):
    """One windowed feature of a view.

    Attributes:
        name: Feature name, unique in the plan.
        function: What is computed.
        column: ``amount_minor`` for functions of amounts, an identifier or attribute for functions
            of values, else empty.
        window_us, hop_us, offset_us: The window, its tile size, and how far it is shifted back.
        filters: All must hold for a transaction to count.
        capacity: Of functions of values: they are told apart up to so many.
        words: Template of its sentence, see `templates`; empty for the function's own.
    """

    name: str
    function: Function
    window_us: int
    hop_us: int
    column: str = ""
    offset_us: int = 0
    filters: tuple[Filter, ...] = ()
    capacity: int = 0
    words: str = ""


class View(msgspec.Struct, frozen=True):
    """Aggregates that share an entity, kept in one record per entity key.

    Attributes:
        name: View name.
        keys: Columns whose values together are the entity key.
        aggregates: The features.
    """

    name: str
    keys: tuple[str, ...]
    aggregates: tuple[Aggregate, ...]

    @property
    def entity(self) -> str:
        """Whose record it is, the same in every plan, whatever a view is called.

        >>> View("pairs", ("merchant_id", "customer_id"), ()).entity
        'customer_id+merchant_id'
        """
        return ENTITY_SEPARATOR.join(sorted(self.keys))

    @property
    def untracked_as(self) -> frozenset[str]:
        """What `Transaction.untracked` may call it: by its entity; in older logs by its name.

        >>> sorted(View("cards", ("card_id",), ()).untracked_as)
        ['card_id', 'cards']
        >>> sorted(View("device_id", ("card_id",), ()).untracked_as)
        ['card_id']
        """
        if set(self.name.split(ENTITY_SEPARATOR)) <= set(ENTITY_COLUMNS):
            return frozenset({self.entity})  # its name would stand for the view of another entity
        return frozenset({self.entity, self.name})


class RequestFeature(msgspec.Struct, frozen=True, omit_defaults=True):
    """A feature of the transaction's own fields.

    Attributes:
        name: Feature name.
        kind: ``amount`` (minor units), ``hour_of_day`` (0 to 24, UTC), ``day_of_week``
            (0 = Monday), ``category`` (its code) or ``number``.
        column: Attribute or identifier for ``category`` and ``number``.
        categories: The dictionary: the code of ``categories[i]`` is ``i + 1``, any other value
            has code 0, a missing one is null.
        words: Template of its sentence, see `templates`; empty for that of its kind.
    """

    name: str
    kind: RequestKind
    column: str = ""
    categories: tuple[str, ...] = ()
    words: str = ""


class Ratio(msgspec.Struct, frozen=True, omit_defaults=True):
    """``numerator / denominator``; null where either is null or the denominator is 0.

    Attributes:
        name: Feature name.
        numerator: ``amount_minor`` (of the request) or the name of an aggregate.
        denominator: Name of an aggregate.
        words: Template of its sentence, see `templates`; empty for that of all ratios.
    """

    name: str
    numerator: str
    denominator: str
    words: str = ""
