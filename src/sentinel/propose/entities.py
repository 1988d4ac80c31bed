"""Which columns name who pays, with what, where and to whom."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sentinel.domain import ENTITY_COLUMNS
from sentinel.propose import names
from sentinel.propose.column_profile import ColumnProfile
from sentinel.propose.profile import TableProfile
from sentinel.propose.roles import Answers, Entity, Roles
from sentinel.propose.sketch import EXACT_DISTINCT
from sentinel.propose.time_formats import time_of

_LEAST_DISTINCT: Final = 20
_CODE_DISTINCT: Final = 200
_FEW_ROWS: Final = 100
_TEXT_DISTINCT: Final = 60
_CODED_DISTINCT: Final = 30
_DEPENDS: Final = 0.98
_ADDRESS: Final = re.compile(r"^(\d{1,3}(\.\d{1,3}){3}|[0-9a-fA-F:]*:[0-9a-fA-F:.]+)$")
_DECIMAL_COMMA: Final = re.compile(r"^[-+]?(\d+|\d{1,3}([.' \u00a0]\d{3})+),\d{1,4}$")
_BY_VALUES: Final = ("customer_id", "merchant_id", "device_id", "card_id")
PERSONAL: Final = {"email", "mail", "phone", "mobile", "iban", "address", "ssn", "passport"}


@dataclass(frozen=True)
class _Found:
    column: ColumnProfile
    points: float


def choose_entities(roles: Roles, answers: Answers) -> None:
    """Decide which columns are the five entities, and which look like one without a place."""
    profile = roles.profile
    taken: dict[str, Entity] = {}
    closed = {entity for entity, columns in answers.entities.items() if not columns}
    for entity, columns in answers.entities.items():
        if columns:
            taken[entity] = _entity(profile, entity, columns, "as you said")
    used = roles.used() | {c for e in taken.values() for c in e.columns} | set(answers.exclude)
    free = [c for c in profile.columns.values() if c.name not in used and _could_be(profile, c)]
    # What names a payment together with another column may name its merchant by itself.
    joined = roles.id.columns if roles.id and len(roles.id.columns) > 1 else ()
    parts = [c for name in joined if _could_be(profile, c := profile.columns[name])]
    for entity in ENTITY_COLUMNS:
        if entity in taken or entity in closed:
            continue
        named = [c for c in parts if c.name not in answers.exclude]
        found = [f for c in (*free, *named) if (f := _by_name(entity, c)) is not None]
        found.sort(key=lambda f: (-f.points, f.column.place))
        if found:
            column = found[0].column
            taken[entity] = _entity(profile, entity, (column.name,), _named_reason(column, entity))
            (free if column in free else parts).remove(column)
    _composite_card(profile, taken)
    if not roles.known:
        _by_values(roles, taken, closed, free)
    roles.entities = tuple(taken[entity] for entity in ENTITY_COLUMNS if entity in taken)
    if not taken:
        roles.notes.append(
            "No column names a customer, card, merchant, device or address that recurs: features "
            "are those of the payment itself, without windows."
        )


def depends(profile: TableProfile, on: str, column: str) -> float:
    """Share of the rows whose value of a column is the usual one for their entity.

    Only entities that were seen twice or more count; 0 if there are hardly any.
    """
    keys, values = _codes(profile.texts(on)), _codes(profile.texts(column))
    known = keys >= 0
    keys, values = keys[known], values[known]
    counts = np.bincount(keys) if len(keys) else np.zeros(0, np.int64)
    often = counts[keys] >= 2 if len(keys) else np.zeros(0, np.bool_)
    if often.sum() < 20:
        return 0.0
    keys, values = keys[often], values[often]
    pairs = keys * (int(values.max()) + 2) + values + 1
    different, times = np.unique(pairs, return_counts=True)
    owners = different // (int(values.max()) + 2)
    usual = np.zeros(int(keys.max()) + 1, np.int64)
    np.maximum.at(usual, owners, times)
    return float(usual.sum() / len(keys))


def has_decimal_comma(column: ColumnProfile) -> bool:
    """Whether a column of text holds numbers with a decimal comma."""
    texts = column.examples
    return column.type == "text" and bool(texts) and all(map(_DECIMAL_COMMA.match, texts))


def _codes(text: pa.Array) -> npt.NDArray[np.int64]:
    indices = text.dictionary_encode().indices
    return np.asarray(pc.fill_null(indices, -1).to_numpy(zero_copy_only=False), np.int64)


def _could_be(profile: TableProfile, column: ColumnProfile) -> bool:
    if column.type in ("empty", "nested", "time") or not column.given:
        return False
    if column.constant and column.rows > _FEW_ROWS:
        return False
    return column.type != "text" or time_of(profile, column.name) is None


def _by_name(entity: str, column: ColumnProfile) -> _Found | None:
    words = set(names.words_of(column.name))
    if entity == "card_id" and column.luhn > 0.9 and column.lengths[1] >= 12:
        return _Found(column, 10)
    if entity == "ip_address" and _is_address(column):
        return _Found(column, 10)
    if not words & names.ENTITY_WORDS[entity]:
        return None
    others = {w for e, known in names.ENTITY_WORDS.items() if e != entity for w in known}
    points = 2.0
    if words & names.ID:
        points += 3
    if words & (names.ABOUT | names.AMOUNT | names.LATER | names.EARLIER | PERSONAL):
        points -= 4
    if words & others and not words & names.ID:
        points -= 1
    if "name" in words:
        points -= 0.5
    if column.type == "number" and entity != "ip_address":
        points -= 3
    if column.type == "boolean" or (column.distinct < 3 and column.rows > _FEW_ROWS):
        return None
    if column.unique and column.rows > _FEW_ROWS:
        points -= 1
    return _Found(column, points) if points > 0 else None


def _is_address(column: ColumnProfile) -> bool:
    return bool(
        column.type == "text"
        and column.examples
        and all(_ADDRESS.match(text) for text in column.examples)
    )


def _named_reason(column: ColumnProfile, entity: str) -> str:
    if entity == "card_id" and column.luhn > 0.9:
        return f"{column.luhn:.0%} of its values are card numbers by their check digit"
    if _is_address(column):
        return "its values are addresses"
    return f"by its name; {_recurrence(column)}"


def _recurrence(column: ColumnProfile) -> str:
    return (
        f"{_many(column.distinct)} values, a typical one recurs {column.typical_count:,.0f} times"
    )


def _many(distinct: int) -> str:
    """How many values there are; `about`, where a sketch has estimated it."""
    return (
        f"{distinct:,}" if distinct <= EXACT_DISTINCT else f"about {float(f'{distinct:.2g}'):,.0f}"
    )


def _entity(profile: TableProfile, entity: str, columns: tuple[str, ...], why: str) -> Entity:
    found = [profile.columns[name] for name in columns]
    raw = any(c.card_like or (c.luhn > 0.9 and c.lengths[1] >= 12) for c in found)
    if raw and not any(c.luhn > 0.9 for c in found):
        why += "; some values look like card numbers"
    nothing = tuple(dict.fromkeys(word for c in found for word in c.nothing))
    if len(columns) == 1:
        return Entity(entity, columns, why, raw, nothing, found[0].typical_count, found[0].distinct)
    joined = pc.binary_join_element_wise(*[profile.texts(c) for c in columns], "|")
    codes = _codes(joined)
    counts = np.bincount(codes[codes >= 0]) if (codes >= 0).any() else np.zeros(1, np.int64)
    typical = float(np.median(np.repeat(counts, counts))) if counts.sum() else 0.0
    if not profile.complete and profile.sample.num_rows:
        typical *= profile.rows / profile.sample.num_rows
    return Entity(entity, columns, why, raw, nothing, typical, int((counts > 0).sum()))


def _composite_card(profile: TableProfile, taken: dict[str, Entity]) -> None:
    """A card that is numbered within its customer is named by both."""
    card, customer = taken.get("card_id"), taken.get("customer_id")
    if card is None or customer is None or len(card.columns) > 1 or card.tokenize:
        return
    column = profile.columns[card.columns[0]]
    if column.distinct <= 50 and column.distinct < customer.distinct / 5:
        columns = (*customer.columns, *card.columns)
        why = f"{column.name!r} numbers the cards of each customer"
        taken["card_id"] = _entity(profile, "card_id", columns, why)


def _by_values(
    roles: Roles, taken: dict[str, Entity], closed: set[str], free: list[ColumnProfile]
) -> None:
    """Columns that recur like entities and hang on none that is known: the most values first."""
    profile = roles.profile
    known = [column for entity in taken.values() for column in entity.columns]
    likely = [c for c in free if _recurs_like_an_entity(profile, c)]
    likely.sort(key=lambda c: (-c.distinct, c.place))
    for column in likely:
        owner = next((k for k in known if depends(profile, k, column.name) >= _DEPENDS), None)
        if owner is not None:
            continue
        person = names.has(column.name, PERSONAL)
        told = names.has(column.name, names.ABOUT | names.CODES) and not person
        if told and not names.has(column.name, names.ID):
            continue
        place = _place_of(column, taken, closed, person=person)
        if place is None:
            roles.homeless[column.name] = (
                f"looks like an entity ({_recurrence(column)}) without a place among "
                f"{', '.join(ENTITY_COLUMNS)}"
            )
            continue
        why = f"{_recurrence(column)}; taken for a {place.partition('_')[0]} by its values"
        entity = _entity(profile, place, (column.name,), why)
        taken[place] = replace(entity, by_values=True, tokenize=entity.tokenize or person)
        known.append(column.name)


def _place_of(
    column: ColumnProfile,
    taken: dict[str, Entity],
    closed: set[str],
    *,
    person: bool,
) -> str | None:
    if _is_number_address(column):
        return "ip_address" if "ip_address" not in {*taken, *closed} else None
    places = ("customer_id",) if person else _BY_VALUES
    return next((p for p in places if p not in taken and p not in closed), None)


def _is_number_address(column: ColumnProfile) -> bool:
    """Addresses written as numbers below 2^32."""
    return (
        column.type == "number"
        and column.low >= 0
        and 2.0**30 < column.high < 2.0**32
        and column.distinct > 100
    )


def _recurs_like_an_entity(profile: TableProfile, column: ColumnProfile) -> bool:
    if column.unique or column.distinct > 0.97 * column.given or column.share_given < 0.2:
        return False
    if _is_number_address(column):
        return True
    if column.type == "text":
        if has_decimal_comma(column):
            return False  # a quantity, however often one comes again
        coded = all(re.search(r"\d", text) for text in column.examples)
        least = _CODED_DISTINCT if coded else _TEXT_DISTINCT
        return column.distinct >= least and column.lengths[1] <= 64
    if column.type != "integer" or column.distinct < _CODE_DISTINCT or column.share_given < 0.9:
        return False
    # Codes fill their range evenly; quantities become rarer the larger they are.
    numbers = np.unique(profile.numbers(column.name))
    numbers = numbers[np.isfinite(numbers)]
    if len(numbers) < _CODE_DISTINCT / 2 or column.high == column.low:
        return False
    middle = (np.median(numbers) - column.low) / (column.high - column.low)
    return bool(0.35 < middle < 0.65)
