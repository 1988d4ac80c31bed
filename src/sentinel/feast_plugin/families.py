"""Feature definitions in families: one line is one function over several windows.

Everything here makes ordinary Feast objects, which stay the only definition of a feature:
`entity_view` a ``StreamFeatureView``, `request_view` and `profile_view` a ``FeatureView``,
`vector` a ``FeatureService``. A feature's name is put together from its view, its family and its
window, so that it is never typed: ``count(DAY, WEEK)`` in the view "card" makes
``card_count_1d`` and ``card_count_7d``.

A family knows nothing of its view. One that several views share is written once::

    USUAL = [amount(f, MONTH, offset=WEEK, span="usual") for f in ("mean", "std", "max")]
    card_view = entity_view("card", card, count(HOUR, DAY), *USUAL, source=transactions)
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from feast import Entity, FeatureService, FeatureView, Field, PushSource, StreamFeatureView
from feast.types import Array, Bool, Float32, Float64, Int64, String
from feast.value_type import ValueType

from sentinel.domain import ENTITY_COLUMNS, DefinitionError
from sentinel.feast_plugin import profiles, tags
from sentinel.feast_plugin.source import EntityProfiles, TransactionHistory, TransactionLog
from sentinel.feast_plugin.window_families import (
    DAY,
    HOUR,
    MONTH,
    QUARTER,
    WEEK,
    Family,
    amount,
    count,
    distinct,
    feature_name,
    fraud_count,
    fraud_rate,
    since_last,
    values,
)
from sentinel.features.plan.functions import AMOUNT
from sentinel.features.plan.parts import RequestKind

__all__ = [
    "DAY",
    "HOUR",
    "MONTH",
    "QUARTER",
    "WEEK",
    "Family",
    "RatioFamily",
    "amount",
    "count",
    "distinct",
    "entity",
    "entity_view",
    "fraud_count",
    "fraud_rate",
    "history_view",
    "payments",
    "profile_view",
    "ratio",
    "request_view",
    "since_last",
    "values",
    "vector",
]

_JOIN_KEYS: Final = {
    re.sub("_id$|_address$", "", column): column for column in (*ENTITY_COLUMNS, "transaction_id")
}


@dataclass(frozen=True)
class RatioFamily:
    """Every numerator divided by every denominator.

    Attributes:
        numerators, denominators: Names of windowed features, without their view if it is the same.
        called: What the denominator is called in the ratio's name; empty for its own name.
        words: Template of the ratios' sentence; empty for that of all ratios.
    """

    numerators: tuple[str, ...]
    denominators: tuple[str, ...]
    called: str = ""
    words: str = ""

    def fields(self, prefix: str, windowed: Sequence[str]) -> list[Field]:
        """Feast's field of each ratio.

        Args:
            prefix: Of the view.
            windowed: Full names of the view's windowed features.
        """

        def full(name: str) -> str:
            own = f"{prefix}_{name}"
            return own if own in windowed else name

        return [
            Field(
                name=f"{prefix}_{_ratio_name(numerator, denominator, self.called)}",
                dtype=Float32,
                tags=tags.ratio(
                    AMOUNT if numerator == "amount" else full(numerator),
                    full(denominator),
                    words=self.words,
                ),
            )
            for numerator in self.numerators
            for denominator in self.denominators
        ]


def entity(name: str) -> Entity:
    """What a view is of: ``customer``, ``card``, ``merchant``, ``device``, ``ip``, ``transaction``.

    >>> entity("ip").join_key
    'ip_address'

    Raises:
        DefinitionError: Payments have no such identifier.
    """
    if name not in _JOIN_KEYS:
        raise DefinitionError(
            f"Payments have no identifier of a {name!r}. {tags.did_you_mean(name, _JOIN_KEYS)}"
        )
    return Entity(name=name, join_keys=[_JOIN_KEYS[name]], value_type=ValueType.STRING)


def payments(description: str = "") -> PushSource:
    """The ledger's payments and labels, which every view that scoring uses reads."""
    described = description or "Payments and labels in the order Sentinel learnt of them"
    return PushSource(name="transactions", batch_source=TransactionLog(description=described))


def ratio(
    *numerators: str, to: str | Sequence[str], called: str = "", words: str = ""
) -> RatioFamily:
    """Each numerator divided by each denominator.

    A feature of the same view is named without the view: ``ratio("count_1d", to="count_30d")`` in
    the view "card" makes ``card_count_1d_to_30d``. ``amount`` is the amount of the payment itself.

    Args:
        numerators: Names of windowed features, or ``amount``.
        to: Name of a windowed feature, or several.
        called: What the denominator is called in the ratio's name, in place of its own.
        words: Template of the sentence that says a value, such as ``"{value} x {denominator}"``.
    """
    denominators = (to,) if isinstance(to, str) else tuple(to)
    if not numerators or not denominators or (called and len(denominators) > 1):
        raise DefinitionError(
            "A ratio has one or more numerators and denominators, and `called` names one "
            'denominator: ratio("count_1d", to="count_30d").'
        )
    return RatioFamily(numerators, denominators, called, words)


