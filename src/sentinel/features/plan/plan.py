"""The feature plan: what every engine computes, as plain data.

A plan is compiled once from the feature definitions and read by training, serving, recovery
and proof. It is a JSON document; its hash names it, and a model only ever meets vectors of the
plan that it was trained with.

The order of a vector is: aggregates of each view in order, then request features, then ratios.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from sentinel.domain import ENTITY_COLUMNS, DefinitionError
from sentinel.features.plan.checks import check_columns, check_parts
from sentinel.features.plan.functions import AMOUNT, FUNCTIONS, Takes
from sentinel.features.plan.parts import Aggregate, Filter, Ratio, RequestFeature, View

PLAN_FORMAT: Final = 1

SECOND_US: Final = 1_000_000
MINUTE_US: Final = 60 * SECOND_US
HOUR_US: Final = 60 * MINUTE_US
DAY_US: Final = 24 * HOUR_US

HOPS_US: Final = (
    5 * SECOND_US,
    10 * SECOND_US,
    30 * SECOND_US,
    MINUTE_US,
    5 * MINUTE_US,
    15 * MINUTE_US,
    HOUR_US,
    2 * HOUR_US,
    6 * HOUR_US,
    12 * HOUR_US,
    DAY_US,
)

UNKNOWN_CATEGORY_CODE: Final = 0


def default_hop_us(window_us: int) -> int:
    """The hop a window gets by default: the largest standard one of at most a twelfth of it.

    >>> default_hop_us(DAY_US) == 2 * HOUR_US, default_hop_us(HOUR_US) == 5 * MINUTE_US
    (True, True)
    """
    fitting = [hop for hop in HOPS_US if hop * 12 <= window_us]
    if not fitting:
        raise DefinitionError(
            f"A window of {window_us / SECOND_US:g} s is shorter than a minute, the shortest "
            "that has a default hop. Use a longer window or name a slide_interval."
        )
    return fitting[-1]


class Plan(msgspec.Struct, frozen=True, dict=True):
    """A compiled set of features. See the module's docstring for the order of a vector."""

    views: tuple[View, ...]
    request: tuple[RequestFeature, ...]
    ratios: tuple[Ratio, ...] = ()
    format: int = PLAN_FORMAT

    def __post_init__(self) -> None:
        if self.format != PLAN_FORMAT:
            raise DefinitionError(
                f"The plan has format {self.format}, this version reads {PLAN_FORMAT}. "
                "Run `sentinel features apply` to write it anew."
            )
        check_parts(self.views, self.request, self.ratios)
        check_columns(self.request, self.filter_sets, self.number_columns, self.distinct_columns)

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        """Names in vector order."""
        return (
            *(aggregate.name for view in self.views for aggregate in view.aggregates),
            *(feature.name for feature in self.request),
            *(ratio.name for ratio in self.ratios),
        )

    @cached_property
    def categorical(self) -> tuple[str, ...]:
        """Names of the features that hold category codes."""
        return tuple(feature.name for feature in self.request if feature.kind == "category")

    @cached_property
    def hash(self) -> str:
        """Sixteen hex digits that name what the plan computes: SHA-256 of its canonical JSON.

        Templates of words are left out: they change no value, so that models and vectors stay.
        """
        return hashlib.sha256(msgspec.json.encode(self.unworded, order="sorted")).hexdigest()[:16]

    @cached_property
    def unworded(self) -> Plan:
        """This plan with no feature's template of words."""
        if not any(f.words for f in self._features()):
            return self
        return msgspec.structs.replace(
            self,
            views=tuple(
                msgspec.structs.replace(view, aggregates=tuple(map(_unworded, view.aggregates)))
                for view in self.views
            ),
            request=tuple(map(_unworded, self.request)),
            ratios=tuple(map(_unworded, self.ratios)),
        )

    def _features(self) -> Iterator[Aggregate | RequestFeature | Ratio]:
        for view in self.views:
            yield from view.aggregates
        yield from self.request
        yield from self.ratios

    @cached_property
    def filter_sets(self) -> tuple[tuple[Filter, ...], ...]:
        """The distinct non-empty filter conjunctions; the index of one is its bit."""
        found: dict[tuple[Filter, ...], None] = {}
        for view in self.views:
            for aggregate in view.aggregates:
                if aggregate.filters:
                    found.setdefault(aggregate.filters)
        return tuple(found)

    @cached_property
    def distinct_columns(self) -> tuple[str, ...]:
        """Columns whose values are told apart, in order of first use; events carry their hashes."""
        found: dict[str, None] = {}
        for view in self.views:
            for aggregate in view.aggregates:
                if FUNCTIONS[aggregate.function].takes is Takes.VALUES:
                    found.setdefault(aggregate.column)
        return tuple(found)

    @cached_property
    def number_columns(self) -> frozenset[str]:
        """Attributes the plan reads as numbers; all others it reads as text."""
        return frozenset(
            [f.column for f in self.request if f.kind == "number" and f.column != AMOUNT]
            + [
                condition.column
                for conditions in self.filter_sets
                for condition in conditions
                if not isinstance(condition.value, str) and condition.column != AMOUNT
            ]
        )

    @cached_property
    def category_columns(self) -> frozenset[str]:
        """Attributes the plan reads as text: categories, values counted distinct, conditions."""
        used = {f.column for f in self.request if f.kind == "category"}
        used.update(self.distinct_columns)
        used.update(
            condition.column
            for conditions in self.filter_sets
            for condition in conditions
            if isinstance(condition.value, str)
        )
        return frozenset(used - {AMOUNT, *ENTITY_COLUMNS})

    def view(self, name: str) -> View:
        """The view of that name; raises DefinitionError if there is none."""
        for view in self.views:
            if view.name == name:
                return view
        known = ", ".join(view.name for view in self.views)
        raise DefinitionError(f"There is no view {name!r} in the plan. It has: {known}.")

    def save(self, path: Path) -> None:
        """Write the plan as readable JSON, replacing the file at once."""
        path.parent.mkdir(parents=True, exist_ok=True)
        text = msgspec.json.format(msgspec.json.encode(self, order="sorted"), indent=2)
        partial = path.with_suffix(".partial")
        partial.write_bytes(text + b"\n")
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> Plan:
        """Read a plan file; raises DefinitionError if it is missing or not a plan."""
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except FileNotFoundError:
            raise DefinitionError(
                f"There is no feature plan at {path}. Run `sentinel features apply` first."
            ) from None
        except msgspec.DecodeError as error:
            raise DefinitionError(
                f"{path} is not a feature plan of format {PLAN_FORMAT} ({error}). "
                "Run `sentinel features apply` to write it anew."
            ) from None


_Feature = TypeVar("_Feature", Aggregate, RequestFeature, Ratio)


def _unworded(feature: _Feature) -> _Feature:
    return msgspec.structs.replace(feature, words="")
