"""What a mapping can say of files as people have them, and what is told about odd ones."""

from __future__ import annotations

import datetime as dt
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from sentinel.domain import ConfigurationError
from sentinel.sources import ImportReport, open_source, preview
from sentinel.sources.log import ImportRefused
from sentinel.sources.mapping_file import load_mapping, parse_mapping
from sentinel.sources.preview_text import render_preview
from tests.sources.tables import NOW_US, log_of

HEAD = 'id = "ref"\nfiles = { path = "pay.csv" }\namount = { column = "sum" }\n'
AT = 'time = { column = "at" }\n'


def imported(
    folder: Path, table: str, mapping: str, **options: Any
) -> tuple[list[dict[str, Any]], ImportReport]:
    """The log of a table and a mapping."""
    (folder / "pay.csv").write_text(table)
    (folder / "m.toml").write_text(mapping)
    return log_of(open_source(folder / "m.toml"), **options)


def utc(time_us: int) -> str:
    return dt.datetime.fromtimestamp(time_us / 1e6, dt.UTC).strftime("%Y-%m-%d %H:%M:%S")


def text_of(renderable: Any, width: int) -> list[str]:
    output = io.StringIO()
    Console(file=output, width=width).print(renderable)
    return output.getvalue().splitlines()


@pytest.mark.parametrize(
    ("columns", "time", "expected"),
    [
        ({"at": [20240301]}, 'column = "at"\nformat = "%Y%m%d"', "2024-03-01 00:00:00"),
        ({"at": [20240301.0]}, 'column = "at"\nformat = "%Y%m%d"', "2024-03-01 00:00:00"),
        ({"at": [25]}, 'column = "at"\nunit = "h"\nstart = 2024-01-01', "2024-01-02 01:00:00"),
        ({"at": ["2"]}, 'column = "at"\nunit = "d"\nstart = "2024-01-01"', "2024-01-03 00:00:00"),
        ({"at": [1709287205123]}, 'column = "at"\nunit = "ms"', "2024-03-01 10:00:05"),
        (
            {"d": [20130402], "t": [14450]},
            'column = ["d", "t"]\nformat = "%Y%m%d%H%M%S"',
            "2013-04-02 01:44:50",
        ),
        (
            {"d": ["20130403"], "t": ["21"], "off": ["5.75"]},
            'column = ["d", "t"]\nformat = ["%Y%m%d", "%H%M%S"]\noffset_column = "off"',
            "2013-04-02 18:15:21",
        ),
        (
            {"y": [2002], "m": [9], "d": [1], "t": ["06:21"]},
            'column = ["y", "m", "d", "t"]\nformat = "%Y%m%d%H:%M"',
            "2002-09-01 06:21:00",
        ),
        (
            {"d": [dt.date(2024, 3, 1)], "t": [dt.time(10, 0, 5)]},
            'column = ["d", "t"]',
            "2024-03-01 10:00:05",
        ),
        (
            {"at": ["1/5/19 1:05 p.m."]},
            'column = "at"\nformat = "%m/%d/%y %I:%M %p"',
            "2019-01-05 13:05:00",
        ),
        (
            {"at": ["31.12.2023 23:00"]},
            'column = "at"\nformat = ["iso", "%d.%m.%Y %H:%M"]',
            "2023-12-31 23:00:00",
        ),
        ({"at": ["20240301T123000Z"]}, 'column = "at"', "2024-03-01 12:30:00"),
    ],
)
def test_a_time_is_what_the_mapping_says(
    columns: dict[str, list[object]], time: str, expected: str, tmp_path: Path
) -> None:
    pq.write_table(pa.table({"ref": ["a"], "sum": [1.5], **columns}), tmp_path / "pay.parquet")
    mapping = HEAD.replace("pay.csv", "pay.parquet") + f"[time]\n{time}\n"
    (tmp_path / "m.toml").write_text(mapping)
    entries, _ = log_of(open_source(tmp_path / "m.toml"))
    assert [utc(entry["event_time_us"]) for entry in entries] == [expected]


