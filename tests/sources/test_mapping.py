"""Any CSV or Parquet table becomes a log by a mapping file that says which column is what."""

from __future__ import annotations

import datetime as dt
import gzip
import io
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from sentinel.domain import ConfigurationError
from sentinel.sources import LabelColumns, TimeColumn, labels_from_file, open_source, preview
from sentinel.sources.mapping_file import (
    AmountColumn,
    AttributesTable,
    EntitiesTable,
    FilesTable,
    IdTable,
    KeyTable,
    Mapping,
    OutcomeTable,
    parse_mapping,
)
from sentinel.sources.preview_text import render_preview
from tests.sources.tables import DAY_US, NOW_US, log_of, rejects

CSV = """ref,when,sum,cust,bin,last4,shop,code,score,is_fraud,note
007,2024-03-01 12:00:00,"1,234.50",c1,4111,1111,s1,0012,1.5,no,"a, b"
008,2024-03-01 11:00:00,0,c2,4111,2222,s1,0013,,yes,
009,2024-03-01 13:00:00,-5.25,c1,,,,0012,2,,x
"""

MAPPING = """
id = "ref"
[files]
path = "pay.csv"
[time]
column = "when"
timezone = "Europe/Berlin"
[amount]
column = "sum"
thousands = ","
[entities]
customer_id = "cust"
card_id = ["bin", "last4"]
merchant_id = "shop"
[attributes]
exclude = ["note"]
rename = { score = "risk" }
[labels]
column = "is_fraud"
delay_days = 7
"""

NOON_US = 1_709_290_800_000_000  # 2024-03-01 12:00 in Berlin


def written(folder: Path, table: str = CSV, mapping: str = MAPPING) -> Path:
    (folder / "pay.csv").write_text(table)
    path = folder / "acme.toml"
    path.write_text(mapping)
    return path


def test_a_csv_file_becomes_the_log_that_its_mapping_says(tmp_path: Path) -> None:
    source = open_source(written(tmp_path))
    entries, report = log_of(source)
    assert report.accepted == 3
    assert [row["transaction_id"] for row in entries] == ["008", "007", "009", "008"]
    late = entries[1]
    assert late["event_time_us"] == late["received_at_us"] == NOON_US
    assert late["amount_minor"] == 123_450
    assert (late["customer_id"], late["card_id"], late["merchant_id"]) == ("c1", "4111|1111", "s1")
    assert entries[2]["card_id"] is None
    assert late["attributes.code"] == "0012"
    assert late["attributes.risk"] == 1.5
    assert entries[0]["attributes.risk"] is None
    label = entries[3]
    assert (label["verdict"], label["origin"]) == ("fraud", "chargeback")
    assert label["received_at_us"] == NOON_US - 3_600_000_000 + 7 * DAY_US
    assert source.attributes == {"code": "category", "risk": "number"}
    assert source.name == "acme"


def test_the_preview_shows_what_was_understood(tmp_path: Path) -> None:
    table = CSV + "010,soon,1,c1,,,,0012,2,,x\n"
    mapping = MAPPING.replace('exclude = ["note"]', 'exclude = ["nota"]')
    seen = preview(open_source(written(tmp_path, table, mapping)), 4, now_us=NOW_US)
    uses = {use.column: (use.becomes, use.note) for use in seen.description.columns}
    assert uses["ref"] == ("transaction_id", "")
    assert uses["sum"] == ("amount_minor", "major units, 2 decimals")
    assert uses["when"][1] == "iso, Europe/Berlin unless it says otherwise"
    assert uses["score"] == ("attributes.risk", "number")
    assert uses["note"] == ("attributes.note", "category")
    warnings = " ".join(seen.description.warnings)
    assert "no column 'nota' (did you mean 'note'?)" in warnings
    assert "no column is the device_id, ip_address" in warnings
    assert seen.findings[:3] == (None, None, None)
    assert "'soon' is not an ISO 8601 time" in (seen.findings[3] or "")
    output = io.StringIO()
    Console(file=output, width=250).print(render_preview(seen))
    for words in ("transaction_id", "123450", "warning: no column", "4111|1111", "soon"):
        assert words in output.getvalue()


