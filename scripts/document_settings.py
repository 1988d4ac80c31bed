"""Writes docs/settings.md from the fields of `sentinel.settings.Settings`."""

from __future__ import annotations

import types
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from sentinel.settings import Settings

PAGE = Path(__file__).resolve().parent.parent / "docs" / "settings.md"

HEAD = """\
# Settings

Defaults, then `sentinel.toml` in the current folder, then the one in the workspace (what its data
needs, such as decimals of money), then environment variables. `make docs` makes
this page from `sentinel.settings`.

```toml
workspace = "/var/lib/sentinel"

[api]
port = 9000
```

The same from the environment: `SENTINEL_WORKSPACE=/var/lib/sentinel SENTINEL_API__PORT=9000`.

A variable's name with `_FILE` at its end names a file that holds the value. Secrets belong there:
`SENTINEL_LEDGER__URL_FILE=/run/secrets/ledger_url`.
"""


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    sections: dict[str, list[str]] = {}
    for path, field in fields(Settings):
        section, _, name = path.rpartition(".")
        variable = "SENTINEL_" + path.replace(".", "__").upper()
        default = shown(field.get_default(call_default_factory=True))
        said = " ".join(filter(None, [field.description, *allowed(field)])).replace("|", "\\|")
        row = f"| `{name}` | `{variable}` | {default} | {said} |"
        sections.setdefault(section, []).append(row)
    for section, rows in sections.items():
        parts.append(f"## `[{section}]`\n" if section else "## Top level\n")
        parts.append("| setting | environment variable | default | what it does |")
        parts.append("|---|---|---|---|")
        parts.append("\n".join(rows) + "\n")
    return "\n".join(parts)


def fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every leaf of a tree of settings, with its dotted path."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from fields(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name, field


def shown(default: object) -> str:
    """A default as one writes it."""
    if default is None or default == "" or isinstance(default, SecretStr):
        return "empty"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def allowed(field: FieldInfo) -> list[str]:
    """What a setting may be, in sentences."""
    kinds = [field.annotation]
    if get_origin(field.annotation) in {Union, types.UnionType}:
        kinds = list(get_args(field.annotation))
    words = [value for kind in kinds if get_origin(kind) is Literal for value in get_args(kind)]
    signs = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
    bounds = [
        f"{sign_words} {getattr(limit, sign):,}"
        for limit in field.metadata
        for sign, sign_words in signs.items()
        if hasattr(limit, sign)
    ]
    sentences = []
    if len(words) > 1:
        sentences.append(f"One of {', '.join(f'`{word}`' for word in words)}.")
    if bounds:
        sentences.append(f"{', '.join(bounds).capitalize()}.")
    return sentences


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
