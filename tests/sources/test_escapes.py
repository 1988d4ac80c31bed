r"""Files that write a quote inside a field as ``\"`` are read whole, and are recognised as such."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.domain import ConfigurationError
from sentinel.sources.csv_escapes import Escapes
from sentinel.sources.layout import CsvLayout
from sentinel.sources.sniff import sniff
from tests.sources.csv_worlds import HEADER, as_csv, blocks, malformed, row, values, written

ESCAPED = CsvLayout(escape="\\")
TRICKY = st.text(st.sampled_from('ab "\\,;\n'), max_size=12)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(TRICKY, TRICKY), min_size=1, max_size=20), st.booleans())
def test_what_python_escapes_is_read_to_the_letter(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], all_quoted: bool
) -> None:
    """Quotes, delimiters and backslashes in any place; every value comes back as it was."""
    rows = [(a.replace("\n", " "), b.replace("\n", " ")) for a, b in rows]
    text = as_csv(
        [("ref", "first", "second"), *((f"p{n}", a, b) for n, (a, b) in enumerate(rows))],
        escapechar="\\",
        doublequote=False,
        quoting=1 if all_quoted else 0,
    )
    read = blocks(written(tmp_path_factory.mktemp("escaped"), text), ESCAPED)
    assert malformed(read) == []
    found = [[value or "" for value in line[1:]] for line in values(read)]
    assert found == [[a, b] for a, b in rows]


@pytest.mark.parametrize("cut", range(1, 16))
def test_where_a_block_ends_does_not_matter(cut: int) -> None:
    whole = rb'"a\"b\\",\\\"c\,d'
    escapes = Escapes("\\", '"', ",", "pay.csv")
    parts = b"".join(escapes.hidden([whole[:cut], whole[cut:]]))
    assert parts == b"".join(escapes.hidden([whole]))
    assert escapes.restored(parts.decode()) == '"a"b\\",\\"c,d'


def test_an_escaped_file_is_recognised(tmp_path: Path) -> None:
    lines = [row(n, f'"Joe \\"{n}\\" Bar"') for n in range(1, 30)]
    table = sniff(written(tmp_path, HEADER + "".join(lines)))
    assert table.settings()["escape"] == "\\"
    assert 'a quote inside a field is written \\"' in table.notes


@pytest.mark.parametrize("shop", ['"C:\\temp\\"', '"5 ""inch"""', "plain\\text", '"back\\\\"'])
def test_other_files_with_backslashes_are_not(tmp_path: Path, shop: str) -> None:
    table = sniff(written(tmp_path, HEADER + "".join(row(n, shop) for n in range(1, 30))))
    assert "escape" not in table.settings()


def test_the_message_about_an_escaped_quote_names_the_setting(tmp_path: Path) -> None:
    (line,) = malformed(blocks(written(tmp_path, HEADER + row(1, '"Joe \\"the\\" Bar"') + row(2))))
    assert 'files.escape = "\\\\"' in line.reason


def test_what_cannot_be_escaped_is_refused(tmp_path: Path) -> None:
    for escape, words in (("\\\\", "one ASCII"), ('"', "must differ")):
        with pytest.raises(ConfigurationError, match=words):
            CsvLayout(escape=escape)
    with pytest.raises(ConfigurationError, match=r"U\+001E"):
        blocks(written(tmp_path, HEADER + row(1, "a\x1eb")), ESCAPED)
