"""No row of a CSV file is lost: each record is read, or reported with its line and the reason."""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.domain import ConfigurationError
from sentinel.sources.csv_records import RecordScanner
from sentinel.sources.readers import CsvLayout, TableFile
from tests.sources.csv_worlds import (
    HEADER,
    as_csv,
    blocks,
    firsts,
    malformed,
    row,
    values,
    written,
)


@pytest.mark.parametrize("broken", [1, 2, 4])
@pytest.mark.parametrize("column", [0, 3, 4])
def test_a_quote_that_is_never_closed_costs_its_own_row(
    tmp_path: Path, broken: int, column: int
) -> None:
    lines = [row(number) for number in range(1, 5)]
    fields = lines[broken - 1].split(",")
    fields[column] = '"' + fields[column]
    lines[broken - 1] = ",".join(fields)
    read = blocks(written(tmp_path, HEADER + "".join(lines)))
    assert firsts(read) == [f"p{number}" for number in range(1, 5) if number != broken]
    (line,) = malformed(read)
    assert (line.row, line.line) == (broken, broken + 1)
    assert line.reason.startswith(f"line {broken + 1}: the field opens with a quote that is never")


def test_a_quote_in_the_middle_of_a_long_file_is_found_by_its_line(tmp_path: Path) -> None:
    """Larger than what is read at a time, with quoted fields of its own behind the stray quote."""
    count, broken = 150_000, 70_000
    shops = ["Shop", '"A, B and C"', '"say ""hello"""']
    lines = [row(n, '"5 inch' if n == broken else shops[n % 3]) for n in range(1, count + 1)]
    read = blocks(written(tmp_path, HEADER + "".join(lines)))
    assert sum(block.rows.num_rows for block in read) == count - 1
    (line,) = malformed(read)
    assert (line.row, line.line, line.text) == (broken, broken + 1, lines[broken - 1].rstrip())
    numbers = [number for block in read for number in block.row_numbers.tolist()]
    assert numbers == [n for n in range(1, count + 1) if n != broken]


@pytest.mark.parametrize("second", ['wheel 24"', '"24 inch', '24" wheel', '"24"" wheel'])
@pytest.mark.parametrize("apart", [1, 2, 50])
def test_rows_between_two_stray_quotes_stay_rows(tmp_path: Path, second: str, apart: int) -> None:
    """By the book the second quote may close the first; what is between them is a table."""
    shops = {2: '"5 inch', 2 + apart: second}
    text = HEADER + "".join(row(n, shops.get(n, "Shop")) for n in range(1, 60))
    read = blocks(written(tmp_path, text))
    lost = {line.row for line in malformed(read)}
    assert 2 in lost
    assert lost <= {2, 2 + apart}
    assert firsts(read) == [f"p{n}" for n in range(1, 60) if n not in lost]


@pytest.mark.parametrize("every", [1, 2, 10])
@pytest.mark.parametrize("column", [0, 3, 4])
def test_values_that_are_a_lone_quote_join_no_rows(tmp_path: Path, every: int, column: int) -> None:
    """Two of them make one field by the book, and a record of the right length."""
    lines = [row(n).rstrip().split(",") for n in range(40)]
    for fields in lines[::every]:
        fields[column] = '"'
    read = blocks(written(tmp_path, HEADER + "".join(",".join(f) + "\n" for f in lines)))
    assert [line.line for line in malformed(read)] == list(range(2, 42))[::every]
    assert sum(block.rows.num_rows for block in read) == 40 - len(lines[::every])


@pytest.mark.parametrize(
    "value", ["Main St 1\n\n12345, Town", "a\r\nb", "\n", 'say "hi",\nthen go', "1,2\n3,4\n5"]
)
@pytest.mark.parametrize("column", [0, 2, 4])
def test_a_value_of_several_lines_is_one_value(tmp_path: Path, value: str, column: int) -> None:
    rows = [[f"p{n}", "2024-03-01 10:00:00", f"{n}.50", f"c{n}", "Shop"] for n in range(1, 9)]
    rows[3][column] = value
    read = blocks(written(tmp_path, HEADER + as_csv(rows)))
    assert values(read) == rows
    assert not malformed(read)


