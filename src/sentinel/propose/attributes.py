"""What the other columns become: features of the payment itself, or nothing, and why."""

from __future__ import annotations

import re
from typing import Final, Literal

import numpy as np
import pyarrow.compute as pc

from sentinel.domain import ENTITY_COLUMNS, MAX_ID_LENGTH
from sentinel.ingest.cards import holds_card_number
from sentinel.ingest.names import good_name
from sentinel.propose import names
from sentinel.propose.column_profile import ColumnProfile
from sentinel.propose.entities import PERSONAL, depends, has_decimal_comma
from sentinel.propose.roles import Answers, Attribute, Roles, Time
from sentinel.propose.time_formats import ambiguous, moments, time_of
from sentinel.sources.attributes import looks_like

OWN_NAMES: Final = {
    *("transaction_id", "event_time_us", "received_at_us", "amount_minor", *ENTITY_COLUMNS),
    *("verdict", "label_received_at_us", "label_id", "origin", "kind", "sequence"),
    *("outcome_before", "amount", "hour_of_day", "day_of_week"),
}
MAX_CATEGORIES: Final = 100

_EXACT: Final = 2.0**53
_SHOWN: Final = 4
_RARE: Final = 3.0
_LONG_TEXT: Final = 80
_GROUPED: Final = re.compile(r"^[-+]?\d{1,3}(,\d{3})+(\.\d+)?$")


def choose_attributes(roles: Roles, answers: Answers) -> None:
    """Decide about every column that has no role yet."""
    profile = roles.profile
    numbers = {
        entity.columns[0]
        for entity in roles.entities
        if entity.by_values and profile.columns[entity.columns[0]].type == "integer"
    }
    used = roles.used() - numbers
    numbers_in_text = _with_commas(roles, used)
    taken_names = set(OWN_NAMES)
    attributes = []
    for name in answers.exclude:
        roles.left_out.setdefault(name, "as you said")
    for column in profile.columns.values():
        if column.name in used or column.name in roles.left_out:
            continue
        is_number = column.name in numbers_in_text
        reason = _useless(roles, column, is_number=is_number)
        if reason:
            roles.left_out[column.name] = reason
            continue
        time = time_of(profile, column.name)
        if time is not None and (column.type in ("text", "time") or _is_a_time(roles, column)):
            _time_attribute(roles, column, time, taken_names)
            continue
        kind, reason = _kind(column, is_number=is_number)
        attributes.append(
            Attribute(
                column.name,
                _free_name(column.name, taken_names),
                kind,
                reason,
                (*column.nothing, *column.odd_words) if kind != "category" else (),
                column.by_chance,
            )
        )
    roles.attributes = tuple(attributes)
    renamed = [f"{a.column!r} is {a.name!r}" for a in attributes if a.column not in ("", a.name)]
    if renamed:
        more = f" and {len(renamed) - _SHOWN} more" if len(renamed) > _SHOWN else ""
        roles.notes.append(
            "Attributes have other names than their columns where a name holds a line break, is "
            "too long, or is another column's but for its letter case: "
            f"{', '.join(renamed[:_SHOWN])}{more}. Live payments bring them by these names."
        )


def _with_commas(roles: Roles, used: set[str]) -> set[str]:
    """Columns of text that are numbers as banks write them: ``1.234,50``, or ``1,234.50``.

    A decimal comma then is that of all attributes. Where others have a decimal point, one mapping
    cannot read both, and these are left out.
    """
    free = [
        column
        for column in roles.profile.columns.values()
        if column.name not in used and column.name not in roles.left_out
    ]
    found = {column.name for column in free if has_decimal_comma(column)}
    if not found:
        return _with_groups(roles, free)
    if any(column.type == "number" and column.decimals for column in free):
        return set()
    texts = {name: roles.profile.texts(name) for name in found}
    grouped = any(pc.any(pc.match_substring(one, ".")).as_py() for one in texts.values())
    thousands = "." if grouped else ""
    found = {name for name in found if looks_like(texts[name], ",", thousands) == "number"}
    if found:
        roles.decimal, roles.thousands = ",", thousands
    return found


def _with_groups(roles: Roles, free: list[ColumnProfile]) -> set[str]:
    """Columns of numbers whose thousands are parted by commas (``1,234.50``)."""
    found = set()
    for column in free:
        if column.type != "text" or not any(map(_GROUPED.match, column.examples)):
            continue
        if looks_like(roles.profile.texts(column.name), ".", ",") == "number":
            found.add(column.name)
    if found:
        roles.thousands = ","
    return found