def test_the_documented_examples_are_valid_and_show_every_key(root: Path) -> None:
    text = (root / "docs" / "sources.md").read_text()
    blocks = [part.split("```")[0] for part in text.split("```toml")[1:]]
    whole = [tomllib.loads(block) for block in blocks if "files" in block]
    for content in whole:
        parse_mapping(content, "docs/sources.md")
    shown = "\n".join(blocks)
    for table in (
        *(Mapping, IdTable, FilesTable, TimeColumn, AmountColumn, EntitiesTable, KeyTable),
        *(AttributesTable, OutcomeTable, LabelColumns),
    ):
        for key in table.__struct_fields__:
            assert f"{key} =" in shown or f"[{key}" in shown or f".{key}]" in shown, key


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('id = "ref"', 'id = "reff"', r"no column 'reff' \(did you mean 'ref'\?\)"),
        ('id = "ref"', 'idd = "ref"', r"unknown key 'idd' \(did you mean 'id'\?\)"),
        ('column = "sum"', 'colum = "sum"', r"unknown key 'amount.colum' \(did you mean 'column'"),
        ('column = "sum"', 'column = "sum"\nunit = "cents"', "amount.unit"),
        ('id = "ref"', "", "missing 'id'|missing field|`id`|'id'"),
        ("Europe/Berlin", "Europe/Bärlin", "IANA"),
        ('path = "pay.csv"', 'path = "pays.csv"', "no file or folder .*pays.csv"),
        ("delay_days = 7", "", "say when labels arrive"),
        ('rename = { score = "risk" }', 'rename = { score = "Code" }', "clash"),
        ('rename = { score = "risk" }', 'rename = { score = "amount_minor" }', "own column"),
        ('thousands = ","', 'thousands = "."', "are the same"),
        ("[time]", "[time", "no TOML"),
    ],
)
def test_a_wrong_mapping_is_explained(tmp_path: Path, old: str, new: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        open_source(written(tmp_path, mapping=MAPPING.replace(old, new, 1)))


def test_bad_rows_are_rejected_with_their_line_as_it_was_written(tmp_path: Path) -> None:
    table = (
        CSV
        + "010,2024-03-01 10:00:00,1.005,c1,,,,0012,1,no,x\n"
        + "011,2024-03-01 10:00:00,1\n"
        + "012,2024-03-01 10:00:00,1,c1,,,,0012,many,no,x\n"
        + "013,2024-03-01 10:00:00,1,c1,,,,0012,1,perhaps,x\n"
        + "014,2024-03-01 10:00:00,1,c1,,,,0012,1,no,x\n"
        + "015,31.12.2023,1,4111111111111111,,,,0012,1,no,x\n"
    )
    # The type of `score` would be text if it were guessed from these rows.
    mapping = MAPPING.replace("rename", 'types = { score = "number" }\nrename')
    path = tmp_path / "rejects.parquet"
    _, report = log_of(open_source(written(tmp_path, table, mapping)), rejects_path=path)
    assert (report.read, report.accepted) == (9, 5)
    assert report.labels_rejected == {"invalid_verdict": 1}
    found = {row["row"]: row for row in rejects(path)}
    assert {row: item["code"] for row, item in found.items()} == {
        4: "amount_precision",
        5: "malformed_row",
        6: "invalid_attribute",
        7: "invalid_verdict",
        9: "invalid_time",
    }
    assert found[5]["reason"].startswith("the line has 3 fields where the header has 11")
    assert "011,2024-03-01 10:00:00,1" in found[5]["raw"]
    assert '"sum": "1.005"' in found[4]["raw"]
    assert "411111******1111" in found[9]["raw"]
    assert "none of fraud: 1, true" in found[7]["reason"]


def parquet(folder: Path, name: str, **columns: Any) -> None:
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns), folder / name)