def test_lines_that_are_no_rows_say_why(tmp_path: Path) -> None:
    text = (
        HEADER
        + row(1)
        + "p2,2024-03-01\n"
        + "p3,2024-03-01 10:00:00,1,234.50,c1,Shop\n"
        + row(4, '"Joe "the man" Smith"')
        + row(5, "a\0b")
        + "   \n\n"
        + row(6)
        + "p7,2024-03-0"
    )
    read = blocks(written(tmp_path, text))
    assert firsts(read) == ["p1", "p6"]
    assert [(line.line, line.reason.split(";")[0]) for line in malformed(read)] == [
        (3, "the line has 2 fields where the header has 5"),
        (4, "the line has 6 fields where the header has 5"),
        (5, "line 5: text follows the closing quote of a field"),
        (6, "line 6: the line holds a NUL byte, which is no text"),
        (10, "the line has 2 fields where the header has 5"),
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", [True, False])
def test_any_line_end_will_do(tmp_path: Path, end: str, last: bool) -> None:
    text = (HEADER + row(1) + row(2, '"A, B"')).replace("\n", end)
    read = blocks(written(tmp_path, text if last else text.removesuffix(end)))
    assert firsts(read) == ["p1", "p2"]
    mixed = HEADER + row(1).replace("\n", "\r") + row(2).replace("\n", "\r\n") + row(3)
    assert firsts(blocks(written(tmp_path, mixed))) == ["p1", "p2", "p3"]


def test_a_field_of_megabytes_is_a_field(tmp_path: Path) -> None:
    long = ("x" * 99 + "\n") * 45_000
    read = blocks(written(tmp_path, HEADER + row(1) + row(2, f'"{long}"') + row(3)))
    assert [len(value[4] or "") for value in values(read)] == [4, len(long), 4]


TEXT = st.text(st.sampled_from("ab 1,;|\t\"'\n.-é"), max_size=12)
TABLES = st.integers(0, 3).flatmap(lambda n: st.lists(st.lists(TEXT, min_size=n, max_size=n)))
DIALECTS = st.fixed_dictionaries(
    {
        "delimiter": st.sampled_from(",;\t|"),
        "quotechar": st.sampled_from("\"'"),
        "lineterminator": st.sampled_from(["\n", "\r\n"]),
        "quoting": st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL, csv.QUOTE_NONNUMERIC]),
    }
)


@settings(max_examples=60, deadline=None)
@given(
    table=TABLES,
    dialect=DIALECTS,
    encoding=st.sampled_from(["utf8", "utf-8-sig", "utf-16"]),
    stray=st.lists(st.floats(0, 0.999), max_size=3),
)
def test_what_python_writes_is_read_and_stray_quotes_lose_nothing(
    table: list[list[str]], dialect: dict[str, str], encoding: str, stray: list[float]
) -> None:
    # An id and a date in front, as payments have: what rows look like must be known.
    rows = [[f"p-{n}", f"2024-03-{n % 28 + 1:02d}", *more] for n, more in enumerate(table)]
    good = [[f"p-{n}", "2024-03-01", *("x" for _ in (table or [[]])[0])] for n in range(900, 920)]
    header = [f"c{n}" for n in range(len(good[0]))]
    text = as_csv([header, *good, *rows], **dialect)
    layout = CsvLayout(dialect["delimiter"], dialect["quotechar"], null_values=("never",))
    with tempfile.TemporaryDirectory() as folder:
        path = written(Path(folder), text.encode(encoding))
        read = blocks(path, layout)
        assert values(read) == good + rows
        assert not malformed(read)
        start = text.rindex("p-919")
        for share in stray:
            place = start + int(share * (len(text) - start))
            text = text[:place] + dialect["quotechar"] + text[place:]
        read = blocks(written(Path(folder), text.encode(encoding)), layout)
        kept = firsts(read)
        assert kept[:19] == [f"p-{n}" for n in range(900, 919)]
        # A stray quote may join two rows that quoted line ends join already, and no more.
        assert len(kept) + len(malformed(read)) >= len(good) + len(rows) - len(stray)


@settings(max_examples=60, deadline=None)
@given(text=st.text(st.sampled_from('ab,"\n\r'), max_size=60), cut=st.integers(1, 20))
def test_where_a_block_ends_does_not_matter(text: str, cut: int) -> None:
    """Records found in pieces are those found at once; every byte is in one of them."""
    data = text.encode()
    whole = RecordScanner(",", '"', 2).scan(data, final=True)
    scanner, buffer, clean, bad = RecordScanner(",", '"', 2), b"", b"", 0
    for start in [*range(0, len(data), cut), None]:
        buffer += b"" if start is None else data[start : start + cut]
        scan = scanner.scan(buffer, final=start is None)
        buffer = buffer[scan.taken :]
        clean += scan.clean
        bad += sum(len(record.text) for record in scan.bad)
    assert not buffer.strip()
    end = 0 if not data or data[-1:] in (b"\n", b"\r") else 1
    assert len(clean) + bad == len(data) + end
    assert len(whole.clean) + sum(len(record.text) for record in whole.bad) == len(data) + end