@pytest.mark.parametrize(
    ("values", "advice"),
    [
        ([20240301], 'format = "%Y%m%d" reads it'),
        ([1709287205123], 'needs unit = "ms"'),
        ([1, 2, 3], "needs a unit"),
    ],
)
def test_numbers_become_no_times_unless_the_mapping_says_what_they_count(
    values: list[int], advice: str, tmp_path: Path
) -> None:
    count = len(values)
    table = pa.table({"ref": list(range(count)), "sum": [1.0] * count, "at": values})
    pq.write_table(table, tmp_path / "pay.parquet")
    (tmp_path / "m.toml").write_text(HEAD.replace("pay.csv", "pay.parquet") + AT)
    with pytest.raises(ConfigurationError, match=advice):
        log_of(open_source(tmp_path / "m.toml"))
    lines = "".join(f"{i},1,{value}\n" for i, value in enumerate(values))
    _, report = imported(tmp_path, "ref,sum,at\n" + lines, HEAD + AT)
    assert report.rejected == {"invalid_time": count}
    assert advice in report.reasons["invalid_time"]


def test_epochs_in_a_finer_unit_are_asked_about(tmp_path: Path) -> None:
    mapping = HEAD + 'time = { column = "at", format = "epoch" }\n'
    _, report = imported(tmp_path, "ref,sum,at\n1,1,1709287205123\n", mapping)
    assert 'did you mean unit = "ms"?' in report.reasons["invalid_time"]


@pytest.mark.parametrize(
    ("column", "decimal", "minor"),
    [
        ("$1,234.56", ".", 123456),
        ("($182.77)", ".", -18277),
        ("12.50-", ".", -1250),
        ("\u221212.50", ".", -1250),
        ("USD 5", ".", 500),
        ("5 \u20ac", ".", 500),
        ("R$ 1.234,50", ",", 123450),
        ("1,23,456.78", ".", 12345678),
        ("CHF 1'000.00", ".", 100000),
        ("1e3", ".", 100000),
        ("1 234,50", ",", 123450),
    ],
)
def test_amounts_are_read_as_banks_write_them(
    column: str, decimal: str, minor: int, tmp_path: Path
) -> None:
    mapping = (
        'id = "ref"\nfiles = { path = "pay.csv", delimiter = ";" }\n'
        f'amount = {{ column = "sum", decimal = "{decimal}" }}\n{AT}'
    )
    entries, _ = imported(tmp_path, f"ref;sum;at\n1;{column};2024-03-01\n", mapping)
    assert [entry["amount_minor"] for entry in entries] == [minor]


@pytest.mark.parametrize(
    ("amount", "advice"),
    [
        ("1,234", "cannot be told which the comma is"),
        ("12,50", 'set amount.decimal = ","'),
        ("1.234,56", 'amount.decimal = "," and amount.thousands = "."'),
        ("12.50 CR", "is not a number"),
        ("12 pieces", "is not a number"),
        ("-(5)", "is not a number"),
    ],
)
def test_an_amount_that_may_be_two_things_is_refused_with_advice(
    amount: str, advice: str, tmp_path: Path
) -> None:
    table = f'ref,sum,at\n1,"{amount}",2024-03-01\n'
    _, report = imported(tmp_path, table, HEAD + AT)
    assert advice in report.reasons["invalid_amount"]


WITH_COMMAS = (
    "ref;sum;at;weight;price;code\n"
    "1;12,50;2024-03-01;0,5;1.234,50;7,5a\n2;3,00;2024-03-01;-2;0,99;x\n3;4;2024-03-01;;n/a;y\n"
)
GERMAN = (
    'id = "ref"\nfiles = { path = "pay.csv", delimiter = ";" }\n'
    f'amount = {{ column = "sum", decimal = "," }}\n{AT}'
)


def test_numbers_of_attributes_may_have_a_decimal_comma_as_amounts_may(tmp_path: Path) -> None:
    entries, report = imported(
        tmp_path, WITH_COMMAS, GERMAN + '[attributes]\ndecimal = ","\nthousands = "."\n'
    )
    assert report.rejected == {}
    found = [(e.get("attributes.weight"), e.get("attributes.price")) for e in entries]
    assert found == [(0.5, 1234.5), (-2.0, 0.99), (None, None)]
    assert [entry["attributes.code"] for entry in entries] == ["7,5a", "x", "y"]


