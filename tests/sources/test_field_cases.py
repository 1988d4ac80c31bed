"""Oddities of files that people bring, each with what is right: small tables of every kind."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sentinel.domain import ConfigurationError
from sentinel.ingest.guard import Guard
from sentinel.ingest.values import BadValue
from sentinel.sources import ImportReport, open_source, preview
from sentinel.sources.log import ImportRefused
from tests.sources.tables import NOW_US, log_of

CARDS = ("4111111111111111", "5555555555554444")
MAPPING = """
id = "ref"
files = { path = "pay.csv" }
time = { column = "at" }
amount = { column = "sum" }
"""
HEAD = "ref,at,sum\n"
LABELS = """
[labels]
path = "frauds.csv"
transaction_id = "ref"
delay_days = 3
"""


def write(folder: Path, files: dict[str, str | bytes], mapping: str = MAPPING) -> Path:
    """A folder with files and a mapping; the mapping's path."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        data = content.encode() if isinstance(content, str) else content
        (folder / name).write_bytes(data)
    (folder / "m.toml").write_text(mapping)
    return folder / "m.toml"


def imported(path: Path) -> tuple[list[dict[str, Any]], ImportReport]:
    return log_of(open_source(path), allow_rejects=1.0)


def payments(*refs: str) -> str:
    return HEAD + "".join(f"{ref},2024-03-01 10:00:00,1.50\n" for ref in refs)


def test_a_card_number_is_found_among_the_columns_of_an_id(tmp_path: Path) -> None:
    table = "ref,at,sum,pan,until\n" + "".join(
        f"{card[:2]},2024-03-01,1,{card},1225\n" for card in CARDS
    )
    joined = MAPPING + 'entities = { card_id = ["pan", "until"] }\n'
    entries, report = imported(write(tmp_path, {"pay.csv": table}, joined))
    assert not entries
    assert report.rejected == {"card_number": 2}
    for card in CARDS:
        with pytest.raises(BadValue):
            Guard().id("card_id", f"{card}|1225")


def test_references_joined_with_others_are_no_cards_by_chance(tmp_path: Path) -> None:
    rows = "".join(f"r{i},2024-03-01,1,b{i},{5 * 10**15 + i * 7919}\n" for i in range(200))
    joined = MAPPING + 'entities = { card_id = ["bank", "account"] }\n'
    table = "ref,at,sum,bank,account\n" + rows
    _, report = imported(write(tmp_path, {"pay.csv": table}, joined))
    assert report.accepted == 200


@pytest.mark.parametrize(
    "text",
    [
        '{"ref": "a", "at": "2024-03-01", "sum": 150.00, "sum": 1.02}\n',
        '[{"ref": "a", "at": "2024-03-01",\n "sum": 1, "x": {"y": 1, "y": 2}}]',
    ],
)
def test_two_keys_of_one_name_are_refused(tmp_path: Path, text: str) -> None:
    mapping = MAPPING.replace("pay.csv", "pay.json")
    with pytest.raises(ConfigurationError, match=r"'(sum|y)' stands twice in the object at line 1"):
        imported(write(tmp_path, {"pay.json": text}, mapping))


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_header_below_other_lines_is_pointed_at(tmp_path: Path, delimiter: str, end: str) -> None:
    table = "Account statement\n\n" + payments("a").replace(",", delimiter)
    files: dict[str, str | bytes] = {"pay.csv": table.replace("\n", end)}
    with pytest.raises(
        ConfigurationError, match=r"Line 3 looks like .*: set files\.skip_lines = 2"
    ):
        imported(write(tmp_path, files))
    skipping = MAPPING.replace('"pay.csv"', '"pay.csv", skip_lines = 2')
    entries, _ = imported(write(tmp_path, files, skipping))
    assert [entry["transaction_id"] for entry in entries] == ["a"]


def test_a_label_file_with_lines_before_its_header_is_pointed_at(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"pay.csv": payments("a"), "frauds.csv": "List\nref\na\n"}
    with pytest.raises(ConfigurationError, match="Line 2 looks like the header"):
        imported(write(tmp_path, files, MAPPING + LABELS))


def test_a_file_of_nothing_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="The file is empty"):
        imported(write(tmp_path, {"pay.csv": ""}))


def test_a_day_without_chargebacks_is_a_warning(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"pay.csv": payments("a"), "frauds.csv": ""}
    entries, report = imported(write(tmp_path, files, MAPPING + LABELS))
    assert len(entries) == 1
    assert "labels: frauds.csv is empty: it counts as no rows" in report.warnings()


def test_files_that_office_programs_and_systems_leave_are_no_tables(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "in/1.csv.gz": gzip.compress(payments("a").encode()),
        "in/2.csv": "",
        "in/~$1.csv": "x",
        "in/._1.csv": b"\x00\x05",
        "in/.DS_Store": b"\x00",
    }
    entries, report = imported(write(tmp_path, files, MAPPING.replace("pay.csv", "in")))
    assert [entry["transaction_id"] for entry in entries] == ["a"]
    assert "2.csv is empty: it counts as no rows" in report.warnings()


