"""Sources are opened by name, and a wrong name or option teaches the right one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sentinel.domain import ConfigurationError
from sentinel.sources import SOURCE_NAMES, open_source


def test_the_names_are_those_of_the_documentation(root: Path) -> None:
    text = (root / "docs" / "sources.md").read_text()
    assert SOURCE_NAMES == ("simulator", "ieee-cis", "handbook")
    assert all(f"`{name}`" in text for name in SOURCE_NAMES)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("handbok", {}, r"did you mean 'handbook'\?"),
        ("zzz", {}, "ends in .toml"),
        ("simulator", {"custommers": 5}, r"did you mean 'customers'\?"),
        ("simulator", {"start": "2024-01-01", "ending_us": 2 * 10**15}, "no option 'start'"),
        ("handbook", {}, "needs the option 'path'"),
        ("nowhere.toml", {}, "cannot be read"),
        ("nowhere.toml", {"seed": 1}, "takes no options"),
    ],
)
def test_a_wrong_name_or_option_is_explained(
    name: str, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        open_source(name, **options)


def test_every_code_of_a_rejection_is_documented(root: Path) -> None:
    """The codes are a contract: the validator's own list and the documentation say the same."""
    from sentinel.sources import validate

    listed = [
        line.split()[0] for line in (validate.__doc__ or "").splitlines() if line.startswith("    ")
    ]
    text = (root / "docs" / "sources.md").read_text()
    assert len(listed) == 19
    assert [code for code in listed if f"`{code}`" not in text] == []


def test_a_table_in_place_of_its_mapping_is_told_from_an_unknown_source(tmp_path: Path) -> None:
    table = tmp_path / "payments.csv"
    table.write_text("ref,amount\na,1.00\n")
    with pytest.raises(ConfigurationError, match=f"`sentinel propose {table}` writes one"):
        open_source(str(table))
    with pytest.raises(ConfigurationError, match=r"gone\.toml cannot be read: No such file"):
        open_source(str(tmp_path / "gone.toml"))
