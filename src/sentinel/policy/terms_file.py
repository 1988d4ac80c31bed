"""The terms of a policy as people write them: a TOML file.

reviews_per_day = 40

[costs]                      # money in minor units of the base currency
lost_share = 0.9
fee_minor = 1500
false_decline_minor = 600
false_decline_share = 0.02
review_minor = 250
missed_share = 0.1
stopped_share = 0.02

[[segments]]
name = "app"
field = "attributes.channel"
values = ["app"]
costs = { false_decline_minor = 1200 }   # what is not said is as in [costs]

[exploring]
budget_minor = 50000         # a month; without it nothing is let through
most_amount_minor = 30000
"""

from __future__ import annotations

import tomllib
from typing import Any

import msgspec

from sentinel.domain import ConfigurationError
from sentinel.ingest.wording import located
from sentinel.policy.versions import Terms


def read_terms(text: str, name: str) -> Terms:
    """The terms in the text of a file.

    Args:
        text: TOML.
        name: Of the file, for errors.

    Raises:
        ConfigurationError: It is no TOML, names what there is not, or cannot be.
    """
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also of numbers and nests beyond all bounds
        raise ConfigurationError(f"{name} is no TOML: {error}.") from None
    return terms_of(document, name)


def terms_of(document: dict[str, Any], name: str) -> Terms:
    """The terms in a document; see `read_terms`."""
    base = document.get("costs")
    segments = document.get("segments")
    if isinstance(base, dict) and isinstance(segments, list):
        document = document | {"segments": [_with_base(one, base) for one in segments]}
    try:
        terms = msgspec.convert(document, Terms, strict=True)
    except msgspec.ValidationError as error:
        path, message = located(str(error), Terms)
        where = "the document" if path == "body" else path
        raise ConfigurationError(
            f"{name} is no policy: {where} {message}. docs/policy.md says what it takes."
        ) from None
    _refuse_unknown(document, name)
    terms.check()
    return terms


def _with_base(segment: object, base: dict[str, Any]) -> object:
    if not isinstance(segment, dict):
        return segment
    own = segment.get("costs", {})
    return segment | {"costs": base | own} if isinstance(own, dict) else segment


def _refuse_unknown(document: dict[str, Any], name: str) -> None:
    """Raise ConfigurationError for a key of a table that means nothing: it may be misspelt."""
    from sentinel.models.thresholds import Thresholds
    from sentinel.policy.economics import Costs, Segment
    from sentinel.policy.versions import Exploring

    tables: list[tuple[str, object, tuple[str, ...]]] = [
        ("costs", document.get("costs"), Costs.__struct_fields__),
        ("bands", document.get("bands"), Thresholds.__struct_fields__),
        ("exploring", document.get("exploring"), Exploring.__struct_fields__),
    ]
    for segment in document.get("segments", ()):
        tables += [
            ("segments", segment, Segment.__struct_fields__),
            ("costs of a segment", segment.get("costs"), Costs.__struct_fields__),
        ]
    for where, table, known in tables:
        unknown = sorted(set(table) - set(known)) if isinstance(table, dict) else []
        if unknown:
            raise ConfigurationError(
                f"{name}: {where} has {unknown[0]!r}; it takes {', '.join(known)}."
            )
