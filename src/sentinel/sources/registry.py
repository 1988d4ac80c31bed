"""Sources by name: what ``--source`` and ``--data`` mean."""

from __future__ import annotations

import inspect
import tomllib
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from sentinel.domain import ConfigurationError
from sentinel.sources.base import Source
from sentinel.sources.handbook import HandbookSource
from sentinel.sources.ieee_cis import IeeeCisSource
from sentinel.sources.mapping import MappingSource
from sentinel.sources.mapping_file import suggestion
from sentinel.sources.simulator import SimulatorConfig, SimulatorSource


def _simulator(*, ending_us: int | None = None, **options: Any) -> Source:
    if ending_us is None:
        return SimulatorSource(SimulatorConfig(**options))
    return SimulatorSource(SimulatorConfig.ending(ending_us, **options))


_OPENERS: Final[dict[str, Callable[..., Source]]] = {
    "simulator": _simulator,
    "ieee-cis": IeeeCisSource,
    "handbook": HandbookSource,
}

SOURCE_NAMES: Final = tuple(_OPENERS)
"""Names that ``open_source`` knows, beside paths of mapping files."""


def open_source(name: str | Path, **options: Any) -> Source:
    """Open a source.

    Args:
        name: ``simulator``, ``ieee-cis``, ``handbook``, or the path of a mapping file (.toml).
        options: Of the source: the fields of ``SimulatorConfig``, or instead of ``start``
            ``ending_us``, the moment its history ends; ``path`` and the other arguments of
            ``IeeeCisSource`` or ``HandbookSource``. A mapping file takes none.

    Raises:
        ConfigurationError: The source or an option is unknown, or its files are not there.

    >>> open_source("simulater")
    Traceback (most recent call last):
        ...
    sentinel.domain.ConfigurationError: There is no source 'simulater' (did you mean 'simulator'?)
    """
    text = str(name)
    if text.endswith(".toml"):
        if options:
            raise ConfigurationError(
                f"A mapping file takes no options ({', '.join(options)}); write them into {text}."
            )
        built_in = _built_in(Path(text))
        if built_in is not None:
            return open_source(built_in[0], **built_in[1])
        return MappingSource.from_file(Path(text))
    opener = _OPENERS.get(text)
    if opener is None:
        if Path(text).exists():
            raise ConfigurationError(
                f"{text} is no mapping file, which says what the columns of a table are. "
                f"`sentinel propose {text}` writes one."
            )
        hint = suggestion(text, SOURCE_NAMES) or (
            f"; use {', '.join(SOURCE_NAMES)}, or a mapping file that ends in .toml."
        )
        raise ConfigurationError(f"There is no source {text!r}{hint}")
    if opener is _simulator:
        known = ["ending_us", *(item.name for item in fields(SimulatorConfig))]
        if "ending_us" in options:
            known.remove("start")
        needed: list[str] = []
    else:
        parameters = inspect.signature(opener).parameters
        known, needed = list(parameters), ["path"]
    for option in options:
        if option not in known:
            hint = suggestion(option, known) or f"; allowed: {', '.join(known)}."
            raise ConfigurationError(f"The source {text!r} has no option {option!r}{hint}")
    for option in needed:
        if option not in options:
            raise ConfigurationError(f"The source {text!r} needs the option {option!r}.")
    return opener(**options)


def _built_in(path: Path) -> tuple[str, dict[str, Any]] | None:
    """The built-in source that a mapping file names, with its options; None if it names none.

    Such a file has a key ``source``; the others are the source's options, and ``path`` is
    relative to the file.
    """
    try:
        content = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return None  # reading it as a mapping says what is wrong
    name = content.pop("source", None)
    if not isinstance(name, str) or name.endswith(".toml"):
        return None
    if "path" in content:
        content["path"] = path.parent / str(content["path"])
    return name, content