def test_a_folder_of_parquet_files_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    when = [dt.datetime(2024, 1, 1, tzinfo=dt.UTC), dt.datetime(2024, 1, 2, tzinfo=dt.UTC)]
    cents = pa.array([Decimal("1.50"), Decimal("2.25")], pa.decimal128(9, 2))
    parquet(tmp_path / "data", "b.parquet", id=[3, 4], at=when, sum=cents, mcc=["5411", None])
    parquet(
        tmp_path / "data", "a.parquet",
        id=[1, 2], at=when, sum=cents, mcc=["5411", "5812"], rate=[0.5, float("nan")],
        tags=[["x"], []],
    )  # fmt: skip
    (tmp_path / "m.toml").write_text(
        'id = "id"\n[files]\npath = "data"\n[time]\ncolumn = "at"\n[amount]\ncolumn = "sum"\n'
    )
    source = open_source(tmp_path / "m.toml")
    assert source.row_count() == 4
    entries, _ = log_of(source)
    assert [row["transaction_id"] for row in entries] == ["1", "3", "2", "4"]
    assert [row["amount_minor"] for row in entries] == [150, 150, 225, 225]
    assert [row["attributes.rate"] for row in entries] == [0.5, None, None, None]
    assert source.attributes == {"mcc": "category", "rate": "number"}
    uses = {use.column: use.note for use in source.describe().columns}
    assert uses["tags"].startswith("not used: a list")


def test_a_compressed_csv_with_epochs_and_minor_units_is_read_too(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "pay.csv.gz", "wt", encoding="latin-1") as file:
        file.write("id;at;got;cents;name\nä1;1700000000123;1700000001000;150;x\n")
    (tmp_path / "m.toml").write_text(
        'id = "id"\n[files]\npath = "*.csv.gz"\ndelimiter = ";"\nencoding = "latin-1"\n'
        '[time]\ncolumn = "at"\nformat = "epoch"\nunit = "ms"\n'
        '[received_at]\ncolumn = "got"\nformat = "epoch"\nunit = "ms"\n'
        '[amount]\ncolumn = "cents"\nunit = "minor"\n'
    )
    entries, _ = log_of(open_source(tmp_path / "m.toml"))
    assert entries[0]["transaction_id"] == "ä1"
    assert entries[0]["event_time_us"] == 1_700_000_000_123_000
    assert entries[0]["received_at_us"] == 1_700_000_001_000_000
    assert entries[0]["amount_minor"] == 150


def test_a_file_in_another_encoding_is_explained(tmp_path: Path) -> None:
    path = written(tmp_path)
    (tmp_path / "pay.csv").write_bytes(CSV.replace("c1", "ä").encode("latin-1"))
    with pytest.raises(ConfigurationError, match="encoding"):
        log_of(open_source(path))


def test_labels_may_come_in_files_of_their_own(tmp_path: Path) -> None:
    mapping = MAPPING.split("[labels]", maxsplit=1)[0] + (
        '[labels]\npath = "cb.csv"\ncolumn = "status"\ntransaction_id = "payment"\n'
        'label_id = "case"\nfraud_values = ["LOST"]\nlegitimate_values = ["WON"]\n'
        'origin = "acquirer"\n[labels.arrival]\ncolumn = "day"\nformat = "%d.%m.%Y"\n'
    )
    (tmp_path / "cb.csv").write_text(
        "case,payment,status,day\n"
        "k1,007,lost,20.03.2024\n"
        "k2,007,won,25.03.2024\n"
        "k3,008,mislaid,20.03.2024\n"
        "k6,008,Under_Review,20.03.2024\n"
        "k4,,lost,20.03.2024\n"
        "k1,009,lost,21.03.2024\n"
    )
    path = tmp_path / "rejects.parquet"
    entries, report = log_of(open_source(written(tmp_path, mapping=mapping)), rejects_path=path)
    labels = [row for row in entries if row["kind"] == 1]
    assert [(row["label_id"], row["verdict"], row["origin"]) for row in labels] == [
        ("k1", "fraud", "acquirer"),
        ("k2", "legitimate", "acquirer"),
    ]
    assert (report.labels_read, report.labels_accepted, report.frauds) == (6, 2, 0)
    assert report.labels_undecided == 1
    assert [(row["source"], row["row"], row["code"]) for row in rejects(path)] == [
        ("cb.csv", 3, "invalid_verdict"),
        ("cb.csv", 5, "missing_id"),
        ("cb.csv", 6, "duplicate_id"),
    ]