def test_text_of_another_encoding_is_refused_by_line_and_setting(tmp_path: Path) -> None:
    path = written(tmp_path, (HEADER + row(1) + row(2, "Bäcker")).encode("latin-1"))
    with pytest.raises(ConfigurationError, match=r"line 3 is no UTF-8.*files.encoding.*latin-1"):
        blocks(path)
    read = blocks(path, CsvLayout(encoding="latin-1"))
    assert values(read)[1][4] == "Bäcker"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_marked_and_evident_encodings_are_read_by_themselves(tmp_path: Path, encoding: str) -> None:
    read = blocks(written(tmp_path, (HEADER + row(1, '"Bäcker, M."')).encode(encoding)))
    assert values(read)[0][4] == "Bäcker, M."
    assert read[0].rows.schema.names[0] == "ref"


@pytest.mark.parametrize("delimiter", ["||", "::", "tab", "\t", "§", ";"])
def test_delimiters_of_any_length(tmp_path: Path, delimiter: str) -> None:
    mark = "\t" if delimiter == "tab" else delimiter
    text = (HEADER + row(1) + row(2)).replace(
        ",", mark
    ) + f'p3{mark}2024{mark}3{mark}c{mark}"a{mark}b"'
    read = blocks(written(tmp_path, text), CsvLayout(delimiter))
    assert firsts(read) == ["p1", "p2", "p3"]
    assert values(read)[2][4] == f"a{mark}b"


def test_an_impossible_layout_is_refused_in_one_line() -> None:
    for given_, words in (
        ({"quote": '""'}, "one ASCII character"),
        ({"delimiter": '"'}, "must differ"),
        ({"delimiter": "\n"}, "line end"),
        ({"encoding": "utf9"}, "utf9.*latin-1"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            CsvLayout(**given_)  # type: ignore[arg-type]


def test_two_columns_of_one_name_are_refused_until_they_are_named(tmp_path: Path) -> None:
    path = written(tmp_path, "ref,amount,amount\np1,1,2\n")
    with pytest.raises(ConfigurationError, match="columns 2 and 3 both have the name 'amount'"):
        TableFile(path, "csv").schema()
    read = blocks(path, CsvLayout(names={3: "amount_eur"}))
    assert read[0].rows.to_pylist() == [{"ref": "p1", "amount": "1", "amount_eur": "2"}]


@pytest.mark.parametrize(
    ("text", "layout", "names", "first"),
    [
        (",ref\n0,p1\n", CsvLayout(), ["column_1", "ref"], "0"),
        ("p1,5\np2,6\n", CsvLayout(header=False, names={1: "ref"}), ["ref", "column_2"], "p1"),
        ("ref,amount\np1,1,\np2,2,\n", CsvLayout(), ["ref", "amount", "column_3"], "p1"),
        ("ref,amount,\np1,1\np2,2\n", CsvLayout(), ["ref", "amount"], "p1"),
        ("Bank\n\n\nref,amount\np1,1\n", CsvLayout(skip_lines=1), ["ref", "amount"], "p1"),
        ("sep=;\nref;amount\np1;1,5\n", CsvLayout(), ["ref", "amount"], "p1"),
        ("sep=\t\r\nref\tamount\r\np1\t1\r\n", CsvLayout(), ["ref", "amount"], "p1"),
        ("ref|amount\np1|1,5\n", CsvLayout(), ["ref", "amount"], "p1"),
        ("'ref','amount'\n'p1','4.55'\n", CsvLayout(quote="'"), ["ref", "amount"], "p1"),
        ("ref,amount\r\np1,1\r\n\x1a", CsvLayout(), ["ref", "amount"], "p1"),
    ],
)
def test_headers_as_people_have_them(
    tmp_path: Path, text: str, layout: CsvLayout, names: list[str], first: str
) -> None:
    read = blocks(written(tmp_path, text), layout)
    assert read[0].rows.schema.names == names
    assert firsts(read)[0] == first
    assert not malformed(read)


def test_a_header_that_opens_a_quote_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, 'ref,"amount,shop\n' + "p1,1,a\n" * 40)
    with pytest.raises(ConfigurationError, match="line 1, the header, opens a field with a quote"):
        blocks(path)


def test_texts_that_mean_nothing_by_column(tmp_path: Path) -> None:
    layout = CsvLayout(null_values=("", "-"), null_values_by_column={"shop": ("NA",)})
    read = blocks(written(tmp_path, HEADER + row(1, "NA") + row(2, "-") + "NA,,1,c,s\n"), layout)
    assert [value[4] for value in values(read)] == [None, None, "s"]
    assert firsts(read) == ["p1", "p2", "NA"]


def test_a_file_full_of_lines_that_are_no_rows_names_each_of_them(tmp_path: Path) -> None:
    text = HEADER + "\n" + row(1) + "no row\n\n" * 30_000
    read = blocks(written(tmp_path, text))
    assert firsts(read) == ["p1"]
    assert [line.line for line in malformed(read)] == list(range(4, 60_004, 2))
