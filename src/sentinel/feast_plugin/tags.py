"""What a Feast ``Aggregation`` has no word for, as tags of the feature's ``Field``.

The Feast objects stay the only definition. These functions write the tags, `read_tags` reads
them back, and a key that none of them writes is an error. A tag is text, as Feast keeps it:

    offset      ``7d``: the window ends so long ago
    where       JSON list of ``[column, operator, value]``: only these transactions count
    capacity    distinct values remembered for ``count_distinct``
    numerator, denominator      of a ratio
    request     kind of a feature of the transaction's own fields
    column      the attribute that a ``category`` or ``number`` reads
    words       template of the sentence that says the feature's value
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, cast, get_args

from feast import Field
from feast.aggregation import Aggregation
from feast.types import Float32

from sentinel.domain import DefinitionError
from sentinel.features.plan.durations import format_duration, microseconds, parse_duration
from sentinel.features.plan.parts import Filter, FilterOperator, RequestKind

Condition = tuple[str, FilterOperator, str | float]
"""A column, a comparison and a value, such as ``("channel", "==", "online")``."""

KEYS: Final = (
    "offset",
    "where",
    "capacity",
    "numerator",
    "denominator",
    "request",
    "column",
    "words",
)
_RATIO_KEYS: Final = frozenset({"numerator", "denominator"})
_REQUEST_KEYS: Final = frozenset({"request", "column"})
_OPERATORS: Final[tuple[str, ...]] = get_args(FilterOperator)
_REQUEST_KINDS: Final[tuple[str, ...]] = get_args(RequestKind)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of an error message: a guess at what was meant, else everything there is.

    >>> did_you_mean("ofset", ["offset", "where"])
    "Did you mean 'offset'?"
    """
    options = list(known)
    close = difflib.get_close_matches(word, options, n=1)
    close = close or [option for option in options if word and option.startswith(word)]
    return f"Did you mean {close[0]!r}?" if close else f"There is: {', '.join(options)}."


def windowed(
    *,
    offset: timedelta = timedelta(0),
    where: Sequence[Condition] = (),
    capacity: int | None = None,
    words: str = "",
) -> dict[str, str]:
    """Tags of a windowed feature.

    Args:
        offset: Shift the window back: ``timedelta(days=7)`` leaves the last seven days out.
        where: Conditions that must all hold for a transaction to count.
        capacity: For ``count_distinct``: exact up to so many values (default 16).
        words: Template of the sentence that says the value; by default the function's own.

    >>> windowed(offset=timedelta(days=7), where=[("channel", "==", "online")])
    {'offset': '7d', 'where': '[["channel", "==", "online"]]'}
    """
    tags: dict[str, str] = {}
    if offset:
        tags["offset"] = format_duration(microseconds(offset))
    if where:
        tags["where"] = json.dumps([list(condition) for condition in where])
    if capacity is not None:
        tags["capacity"] = str(capacity)
    return tags | _worded(words)


def ratio(numerator: str, denominator: str, *, words: str = "") -> dict[str, str]:
    """Tags of a ratio of two windowed features, or of ``amount_minor`` to one.

    >>> ratio("amount_minor", "card_amount_mean_30d")
    {'numerator': 'amount_minor', 'denominator': 'card_amount_mean_30d'}
    """
    return {"numerator": numerator, "denominator": denominator} | _worded(words)


def request(kind: RequestKind, *, column: str = "", words: str = "") -> dict[str, str]:
    """Tags of a feature of the transaction's own fields.

    Args:
        kind: ``amount``, ``hour_of_day``, ``day_of_week``, ``category`` or ``number``.
        column: The attribute, for the last two.
        words: Template of the sentence that says the value; by default that of its kind.

    >>> request("category", column="channel")
    {'request': 'category', 'column': 'channel'}
    """
    return {"request": kind} | ({"column": column} if column else {}) | _worded(words)


def _worded(words: str) -> dict[str, str]:
    return {"words": words} if words else {}


def fields(
    aggregations: Iterable[Aggregation], tags: Mapping[str, Mapping[str, str]] | None = None
) -> list[Field]:
    """One Feast field per aggregation, as every feature view needs them.

    Args:
        aggregations: Named aggregations.
        tags: Tags of some of them, by name.

    Raises:
        DefinitionError: A name in ``tags`` is none of the aggregations'.
    """
    names = [aggregation.name for aggregation in aggregations]
    given = tags or {}
    for name in given:
        if name not in names:
            raise DefinitionError(
                f"Tags are given for {name!r}, which is no aggregation. {did_you_mean(name, names)}"
            )
    return [Field(name=name, dtype=Float32, tags=dict(given.get(name, {}))) for name in names]