def entity_view(
    name: str,
    entities: Entity | Sequence[Entity],
    *families: Family | RatioFamily,
    source: PushSource,
) -> StreamFeatureView:
    """The windows of an entity, or of entities together.

    Args:
        name: Of the view; begins the name of each of its features.
        entities: Whose transactions count.
        families: Features in the order of the vector; ratios come after all windows there.
        source: What `payments` made.

    Raises:
        DefinitionError: Two features have one name.
    """
    windows = [
        feature
        for family in families
        if isinstance(family, Family)
        for feature in family.features(name)
    ]
    windowed = [field.name for _, field in windows]
    fields = [field for _, field in windows]
    for family in families:
        if isinstance(family, RatioFamily):
            fields += family.fields(name, windowed)
    _check_names(name, [field.name for field in fields])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Stream feature views are experimental")
        return StreamFeatureView(
            name=name,
            entities=[entities] if isinstance(entities, Entity) else list(entities),
            source=source,
            timestamp_field="event_timestamp",
            aggregations=[aggregation for aggregation, _ in windows],
            schema=fields,
        )


def request_view(
    name: str,
    *own: RequestKind,
    categories: Sequence[str] = (),
    numbers: Sequence[str] = (),
    booleans: Sequence[str] = (),
    prefix: str = "",
    words: Mapping[str, str] | None = None,
    source: PushSource,
) -> FeatureView:
    """What a payment says of itself. An attribute that it does not have is null.

    Args:
        name: Of the view.
        own: Of every payment: ``amount`` (minor units), ``hour_of_day`` and ``day_of_week`` (UTC).
        categories: Attributes that are text; a dictionary learnt from the log gives each a code.
        numbers: Attributes taken as they are. Times as attributes are numbers of seconds.
        booleans: Attributes that are true or false, which are categories of two values.
        prefix: Begins the names of the attributes' features.
        words: Templates of the sentences that say a value, by ``amount`` and so on or attribute.
        source: What `payments` made.

    Raises:
        DefinitionError: Two features have one name, or words are given for none of them.
    """
    attributes: list[tuple[RequestKind, str]] = [
        *(("category", column) for column in categories),
        *(("number", column) for column in numbers),
        *(("category", column) for column in booleans),
    ]
    said = dict(words or {})
    known = [*own, *(column for _, column in attributes)]
    for of in said:
        if of not in known:
            raise DefinitionError(
                f"View {name!r} has words for {of!r}, which is none of its features. "
                f"{tags.did_you_mean(of, known)}"
            )
    fields = [
        Field(name=kind, dtype=Float32, tags=tags.request(kind, words=said.get(kind, "")))
        for kind in own
    ]
    fields += [
        Field(
            name=feature_name(prefix, column),
            dtype=Float32,
            tags=tags.request(kind, column=column, words=said.get(column, "")),
        )
        for kind, column in attributes
    ]
    _check_names(name, [field.name for field in fields])
    return FeatureView(name=name, entities=[], source=source.batch_source, schema=fields)


def vector(name: str, *views: Any, description: str = "") -> FeatureService:
    """The vector that models see: the features of these views, in this order."""
    described = description or "The vector that fraud models see, in this order"
    return FeatureService(name=name, features=list(views), description=described)


def profile_view(
    of: Entity,
    *,
    usual: Mapping[str, str],
    amount_quantiles: Sequence[float],
    description: str = "",
) -> FeatureView:
    """What is usual for an entity over all that is known of it; never part of a vector.

    `sentinel features materialize` computes it once a day, for analysts, rules and Feast's SDK.

    Args:
        of: The entity; its name begins the names of view and features.
        usual: Attributes whose most frequent value is kept, by what the feature calls them.
        amount_quantiles: Levels from 0 to 1; 0.9 makes ``customer_amount_p90``.
        description: For the registry.
    """
    name: str = of.name
    return FeatureView(
        name=f"{name}_profile",
        entities=[of],
        source=EntityProfiles(f"{name}_profiles"),
        schema=[
            profiles.first_seen(f"{name}_since"),
            profiles.last_seen(f"{name}_last_seen"),
            profiles.transactions(f"{name}_transactions"),
            *(profiles.usual(f"{name}_usual_{key}", column) for key, column in usual.items()),
            *(
                profiles.amount_quantile(f"{name}_amount_p{100 * level:g}", level)
                for level in amount_quantiles
            ),
        ],
        description=description,
    )


def history_view(transaction: Entity) -> FeatureView:
    """Every transaction of the log with its vector, and what the champion said of it.

    `sentinel features materialize` fills it. `GET /predict/{transaction_id}` answers from it for
    history that other machines imported.
    """
    return FeatureView(
        name="transaction_history",
        entities=[transaction],
        source=TransactionHistory("transaction_history"),
        schema=[
            Field(name=AMOUNT, dtype=Int64),
            Field(name="plan_hash", dtype=String),
            Field(name="vector", dtype=Array(Float32)),
            Field(name="fraud_probability", dtype=Float64),
            Field(name="is_fraud", dtype=Bool),
            Field(name="model_version", dtype=String),
        ],
        description="Vector and score of each transaction",
    )


def _ratio_name(numerator: str, denominator: str, called: str) -> str:
    """What is above and below the line, with what both begin with said once.

    >>> _ratio_name("count_1d", "count_30d", ""), _ratio_name("amount", "amount_max_7d", "")
    ('count_1d_to_30d', 'amount_to_max_7d')
    """
    above = numerator.removeprefix("amount_")
    below = (called or denominator.removeprefix("amount_")).split("_")
    for word in above.split("_"):
        if called or len(below) == 1 or word != below[0]:
            break
        del below[0]
    return f"{above}_to_{'_'.join(below)}"


def _check_names(view: str, names: Sequence[str]) -> None:
    for place, name in enumerate(names):
        if name in names[:place]:
            raise DefinitionError(
                f"View {view!r} has two features named {name!r}. Give one of the families a "
                "`name` or `span`, one of the attributes' views a `prefix`."
            )
