"""What a document should have held, in words of the field rather than of the decoder's types."""

from __future__ import annotations

import enum
import re
import typing
from collections.abc import Iterator
from typing import Any, Final

import msgspec

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
_BOUND: Final = re.compile(r"Expected `(?:int|float)` (<=|>=|<|>) (\S+)")
_BOUNDS: Final = {"<=": "at most", ">=": "at least", "<": "less than", ">": "more than"}
_MANY: Final = {"character": "characters", "entry": "entries"}


def located(text: str, kind: Any) -> tuple[str, str]:
    """A message of the decoder as (path, message), both in plain words.

    Args:
        text: The message, with the place that it is about.
        kind: What was decoded: a struct, or the type of one field.

    >>> located("Expected `int`, got `str` - at `$.amount`", int)
    ('amount', 'must be a whole number, not text')
    >>> located("Invalid enum value 'best' - at `$.kind`", typing.Literal["good", "bad"])
    ('kind', "is 'best'; allowed: good, bad")
    """
    message, _, path = text.partition(" - at `$")
    path = path.rstrip("`")
    if message.startswith("Object missing required field `"):
        return _join(path, message.split("`")[1]), "is required"
    if message.startswith("Object contains unknown field `"):
        return _join(path, message.split("`")[1]), "is not a field"
    if message.startswith("Invalid enum value "):
        given = message.removeprefix("Invalid enum value ")
        allowed = ", ".join(_choices(_declared(kind, path)))
        message = f"is {given}; allowed: {allowed}" if allowed else f"is {given}"
    return path.lstrip(".") or "body", plain(message)


def _join(path: str, name: str) -> str:
    return f"{path.lstrip('.')}.{name}" if path else name


def _declared(kind: Any, path: str) -> Any:
    """The type that a document declares at a path such as ``.labels[...].verdict``."""
    for name in re.findall(r"[A-Za-z_]\w*", path):
        structs = [one for one in _members(kind) if isinstance(one, type)]
        fields = [
            field
            for one in structs
            if issubclass(one, msgspec.Struct)
            for field in msgspec.structs.fields(one)
        ]
        kind = next((field.type for field in fields if field.name == name), kind)
    return kind


def _members(kind: Any) -> Iterator[Any]:
    """A type, or what a union, a list or an annotation holds, and so on."""
    if typing.get_origin(kind) is None or typing.get_origin(kind) is typing.Literal:
        yield kind
        return
    for inner in typing.get_args(kind):
        yield from _members(inner)


def _choices(kind: Any) -> list[str]:
    """The texts that a type takes, if it takes certain texts only."""
    found: list[str] = []
    for one in _members(kind):
        if typing.get_origin(one) is typing.Literal:
            found += [str(value) for value in typing.get_args(one)]
        elif isinstance(one, type) and issubclass(one, enum.Enum):
            found += [str(each.value) for each in one]
    return found


def plain(message: str) -> str:
    """A message of the decoder in plain words; one that it does not know stays as it is.

    >>> plain("Expected `int | str | null`, got `float`")
    'must be a whole number, text or null, not a number with decimals'
    >>> plain("Expected `str` of length <= 128")
    'must be text of at most 128 characters'
    >>> plain("Invalid RFC3339 encoded datetime")
    'must be a time such as 2024-03-01T12:30:00Z'
    >>> plain("Expected `int` >= 1"), plain("Expected `float` < 1.0")
    ('must be at least 1', 'must be less than 1.0')
    """
    if message.startswith("Invalid RFC3339"):
        return f"must be {_TIME}"
    bounded = _BOUND.fullmatch(message)
    if bounded is not None:
        return f"must be {_BOUNDS[bounded[1]]} {bounded[2]}"
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