@dataclass(frozen=True)
class FieldTags:
    """The tags of a field, read and checked.

    Attributes:
        offset_us: How far the window is shifted back.
        filters: Conditions of the window.
        capacity: Distinct values remembered; None if not said.
        ratio: Numerator and denominator, if the field is a ratio.
        request: Kind, if it is a request feature.
        column: What a request feature reads.
        words: Template of its sentence; empty for the usual one.
    """

    offset_us: int = 0
    filters: tuple[Filter, ...] = ()
    capacity: int | None = None
    ratio: tuple[str, str] | None = None
    request: RequestKind | None = None
    column: str = ""
    words: str = ""


def read_tags(tags: Mapping[str, str], where: str) -> FieldTags:
    """Read a field's tags.

    Args:
        tags: As Feast holds them.
        where: Names the field in errors, such as ``Feature 'x' of view 'card'``.

    Raises:
        DefinitionError: A key is unknown, a value cannot be read, or keys don't go together.
    """
    for key in tags:
        if key not in KEYS:
            raise DefinitionError(
                f"{where} has the tag {key!r}, which has no meaning. {did_you_mean(key, KEYS)} "
                "Notes go into the field's description."
            )
    used = set(tags) - {"words"}
    words = tags.get("words", "")
    if used & _RATIO_KEYS:
        if used != _RATIO_KEYS:
            raise DefinitionError(
                f"{where} is a ratio: it takes the tags numerator and denominator and no others. "
                "Write tags=ratio(numerator, denominator)."
            )
        return FieldTags(ratio=(tags["numerator"], tags["denominator"]), words=words)
    if used & _REQUEST_KEYS:
        return _read_request(tags, used, where)
    return FieldTags(
        offset_us=_read_offset(tags.get("offset", "0s"), where),
        filters=_read_filters(tags["where"], where) if "where" in tags else (),
        capacity=_read_capacity(tags["capacity"], where) if "capacity" in tags else None,
        words=words,
    )


def _read_request(tags: Mapping[str, str], used: set[str], where: str) -> FieldTags:
    if not used <= _REQUEST_KEYS or "request" not in used:
        raise DefinitionError(
            f"{where} is a request feature: it takes the tags request and column and no others. "
            "Write tags=request(kind, column=...)."
        )
    kind = tags["request"]
    if kind not in _REQUEST_KINDS:
        raise DefinitionError(
            f"{where} is a request feature of the unknown kind {kind!r}. "
            f"{did_you_mean(kind, _REQUEST_KINDS)}"
        )
    column = tags.get("column", "")
    if bool(column) != (kind in ("category", "number")):
        rule = "needs the column it reads" if not column else "reads no column"
        raise DefinitionError(f"{where}: a request feature of kind {kind!r} {rule}.")
    return FieldTags(request=cast("RequestKind", kind), column=column, words=tags.get("words", ""))


def _read_offset(text: str, where: str) -> int:
    offset_us = parse_duration(text)
    if offset_us is None:
        raise DefinitionError(
            f"{where} has the offset {text!r}; an offset is a whole number and a unit, "
            "such as 7d, 12h, 30m or 90s."
        )
    return offset_us


def _read_capacity(text: str, where: str) -> int:
    if not text.isdigit():
        raise DefinitionError(f"{where} has the capacity {text!r}; it is a whole number above 0.")
    return int(text)


def _read_filters(text: str, where: str) -> tuple[Filter, ...]:
    try:
        conditions = json.loads(text)
    except ValueError:
        conditions = None
    if not isinstance(conditions, list) or not conditions:
        raise DefinitionError(
            f'{where} has the conditions {text}; they are a list such as [["channel", "==", '
            '"online"]]. Write tags=windowed(where=[("channel", "==", "online")]).'
        )
    return tuple(_read_filter(condition, where) for condition in conditions)


def _read_filter(condition: object, where: str) -> Filter:
    match condition:
        case [str(column), str(operator), str() | int() | float() as value] if not isinstance(
            value, bool
        ):
            if operator not in _OPERATORS:
                raise DefinitionError(
                    f"{where} compares {column!r} by {operator!r}; "
                    f"comparisons are {' '.join(_OPERATORS)}."
                )
            return Filter(
                column=column,
                operator=cast("FilterOperator", operator),
                value=value if isinstance(value, str) else float(value),
            )
        case _:
            raise DefinitionError(
                f"{where} has the condition {condition!r}; a condition is a column, a comparison "
                'and a text or number, such as ("amount_minor", "<", 500).'
            )
