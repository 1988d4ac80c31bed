"""The meaning of every feature, as slowly and plainly as it can be said.

The oracle keeps the whole log and answers each question by looking through all of it. It knows
no tiles in memory, no retention, no late events and no order of arrival beyond "earlier in the
log": a window holds the entity's earlier transactions whose tile it covers, whenever they came.
That the engines forget and still agree is what the tests are about.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sentinel.domain import Entry, Label, Transaction, Verdict, Void
from sentinel.features.plan.parts import Aggregate, Filter, Ratio, RequestFeature, View
from sentinel.features.plan.plan import Plan

Value = float | None
"""A finished feature: the double that a float32 stands for, None = null."""


def to_float32(value: float) -> float:
    """The nearest float32, as a double."""
    try:
        rounded: float = struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError:
        return math.copysign(math.inf, value)
    return rounded


def field_of(transaction: Transaction, column: str) -> str | float | None:
    """A transaction's own field by name; NaN says that it is unknown."""
    value: str | float | None
    if column in transaction.__struct_fields__:
        value = getattr(transaction, column)
    else:
        value = transaction.attributes.get(column)
    return None if isinstance(value, float) and math.isnan(value) else value


def text_of(value: str | float) -> str:
    """A category's name: text as it is, whole numbers below 2^53 without a point."""
    if isinstance(value, str):
        return value
    if math.isfinite(value) and value == math.floor(value) and abs(value) < 2**53:
        return str(math.floor(value))
    return repr(value)


def holds(transaction: Transaction, condition: Filter) -> bool:
    """Whether a filter's condition holds; nothing holds for an unknown value."""
    value = field_of(transaction, condition.column)
    wanted = condition.value
    if value is None:
        return False
    if isinstance(wanted, str):
        same = text_of(value) == wanted
        return same if condition.operator == "==" else not same
    if isinstance(value, str):
        return False
    answers = {
        "==": value == wanted,
        "!=": value != wanted,
        "<": value < wanted,
        "<=": value <= wanted,
        ">": value > wanted,
        ">=": value >= wanted,
    }
    return answers[condition.operator]


def entity_of(transaction: Transaction, view: View) -> tuple[str, ...] | None:
    """The entity key of a view, None if a part of it is unknown or its record does not hold it."""
    if {view.name, "+".join(sorted(view.keys))} & set(transaction.untracked):
        return None
    parts = [getattr(transaction, key) for key in view.keys]
    return None if None in parts else tuple(parts)


