"""Values as TOML, and lines with comments."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

_WIDTH = 96


def value(item: Any) -> str:
    """A value as TOML writes it.

    >>> value("a b"), value(True), value(["x", 1]), value({"column": "Is Fraud?"})
    ('"a b"', 'true', '["x", 1]', '{ column = "Is Fraud?" }')
    """
    if isinstance(item, bool):
        return "true" if item else "false"
    if isinstance(item, int | float):
        return repr(item)
    if isinstance(item, str):
        return json.dumps(item, ensure_ascii=False).replace("\x7f", "\\u007F")
    if isinstance(item, Mapping):
        inner = ", ".join(f"{key(k)} = {value(v)}" for k, v in item.items())
        return f"{{ {inner} }}" if inner else "{}"
    return "[" + ", ".join(value(part) for part in item) + "]"


def key(name: str) -> str:
    """A key as TOML writes it.

    >>> key("mcc"), key("Is Fraud?")
    ('mcc', '"Is Fraud?"')
    """
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else value(name)


def line(name: str, item: Any, why: str = "") -> str:
    """One setting, with why it is so above or behind it; long lists one item a line."""
    said = f"{key(name)} = {value(item)}"
    if len(said) > _WIDTH and isinstance(item, list | tuple):
        rows = textwrap.wrap(
            ", ".join(value(part) for part in item) + ",",
            _WIDTH - 4,
            break_long_words=False,
            break_on_hyphens=False,
        )
        # A text with blanks must not be broken: then one item a line.
        if any(" " in str(part) for part in item):
            rows = [f"{value(part)}," for part in item]
        said = f"{key(name)} = [\n" + "\n".join(f"    {row}" for row in rows) + "\n]"
    if not why:
        return said
    if len(said) + len(why) + 4 <= _WIDTH and "\n" not in said:
        return f"{said}  # {plain(why)}"
    return "\n".join([*comment(why), said])


def item(name: Any, why: str) -> list[str]:
    """One item of a list, with why behind it, or above it where that is long."""
    said = f"{value(name)},"
    if len(said) + len(why) + 8 <= _WIDTH:
        return [f"{said}  # {plain(why)}"]
    return [*comment(why), said]


def comment(text: str) -> list[str]:
    """A text as comment lines."""
    return [f"# {row}" for row in textwrap.wrap(plain(text), _WIDTH - 2)] or ["#"]


def plain(text: str) -> str:
    """A text that cannot end a comment."""
    return re.sub(r"[\x00-\x1f\x7f]", " ", text)


def block(lines: Iterable[str]) -> str:
    """Lines as a file's text."""
    return "\n".join(lines).rstrip("\n") + "\n"
