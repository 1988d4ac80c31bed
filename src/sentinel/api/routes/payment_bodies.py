"""The bodies of payments, and the rule of how one becomes what the log holds.

`payment_reading` does the same for payments that have nothing unusual about them, in a fraction of
the time.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Final

import msgspec

from sentinel.api.body import Id, Moment
from sentinel.api.problems import invalid
from sentinel.domain import (
    ENTITY_COLUMNS,
    FUTURE_TOLERANCE_US,
    MAX_AMOUNT_MINOR,
    AttributeValue,
    Transaction,
)
from sentinel.ingest.guard import Guard
from sentinel.ingest.names import name_flaw, shown_name
from sentinel.ingest.values import BadValue

MAX_ATTRIBUTES: Final = 500
"""Attributes of a payment beside those that features read."""

EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND: Final = dt.timedelta(microseconds=1)
_EMPTY: Final = "is empty; leave it out, or send null, where it is unknown"
_REQUIRED: Final = "is empty; every payment needs an id of its own"
ID_FIELDS: Final = ("transaction_id", *ENTITY_COLUMNS)
"""Fields of a payment that hold ids."""


class PredictRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A payment to score.

    Attributes:
        transaction_id: Unique; a repeat gets the recorded decision.
        amount_minor: Amount in minor units (e.g. cents) of the base currency; negative: refund.
        event_time: When the payment happened, RFC 3339 with an offset; default: now.
        customer_id, card_id, merchant_id, device_id, ip_address: Whose history counts; send
            tokens, never card numbers.
        attributes: Anything else by name: text, numbers, booleans.
    """

    transaction_id: Id
    amount_minor: Annotated[int, msgspec.Meta(ge=-MAX_AMOUNT_MINOR, le=MAX_AMOUNT_MINOR)]
    event_time: Moment | None = None
    customer_id: Id | None = None
    card_id: Id | None = None
    merchant_id: Id | None = None
    device_id: Id | None = None
    ip_address: Id | None = None
    attributes: dict[str, str | int | float | bool | None] | None = None


class BatchRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Payments to score in order, each as in a single request."""

    transactions: Annotated[list[PredictRequest], msgspec.Meta(min_length=1)]


@dataclass(frozen=True, slots=True)
class ReadingRules:
    """How payments are read.

    Attributes:
        numbers: Attributes that the running plan reads as numbers.
        categories: Attributes that it reads as text.
        guard: What the deployment does with ids and card numbers.
        tokens: Whether some fields become tokens.
        most_attributes: So many may a payment have: all that the plan reads, and some more.
    """

    numbers: frozenset[str] = frozenset()
    categories: frozenset[str] = frozenset()
    guard: Guard = field(default_factory=Guard)
    tokens: bool = field(init=False)
    most_attributes: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tokens", bool(self.guard.fields))
        read = len(self.numbers | self.categories)
        object.__setattr__(self, "most_attributes", MAX_ATTRIBUTES + read)

    def kind_of(self, attribute: str) -> str | None:
        """How the plan reads an attribute: number, category, or None, if it does not."""
        if attribute in self.numbers:
            return "number"
        return "category" if attribute in self.categories else None


def transaction_of(
    request: PredictRequest, received_at_us: int, rules: ReadingRules, at: str = ""
) -> Transaction:
    """The transaction of a request.

    Args:
        request: The decoded body.
        received_at_us: When it arrived.
        rules: How values are read.
        at: Prefix for field names in errors.

    Raises:
        InvalidTransaction: Naming every offending field.
    """
    problems: dict[str, str] = {}
    guard = rules.guard
    moment = request.event_time
    event_time_us = received_at_us
    if moment is not None:
        event_time_us = (moment - EPOCH) // _MICROSECOND
        if event_time_us < 0:
            problems[at + "event_time"] = "before 1970"
        elif event_time_us > received_at_us + FUTURE_TOLERANCE_US:
            problems[at + "event_time"] = "more than 5 minutes ahead of the clock"
    ids: dict[str, str | None] = {}
    made: dict[str, AttributeValue] = {}
    for name in ID_FIELDS:
        given = getattr(request, name)
        try:
            ids[name] = guard.id(name, given)
            if given is not None and ids[name] is None:
                problems[at + name] = _REQUIRED if name == "transaction_id" else _EMPTY
            made.update(guard.card_parts(name, given))
        except BadValue as error:
            problems[at + name] = str(error)
    attributes = _attributes(request.attributes or {}, rules, at, problems)
    if problems:
        raise invalid(problems)
    identifier = ids.pop("transaction_id")
    return Transaction(
        transaction_id=identifier or "",
        event_time_us=event_time_us,
        received_at_us=received_at_us,
        amount_minor=request.amount_minor,
        attributes=attributes | made,
        **ids,
    )


def _attributes(
    given: Mapping[str, str | int | float | bool | None],
    rules: ReadingRules,
    at: str,
    problems: dict[str, str],
) -> dict[str, AttributeValue]:
    if len(given) > rules.most_attributes:
        of_features = rules.most_attributes - MAX_ATTRIBUTES
        problems[at + "attributes"] = (
            f"are {len(given):,}, and may be {rules.most_attributes:,}: the {of_features:,} "
            f"that features read, and {MAX_ATTRIBUTES} others; leave out what no feature reads"
        )
        return {}
    plain: dict[str, AttributeValue] = {}
    for name, value in given.items():
        flaw = name_flaw(name)
        if flaw is not None:
            problems[f"{at}attributes.{shown_name(name)}"] = flaw.message
            continue
        try:
            read = rules.guard.attribute(name, value, rules.kind_of(name))
        except BadValue as error:
            problems[f"{at}attributes.{name}"] = str(error)
            continue
        if read is not None:
            plain[name] = read
    return plain