def test_numbers_with_an_undeclared_decimal_comma_are_pointed_out(tmp_path: Path) -> None:
    entries, _ = imported(tmp_path, WITH_COMMAS, GERMAN)
    assert entries[0]["attributes.weight"] == "0,5"
    warnings = open_source(tmp_path / "m.toml").describe().warnings
    told = [said for said in warnings if "attributes.decimal" in said]
    assert ["'weight'" in told[0], "'price'" in told[1], len(told)] == [True, True, 2]
    declared = GERMAN + '[attributes]\ntypes = { weight = "number" }\n'
    _, report = imported(tmp_path, WITH_COMMAS, declared)
    assert 'or attributes.decimal = ","' in report.reasons["invalid_attribute"]


def test_a_point_where_the_comma_is_declared_is_no_number(tmp_path: Path) -> None:
    """It may stand between thousands."""
    table = "ref;sum;at;weight\n1;1;2024-03-01;0,5\n2;1;2024-03-01;1.234\n"
    mapping = GERMAN + '[attributes]\ndecimal = ","\ntypes = { weight = "number" }\n'
    entries, report = imported(tmp_path, table, mapping)
    assert [entry["attributes.weight"] for entry in entries] == [0.5]
    assert report.rejected == {"invalid_attribute": 1}
    with pytest.raises(ConfigurationError, match=r"attributes\.decimal and attributes\.thousands"):
        imported(tmp_path, table, GERMAN + '[attributes]\ndecimal = ","\nthousands = ","\n')


MONEY = "ref,sum,at,ccy\n1,10.00,2024-03-01,USD\n2,73080,2024-03-01,JPY\n3,1.5,2024-03-01,usd\n"


def test_several_currencies_are_refused_unless_they_are_converted_or_declared(
    tmp_path: Path,
) -> None:
    with pytest.raises(ImportRefused, match=r"'ccy' holds several currencies .USD 2, JPY 1"):
        imported(tmp_path, MONEY, HEAD + AT)
    without_name = MONEY.replace("ccy", "x")
    with pytest.raises(ImportRefused, match="several currencies"):
        imported(tmp_path, without_name, HEAD + AT + '[attributes]\nexclude = ["y*"]\n')
    with pytest.raises(ImportRefused, match="'sum' holds several currencies"):
        imported(tmp_path, "ref,sum,at\n1,$5,2024-03-01\n2,5 EUR,2024-03-01\n", HEAD + AT)
    declared = HEAD.replace('"sum" }', '"sum", currency = "USD" }') + AT
    entries, _ = imported(tmp_path, MONEY, declared)
    assert [entry["amount_minor"] for entry in entries] == [1000, 7308000, 150]
    rates = HEAD.replace(
        '"sum" }', '"sum", currency_column = "ccy", rates = { USD = 1.0, JPY = 0.0062 } }'
    )
    entries, _ = imported(tmp_path, MONEY, rates + AT)
    assert [entry["amount_minor"] for entry in entries] == [1000, 45310, 150]
    few = rates.replace(", JPY = 0.0062", "")
    _, report = imported(tmp_path, MONEY, few + AT)
    assert report.rejected == {"invalid_amount": 1}
    assert "has no rate" in report.reasons["invalid_amount"]
    table = MONEY.replace("ccy", "ccy,rate").replace("USD", "USD,1").replace("JPY", "JPY,0.0062")
    column = HEAD.replace('"sum" }', '"sum", rate_column = "rate" }')
    entries, _ = imported(tmp_path, table.replace("usd", "usd,1"), column + AT)
    assert [entry["amount_minor"] for entry in entries] == [1000, 45310, 150]


