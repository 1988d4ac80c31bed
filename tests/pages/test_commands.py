"""Every block of commands in these pages runs as it is written, and shows what the page shows."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from testkit.pages import Block, blocks_of, commands_of
from testkit.scratch import QUICK_TRAINING
from testkit.shapes import SHAPES
from tests.pages import material
from tests.pages.reader import Reader
from tests.test_project import tracked

ROOT = Path(__file__).resolve().parents[2]

# A page -> what puts the files into a folder that its reader has.
PAGES: dict[str, Callable[[Path], None]] = {
    "README.md": material.payments_of_the_readme,
    "docs/sources.md": material.nothing,
    "docs/datasets/README.md": material.nothing,
    **{f"docs/datasets/{name}.md": material.files_of(name) for name in SHAPES},
}
# A command that no test can run -> why.
NOT_RUN = {
    "git clone <this repository> sentinel && cd sentinel": "the test begins in a fresh checkout",
    "make test": "it would run itself",
}
LANGUAGES = {"", "console", "json", "python", "sh", "sql", "text", "toml"}
# A small world: the pages are tried, not the models.
SMALL = {"ARGS": "--customers 1000 --days 120", **QUICK_TRAINING}


def bare(command: str) -> str:
    """A command of one line without the comment behind it."""
    return command if "\n" in command else command.partition("  #")[0].strip()


def blocks(page: str) -> list[Block]:
    return list(blocks_of((ROOT / page).read_text()))


def checkout(folder: Path) -> Path:
    """A copy of the working tree with the environment of this one, as `make` leaves it."""
    for path in tracked():
        target = folder / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target, follow_symlinks=False)
    stamps = folder / ".venv" / ".sentinel"
    stamps.mkdir(parents=True)
    (stamps / "base").touch()
    (folder / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
    return folder


def alike(seen: Any, shown: Any) -> bool:
    """Whether two JSON documents have the same names and kinds; null is of any kind.

    Of a list, the first elements are compared.

    >>> alike({"a": 1.5, "b": [{"c": None}]}, {"a": 1, "b": [{"c": "x"}, {"c": "y"}]})
    True
    >>> alike({"a": 1}, {"a": "1"}), alike({"a": 1}, {"a": 1, "b": 2}), alike([], [1])
    (False, False, False)
    """
    if seen is None or shown is None:
        return True
    if isinstance(seen, dict) and isinstance(shown, dict):
        return seen.keys() == shown.keys() and all(alike(seen[name], shown[name]) for name in seen)
    if isinstance(seen, list) and isinstance(shown, list):
        return len(seen[:1]) == len(shown[:1]) and all(map(alike, seen[:1], shown[:1]))
    return is_number(seen) == is_number(shown) and (is_number(seen) or type(seen) is type(shown))


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def last_document(printed: str) -> Any:
    """The last JSON document of what a command printed; several may follow each other."""
    decoder, at, document = json.JSONDecoder(), 0, None
    while at < len(printed.rstrip()):
        document, at = decoder.raw_decode(printed, at)
        while at < len(printed) and printed[at].isspace():
            at += 1
    return document


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("page", PAGES)
def test_a_page_does_what_it_says(page: str, tmp_path: Path) -> None:
    folder = checkout(tmp_path / "sentinel")
    PAGES[page](folder)
    reader = Reader(folder, SMALL)
    printed = ""
    try:
        for block in blocks(page):
            if block.title:
                (folder / block.title).write_text(block.text)
            elif block.is_commands:
                for command in commands_of(block.text):
                    if bare(command) not in NOT_RUN:
                        printed = reader.do(command)
            elif block.kind == "json":
                shown = json.loads(block.text)
                assert alike(last_document(printed), shown), f"{page}:{block.line}: {printed}"
        reader.stop()
    finally:
        reader.kill()


def test_every_block_says_what_it_is() -> None:
    for page in PAGES:
        for block in blocks(page):
            assert block.kind in LANGUAGES, f"{page}:{block.line}: a kind of block no test knows"
            if block.is_commands:
                assert "-->" not in block.text, f"{page}:{block.line}: a drawing is ```text"


def test_nothing_is_left_out_that_is_no_longer_there() -> None:
    written = {
        bare(command)
        for page in PAGES
        for block in blocks(page)
        if block.is_commands
        for command in commands_of(block.text)
    }
    assert NOT_RUN.keys() <= written
