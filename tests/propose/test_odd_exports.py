"""Exports as banks write them: ids in two columns, a total below, odd names, two files in one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from sentinel.cli.main import app
from sentinel.domain import ConfigurationError
from sentinel.propose.deciding import decide
from sentinel.propose.proposing import propose
from sentinel.propose.roles import Answers, Roles
from sentinel.sources.preview import preview
from sentinel.sources.registry import open_source
from tests.propose.tables import Columns, payments, profile, write

NOW_US = 1_790_000_000_000_000


def branches(rows: int = 3_000) -> Columns:
    """Payments whose number counts within their branch."""
    columns = {name: list(values) for name, values in payments(rows).items()}
    random = np.random.default_rng(8)
    branch = random.integers(1, 30, rows).tolist()
    counted: dict[int, int] = {}
    numbers = []
    for one in branch:
        counted[one] = counted.get(one, 1_000) + 1
        numbers.append(str(counted[one]))
    del columns["payment_ref"], columns["reference_text"], columns["weight"]
    return {"Filiale": [f"{one:03}" for one in branch], "Belegnr": numbers, **columns}


def told(columns: Columns) -> Roles:
    return decide(profile(columns), Answers())


def noted(roles: Roles, words: str) -> str:
    (note,) = [note for note in roles.notes if words in note]
    return note


def test_two_columns_that_name_each_row_together_are_the_id(tmp_path: Path) -> None:
    proposal = propose([write(tmp_path / "t.csv", branches())], tmp_path / "w")
    roles = proposal.roles
    assert roles.id is not None
    assert roles.id.columns == ("Filiale", "Belegnr")
    assert "merchant" in {column for entity in roles.entities for column in entity.columns}
    seen = preview(open_source(proposal.mapping), 3, now_us=NOW_US)
    assert (seen.sample.accepted, seen.sample.rejected.total()) == (3_000, 0)


def test_two_columns_that_say_the_same_rows_by_chance_are_no_id() -> None:
    columns = branches()
    random = np.random.default_rng(9)
    columns["Belegnr"] = [str(n) for n in random.permutation(3_000) // 2]  # each number twice
    roles = told(columns)
    assert roles.id is not None
    assert roles.id.columns == ()


def test_a_pair_that_repeats_once_is_no_id() -> None:
    columns = branches()
    columns["Belegnr"][20], columns["Filiale"][20] = columns["Belegnr"][7], columns["Filiale"][7]
    roles = told(columns)
    assert roles.id is not None
    assert roles.id.columns == ()


def with_total(text: str, **cells: str) -> Columns:
    columns = {name: list(values) for name, values in payments().items()}
    for name, values in columns.items():
        values.append(cells.get(name, ""))
    columns["payment_ref"][-1] = text
    columns["amount"][-1] = "99999.50"
    return columns


@pytest.mark.parametrize("text", ["Summe", "TOTAL", "Grand total:", "合計", "Итого"])
def test_a_total_at_the_end_is_named_with_the_reason_for_being_left_out(
    text: str, tmp_path: Path
) -> None:
    proposal = propose([write(tmp_path / "t.csv", with_total(text))], tmp_path / "w")
    note = noted(proposal.roles, "is a total")
    assert note.startswith(f"Row 3,001 is a total ('payment_ref' says {text!r}), no payment")
    assert "it has no time, and the import lists it among the rejects" in note
    assert not any("cannot be read" in note for note in proposal.roles.notes)
    seen = preview(open_source(proposal.mapping), 3, now_us=NOW_US)
    assert dict(seen.sample.rejected) == {"missing_time": 1}


def test_a_total_with_a_time_would_be_imported_and_is_told_of_first() -> None:
    roles = told(with_total("Total", created="2024-04-30 23:59:59"))
    assert roles.notes[0].endswith("the import would take it: delete it from the file.")


def test_a_shop_called_total_is_no_total() -> None:
    columns = {name: list(values) for name, values in payments().items()}
    columns["merchant"][-1] = "Total"
    assert not any("is a total" in note for note in told(columns).notes)


def moved(columns: Columns, order: list[int]) -> Columns:
    return {name: [values[n] for n in order] for name, values in columns.items()}


def test_a_file_that_stops_being_in_order_says_at_which_row() -> None:
    behind = [*range(1_500, 3_000), *range(1_500)]
    note = noted(told(moved(payments(), behind)), "is in the order of 'created'")
    assert "up to row 1,500; row 1,501 lies " in note
    assert " days before the latest until then" in note


@pytest.mark.parametrize(
    "order",
    [
        lambda n: list(range(n)),
        lambda n: list(range(n))[::-1],
        lambda n: np.random.default_rng(1).permutation(n).tolist(),
        lambda n: (np.arange(n) + np.random.default_rng(1).integers(0, 4, n)).argsort().tolist(),
    ],
    ids=["in order", "the latest first", "in none", "in order but for minutes"],
)
def test_other_files_say_nothing_of_their_order(order: Callable[[int], list[int]]) -> None:
    roles = told(moved(payments(), order(3_000)))
    assert not any("is in the order of" in note for note in roles.notes)


@pytest.mark.parametrize("odd", ["merchant category\ncode", "mcc" * 60, "MERCHANT\tcode "])
def test_names_that_no_attribute_can_have_are_renamed_and_told(odd: str, tmp_path: Path) -> None:
    columns = {odd if name == "mcc" else name: values for name, values in payments().items()}
    proposal = propose([write(tmp_path / "t.csv", columns)], tmp_path / "w")
    (name,) = [a.name for a in proposal.roles.attributes if a.column == odd]
    assert f"{odd!r} is {name!r}" in noted(proposal.roles, "Live payments bring them by these")
    opened = open_source(proposal.mapping)
    assert name in opened.attributes
    assert preview(opened, 3, now_us=NOW_US).sample.accepted == 3_000


def test_names_that_differ_in_letter_case_alone_are_told_apart_and_told() -> None:
    columns = {**payments(), "MCC": payments()["mcc"][::-1]}
    roles = told(columns)
    assert "'MCC' is 'MCC_given'" in noted(roles, "Live payments bring them by these names")


def dos(path: Path) -> Path:
    """A table in an encoding of MS-DOS, of which no letter tells."""
    columns = payments()
    columns = {**columns, "Zahlungsweg": ["Überweisung", "Kürzel"] * (len(columns["mcc"]) // 2)}
    write(path, columns)
    path.write_bytes(path.read_text(encoding="utf8").encode("cp850"))
    return path


def test_a_user_can_say_in_which_encoding_a_table_is_written(tmp_path: Path) -> None:
    path = dos(tmp_path / "t.csv")
    proposal = propose([path], tmp_path / "w", Answers(encoding="cp850"))
    (way,) = [a for a in proposal.roles.attributes if a.column == "Zahlungsweg"]
    assert way.reason == "2 values"
    assert {v for v, _ in proposal.roles.profile.columns["Zahlungsweg"].values} == {
        "Überweisung",
        "Kürzel",
    }
    assert 'encoding = "cp850"' in proposal.mapping.read_text(encoding="utf8")
    with pytest.raises(ConfigurationError, match="line 2 is no utf8 text"):
        propose([path], tmp_path / "v", Answers(encoding="utf8"))
    with pytest.raises(ConfigurationError, match="'klingon' is unknown"):
        propose([path], tmp_path / "v", Answers(encoding="klingon"))


def test_the_encoding_is_a_flag_of_the_command(tmp_path: Path) -> None:
    path = dos(tmp_path / "t.csv")
    flags = ["propose", str(path), "--workspace", str(tmp_path / "w"), "--encoding", "cp850"]
    ended = CliRunner().invoke(app, flags)
    assert ended.exit_code == 0, ended.output
    assert 'encoding = "cp850"' in (tmp_path / "w" / "mapping.toml").read_text(encoding="utf8")
