"""What a body should have held, in words of the field rather than of the decoder's types."""

from __future__ import annotations

import re
from typing import Final

_TIME: Final = "a time such as 2024-03-01T12:30:00Z"
_WORDS: Final = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "null": "null",
    "datetime": _TIME,
    "array": "a list",
    "object": "an object",
}
_GIVEN: Final = {**_WORDS, "float": "a number with decimals"}
_PARTS: Final = {"text": "character", "a list": "entry"}
_EXPECTED: Final = re.compile(r"Expected `([^`]+)`(?: of length (<=|>=) (\d+)|, got `([^`]+)`)")
_MANY: Final = {"character": "characters", "entry": "entries"}


def plain(message: str) -> str:
    """A message of the decoder in plain words; one that it does not know stays as it is.

    >>> plain("Expected `int | str | null`, got `float`")
    'must be a whole number, text or null, not a number with decimals'
    >>> plain("Expected `str` of length <= 128")
    'must be text of at most 128 characters'
    >>> plain("Invalid RFC3339 encoded datetime")
    'must be a time such as 2024-03-01T12:30:00Z'
    """
    if message.startswith("Invalid RFC3339"):
        return f"must be {_TIME}"
    found = _EXPECTED.fullmatch(message)
    if found is None:
        return message
    kinds, bound, length, got = found.groups()
    names = [_WORDS.get(kind, kind) for kind in kinds.split(" | ")]
    wanted = " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
    if got is not None:
        return f"must be {wanted}, not {_GIVEN.get(got, got)}"
    part = _PARTS.get(names[0], "entry")
    amount = "most" if bound == "<=" else "least"
    return f"must be {wanted} of at {amount} {length} {part if length == '1' else _MANY[part]}"