def test_rows_without_an_id_get_one_from_their_file_and_number(tmp_path: Path) -> None:
    mapping = HEAD.replace('"ref"', '{ row_number = true, prefix = "ulb-" }') + AT
    entries, _ = imported(tmp_path, "sum,at\n1,2024-03-01\n1,2024-03-01\n", mapping)
    assert [entry["transaction_id"] for entry in entries] == ["ulb-1", "ulb-2"]
    (tmp_path / "more.csv").write_text("sum,at\n1,2024-03-02\n")
    (tmp_path / "m.toml").write_text(mapping.replace("pay.csv", "*.csv"))
    entries, _ = log_of(open_source(tmp_path / "m.toml"))
    ids = [entry["transaction_id"] for entry in entries]
    assert ids == ["ulb-pay-1", "ulb-pay-2", "ulb-more-1"]
    several = HEAD.replace('"ref"', '["step", "who"]') + 'time = { column = "step", unit = "h" }\n'
    entries, _ = imported(tmp_path, "step,sum,who\n1,5,C1\n", several)
    assert entries[0]["transaction_id"] == "1|C1"


def test_events_that_are_no_payments_have_no_amount(tmp_path: Path) -> None:
    mapping = HEAD.replace('column = "sum"', "none = true") + AT
    entries, report = imported(tmp_path, "ref,at\n1,2024-03-01\n", mapping)
    assert (report.accepted, entries[0]["amount_minor"]) == (1, 0)


def test_words_for_nothing_in_an_entity_are_counted_and_the_setting_that_ends_it_is_named(
    tmp_path: Path,
) -> None:
    words = ["NA", "NULL", "None", "nan", r"\N", "(null)"]
    lines = "".join(f"{i},1,2024-03-01,{w},{w}\n" for i, w in enumerate([*words, "d7"]))
    table = "ref,sum,at,dev,country\n" + lines
    mapping = HEAD + AT + '[entities]\ndevice_id = "dev"\n'
    _, report = imported(tmp_path, table, mapping)
    (told,) = [text for text in report.warnings() if "device_id: " in text]
    assert told.startswith("device_id: 6 of 7 rows hold a word for 'nothing'")
    assert r'files.null_values_by_column = { dev = ["NA", "NULL", "None", "nan", "\\N"' in told
    seen = preview(open_source(tmp_path / "m.toml"), now_us=NOW_US)
    assert told in seen.warnings
    advice = told.split("set ")[1].split(", or files")[0].removeprefix("files.")
    heeded = mapping.replace('"pay.csv" }', f'"pay.csv", {advice} }}')
    entries, report = imported(tmp_path, table, heeded)
    assert [entry["device_id"] for entry in entries] == [None] * 6 + ["d7"]
    assert entries[0]["attributes.country"] == "NA"
    assert not [text for text in report.warnings() if "'nothing'" in text]


def test_a_payment_is_never_rejected_because_of_its_label(tmp_path: Path) -> None:
    table = (
        "ref,sum,at,dispute,decided\n1,5,2024-01-01,,\n"
        "2,5,2024-01-02,under_review,2024-02-01\n3,5,2024-01-03,NEEDS_RESPONSE,\n"
        "4,5,2024-01-04,Lost,2024-02-01\n5,5,2024-01-05,odd,2024-02-01\n"
        "6,5,2024-01-06,lost,soon\n7,5,2024-01-07,lost,\n8,5,2024-01-08,won,soon\n"
    )
    mapping = (
        HEAD
        + AT
        + (
            '[labels]\ncolumn = "dispute"\nfraud_values = ["LOST"]\nlegitimate_values = ["won"]\n'
            'arrival = { column = "decided" }\n'
        )
    )
    _, report = imported(tmp_path, table, mapping)
    assert (report.read, report.accepted, report.frauds) == (8, 8, 1)
    assert report.labels_undecided == 2
    assert report.labels_rejected == {"invalid_verdict": 1, "invalid_time": 1, "missing_time": 1}
    told = " ".join(report.warnings())
    assert "2 labels without a verdict: under_review 1, NEEDS_RESPONSE 1" in told
    assert "a verdict that the mapping does not know: odd 1" in told


