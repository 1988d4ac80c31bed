"""Mapping files for well-known data sets, written by hand; `docs/datasets/` has a page for each.

In a checkout they are seen as ``examples/mappings``, too.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from sentinel.domain import ConfigurationError


def names() -> tuple[str, ...]:
    """Names of the examples, in alphabetical order."""
    found = resources.files(__name__).joinpath("mappings").iterdir()
    return tuple(sorted(file.name.removesuffix(".toml") for file in found))


def text_of(name: str) -> str:
    """The mapping file of an example.

    Raises:
        ConfigurationError: There is none of that name.
    """
    if name not in names():
        raise ConfigurationError(f"There is no example {name!r}. There is: {', '.join(names())}.")
    return resources.files(__name__).joinpath("mappings", f"{name}.toml").read_text("utf8")


def about(name: str) -> str:
    """What an example is for: the first sentence of its comment."""
    comment = [line.removeprefix("#").strip() for line in text_of(name).splitlines()[:2]]
    return f"{' '.join(comment).split('. ')[0].rstrip('.')}."


def copy_to(name: str, folder: Path) -> Path:
    """Write an example's mapping into a folder, beside the files that it reads.

    Raises:
        ConfigurationError: There is no such example, or the folder has a file of that name.
    """
    text = text_of(name)
    target = folder / f"{name}.toml"
    if target.exists() and target.read_text("utf8") != text:
        raise ConfigurationError(f"{target} is there already and is left as it is.")
    folder.mkdir(parents=True, exist_ok=True)
    target.write_text(text, "utf8")
    return target
