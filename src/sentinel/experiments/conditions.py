"""Conditions over the fields of a payment, as segment models have them.

    attributes.channel == "online" and amount_minor > 50000
    merchant_id in ("M1", "M2") or not (attributes.country == "DE")

A field is ``amount_minor``, an entity column or ``attributes.NAME``. It is compared with a text in
quotes (``==``, ``!=``, ``in``) or with a number (those and ``<``, ``<=``, ``>``, ``>=``). A field
that a payment lacks, or that is of the other kind, satisfies no comparison, as with the filters of
a feature. Nothing but such comparisons, ``and``, ``or``, ``not`` and parentheses is understood.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any, Final, NoReturn

from sentinel.domain import ENTITY_COLUMNS, ConfigurationError, Transaction

Condition = Callable[[Transaction], bool]

ATTRIBUTE_FIELD: Final = "attributes."
AMOUNT_FIELD: Final = "amount_minor"
MOST_NESTED: Final = 20
"""Parentheses and ``not`` within each other."""

_COMPARISONS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_OF_TEXT: Final = ("==", "!=", "in")
_TOKEN: Final = re.compile(
    r"""\s*(?:
        (?P<text>"[^"]*"|'[^']*')
      | (?P<number>-?\d+(?:\.\d+)?)
      | (?P<word>[A-Za-z_][\w.-]*)
      | (?P<mark>==|!=|<=|>=|[<>(),])
    )""",
    re.VERBOSE,
)


def compile_condition(text: str) -> Condition:
    """What tells whether a condition holds for a payment.

    Raises:
        ConfigurationError: It is no condition; says where.

    >>> holds = compile_condition('attributes.channel == "online" and amount_minor >= 100')
    >>> payment = Transaction(transaction_id="1", event_time_us=0, received_at_us=0,
    ...                       amount_minor=100, attributes={"channel": "online"})
    >>> holds(payment)
    True
    """
    return _Parser(text).whole()


class _Parser:
    """Reads one condition from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[tuple[str, str]] = []
        self._at = 0
        place = 0
        while text[place:].strip():
            found = _TOKEN.match(text, place)
            if found is None:
                self._refuse(f"{text[place:].strip()[:20]!r} is not understood")
            kind = str(found.lastgroup)
            self._tokens.append((kind, found.group(kind)))
            place = found.end()

    def whole(self) -> Condition:
        condition = self._either(0)
        if self._at < len(self._tokens):
            self._refuse(f"{self._tokens[self._at][1]!r} is left over")
        return condition

    def _either(self, depth: int) -> Condition:
        parts = [self._both(depth)]
        while self._take("or"):
            parts.append(self._both(depth))
        return parts[0] if len(parts) == 1 else lambda t: any(part(t) for part in parts)

    def _both(self, depth: int) -> Condition:
        parts = [self._one(depth)]
        while self._take("and"):
            parts.append(self._one(depth))
        return parts[0] if len(parts) == 1 else lambda t: all(part(t) for part in parts)

    def _one(self, depth: int) -> Condition:
        if depth > MOST_NESTED:
            self._refuse(f"more than {MOST_NESTED} parentheses are within each other")
        if self._take("not"):
            inner = self._one(depth + 1)
            return lambda t: not inner(t)
        if self._take("("):
            inner = self._either(depth + 1)
            self._need(")")
            return inner
        return self._comparison()

    def _comparison(self) -> Condition:
        kind, field = self._next("a field")
        if kind != "word":
            self._refuse(f"{field} stands where a field should")
        read = self._reader(field)
        _, sign = self._next("a comparison")
        if sign == "in":
            self._need("(")
            values = [self._value()]
            while self._take(","):
                values.append(self._value())
            self._need(")")
            allowed = frozenset(values)
            return lambda t: read(t) in allowed
        compare = _COMPARISONS.get(sign)
        if compare is None:
            self._refuse(f"{sign!r} is no comparison; those are {', '.join(_COMPARISONS)} and in")
        value = self._value()
        of_text = isinstance(value, str)
        if of_text and sign not in _OF_TEXT:
            self._refuse(f"a text is compared by {', '.join(_OF_TEXT)}, not by {sign}")

        def holds(transaction: Transaction) -> bool:
            found = read(transaction)
            return found is not None and isinstance(found, str) is of_text and compare(found, value)

        return holds

    def _reader(self, field: str) -> Callable[[Transaction], str | float | None]:
        name = field.removeprefix(ATTRIBUTE_FIELD)
        if name != field and name:
            return lambda t: t.attributes.get(name)
        if field == AMOUNT_FIELD:
            return lambda t: t.amount_minor
        if field in ENTITY_COLUMNS:
            read: Callable[[Transaction], str | None] = operator.attrgetter(field)
            return read
        return self._refuse(
            f"{field!r} is no field; those are {AMOUNT_FIELD}, {', '.join(ENTITY_COLUMNS)} and "
            f"{ATTRIBUTE_FIELD}NAME"
        )

    def _value(self) -> str | float:
        kind, value = self._next("a value")
        if kind == "text":
            return value[1:-1]
        if kind == "number":
            return float(value)
        return self._refuse(f"{value} stands where a value should; texts are in quotes")

    def _next(self, what: str) -> tuple[str, str]:
        if self._at >= len(self._tokens):
            self._refuse(f"it ends where {what} should follow")
        self._at += 1
        return self._tokens[self._at - 1]

    def _take(self, token: str) -> bool:
        if self._at < len(self._tokens) and self._tokens[self._at] in (
            ("word", token),
            ("mark", token),
        ):
            self._at += 1
            return True
        return False

    def _need(self, token: str) -> None:
        if not self._take(token):
            self._refuse(f"{token!r} is missing")

    def _refuse(self, why: str) -> NoReturn:
        raise ConfigurationError(
            f"The condition {self._text!r} cannot be read: {why}. An example is "
            "'attributes.channel == \"online\" and amount_minor > 50000'."
        )