def _free_name(name: str, taken: set[str]) -> str:
    """A name that no other attribute has in any letter case."""
    base = wanted = good_name(name) or "unnamed"
    end = "_given"
    while wanted.lower() in taken:
        wanted = base[: MAX_ID_LENGTH - len(end)] + end
        end += "_"
    taken.add(wanted.lower())
    return wanted


def _useless(roles: Roles, column: ColumnProfile, *, is_number: bool) -> str:
    """Why a column cannot help; empty if it may.

    Args:
        roles: What is known by now.
        column: Which.
        is_number: Whether its texts are numbers that can be read with the separators.
    """
    profile = roles.profile
    if column.type == "empty":
        return "empty"
    if holds_card_number(column.name):
        return "its name holds what looks like a card number"
    if column.type == "nested":
        return "nested: only plain values can be attributes"
    if column.constant:
        return f"constant ({column.examples[0] if column.examples else 'empty'})"
    if column.steady:
        return "an id in disguise: it counts the rows"
    if has_decimal_comma(column) and not is_number:
        return "numbers with a decimal comma beside others with a point: write one of them"
    if column.card_like:
        return "holds raw card numbers, which must not be stored"
    if column.name in roles.homeless and names.has(column.name, PERSONAL):
        return f"a person's: it {roles.homeless[column.name]}"
    if column.type == "integer" and max(-column.low, column.high) >= _EXACT:
        return "an id in disguise: more digits than numbers keep"
    number = column.type == "number" or is_number
    if not number and time_of(profile, column.name) is None:
        if column.unique and column.given > 20:
            return "an id in disguise: hardly a value recurs"
        if column.type == "text" and column.distinct > column.given / _RARE and column.given > 50:
            return "an id in disguise: hardly a value recurs"
        if column.type == "text" and column.lengths[1] > _LONG_TEXT and column.distinct > 200:
            return "free text"
    if (
        not number
        and column.type == "text"
        and column.distinct > 50
        and time_of(profile, column.name) is None
    ):
        for entity in roles.entities:
            if len(entity.columns) == 1 and _same(roles, entity.columns[0], column):
                return f"an id in disguise: says the same as {entity.columns[0]!r}"
    return ""


def _same(roles: Roles, entity: str, column: ColumnProfile) -> bool:
    """Whether a column names the same things as an entity under other names."""
    profile = roles.profile
    close = 0.9 < column.distinct / max(profile.columns[entity].distinct, 1) < 1.1
    return (
        close
        and depends(profile, entity, column.name) > 0.99
        and depends(profile, column.name, entity) > 0.97
    )


def _kind(
    column: ColumnProfile, *, is_number: bool
) -> tuple[Literal["number", "category", "boolean"], str]:
    if is_number:
        return "number", "numbers"
    if column.type == "boolean":
        return "boolean", "two values"
    if column.type in ("integer", "number"):
        if column.padded:
            return "category", "digits with leading zeros are codes"
        code = names.has(column.name, names.CODES) and column.type == "integer"
        if code and column.distinct <= MAX_CATEGORIES:
            return "category", "a code by its name"
        return "number", "numbers"
    if column.distinct > MAX_CATEGORIES:
        return "category", f"the {MAX_CATEGORIES} most frequent of {column.distinct:,} values"
    return "category", f"{column.distinct:,} values"


def _is_a_time(roles: Roles, column: ColumnProfile) -> bool:
    """Whether numbers that could be times are: by name, or because they go with the payment's."""
    if names.has(column.name, names.TIME | names.EARLIER | names.LATER):
        return True
    time = time_of(roles.profile, column.name)
    return bool(time and time.format == "epoch" and column.distinct > 100)


def _time_attribute(roles: Roles, column: ColumnProfile, time: Time, taken: set[str]) -> None:
    """Seconds since another time, unless that time is the payment's again or comes later."""
    fitting = ambiguous(time)
    if fitting:
        time = Time(time.columns, fitting[0])
        roles.notes.append(f"{column.name!r} is read as {fitting[0]}.")
    if roles.time is None:
        return
    gap = moments(roles.profile, roles.time) - moments(roles.profile, time)
    gap = gap[np.isfinite(gap)]
    if not len(gap):
        roles.left_out[column.name] = "its times cannot be read"
        return
    if np.ptp(np.quantile(gap, [0.005, 0.995])) <= 1.0:
        roles.left_out[column.name] = "the time of the payment once more"
        return
    after = float((gap < 0).mean())
    outlasts = names.has(column.name, {"expires", "expiry", "exp", "valid", "until"})
    if not outlasts and (after > 0.5 or names.has(column.name, names.LATER)):
        roles.left_out[column.name] = f"known too late: after the payment in {after:.0%} of rows"
        return
    name = _free_name(f"{names.slug(column.name or 'time')}_age_seconds", taken)
    roles.time_attributes[name] = time