def test_labels_that_match_no_payment_are_counted_and_shown(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("ref,day\n0001,2024-03-20\n2,2024-03-20\nx,2024-03-20\n")
    table = "ref,sum,at\n1,5,2024-03-01\n2,5,2024-03-01\n"
    mapping = (
        HEAD
        + AT
        + ('[labels]\npath = "labels.csv"\ntransaction_id = "ref"\narrival = { column = "day" }\n')
    )

    def only_x(ids: pa.Array) -> list[bool]:
        return [name == "x" for name in ids.to_pylist()]

    _, report = imported(tmp_path, table, mapping, known=only_x)
    assert (report.labels_accepted, report.labels_unmatched, report.frauds) == (3, 1, 1)
    assert "1 of 3 labels are about payments" in " ".join(report.warnings())
    seen = preview(open_source(tmp_path / "m.toml"), now_us=NOW_US)
    assert seen.sample.unmatched == 2
    assert "2 of 3 labels are about no payment, such as '0001', 'x'" in " ".join(seen.warnings)


def test_labels_that_count_from_their_payment_and_have_none_are_told(tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text('{"1": "yes", "0009": "yes"}')
    labels = '[labels]\npath = "labels.json"\nformat = "json_map"\ndelay_days = 1\n'
    _, report = imported(tmp_path, "ref,sum,at\n1,5,2024-03-01\n", HEAD + AT + labels)
    assert (report.labels_accepted, report.labels_rejected) == (1, {"missing_time": 1})
    assert "1 of 2 labels are about payments that neither" in report.warnings()[0]
    assert "'0009'" in report.warnings()[0]


def test_a_number_that_is_not_given_everywhere_is_a_number(tmp_path: Path) -> None:
    table = "ref,sum,at,score\n1,5,2024-03-01,NA\n2,5,2024-03-01,3.5\n3,5,2024-03-01,null\n"
    entries, report = imported(tmp_path, table, HEAD + AT)
    assert [entry["attributes.score"] for entry in entries] == [None, 3.5, None]
    assert any("the number 'score': 2 of 3 rows" in text for text in report.warnings())


def test_labels_come_in_a_json_map(tmp_path: Path) -> None:
    verdicts = {"1": "No", "2": "Yes", "3": None, "4": "pending"}
    (tmp_path / "labels.json").write_text(json.dumps({"target": verdicts}, indent=1))
    table = "ref,sum,at\n" + "".join(f"{i},5,2024-03-0{i}\n" for i in range(1, 5))
    mapping = (
        HEAD
        + AT
        + ('[labels]\npath = "labels.json"\nformat = "json_map"\nkey = "target"\ndelay_days = 1\n')
    )
    entries, report = imported(tmp_path, table, mapping)
    labels = {e["transaction_id"]: e["verdict"] for e in entries if e["kind"] == 1}
    assert labels == {"1": "legitimate", "2": "fraud"}
    assert (report.labels_undecided, report.labels_rejected) == (1, {"missing_verdict": 1})
    with pytest.raises(ConfigurationError, match=r'set labels\.key = "target"'):
        imported(tmp_path, table, mapping.replace('key = "target"\n', ""))
    (tmp_path / "labels.json").write_text('{"target": {"1": "Yes", "2" "No"}}')
    with pytest.raises(ConfigurationError, match="character 24 begins no id with a verdict"):
        imported(tmp_path, table, mapping)


def test_files_that_overlap_from_day_to_day_are_no_duplicates(tmp_path: Path) -> None:
    head = "ref,sum,at,fraud\n"
    (tmp_path / "d1.csv").write_text(head + "1,5,2024-03-01,\n2,5,2024-03-01,\n")
    (tmp_path / "d2.csv").write_text(
        head + "2,5,2024-03-01,yes\n1,6,2024-03-01,\n3,5,2024-03-02,\n"
    )
    mapping = (
        HEAD.replace('"pay.csv"', '"d*.csv", overlap = true')
        + AT
        + ('[labels]\ncolumn = "fraud"\ndelay_days = 1\n')
    )
    (tmp_path / "m.toml").write_text(mapping)
    _, report = log_of(open_source(tmp_path / "m.toml"))
    assert (report.read, report.accepted, report.repeated) == (5, 3, 1)
    assert report.rejected == {"duplicate_id": 1}  # payment 1 came with another amount
    assert report.frauds == 1  # what the second file says of payment 2


def test_new_labels_on_payments_that_the_ledger_has_are_taken(tmp_path: Path) -> None:
    mapping = HEAD + AT + '[labels]\ncolumn = "fraud"\ndelay_days = 1\n'
    entries, report = imported(
        tmp_path,
        "ref,sum,at,fraud\n1,5,2024-03-01,yes\n2,5,2024-03-01,yes\n",
        mapping,
        known=lambda ids: [True] * len(ids),
        known_labels=lambda ids: [name.startswith("1:") for name in ids.to_pylist()],
    )
    assert [(e["kind"], e["transaction_id"]) for e in entries] == [(1, "2")]
    assert (report.known, report.labels_known, report.labels_accepted) == (2, 1, 1)


def test_times_and_earlier_outcomes_become_attributes(tmp_path: Path) -> None:
    table = (
        "ref,sum,at,opened,status\n1,5,2024-03-02 00:01:00,2024-03-02,Captured\n"
        "2,5,2024-03-02 00:00:00,2024-03-03,refused\n3,5,2024-03-02 00:00:00,,odd\n"
    )
    mapping = (
        HEAD
        + AT
        + (
            '[attributes.times]\nage_seconds = { column = "opened" }\n'
            '[outcome]\ncolumn = "status"\napprove_values = ["captured"]\n'
            'decline_values = ["refused"]\n'
        )
    )
    entries, report = imported(tmp_path, table, mapping)
    by_id = {entry["transaction_id"]: entry for entry in entries}
    assert [by_id[i]["attributes.age_seconds"] for i in "123"] == [60.0, -86400.0, None]
    outcomes = [by_id[i]["attributes.outcome_before"] for i in "123"]
    assert outcomes == ["approve", "decline", None]
    assert "status" not in " ".join(entries[0])
    assert any("outcome_before: 1 of 3 rows" in text for text in report.warnings())


def test_declared_booleans_have_one_spelling(tmp_path: Path) -> None:
    mapping = HEAD + AT + '[attributes]\ntypes = { present = "boolean" }\n'
    table = "ref,sum,at,present\n1,5,2024-03-01,Y\n2,5,2024-03-01,0\n3,5,2024-03-01,maybe\n"
    entries, report = imported(tmp_path, table, mapping)
    assert [entry["attributes.present"] for entry in entries] == ["true", "false", None]
    assert any("neither true nor false (maybe 1)" in text for text in report.warnings())


def test_times_at_midnight_only_and_times_in_1970_are_noticed(tmp_path: Path) -> None:
    _, report = imported(tmp_path, "ref,sum,at\n1,5,2024-03-01\n2,5,2024-03-02\n", HEAD + AT)
    assert any("are 00:00:00" in text for text in report.warnings())
    steps = HEAD + 'time = { column = "at", format = "epoch" }\n'
    _, report = imported(tmp_path, "ref,sum,at\n1,5,17\n2,5,18\n", steps)
    assert any("lie in 1970" in text for text in report.warnings())


def test_an_import_that_rejects_more_than_is_allowed_gives_nothing_out(tmp_path: Path) -> None:
    table = "ref,sum,at\n1,5,2024-03-01\n2,x,2024-03-01\n3,y,2024-03-01\n"
    with pytest.raises(ImportRefused, match="2 of 3 rows were rejected") as refused:
        imported(tmp_path, table, HEAD + AT, allow_rejects=0.5)
    report = refused.value.report
    assert report is not None
    assert report.rejected == {"invalid_amount": 2}
    assert report.first_reasons() == [
        "invalid_amount (2): pay.csv, row 2: the amount 'x' is not a number"
    ]
    entries, _ = imported(tmp_path, table, HEAD + AT, allow_rejects=0.7)
    assert len(entries) == 1


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_a_mapping_is_read_as_editors_save_it(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_bytes((HEAD + AT).replace("\n", "\r\n").encode(encoding))
    assert load_mapping(tmp_path / "m.toml").time.columns == ("at",)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"time": {"column": "at", "unit": "hours"}}, "'hours', allowed: s, ms, us, ns, min, h, d"),
        ({"amount": {"column": 7}}, r"expected text, got a whole number \(in 'amount.column'\)"),
        ({"amount": {}}, "name the column of the amount, or say amount.none"),
        ({"id": {"row_numbers": True}}, r"'id.row_numbers' \(did you mean 'row_number'\?\)"),
        ({"id": {"row_number": True, "column": "x"}}, "not both"),
        ({"time": {"column": ["d", "t"], "format": "%d"}}, "says no year"),
        ({"time": {"column": ["d", "t", "u"], "format": "%Y%H"}}, "one pattern for each column"),
        ({"time": {"column": "at", "format": "seconds"}}, "allowed: iso, epoch, or a strptime"),
        ({"time": {"column": "at", "start": "2024-01-01"}}, "say what is counted"),
        ({"time": {"column": "at", "unit": "h", "start": "soon"}}, "time.start: 'soon' is no date"),
        ({"attributes": {"types": {"mcc": "text"}}}, "allowed: category, number, boolean"),
        ({"attributes": {"times": {"age": {"colum": "x"}}}}, "'attributes.times.age.colum'"),
        ({"amount": {"column": "a", "rates": {"EUR": 1.0}}}, "needs amount.currency_column"),
        ({"outcome": {"column": "s"}}, "outcome needs outcome.approve_values"),
        (
            {"labels": {"column": "l", "delay_days": 1, "undecided_values": ["Yes"]}},
            "'Yes' is in labels.fraud_values and labels.undecided_values",
        ),
    ],
)
def test_messages_name_the_key_and_what_is_allowed(change: dict[str, Any], words: str) -> None:
    good = {
        "id": "ref",
        "files": {"path": "x.csv"},
        "time": {"column": "at"},
        "amount": {"column": "sum"},
    }
    with pytest.raises(ConfigurationError, match=words):
        parse_mapping(good | change, "m.toml")


