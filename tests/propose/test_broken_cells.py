"""A few broken cells, and rows that were exported twice, change nothing about what a column is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sentinel.propose.deciding import decide
from sentinel.propose.proposing import propose
from sentinel.propose.roles import Answers, Roles
from sentinel.sources.preview import preview
from sentinel.sources.registry import open_source
from tests.propose.tables import Columns, profile, write


def export() -> Columns:
    """Payments as a Turkish acquirer writes them: a date, HHMMSS as a number, minor units."""
    random = np.random.default_rng(5)
    hours = random.integers(0, 24, 600) * 10_000
    clocks = hours + random.integers(0, 60, 600) * 100 + random.integers(0, 60, 600)
    return {
        "RRN": [f"6{108_000_000 + 7 * n}" for n in range(600)],
        "ISLEM_TARIHI": [f"{1 + n // 25:02}.06.2026" for n in range(600)],
        "ISLEM_SAATI": [str(clock) for clock in clocks],
        "TUTAR_KURUS": [str(n) for n in random.integers(100, 90_000, 600)],
        "MUSTERI_NO": [f"M{n}" for n in random.integers(0, 60, 600)],
        "ISYERI_NO": [f"S{n}" for n in random.integers(0, 20, 600)],
    }


def told(columns: Columns, answers: Answers | None = None) -> Roles:
    return decide(profile(columns), answers or Answers())


def cell(column: str, row: int, value: str) -> Callable[[Columns], None]:
    def change(columns: Columns) -> None:
        columns[column][row] = value

    return change


def twice(columns: Columns) -> None:
    for values in columns.values():
        values.append(values[70])


def clock_with_colons(columns: Columns) -> None:
    texts = [value.zfill(6) for value in columns["ISLEM_SAATI"]]
    columns["ISLEM_SAATI"] = [f"{t[:2]}:{t[2:4]}:{t[4:]}" for t in texts]


def test_an_export_is_understood_without_a_question() -> None:
    roles = told(export())
    assert not roles.questions
    assert roles.id is not None
    assert roles.id.columns == ("RRN",)
    assert roles.time is not None
    assert roles.time.columns == ("ISLEM_TARIHI", "ISLEM_SAATI")
    assert roles.time.format == ("%d.%m.%Y", "%H%M%S")
    assert roles.amount is not None
    assert (roles.amount.column, roles.amount.unit) == ("TUTAR_KURUS", "minor")
    entities = {one.entity: one.columns for one in roles.entities}
    assert entities == {"customer_id": ("MUSTERI_NO",), "merchant_id": ("ISYERI_NO",)}


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (cell("ISLEM_TARIHI", 50, "31.02.2026"), "time in ISLEM_TARIHI and ISLEM_SAATI cannot"),
        (cell("ISLEM_SAATI", 50, "177799"), "time in ISLEM_TARIHI and ISLEM_SAATI cannot"),
        (cell("TUTAR_KURUS", 50, "#REF!"), ""),
        (cell("TUTAR_KURUS", 50, "abc"), "Broken values of 'TUTAR_KURUS': 1 of 600, such as 'abc'"),
        (twice, "1 row has the 'RRN' of another row"),
    ],
)
def test_a_broken_cell_changes_no_role(change: Callable[[Columns], None], note: str) -> None:
    columns = export()
    change(columns)
    roles, whole = told(columns), told(export())
    assert roles.id is not None
    assert whole.id is not None
    assert roles.id.columns == whole.id.columns
    assert roles.time == whole.time
    assert roles.amount == whole.amount
    assert [e.columns for e in roles.entities] == [e.columns for e in whole.entities]
    assert any(note in one.replace("'", "") or note in one for one in roles.notes)


def test_a_broken_number_beside_a_payment_is_unknown_and_the_payment_is_kept(
    tmp_path: Path,
) -> None:
    columns = export()
    columns["AGIRLIK"] = [f"{n % 97}.5" for n in range(600)]
    columns["AGIRLIK"][50] = "abc"
    table = write(tmp_path / "t.csv", columns)
    proposal = propose([table], tmp_path / "w")
    assert "Broken values of 'AGIRLIK': 1 of 600, such as 'abc'; they are unknown." in (
        proposal.roles.notes
    )
    seen = preview(open_source(proposal.mapping), 3, now_us=1_790_000_000_000_000)
    assert (seen.sample.accepted, seen.sample.rejected.total()) == (600, 0)


def test_a_clock_with_broken_cells_is_one() -> None:
    columns = export()
    clock_with_colons(columns)
    columns["ISLEM_SAATI"][9] = "17:5"
    roles = told(columns)
    assert roles.time is not None
    assert roles.time.format == ("%d.%m.%Y", "%H:%M:%S")


def test_an_id_that_rows_share_which_differ_is_named_and_not_taken() -> None:
    columns = export()
    columns["RRN"][50] = columns["RRN"][70]
    roles = told(columns)
    assert roles.id is not None
    assert roles.id.columns == ()
    assert any("`--id RRN`" in note for note in roles.notes)


@pytest.mark.parametrize(
    "order", [("ISLEM_TARIHI", "ISLEM_SAATI"), ("ISLEM_SAATI", "ISLEM_TARIHI")]
)
def test_two_columns_that_somebody_named_are_a_date_and_a_clock(order: tuple[str, ...]) -> None:
    for change in (clock_with_colons, lambda _: None):
        columns = export()
        change(columns)
        roles, found = told(columns, Answers(time=order)), told(columns)
        assert roles.time is not None
        assert found.time is not None
        assert (roles.time.columns, roles.time.format) == (found.time.columns, found.time.format)
        assert roles.days > 20


@pytest.mark.parametrize("answers", [Answers(), Answers(label="is_fraud")])
def test_a_verdict_with_a_broken_cell_is_the_truth_and_no_attribute(answers: Answers) -> None:
    columns = export()
    columns["is_fraud"] = ["1" if n % 50 == 7 else "0" for n in range(600)]
    columns["is_fraud"][90] = "?"
    roles = told(columns, answers)
    assert roles.label is not None
    assert (roles.label.column, roles.label.fraud_values) == ("is_fraud", ("1",))
    assert roles.label.undecided_values == ("?",)
    assert roles.label.legitimate_values == ("0",)
    assert [one.column for one in roles.attributes] == []
    assert "Broken values of 'is_fraud': 1 of 600, such as '?'; they are no verdicts." in (
        roles.notes
    )


def test_numbers_of_currencies_are_asked_like_their_codes() -> None:
    columns = export()
    columns["PARA_KODU"] = [
        ("949", "978", "840")[n % 40 % 3 if n % 40 < 3 else 0] for n in range(600)
    ]
    (question,) = told(columns).questions
    assert "several currencies (TRY, USD, EUR in 'PARA_KODU')" in question.text
    assert question.flags[0][0] == "--currency TRY"
    assert not told(columns, Answers(currency="TRY")).questions
    columns["PARA_KODU"] = ["949"] * 600
    alike = told(columns)
    assert not alike.questions
    assert alike.amount is not None
    assert alike.amount.currency == "TRY"


@pytest.mark.parametrize("time", [(), ("ISLEM_TARIHI", "ISLEM_SAATI")])
def test_the_zone_that_somebody_named_is_kept(time: tuple[str, ...]) -> None:
    roles = told(export(), Answers(time=time, timezone="Europe/Istanbul"))
    assert roles.time is not None
    assert roles.time.timezone == "Europe/Istanbul"


def swapped_half() -> Columns:
    """Payments whose dates have the month first from half of the file on."""
    columns = export()
    days = [f"{1 + n % 24:02}" for n in range(600)]
    columns["ISLEM_TARIHI"] = [
        f"{day}/06/2026 10:{n % 60:02}" if n < 300 else f"06/{day}/2026 10:{n % 60:02}"
        for n, day in enumerate(days)
    ]
    del columns["ISLEM_SAATI"]
    return columns


@pytest.mark.parametrize("answers", [Answers(), Answers(time=("ISLEM_TARIHI",))])
def test_dates_in_both_orders_are_asked_with_what_each_order_reads(answers: Answers) -> None:
    roles = told(swapped_half(), answers)
    assert roles.time is None
    question = next(one for one in roles.questions if one.about == "time format")
    assert "'ISLEM_TARIHI' has the day first in some rows and the month first in" in question.text
    assert "would be misread" in question.text
    assert sorted(question.flags) == [
        ("--time ISLEM_TARIHI --time-format '%d/%m/%Y %H:%M'", "reads 74% of the rows"),
        ("--time ISLEM_TARIHI --time-format '%m/%d/%Y %H:%M'", "reads 76% of the rows"),
    ]


def test_many_times_that_the_format_of_the_user_cannot_read_are_told_first() -> None:
    answers = Answers(time=("ISLEM_TARIHI",), time_format="%d/%m/%Y %H:%M")
    note = told(swapped_half(), answers).notes[0]
    assert note.startswith("Of 156 rows the time in 'ISLEM_TARIHI' cannot be read: ")
    assert "'06/13/2026 10:00' has day and month the other way round." in note


def test_payments_that_are_all_at_one_time_are_told_of(tmp_path: Path) -> None:
    columns = export()
    columns["ISLEM_TARIHI"], columns["ISLEM_SAATI"] = ["01.06.2026"] * 600, ["101500"] * 600
    path = write(tmp_path / "t.csv", columns)
    answers = Answers(time=("ISLEM_TARIHI", "ISLEM_SAATI"))
    notes = propose([path], tmp_path / "w", answers).roles.notes
    assert notes[0].startswith("All payments have the same time: nothing has windows")
    assert not [note for note in notes if "recurs" in note], "customers and merchants do recur"


def test_a_column_of_times_that_are_none_is_asked_for_its_pattern() -> None:
    roles = told(export(), Answers(time=("MUSTERI_NO",)))
    question = next(one for one in roles.questions if one.about == "time format")
    assert question.text.startswith("How is the time in 'MUSTERI_NO' written (M")
    assert question.flags