def test_a_labels_file_is_a_source_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("transaction_id,verdict,received_at\nt1,fraud,2024-03-01T00:00:00Z\n")
    entries, report = log_of(labels_from_file(path))
    assert [(row["kind"], row["transaction_id"], row["verdict"]) for row in entries] == [
        (1, "t1", "fraud")
    ]
    assert (report.read, report.labels_accepted) == (0, 1)
    known, again = log_of(labels_from_file(path), known_labels=lambda ids: [True] * len(ids))
    assert known == []
    assert (again.labels_rejected, again.labels_known) == ({}, 1)


def test_a_plain_list_of_frauds_is_enough(tmp_path: Path) -> None:
    (tmp_path / "frauds.csv").write_text("transaction_id\n007\n009\n")
    mapping = (
        MAPPING.split("[labels]", maxsplit=1)[0] + '[labels]\npath = "frauds.csv"\ndelay_days = 2\n'
    )
    entries, report = log_of(open_source(written(tmp_path, mapping=mapping)))
    arrivals = {row["transaction_id"]: row["received_at_us"] for row in entries if row["kind"] == 1}
    assert arrivals == {"007": NOON_US + 2 * DAY_US, "009": NOON_US + 3_600_000_000 + 2 * DAY_US}
    assert report.frauds == 2


def test_labels_beside_a_file_of_payments_without_rows_are_told_of(tmp_path: Path) -> None:
    (tmp_path / "cb.csv").write_text("transaction_id,verdict,received_at\n007,fraud,2024-03-20\n")
    mapping = MAPPING.split("[labels]", maxsplit=1)[0] + (
        '[labels]\npath = "cb.csv"\ncolumn = "verdict"\narrival = { column = "received_at" }\n'
    )
    path = written(tmp_path, mapping=mapping)
    told = "the files of payments have no rows: only labels were read"
    _, report = log_of(open_source(path))
    assert report.read == 3
    assert told not in report.warnings()
    (tmp_path / "pay.csv").write_text(CSV.splitlines()[0] + "\n")
    _, report = log_of(open_source(path))
    assert (report.read, report.labels_accepted) == (0, 1)
    assert told in report.warnings()
    _, alone = log_of(labels_from_file(tmp_path / "cb.csv"))
    assert told not in alone.warnings()


def test_a_labels_file_without_what_it_needs_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("transaction,verdict,received_at\nt1,fraud,2024-03-01\n")
    with pytest.raises(ConfigurationError, match=r"did you mean 'transaction'\?"):
        labels_from_file(path)
    with pytest.raises(ConfigurationError, match="say when labels arrive"):
        labels_from_file(path, LabelColumns(transaction_id="transaction"))
    columns = LabelColumns(transaction_id="transaction", arrival=TimeColumn(column="received_at"))
    entries, _ = log_of(labels_from_file(path, columns))
    assert entries[0]["verdict"] == "fraud"


def test_legitimate_values_are_labels_only_if_asked_for(tmp_path: Path) -> None:
    _, few = log_of(open_source(written(tmp_path)))
    _, all_of_them = log_of(
        open_source(written(tmp_path, mapping=MAPPING + "record_legitimate = true\n"))
    )
    assert (few.labels_read, all_of_them.labels_read) == (1, 2)


def test_a_column_that_sounds_like_the_truth_draws_a_warning(tmp_path: Path) -> None:
    table = CSV.replace("note", "chargeback_date")
    mapping = MAPPING.replace('exclude = ["note"]', "")
    warnings = " ".join(open_source(written(tmp_path, table, mapping)).describe().warnings)
    assert "'chargeback_date' sounds like the truth" in warnings
