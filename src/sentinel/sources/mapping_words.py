"""What is wrong in a mapping file, in the words of the person who wrote it."""

from __future__ import annotations

import difflib
import re
import typing
from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal

import msgspec

from sentinel.domain import ConfigurationError

_REFERENCE: Final = "see the mapping reference in docs/sources.md."
_TYPE_WORDS: Final = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
    "null": "nothing",
}


def suggestion(name: str, known: Iterable[str]) -> str:
    """A hint at the closest known name, or nothing.

    >>> suggestion("amout", ["amount", "id"])
    " (did you mean 'amount'?)"
    >>> suggestion("zzz", ["amount"])
    ''
    """
    by_lower = {item.lower(): item for item in known}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return f" (did you mean {by_lower[close[0]]!r}?)" if close else ""


def check_keys(
    content: dict[str, Any], table: type[msgspec.Struct], where: str, prefix: str = ""
) -> None:
    """Raise ``ConfigurationError`` for the first key that a table, or one in it, does not have.

    Args:
        content: What the file says.
        table: What is allowed.
        where: Name of the file, for the message.
        prefix: Path of the table in the file, with a dot at its end.
    """
    hints = typing.get_type_hints(table)
    for key, value in content.items():
        if key not in hints:
            hint = suggestion(key, hints) or f" (allowed: {', '.join(hints)})"
            raise ConfigurationError(f"{where}: unknown key '{prefix}{key}'{hint}")
        if not isinstance(value, dict):
            continue
        for kind in _members(hints[key]):
            if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
                check_keys(value, kind, where, f"{prefix}{key}.")
            elif typing.get_origin(kind) is dict:
                inner = typing.get_args(kind)[1]
                if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
                    for name, item in value.items():
                        if isinstance(item, dict):
                            check_keys(item, inner, where, f"{prefix}{key}.{name}.")


def in_words(message: str, table: type[msgspec.Struct]) -> str:
    """A message of msgspec with the key as the user writes it, and what is allowed there."""
    found = re.search(r" - at `(?:key in )?\$\.?([^`]*)`", message)
    path = found.group(1) if found else ""
    message = message[: found.start()] if found else message
    message = message.replace("Object missing required field", "missing").replace("`", "'")
    expected = re.fullmatch(r"Expected '([^']+)', got '([^']+)'", message)
    if expected:
        kinds = dict.fromkeys(_TYPE_WORDS.get(k, k) for k in expected.group(1).split(" | "))
        kinds.pop("nothing", None)
        got = _TYPE_WORDS.get(expected.group(2), expected.group(2))
        message = f"expected {' or '.join(kinds)}, got {got}"
    choices = _choices(table, path)
    if choices:
        message = message.replace("Invalid enum value", "unknown value")
        message += f", allowed: {', '.join(choices)}"
    path = re.sub(r"\[[^\]]*\]", "", path)
    place = f" (in '{path}')" if path else ""
    if message == "missing 'id'" and not path:
        message += (
            ': name the column of the payment\'s id, or several such as id = ["step", "account"]; '
            "if there is none, id = { row_number = true } counts the rows of each file"
        )
    return f"{message}{place}; {_REFERENCE}"


def toml_hint(text: str, message: str) -> str:
    """What to do about a file that is no TOML, where the line tells; else nothing.

    >>> toml_hint("column = amount", "Invalid value (at line 1, column 10)")
    ' Text needs quotes: column = "name".'
    """
    found = re.search(r"at line (\d+)", message)
    lines = text.splitlines()
    line = lines[int(found.group(1)) - 1] if found and int(found.group(1)) <= len(lines) else ""
    if re.search("[\u201c\u201d\u201e\u2018\u2019]", line):
        return " The line has typographic quotes; TOML wants \"...\" or '...'."
    if "\\" in line:
        return " Within \"...\" write / or \\\\ instead of \\, or put the text between '...'."
    if re.match(r"\s*[\w-]+\s*=\s*[A-Za-z]", line):
        return ' Text needs quotes: column = "name".'
    if re.match(r"\s*[\w.-]*[^\w\s.\"'=\[\]#-]", line) or re.match(r"\s*\w+ \w+.*=", line):
        return " A key with blanks or special characters needs quotes."
    return ""


def _members(kind: Any) -> Iterator[Any]:
    """The types of a union, or the type itself."""
    if typing.get_origin(kind) in (typing.Union, type(int | str)):
        for item in typing.get_args(kind):
            yield from _members(item)
    else:
        yield kind


def _choices(table: type[msgspec.Struct], path: str) -> list[str]:
    """The texts that a key allows, if it allows certain texts only."""
    kinds: list[Any] = [table]
    for part in re.findall(r"\[[^\]]*\]|[^.\[\]]+", path):
        inner: list[Any] = []
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
                hints = typing.get_type_hints(kind)
                inner += _members(hints[part]) if part in hints else []
            elif part.startswith("[") and typing.get_args(kind):
                inner += _members(typing.get_args(kind)[-1])
        kinds = inner
    return [str(a) for kind in kinds if typing.get_origin(kind) is Literal for a in kind.__args__]