def test_text_without_quotes_in_a_mapping_is_explained(tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text("id = ref\n")
    with pytest.raises(ConfigurationError, match="Text needs quotes"):
        load_mapping(tmp_path / "m.toml")
    (tmp_path / "m.toml").write_bytes('id = "Stra\u00dfe"\n'.encode("latin-1"))
    with pytest.raises(ConfigurationError, match=r"line 1 holds the byte 0xDF\."):
        load_mapping(tmp_path / "m.toml")


@pytest.mark.parametrize("columns", [18, 400])
def test_a_preview_fits_80_columns_and_checks_more_than_it_shows(
    columns: int, tmp_path: Path
) -> None:
    names = [f"{'abcdefgh'[i % 8]}_column_with_a_long_name_{i}" for i in range(columns)]
    rows = 2_000 if columns == 400 else 11_000
    lines = [
        ",".join([str(i), "1.50" if i % 10 else "x", "2024-03-01 10:00:00", "4111111111111111"])
        + "," + ",".join("some text" if k % 2 else "17" for k in range(columns))
        for i in range(rows)
    ]  # fmt: skip
    (tmp_path / "pay.csv").write_text(
        "\n".join([",".join(["ref", "sum", "at", "note", *names]), *lines])
    )
    (tmp_path / "m.toml").write_text(HEAD + AT + '[attributes]\nexempt = []\nexclude = ["note"]\n')
    seen = preview(open_source(tmp_path / "m.toml"), now_us=NOW_US)
    assert seen.sample.read >= min(rows, 10_000)
    assert seen.sample.rejected["invalid_amount"] == -(-seen.sample.read // 10)
    shown = text_of(render_preview(seen), 80)
    assert max(map(len, shown)) <= 80
    text = "\n".join(shown)
    assert "4111111111111111" not in text
    assert "some text" in text
    assert "the amount 'x' is not a number" in text
    assert sum(len(line.strip()) == 1 for line in shown) == 0  # no cell is cut to a letter
