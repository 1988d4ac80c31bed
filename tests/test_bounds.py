"""The page about bounds says what the code does, number by number."""

from __future__ import annotations

import dataclasses
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sentinel.settings import Settings

PAGE = Path(__file__).resolve().parent.parent / "docs" / "bounds.md"
STATUSES = {"408", "413", "414", "422", "429", "431", "503"}


def rows() -> Iterator[tuple[str, str, str]]:
    """What is bounded, the number on the page, and what sets it."""
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and len(cells) == 4 and cells[0] != "what":
            yield cells[0], cells[1], cells[2].strip("`")


def in_code(named: str) -> Any:
    """The value of a setting, or of a constant or default of a module."""
    if not named.startswith("sentinel."):
        value: Any = Settings()
        for part in named.split("."):
            value = getattr(value, part)
        return value
    parts = named.split(".")
    for split in range(len(parts) - 1, 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:split]))
        except ModuleNotFoundError:
            continue
        for part in parts[split:]:
            if dataclasses.is_dataclass(value):
                value = {field.name: field.default for field in dataclasses.fields(value)}[part]
            else:
                value = getattr(value, part)
        return value
    raise LookupError(named)


@pytest.mark.parametrize(("what", "number", "named"), list(rows()))
def test_a_bound_is_that_of_the_code(what: str, number: str, named: str) -> None:
    assert float(number.replace(",", "")) == in_code(named), what


def test_no_number_stands_beside_the_tables() -> None:
    assert len(list(rows())) > 20
    for line in PAGE.read_text().splitlines():
        cells = line.strip("|").split("|") if line.startswith("| ") else [line]
        prose = " ".join(cell for place, cell in enumerate(cells) if len(cells) < 4 or place != 1)
        assert set(re.findall(r"\b\d[\d,.]*\b", prose)) <= STATUSES, line