def test_a_column_of_folders_and_tables_is_told_once(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        f"in/at=2024-03-0{day}/part.csv": payments(f"p{day}") for day in (4, 5, 6)
    }
    entries, report = imported(write(tmp_path, files, MAPPING.replace("pay.csv", "in")))
    assert len({entry["event_time_us"] for entry in entries}) == 1
    (told,) = [each for each in report.warnings() if "names of their folders" in each]
    assert told.startswith("the column 'at' is in the tables")


@pytest.mark.parametrize(
    ("payment", "label", "how"),
    [
        ("0001001", "1001", "leading zeros"),
        ("1001", "0001001", "leading zeros"),
        ("ab-1", "AB-1", "letter case"),
        ("7ed4bffc-f189", "7ED4BFFCF189", "signs, letter case or leading zeros"),
    ],
)
def test_labels_that_nearly_match_say_what_differs(
    tmp_path: Path, payment: str, label: str, how: str
) -> None:
    files: dict[str, str | bytes] = {"pay.csv": payments(payment), "frauds.csv": f"ref\n{label}\n"}
    path = write(tmp_path, files, MAPPING + LABELS)
    expected = f"the label's {label!r} is the payment's {payment!r} but for {how}"
    assert expected in imported(path)[1].warnings()[0]
    assert any(expected in told for told in preview(open_source(path), now_us=NOW_US).warnings)


def test_the_setting_that_a_warning_names_ends_the_warning(tmp_path: Path) -> None:
    words = ["NA", " null ", "None", "nan", "\\N", "(null)", "n/a", "-", "?", "Unknown"]
    rows = "".join(f"{i},2024-03-01 10:00:00,1,{word}\n" for i, word in enumerate(words))
    mapping = MAPPING + 'entities = { device_id = "dev" }\n'
    path = write(tmp_path, {"pay.csv": "ref,at,sum,dev\n" + rows}, mapping)
    (told,) = [each for each in imported(path)[1].warnings() if "device_id: 10 of 10" in each]
    setting = told.split("set files.")[1].split(", or files.null_values")[0]
    path.write_text(mapping.replace('"pay.csv"', f'"pay.csv", {setting}'))
    entries, report = imported(path)
    assert {entry["device_id"] for entry in entries} == {None}
    assert not [each for each in report.warnings() if "device_id" in each and "nothing" in each]


def test_every_currency_without_a_rate_is_named(tmp_path: Path) -> None:
    codes = ["USD", "JPY", "EUR", "CHF", "SEK"]
    rows = "".join(f"{i},2024-03-01,10,{code}\n" for i, code in enumerate(codes))
    path = write(tmp_path, {"pay.csv": "ref,at,sum,money\n" + rows})
    with pytest.raises(ImportRefused) as refused:
        imported(path)
    assert all(f"{code} = ..." in str(refused.value) for code in codes)
    amount = 'amount = { column = "sum", currency_column = "money", rates = { USD = 1.0 } }'
    path.write_text(MAPPING.replace('amount = { column = "sum" }', amount))
    reasons = imported(path)[1].reasons["invalid_amount"]
    assert "'money' holds 'JPY', and amount.rates has USD" in reasons


def test_a_mapping_without_an_id_names_the_ways_to_get_one(tmp_path: Path) -> None:
    path = write(tmp_path, {"pay.csv": payments("a")}, MAPPING.replace('id = "ref"', ""))
    with pytest.raises(ConfigurationError, match=r"id = \{ row_number = true \}"):
        open_source(path)


def test_rows_that_share_an_id_hear_of_other_ids(tmp_path: Path) -> None:
    _, report = imported(write(tmp_path, {"pay.csv": payments("a", "a")}))
    assert "id = { row_number = true }" in report.reasons["duplicate_id"]


def test_an_amount_that_is_none_says_what_is_allowed(tmp_path: Path) -> None:
    table = HEAD + "a,2024-03-01,12.5 debit or so\n"
    _, report = imported(write(tmp_path, {"pay.csv": table}))
    assert "allowed around its digits: a sign, brackets" in report.reasons["invalid_amount"]


def test_units_are_written_out(tmp_path: Path) -> None:
    mapping = MAPPING.replace('"at" }', '"at", unit = "h", start = "2024-01-01" }')
    _, report = imported(write(tmp_path, {"pay.csv": HEAD + "a,soon,1\n"}, mapping))
    assert "or a number of hours" in report.reasons["invalid_time"]


def test_ids_of_two_files_meet_whatever_their_types(tmp_path: Path) -> None:
    """Whole numbers, decimal numbers with a gap, and text name the same payments."""
    pq.write_table(pa.table({"ref": [1001.0, None, 1002.0]}), tmp_path / "frauds.parquet")
    mapping = MAPPING + LABELS.replace("frauds.csv", "frauds.parquet")
    entries, report = imported(write(tmp_path, {"pay.csv": payments("1001", "1002.0")}, mapping))
    assert report.labels_unmatched == 0
    assert [entry["transaction_id"] for entry in entries if entry["verdict"]] == ["1001", "1002"]
