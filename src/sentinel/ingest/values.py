"""Single values in their normal form.

Ids are text without white space around it; letter case stays. A whole number is its digits, also
where it was written as "1001.0". Text that shows lost digits ("1.23457E+15", "9007199254740993.0")
is no id: two ids may have become one.

No text holds a control character: a line break or another one of Unicode's category Cc, or one that
embeds, overrides or isolates the direction of text.

Categories are text like ids, with "true" and "false" in small letters. Numbers are finite doubles.
"""

from __future__ import annotations

import datetime as dt
import decimal
import ipaddress
import re
import sys
import uuid
from functools import lru_cache
from typing import Any, Final, NamedTuple

from sentinel.domain import MAX_ID_LENGTH

EXACT: Final = 2**53
"""Whole numbers below this are exact as doubles."""

MAX_ATTRIBUTE_TEXT: Final = 1_000
"""Characters of an attribute's text."""

NOTHING_WORDS: Final = (
    *("na", "n/a", "#n/a", "n.a.", "<na>", "nan", "nat", "null", "(null)", "<null>", "[null]"),
    *("none", "(none)", "nil", "\\n", "-", "--", "?", "unknown", "undefined", "missing", "empty"),
    *("not available", "not provided", "not set", "no device", "(blank)", "#null!", "#n/a n/a"),
    "00000000-0000-0000-0000-000000000000",
)
"""Words that people and programs write for "nothing", in small letters."""

NOTHING_SPELLINGS: Final = frozenset(
    {spelt for word in NOTHING_WORDS for spelt in (word, word.upper(), word.title())}
    | {"NaN", "NaT"}
)
"""The same in the letter cases in which they are written."""

CONTROL_PATTERN: Final = "[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"
WHOLE_PATTERN: Final = r"^-?[0-9]+\.0+$"
LOST_PATTERN: Final = (
    r"^[+-]?(?:[0-9]+(?:\.[0-9]*[eE][+-]?[0-9]+|[eE]\+[0-9]+)|0*[0-9]{16,}\.0+|inf)$"
)
NUMBER_PATTERN: Final = r"^[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?$"

_CONTROL: Final = re.compile(CONTROL_PATTERN[:-1] + "\ud800-\udfff]")
_HALF: Final = re.compile("[\ud800-\udfff]")
_WHOLE: Final = re.compile(r"(-?)([0-9]+)\.0+")
_LOST: Final = re.compile(LOST_PATTERN[1:-1])
_NUMBER: Final = re.compile(NUMBER_PATTERN[1:-1])
_BOOLEANS: Final = {"true": "true", "false": "false"}
_PLAIN: Final = uuid.UUID | dt.date | dt.time | ipaddress.IPv4Address | ipaddress.IPv6Address
_LARGEST_DOUBLE: Final = int(sys.float_info.max)
_ADDRESSES_KEPT: Final = 1 << 16


class Flaw(NamedTuple):
    """Why a value has no normal form.

    Attributes:
        code: Stable name of the reason.
        message: What is wrong and what is allowed, to stand behind the name of the field.
    """

    code: str
    message: str


class BadValue(ValueError):
    """A value that has no normal form; see `Flaw`."""

    def __init__(self, flaw: Flaw) -> None:
        super().__init__(flaw.message)
        self.flaw = flaw


CONTROL_CHARACTER: Final = Flaw(
    "control_character",
    "holds a control character, such as a line break or NUL; letters, digits, signs and spaces of "
    "all scripts are allowed",
)
LOST_DIGITS: Final = Flaw(
    "lost_digits",
    "lost digits when it was a decimal number; ids of more than 15 digits have to stay text",
)
TOO_LONG: Final = Flaw(
    "id_too_long", f"is longer than {MAX_ID_LENGTH} characters; shorten or hash it"
)
NO_TEXT: Final = Flaw("invalid_text", "holds half a character (a lone surrogate)")
NO_NUMBER: Final = Flaw("no_number", "must be a number")
TEXT_TOO_LONG: Final = Flaw("text_too_long", f"is longer than {MAX_ATTRIBUTE_TEXT:,} characters")


def as_text(value: str | float) -> str:
    """The text form under which a plan knows an attribute value.

    >>> as_text("pos"), as_text(5411.0), as_text(0.5)
    ('pos', '5411', '0.5')
    """
    if isinstance(value, str):
        return value
    if value == value and abs(value) < EXACT and value == int(value):
        return str(int(value))
    return repr(float(value))


def without_decimals(text: str) -> str:
    """A whole number without ".0"; any other text as it is.

    >>> without_decimals("1001.0"), without_decimals("-0.0"), without_decimals("10.0.0.0")
    ('1001', '0', '10.0.0.0')
    """
    found = _WHOLE.fullmatch(text)
    if found is None:
        return text
    sign, digits = found.groups()
    return sign + digits if digits.strip("0") else digits


def has_lost_digits(text: str) -> bool:
    """Whether text is a number that was rounded on its way: in exponent form, or a double's.

    >>> has_lost_digits("1.2345678901234568e+18"), has_lost_digits("9007199254740993.0")
    (True, True)
    >>> has_lost_digits("1001.0"), has_lost_digits("1234567890123456789"), has_lost_digits("7e10")
    (False, False, False)
    """
    if _LOST.fullmatch(text) is None:
        return False
    found = _WHOLE.fullmatch(text)
    if found is None:
        return True
    digits = found.group(2).lstrip("0")
    return len(digits) > 16 or int(digits or "0") >= EXACT


def normal_id(text: str) -> str:
    r"""The id as it is known everywhere, empty if there is none; what is refused stays as it is.

    >>> normal_id(" 1001.0 "), normal_id("007"), normal_id("\u3000")
    ('1001', '007', '')
    """
    text = text.strip()
    if "." in text and not has_lost_digits(text):
        return without_decimals(text)
    return text


