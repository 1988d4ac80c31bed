"""Whatever people point at (a folder, an archive, JSON, Parquet of any writer) is read or named."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import uuid
import zipfile
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sentinel.domain import ConfigurationError
from sentinel.sources.readers import CsvLayout, columns_of, find_files, sniff
from tests.sources.csv_worlds import blocks, firsts, malformed, values, written

TABLE = "ref,amount\np1,1\n"
OTHER = "ref,amount\np2,2\n"


def zipped(folder: Path, members: dict[str, str | bytes], name: str = "data.zip") -> Path:
    path = folder / name
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return path


def test_all_tables_of_an_archive_are_read_and_nothing_else(tmp_path: Path) -> None:
    path = zipped(
        tmp_path,
        {
            "export/": "",
            "__MACOSX/._jan.csv": "\0\5\x16\7",
            "export/._jan.csv": "\0\5",
            "export/.DS_Store": "x",
            "export/jan.csv": TABLE,
            "export/feb.csv": "amount,ref\n2,p2\n",
            "README.txt": "hello, world, this is no table",
        },
    )
    files = find_files(path)
    assert [file.name for file in files] == ["export/feb.csv", "export/jan.csv"]
    assert {row["ref"] for f in files for b in f.blocks(9) for row in b.rows.to_pylist()} == {
        "p1",
        "p2",
    }


def test_different_tables_of_an_archive_are_listed_and_can_be_chosen(tmp_path: Path) -> None:
    path = zipped(tmp_path, {"pay.csv": TABLE, "shops.csv": "shop,city\ns1,Ulm\n"})
    with pytest.raises(ConfigurationError, match=r"pay.csv, shops.csv.*data.zip/pay.csv"):
        find_files(path)
    assert firsts(blocks(path / "pay.csv")) == ["p1"]
    with pytest.raises(ConfigurationError, match=r"no table named x\.csv\. Its members: pay"):
        find_files(path / "x.csv")


def test_json_and_parquet_are_read_out_of_archives(tmp_path: Path) -> None:
    buffer = pa.BufferOutputStream()
    pq.write_table(pa.table({"ref": ["p1"]}), buffer)
    inside = {"a.parquet": buffer.getvalue().to_pybytes()}
    assert firsts(blocks(zipped(tmp_path, inside))) == ["p1"]
    assert firsts(blocks(zipped(tmp_path, {"a.json": '{"ref": "p1"}'}))) == ["p1"]
    assert firsts(
        blocks(zipped(tmp_path, {"a.csv.gz": gzip.compress(TABLE.encode(), mtime=0)}))
    ) == ["p1"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv.gz", gzip.compress(TABLE.encode(), mtime=0)),
        ("two.csv.gz", gzip.compress(b"ref,amount\n", mtime=0) + gzip.compress(b"p1,1\n", mtime=0)),
        ("a.csv", gzip.compress(TABLE.encode(), mtime=0)),
        ("a.csv.bz2", bz2.compress(TABLE.encode())),
        ("a.csv.xz", lzma.compress(TABLE.encode())),
        ("a.csv.zst", pa.compress(TABLE.encode(), codec="zstd", asbytes=True)),
        ("a.json.gz", gzip.compress(b'{"ref": "p1"}\n', mtime=0)),
        ("a.txt", b'{"ref": "p1"}\n'),
        ("export", TABLE.encode()),
    ],
    ids=["gz", "two gz", "gz by another name", "bz2", "xz", "zst", "json gz", "txt", "no name"],
)
def test_what_a_file_is_gets_told_by_its_content(tmp_path: Path, name: str, content: bytes) -> None:
    assert firsts(blocks(written(tmp_path, content, name))) == ["p1"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<!DOCTYPE html><html>", "HTML page"),
        (b"<payments><payment id='1'/></payments>", "XML document"),
        (b"-- a dump\nSET NAMES utf8;\nINSERT INTO p VALUES (1);\n", "SQL dump"),
        (b"INSERT INTO payments VALUES ('p1', '2025-01-01', 1.2);\n", "SQL dump"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "Excel"),
        (b"%PDF-1.7", "PDF"),
        (b"PK\x03\x04broken", "damaged"),
        (gzip.compress(TABLE.encode() * 99, mtime=0)[:-9], "complete"),
        (b"PAR1", "Parquet"),
        (b"SQLite format 3\0", "SQLite"),
    ],
)
def test_what_is_no_table_is_named_in_one_line(tmp_path: Path, content: bytes, words: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(ConfigurationError, match=words) as error:
        blocks(path)
    assert "\n" not in str(error.value)


def test_a_path_without_tables_says_whether_it_is_missing_or_holds_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"There is no file or folder .*march\.csv"):
        find_files(tmp_path / "march.csv")
    with pytest.raises(ConfigurationError, match=r"The folder .* holds no tables: .*\.csv"):
        find_files(tmp_path)
    with pytest.raises(ConfigurationError, match=r"No file fits .*\*\.csv"):
        find_files(tmp_path / "*.csv")


def test_a_workbook_and_json_that_are_called_csv_are_named(tmp_path: Path) -> None:
    book = zipped(tmp_path, {"[Content_Types].xml": "<x/>", "xl/workbook.xml": "<x/>"}, "a.csv")
    with pytest.raises(ConfigurationError, match="Excel workbook; save the sheet as CSV"):
        blocks(book)
    path = written(tmp_path, '{"ref": "p1"}\n')
    with pytest.raises(ConfigurationError, match="is JSON, not CSV"):
        columns_of(find_files(path, "csv"))


def test_folders_named_key_value_are_columns(tmp_path: Path) -> None:
    for day, shop in (("2024-03-01", "a%20b"), ("2024-03-02", "__HIVE_DEFAULT_PARTITION__")):
        written(tmp_path, TABLE, f"in/day={day}/shop={shop}/part-0.csv")
        written(tmp_path, "{}", f"in/day={day}/shop={shop}/.part-0.csv.crc")
    written(tmp_path, "", "in/_SUCCESS")
    wanted = [["p1", "1", "2024-03-01", "a b"], ["p1", "1", "2024-03-02", None]]
    for pattern in ("in", "in/*/*/*.csv", "in/**/*.csv"):
        assert values(blocks(tmp_path / pattern)) == wanted
    files = find_files(tmp_path / "in")
    assert len({file.name for file in files}) == 2
    assert files[0].schema().names == ["ref", "amount", "day", "shop"]
    assert [b.rows.schema.names for b in files[0].blocks(9, ["shop", "ref"])] == [["ref", "shop"]]


def test_folders_below_are_read_or_named(tmp_path: Path) -> None:
    written(tmp_path, TABLE, "deep/2024/03/a.csv")
    assert firsts(blocks(tmp_path / "deep")) == ["p1"]
    written(tmp_path, OTHER, "deep/b.csv")
    assert firsts(blocks(tmp_path / "deep")) == ["p2"]
    assert (
        "the tables in 2024 below deep are not read"
        in columns_of(find_files(tmp_path / "deep")).warnings[0]
    )
    (tmp_path / "deep" / "_delta_log").mkdir()
    with pytest.raises(ConfigurationError, match="Delta table"):
        find_files(tmp_path / "deep")


def test_where_files_of_one_table_differ_is_said(tmp_path: Path) -> None:
    for name, text in (
        ("1.csv", TABLE),
        ("2.csv", "amount,ref,new\n2,p2,x\n"),
        ("3.csv", "ref\np3\n"),
        ("4.csv", ""),
        ("5.csv", "ref,amount\n"),
        ("._1.csv", "\0\5\x16"),
        (".hidden.csv", "x"),
    ):
        written(tmp_path, text, f"in/{name}")
    files = find_files(tmp_path / "in")
    found = columns_of(files)
    assert [file.name for file in files] == ["1.csv", "2.csv", "3.csv", "4.csv", "5.csv"]
    assert list(found.types) == ["ref", "amount", "new"]
    assert found.warnings == (
        "4.csv is empty: it counts as no rows",
        "the column 'amount' is missing in 3.csv; it is not given there",
        "the column 'new' is only in 2.csv; elsewhere it is not given",
    )
    both = [tmp_path / "in" / "1.csv", tmp_path / "in" / "[12].csv"]
    assert [file.name for file in find_files(both)] == ["1.csv", "2.csv"]


def test_json_keeps_digits_and_flattens_objects(tmp_path: Path) -> None:
    first = {"id": 1234567890123456789, "v": 1.1, "card": {"bin": "007", "x": {"y": True}}}
    text = json.dumps(first) + "\n" + '{"id": 2, "v": 1.10, "tags": ["a", 1]}\n\n'
    (block,) = blocks(written(tmp_path, text, "a.jsonl"))
    assert block.rows.to_pylist() == [
        {"id": "1234567890123456789", "v": "1.1", "card.bin": "007", "card.x.y": "true"}
        | {"tags": None},
        {"id": "2", "v": "1.10", "card.bin": None, "card.x.y": None, "tags": ["a", "1"]},
    ]
    pretty = [{"id": n, "v": {"w": n}} for n in range(3)]
    for shape in (
        json.dumps(pretty),
        json.dumps(pretty, indent=2),
        "\n".join(json.dumps(item, indent=2) for item in pretty),
    ):
        assert values(blocks(written(tmp_path, shape, "b.json"))) == [
            [f"{n}"] * 2 for n in range(3)
        ]


def test_lines_that_are_no_json_are_rejected_by_line(tmp_path: Path) -> None:
    read = blocks(written(tmp_path, '{"id": 1}\n{"id": 2,\n[3]\n{"id": 4}', "a.jsonl"))
    assert firsts(read) == ["1", "4"]
    assert [(line.row, line.line) for line in malformed(read)] == [(2, 2), (3, 3)]
    assert malformed(read)[0].reason.startswith("line 2 is no JSON object")


def test_keys_that_only_late_objects_have_are_columns(tmp_path: Path) -> None:
    text = '{"id": 1, "v": 1}\n' * 10_001 + '{"id": 2, "late": {"key": 5}}\n'
    for more in ("", '{"id": 3, "v": "text"}\n'):
        (file,) = find_files(written(tmp_path, text + more, "a.jsonl"))
        assert file.schema().names == ["id", "v", "late.key"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"transactions": [{"id": 1}]}', "key 'transactions' holds the rows"),
        ('{"n": 1,\n "transactions": [{"id": 1}]}', "key 'transactions' holds the rows"),
        (json.dumps({"target": {str(n): "No" for n in range(2000)}}), "json_map"),
        ('[{"id": 1}, {"id": 2}', "never closed"),
        ('{"a.b": 1, "a": {"b": 2}}', "'a.b' stands in a JSON object twice"),
    ],
)
def test_json_that_is_no_table_is_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        blocks(written(tmp_path, text, "a.json"))


def test_parquet_of_any_writer_has_plain_types(tmp_path: Path) -> None:
    id_ = uuid.UUID("7ed4bffc-f189-40b0-9090-c58e1cba14b8")
    columns = {
        "uuid": (pa.array([id_.bytes, None], pa.uuid()), str(id_)),
        "fixed": (pa.array([id_.bytes, None], pa.binary(16)), id_.hex),
        "code": (pa.array([b"EUR", None], pa.binary(3)), "EUR"),
        "bytes": (pa.array([b"c-1", None]), "c-1"),
        "large": (pa.array(["x", None], pa.large_string()), "x"),
        "view": (pa.array(["x", None], pa.string_view()), "x"),
        "dictionary": (pa.array(["x", None]).dictionary_encode(), "x"),
        "json": (pa.array(["{}", None], pa.json_()), "{}"),
        "half": (pa.array([1.5, None], pa.float16()), 1.5),
        "decimal": (pa.array([Decimal("1.10"), None], pa.decimal128(9, 2)), Decimal("1.10")),
        "wide": (pa.array([Decimal("1.10"), None], pa.decimal256(60, 2)), "1.10"),
        "large id": (pa.array([2**63 + 1, None], pa.uint64()), 2**63 + 1),
        "list": (pa.array([[1], None]), [1]),
        "nothing": (pa.nulls(2), None),
    }
    struct = pa.array([{"a": 1, "b": {"c": "x"}}, None])
    table = pa.table({name: column for name, (column, _) in columns.items()} | {"s": struct})
    path = tmp_path / "a.parquet"
    pq.write_table(table, path)
    (file,) = find_files(path)
    (block,) = file.blocks(10)
    first, second = block.rows.to_pylist()
    assert first == {name: value for name, (_, value) in columns.items()} | {"s.a": 1, "s.b.c": "x"}
    assert set(second.values()) == {None}
    assert block.rows.schema == file.schema()
    assert next(file.blocks(10, ["s.b.c", "uuid"])).rows.to_pylist()[0] == {
        "s.b.c": "x",
        "uuid": str(id_),
    }


def test_parquet_files_may_differ_in_types_and_repeat_names(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    pq.write_table(
        pa.table({"ref": pa.array([], pa.null()), "v": pa.nulls(0)}), folder / "a.parquet"
    )
    pq.write_table(pa.table({"ref": ["p1"], "v": [1]}), folder / "b.parquet")
    pq.write_table(pa.table({"ref": ["p2"], "v": ["2.5"]}), folder / "c.parquet")
    found = columns_of(find_files(folder))
    assert found.warnings == (
        "the column 'v' has several types: int64 in b.parquet, string in c.parquet",
    )
    twice = pa.Table.from_arrays([pa.array([1.0]), pa.array([2.0])], names=["amount", "amount"])
    pq.write_table(twice, tmp_path / "twice.parquet")
    with pytest.raises(ConfigurationError, match="columns 1 and 2 both have the name 'amount'"):
        blocks(tmp_path / "twice.parquet")
    read = blocks(tmp_path / "twice.parquet", CsvLayout(names={2: "amount_eur"}))
    assert read[0].rows.to_pylist() == [{"amount": 1.0, "amount_eur": 2.0}]


@pytest.mark.parametrize(
    ("text", "settings", "names"),
    [
        (TABLE, {}, ["ref", "amount"]),
        ("ref;amount\np1;1,5\np2;2,5\n", {"delimiter": ";"}, ["ref", "amount"]),
        ("ref||amount\np1||1\np2||2\n", {"delimiter": "||"}, ["ref", "amount"]),
        ("ref\tamount\np1\t1\n", {"delimiter": "\t"}, ["ref", "amount"]),
        ("sep=;\nref;amount\np1;1\n", {"delimiter": ";"}, ["ref", "amount"]),
        ("step,customer\n0,'C1'\n1,'C2'\n", {"quote": "'"}, ["step", "customer"]),
        (
            "p1,2024-03-01,5\np2,2024-03-01,6\n",
            {"header": False},
            [f"column_{n}" for n in (1, 2, 3)],
        ),
        ("# by bank\n# 2024\nref,amount\np1,1\n", {"skip_lines": 2}, ["ref", "amount"]),
        (
            "ref,amount,amount\np1,1,2\n",
            {"names": {"3": "amount_2"}},
            ["ref", "amount", "amount_2"],
        ),
        ("ref,shop\np1,B\xe4cker\n".encode("latin-1"), {"encoding": "cp1252"}, ["ref", "shop"]),
        ("ref,shop\np1,Bäcker\n".encode("utf-16"), {}, ["ref", "shop"]),
        (
            ("取引番号,加盟店名\n" + "1,京都のカフェ\n2,東京駅の売店\n" * 20).encode("cp932"),
            {"encoding": "cp932"},
            ["取引番号", "加盟店名"],
        ),
        (
            ("номер,магазин\n" + "1,Продукты на углу\n2,Аптека у дома\n" * 20).encode("cp1251"),
            {"encoding": "cp1251"},
            ["номер", "магазин"],
        ),
        *(
            (
                f"{header}\n{line}\n".encode(encoding),
                {"delimiter": ";", "encoding": encoding},
                header.split(";"),
            )
            for encoding, header, line in (
                ("cp1254", "İşlem No;Üye İşyeri", "p1;Ünlü Çağdaş Büfe\np2;Yıldız"),
                ("cp1254", "ref;shop", "p1;Şişli Çarşısı\np2;Café du Monde\np3;Kadıköy İskele"),
                ("cp1250", "Nr zamówienia;Sprzedawca", "p1;Łódzka Księgarnia\np2;Paweł i Żółw"),
                ("iso8859_2", "Nr zamówienia;Sprzedawca", "p1;Kwiaciarnia Książęca\np2;Świąteczny"),
                # Letters of Western Europe, and of Iceland, that are others in those encodings.
                ("cp1252", "ref;shop", "p1;Prêt à Manger\np2;Piñata\np3;Fête"),
                ("cp1252", "ref;shop", "p1;Þorlákshöfn\np2;Bæjarins bestu\np3;Fríða ehf. Ísafirði"),
                ("cp1252", "ref;size", "p1;2 m³\np2;¿Qué?\np3;Müller"),
            )
        ),
        ('{"ref": "p1"}\n', {}, ["ref"]),
        (
            "Export of a bank\nas of 1 October\nref;amount;fee;shop\n" + "p1;1,50;0,02;x\n" * 120,
            {"delimiter": ";", "skip_lines": 2},
            ["ref", "amount", "fee", "shop"],
        ),
    ],
)
def test_what_nobody_described_is_sniffed(
    tmp_path: Path, text: str | bytes, settings: dict[str, object], names: list[str]
) -> None:
    found = sniff(written(tmp_path, text))
    assert found.settings() == settings
    assert list(found.names) == names
    assert sum(block.rows.num_rows for file in found.files for block in file.blocks(9)) >= 1


def test_a_pipe_or_a_device_is_named_and_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "payments.csv"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/null")):
        with pytest.raises(ConfigurationError, match=r"is a pipe or a device.* save it as a file"):
            find_files([path])