@dataclass
class Oracle:
    """Answers what the features of an event are, given all log entries told to it so far.

    Attributes:
        plan: Which features.
        history: The transactions of each (view, entity), in log order.
        verdicts: The latest verdict on each transaction id, known transaction or not.
        void: Ids of transactions that are void: no entity has them from there on.
    """

    plan: Plan
    history: dict[tuple[str, tuple[str, ...]], list[Transaction]] = field(default_factory=dict)
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    void: set[str] = field(default_factory=set)

    def tell(self, entry: Entry) -> None:
        """Append an entry to the log."""
        if isinstance(entry, Void):
            self.void.add(entry.transaction_id)
            for of_entity in self.history.values():
                of_entity[:] = [e for e in of_entity if e.transaction_id not in self.void]
            return
        if isinstance(entry, Label):
            self.verdicts[entry.transaction_id] = entry.verdict
            return
        for view in self.plan.views:
            entity = entity_of(entry, view)
            if entity is not None:
                self.history.setdefault((view.name, entity), []).append(entry)

    def ask(self, event: Transaction) -> list[Value]:
        """The feature vector of an event, from the log so far."""
        return self._vector(
            {view.name: entity_of(event, view) for view in self.plan.views},
            event.event_time_us,
            event,
        )

    def ask_now(self, keys: Mapping[str, str], now_us: int) -> list[Value]:
        """What is known of entities at a time, without an event: request features are null."""
        entities = {
            view.name: tuple(keys[key] for key in view.keys)
            if all(key in keys for key in view.keys)
            else None
            for view in self.plan.views
        }
        return self._vector(entities, now_us, None)

    def expired(self, event: Transaction, view: View) -> bool:
        """Whether an event comes too late for every window of a view, now and ever."""
        entity = entity_of(event, view)
        past = self.history.get((view.name, entity), []) if entity else []
        newest = max((e.event_time_us for e in past), default=event.event_time_us)
        return all(
            event.event_time_us // a.hop_us < (newest - a.offset_us - a.window_us) // a.hop_us
            for a in view.aggregates
        )

    def late(self, event: Transaction, view: View) -> bool:
        """Whether the entity has an earlier entry with a newer event time."""
        entity = entity_of(event, view)
        past = self.history.get((view.name, entity), []) if entity else []
        return any(e.event_time_us > event.event_time_us for e in past)

    def _vector(
        self,
        entities: Mapping[str, tuple[str, ...] | None],
        time_us: int,
        event: Transaction | None,
    ) -> list[Value]:
        vector: dict[str, Value] = {}
        for view in self.plan.views:
            entity = entities[view.name]
            past = self.history.get((view.name, entity), []) if entity is not None else None
            for aggregate in view.aggregates:
                value = None if past is None else self._aggregate(aggregate, past, time_us)
                vector[aggregate.name] = None if value is None else to_float32(value)
        for feature in self.plan.request:
            value = None if event is None else _request(feature, event)
            vector[feature.name] = None if value is None else to_float32(value)
        for ratio in self.plan.ratios:
            value = _ratio(ratio, vector, event)
            vector[ratio.name] = None if value is None else to_float32(value)
        return [vector[name] for name in self.plan.feature_names]

    def _aggregate(self, aggregate: Aggregate, past: Sequence[Transaction], time_us: int) -> Value:
        a = aggregate
        now = max([time_us, *(e.event_time_us for e in past)])
        first_tile = (now - a.offset_us - a.window_us) // a.hop_us
        last_tile = (now - a.offset_us) // a.hop_us
        inside = [
            e
            for e in past
            if first_tile <= e.event_time_us // a.hop_us <= last_tile
            and all(holds(e, condition) for condition in a.filters)
        ]
        n = len(inside)
        amounts = [e.amount_minor for e in inside]
        frauds = sum(self.verdicts.get(e.transaction_id) == Verdict.FRAUD for e in inside)
        if a.function == "count":
            return float(n)
        if a.function == "sum":
            return float(sum(amounts))
        if a.function == "fraud_count":
            return float(frauds)
        if a.function == "distinct_count":
            values = [field_of(e, a.column) for e in inside]
            return float(min(len({text_of(v) for v in values if v is not None}), a.capacity))
        if n == 0:
            return None
        if a.function == "mean":
            return float(sum(amounts)) / float(n)
        if a.function == "min":
            return float(min(amounts))
        if a.function == "max":
            return float(max(amounts))
        if a.function == "fraud_rate":
            return float(frauds) / float(n)
        if a.function == "time_since_last":
            return float(now - max(e.event_time_us for e in inside)) / 1e6
        assert a.function == "std"
        if n < 2:
            return None
        # n^2 times the variance is an integer: no precision is lost before this one rounding.
        spread = n * sum(x * x for x in amounts) - sum(amounts) ** 2
        return math.sqrt(float(spread) / float(n * (n - 1)))


def _request(feature: RequestFeature, event: Transaction) -> Value:
    time_us = event.event_time_us
    if feature.kind == "amount":
        return float(event.amount_minor)
    if feature.kind == "hour_of_day":
        return float(time_us % 86_400_000_000) / 3_600_000_000.0
    if feature.kind == "day_of_week":
        return float((time_us // 86_400_000_000 + 3) % 7)  # 1970-01-01 was a Thursday
    value = field_of(event, feature.column)
    if value is None:
        return None
    if feature.kind == "category":
        text = text_of(value)
        return float(feature.categories.index(text) + 1 if text in feature.categories else 0)
    return None if isinstance(value, str) else float(value)


def _ratio(ratio: Ratio, vector: Mapping[str, Value], event: Transaction | None) -> Value:
    below = vector[ratio.denominator]
    if ratio.numerator == "amount_minor":
        above = None if event is None else float(event.amount_minor)
    else:
        above = vector[ratio.numerator]
    if above is None or below is None or below == 0.0:
        return None
    return above / below