def id_flaw(text: str) -> Flaw | None:
    """Why a normal id cannot be taken; None if it can."""
    if not text.isprintable() and _CONTROL.search(text):
        return CONTROL_CHARACTER
    if len(text) > MAX_ID_LENGTH:
        return TOO_LONG
    if ("." in text or "+" in text or "inf" in text) and has_lost_digits(text):
        return LOST_DIGITS
    return None


def id_of(value: Any) -> str | None:
    """The id that a value of any type is; None if it is none (null, NaN, blank).

    Raises:
        BadValue: It cannot be an id.

    >>> id_of(1234567890123456789), id_of(17.0), id_of(float("nan")), id_of(" c-1 ")
    ('1234567890123456789', '17', None, 'c-1')
    """
    text = plain_text(value)
    if text is None:
        return None
    text = normal_id(text)
    flaw = id_flaw(text)
    if flaw is not None:
        raise BadValue(flaw)
    return text or None


def plain_text(value: Any) -> str | None:
    """The text of a value of any type, not yet in normal form; None if it is nothing.

    Raises:
        BadValue: A list, a table or the like.
    """
    if value is None or value != value:
        return None
    if isinstance(value, str):
        return value
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:  # a scalar of NumPy
        kind = getattr(value, "dtype", None)
        exact = {"float32": 2**24, "float16": 2**11}.get(str(kind), EXACT)
        value = value.item()
        if isinstance(value, float) and abs(value) >= exact:
            return f"{value:e}"
        return plain_text(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return as_text(value)
    if isinstance(value, decimal.Decimal):
        text = format(value, "f")
        return text.rstrip("0").rstrip(".") if "." in text else text
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, _PLAIN):
        return str(value)
    kind = type(value).__name__
    raise BadValue(Flaw("no_text", f"is of type {kind}; text and numbers are allowed"))


@lru_cache(maxsize=_ADDRESSES_KEPT)
def normal_address(text: str) -> str:
    """An IP address in its one spelling; other text as it is.

    IPv6 is written as RFC 5952 has it, and IPv4 within IPv6 as IPv4.

    >>> normal_address("2001:DB8:0:0:0:0:0:1"), normal_address("::ffff:192.0.2.1")
    ('2001:db8::1', '192.0.2.1')
    >>> normal_address("unknown"), normal_address("192.0.2.1")
    ('unknown', '192.0.2.1')
    """
    if ":" not in text:  # IPv4 has one spelling only
        return text
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        return text
    return str(address.ipv4_mapped or address)


def normal_category(text: str) -> str:
    """A category as it is known everywhere, empty if there is none.

    >>> normal_category(" 166.0"), normal_category("TRUE"), normal_category("chrome 63.0")
    ('166', 'true', 'chrome 63.0')
    """
    text = text.strip()
    if "." in text:
        return without_decimals(text)
    return _BOOLEANS.get(text.lower(), text) if len(text) in (4, 5) else text


def text_flaw(text: str) -> Flaw | None:
    """Why text cannot be stored at all; None if it can."""
    if text.isprintable() or not _CONTROL.search(text):
        return None
    return NO_TEXT if _HALF.search(text) else CONTROL_CHARACTER


def holds_control(text: str) -> bool:
    r"""Whether text holds a control character, or half a character.

    >>> holds_control("a\nb"), holds_control("\u202eb"), holds_control("👩\u200d👧")
    (True, True, False)
    """
    return not text.isprintable() and _CONTROL.search(text) is not None


def number_of(text: str) -> float | None:
    """The number that text says; None if it says none ("" or "nan").

    The words true and false are 1 and 0.

    Raises:
        BadValue: It is no finite number.

    >>> number_of(" 1.5 "), number_of("-2e3"), number_of("True"), number_of("nan")
    (1.5, -2000.0, 1.0, None)
    """
    text = text.strip()
    if _NUMBER.fullmatch(text):
        value = float(text)
        if abs(value) != float("inf"):
            return value
    else:
        word = text.lower()
        if word in ("", "nan"):
            return None
        if word in _BOOLEANS:
            return 1.0 if word == "true" else 0.0
    raise BadValue(NO_NUMBER)


def attribute_of(value: str | float | None, kind: str | None) -> str | float | None:
    """An attribute's value as the log has it; None if it is none.

    Args:
        value: Text, a number, true or false.
        kind: "number" or "category", as it is read later; None: nobody reads it. Then text and
            numbers stay what they are, and true and false are text.

    Raises:
        BadValue: It is too long, or no number where one is needed.

    >>> attribute_of(True, None), attribute_of(True, "number"), attribute_of("5411.0", "category")
    ('true', 1.0, '5411')
    >>> attribute_of(5411, "category"), attribute_of(5411, None), attribute_of("12", "number")
    ('5411', 5411.0, 12.0)
    """
    if value is None:
        return None
    if isinstance(value, str):
        if len(value) > MAX_ATTRIBUTE_TEXT:
            raise BadValue(TEXT_TOO_LONG)
        if kind == "number":
            return None if value.strip() in NOTHING_SPELLINGS else number_of(value)
        text = normal_category(value)
        flaw = text_flaw(text)
        if flaw is not None:
            raise BadValue(flaw)
        return text or None
    if isinstance(value, bool):
        return float(value) if kind == "number" else str(value).lower()
    if isinstance(value, int):
        if abs(value) > _LARGEST_DOUBLE:
            raise BadValue(NO_NUMBER)
        if kind == "category" or (kind is None and abs(value) > EXACT):
            return str(value)
        return float(value)
    return as_text(value) if kind == "category" else value
