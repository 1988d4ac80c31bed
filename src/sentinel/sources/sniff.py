"""How a file that nobody has described is written: delimiter, quotes, encoding, header."""

from __future__ import annotations

import codecs
import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import charset_normalizer

from sentinel.domain import ConfigurationError
from sentinel.sources.byte_streams import encoding_of, first_bytes
from sentinel.sources.csv_looks import class_of
from sentinel.sources.find_files import find_files
from sentinel.sources.layout import CsvLayout
from sentinel.sources.table_file import TableFile, translated
from sentinel.sources.table_set import columns_of

NO_UTF8: Final = "the text is no UTF-8"
"""How the note begins that says which encoding a text is read in."""
_HEAD_BYTES: Final = 256 << 10
_WHOLE_BYTES: Final = 64 << 20
"""So much of a small table is looked at."""
_LINES: Final = 200
_DELIMITERS: Final = (",", ";", "\t", "|", "~", "^", "\x01", " ")
_LONG_DELIMITERS: Final = ("||", "::", "~|~", "|~|")
_LIKELY: Final = 0.8
_SCRIPTS: Final = {
    "cp932": "Japanese",
    "gb18030": "Chinese",
    "big5": "Chinese",
    "cp949": "Korean",
    "cp1251": "Cyrillic",
}
_OWN_LETTERS: Final = (
    ("cp1254", "Turkish", "ĞİŞğış", "ÇÖÜçöüÂÎÛâîû"),
    ("cp1250", "Polish", "ĄĆĘŁŃŚŹŻąćęłńśźż", "Óó"),
    ("iso8859_2", "Polish", "ĄĆĘŁŃŚŹŻąćęłńśźż", "Óó"),
)
"""Languages with Latin letters that `cp1252` does not have: these, and the others they write."""
_WESTERN: Final = frozenset(
    "ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜßàáâãäåæçèéêëìíîïñòóôõöøùúûüÿŒœŠšŽž".encode("cp1252")
)
_WITHIN_WORDS: Final = re.compile(rb"(?<=[A-Za-z\x80-\xff])[\x80-\xff](?=[A-Za-z\x80-\xff])")
_OWN: Final = 0.8
"""Share of the bytes beyond ASCII within words that are a language's letters, if it is that."""
_MOSTLY_BEYOND: Final = 0.4
"""Share of bytes beyond ASCII, among those and ASCII letters, from which they tell a script."""


@dataclass(frozen=True)
class SniffedTable:
    """A table as it was found.

    Attributes:
        files: Its files, ready to be read; empty ones are left out.
        layout: How they are written, if they are text.
        names: The columns of all files together.
        notes: What was found out, and what is odd, in sentences.
        format: csv, json or parquet: of the first file.
    """

    files: tuple[TableFile, ...]
    layout: CsvLayout
    names: tuple[str, ...]
    notes: tuple[str, ...]
    format: str

    def settings(self) -> dict[str, Any]:
        """The keys of a mapping file's ``[files]`` that differ from their defaults."""
        default = CsvLayout()
        found: dict[str, Any] = {}
        for key in ("delimiter", "quote", "escape", "encoding", "skip_lines", "header"):
            value = getattr(self.layout, key)
            if value != getattr(default, key):
                found[key] = value
        if found.get("delimiter") == ",":
            del found["delimiter"]
        if self.layout.names:
            found["names"] = {str(place): name for place, name in self.layout.names.items()}
        return found


def sniff(path: Path | str | Sequence[Path | str], encoding: str = "") -> SniffedTable:
    """Open a file, a folder or a glob of which nothing is known.

    Args:
        path: As in ``find_files``.
        encoding: Of its text, if somebody knows it; a byte order mark decides all the same.

    Raises:
        ConfigurationError: There is no table, all files are empty, or the text is not of that
            encoding.
    """
    paths = [path] if isinstance(path, Path | str) else list(path)
    files = find_files([Path(item) for item in paths])
    notes: list[str] = []
    first = next((file for file in files if _size(file)), None)
    if first is None:
        raise ConfigurationError(f"{files[0].path} is empty: there is no row to look at.")
    layout = CsvLayout()
    if first.format == "csv":
        layout = _layout_of(first, notes, encoding)
    elif encoding and first.format == "json":
        layout = CsvLayout(encoding=encoding)
    elif encoding:
        notes.append(f"{first.name} is {first.format}, which has no encoding: {encoding} is unused")
    layout = _named_apart(replace(first, layout=layout), notes)
    files = tuple(replace(file, layout=layout) for file in files)
    columns = columns_of(files)
    notes.extend(columns.warnings)
    if not columns.files:
        raise ConfigurationError(f"{first.path} is empty: there is no row to look at.")
    return SniffedTable(columns.files, layout, tuple(columns.types), tuple(notes), first.format)


def encoding_of_text(path: Path | str) -> str:
    """The encoding of the text of a small table that nobody described, by all of its letters.

    Returns:
        ``utf8`` where it is UTF-8, names its encoding by a mark, or is no text; also where files
        of a folder differ, so that reading stops at what it cannot read.

    Raises:
        ConfigurationError: There is no such file.
    """
    found: set[str] = set()
    for file in find_files([Path(path)]):
        if file.format == "parquet":
            continue
        with translated(file):
            start = first_bytes(file.path, file.member, _WHOLE_BYTES)
        encoding, mark = encoding_of(start, "utf8")
        try:
            codecs.getincrementaldecoder(encoding)().decode(start[mark:])
        except UnicodeDecodeError as error:
            first = max(0, mark + error.start - _HEAD_BYTES // 2)
            found.add(_older_encoding(start[first : first + _HEAD_BYTES])[0])
        else:
            if not start.isascii():
                found.add("utf8")
    return found.pop() if len(found) == 1 else "utf8"


def _size(file: TableFile) -> int:
    with translated(file):
        return len(first_bytes(file.path, file.member))


def _layout_of(file: TableFile, notes: list[str], told: str = "") -> CsvLayout:
    with translated(file):
        start = first_bytes(file.path, file.member, _HEAD_BYTES)
    if told:
        CsvLayout(encoding=told)  # which refuses what nobody knows
    encoding, mark = encoding_of(start, told or "utf8")
    start = start[mark:]
    declared = "utf8" if mark else encoding
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(start)
    except UnicodeDecodeError as error:
        if told:
            line = start[: error.start].count(b"\n") + 1
            raise ConfigurationError(
                f"{file.path}: line {line} is no {told} text ({error.reason}). Leave the encoding "
                "out to have it told by the letters, or name the one that the file is written in."
            ) from None
        declared, script = _older_encoding(start)
        text = codecs.getincrementaldecoder(declared)().decode(start)
        notes.append(f"{NO_UTF8}; it is read as {declared} ({script})")
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    whole = lines[:-1] if len(start) >= _HEAD_BYTES - mark else lines
    whole = whole[:_LINES] or lines
    if any(line.lower().lstrip('"').startswith("sep=") for line in whole[:1]):
        delimiter = whole[0].rstrip("\n").strip('"')[4:].replace("\\t", "\t") or ","
        whole = whole[1:]
        by_line, skip = True, 0
    else:
        by_line = False
        delimiter, skip = ",", 0
    quote = _quote_of(whole)
    escape = _escape_of(whole, quote)
    if escape:
        notes.append(f"a quote inside a field is written {escape}{quote}")
        whole = [line.replace(escape + escape, "").replace(escape + quote, "") for line in whole]
    width = 1
    if by_line:
        rows = _split(whole, delimiter, quote)
    else:
        best: tuple[float, int, int] = (0.0, 0, 0)
        for rank, candidate in enumerate(_DELIMITERS):
            split = _split(whole, candidate, quote)
            common, share = _common_width(split)
            # A line or two of prose in front of the header must not tell two delimiters apart.
            # Blanks are in all prose, that of fields too: they get no such grace.
            found = (share if candidate == " " else round(share, 1), common, -rank)
            if common > 1 and found > best and share >= _least(candidate):
                best = found
                delimiter, width = candidate, common
        for candidate in _LONG_DELIMITERS:
            # Of "||" a single "|" makes as many fields more, all of them empty.
            common, share = _common_width(_split(whole, candidate, quote))
            if common > 1 and share > _LIKELY:
                delimiter, width = candidate, common
        rows = _split(whole, delimiter, quote)
        skip = _lines_before(whole, rows, width, delimiter)
        if skip:
            notes.append(f"{skip} lines before the header are skipped")
    if delimiter != ",":
        notes.append(f"fields are separated by {delimiter!r}")
    if quote == "'":
        notes.append("values are quoted by '")
    body = [row for row in rows[_first_row(rows, width, delimiter) :] if row]
    header = _has_header(body)
    if not header:
        notes.append("the first line is a row: there is no header")
    return CsvLayout(
        delimiter=delimiter,
        quote=quote,
        escape=escape,
        encoding=declared,
        skip_lines=skip,
        header=header,
    )


def _least(delimiter: str) -> float:
    """Share of lines that must agree; prose has blanks, too."""
    return 0.6 if delimiter == " " else 0.5


def _older_encoding(start: bytes) -> tuple[str, str]:
    """The encoding of a text that is no UTF-8, and whose letters it holds.

    Where most letters are beyond ASCII, their statistics tell the script. Where few are, the words
    that they stand in may be of a language with letters of its own. Else the text is Western
    European, and `cp1252` is what such files are written in.
    """
    beyond = sum(byte >= 0x80 for byte in start)
    letters = sum(chr(byte).isalpha() for byte in start if byte < 0x80)
    if beyond > _MOSTLY_BEYOND * (beyond + letters):
        # A block may end within a character, which would rule out the right encoding.
        whole = start[: start.rfind(b"\n") + 1] or start
        best = charset_normalizer.from_bytes(whole, cp_isolation=list(_SCRIPTS)).best()
        if best is not None and best.encoding in _SCRIPTS:
            return best.encoding, _SCRIPTS[best.encoding]
    found = _by_own_letters(start)
    if found is not None:
        return found
    try:
        start.decode("cp1252")
    except UnicodeDecodeError:  # five bytes have no meaning in it
        return "latin-1", "Western European"
    return "cp1252", "Western European"


def _by_own_letters(start: bytes) -> tuple[str, str] | None:
    """The encoding and language that explain the bytes within words better than `cp1252` does.

    Read as `cp1252`, ``Paweł`` is ``Pawe³`` and ``Şişli`` is ``Þiþli``: signs and Icelandic. Bytes
    at the end of a word do not count, since a sign may stand there, as in ``m³``.
    """
    within = Counter(found[0] for found in _WITHIN_WORDS.findall(start))
    total = within.total()
    best = sum(count for byte, count in within.items() if byte in _WESTERN) / max(total, 1)
    told: tuple[str, str] | None = None
    for encoding, language, own, others in _OWN_LETTERS:
        letters = frozenset((own + others).encode(encoding))
        share = sum(count for byte, count in within.items() if byte in letters) / max(total, 1)
        if share < _OWN or share <= best or within.keys().isdisjoint(own.encode(encoding)):
            continue
        try:
            start.decode(encoding)
        except UnicodeDecodeError:  # some bytes have no meaning in it
            continue
        best, told = share, (encoding, language)
    return told


def _quote_of(lines: list[str]) -> str:
    """The single quote if values of most lines stand in it, as BankSim's; else the double one."""
    single = sum(line.count("'") >= 2 and _stands_in(line, "'") for line in lines[1:])
    double = sum(line.count('"') >= 2 and _stands_in(line, '"') for line in lines[1:])
    return "'" if single > double and single > 0.5 * max(len(lines) - 2, 1) else '"'


def _escape_of(lines: list[str], quote: str) -> str:
    r"""The backslash if quotes inside fields are written ``\"``, else "".

    A backslash in front of a closing quote, as in ``"C:\temp\"``, is a pair by itself: only a
    pair that is followed by neither a delimiter nor the end of the line says so.
    """
    pair = re.compile(r"\\" + re.escape(quote) + r"(?=[^,;|\t\r\n])")
    doubled = sum(quote * 2 in line.replace(f"{quote * 2},", "") for line in lines)
    return "\\" if sum(bool(pair.search(line)) for line in lines) > doubled else ""


def _stands_in(line: str, quote: str) -> bool:
    return any(
        part[:1] == quote and part[-1:] == quote and len(part) > 1
        for delimiter in (",", ";", "\t", "|")
        for part in line.split(delimiter)
    )


def _split(lines: list[str], delimiter: str, quote: str) -> list[list[str]]:
    if len(delimiter) > 1:
        lines = [line.replace(delimiter, "\x1f") for line in lines]
        delimiter = "\x1f"
    reader = csv.reader(lines, delimiter=delimiter, quotechar=quote)
    rows: list[list[str]] = []
    try:
        rows.extend(reader)
    except csv.Error:
        return rows
    return rows


def _common_width(rows: list[list[str]]) -> tuple[int, float]:
    """The most common number of fields, and the share of rows that have it."""
    given = [len(row) for row in rows if row]
    if not given:
        return 0, 0.0
    counts = Counter(given)
    width = max(counts, key=lambda width: (counts[width], width))
    return width, counts[width] / len(given)


def _first_row(rows: list[list[str]], width: int, delimiter: str) -> int:
    """The first row with as many fields as the others have, of which most say something."""
    for index, row in enumerate(rows):
        following = rows[index + 1] if index + 1 < len(rows) else []
        fits = (
            len(row) == width
            or (len(row) == width + 1 and not row[-1])
            # Rows may end with a delimiter, or begin with a name, that the header lacks.
            or (
                index == 0
                and len(row) == width - 1
                and len(following) == width
                and (not following[-1] or delimiter in " \t")
            )
        )
        if fits and sum(map(bool, row)) * 2 >= width:
            return index
    return 0


def _lines_before(lines: list[str], rows: list[list[str]], width: int, delimiter: str) -> int:
    """Lines in front of the header, if each of them is a line of its own."""
    first = _first_row(rows, width, delimiter)
    several = any("\n" in field for row in rows[:first] for field in row)
    return first if len(lines) > first and not several else 0


def _has_header(rows: list[list[str]]) -> bool:
    """Whether the first row names columns: none of its values is such as the column has."""
    if len(rows) < 2:
        return bool(rows) and not any(class_of((value,)) in ("number", "date") for value in rows[0])
    first, rest = rows[0], rows[1:]
    same = different = 0
    for place, value in enumerate(first):
        column = tuple(row[place] for row in rest if place < len(row))
        kind = class_of(column)
        if kind in ("number", "date") and value.strip():
            if class_of((value,)) == kind:
                same += 1
            else:
                different += 1
    if same or different:
        return different > same
    return len(set(first)) == len(first) and not any(
        class_of((value,)) in ("number", "date") for value in first
    )


def _named_apart(file: TableFile, notes: list[str]) -> CsvLayout:
    """The layout with names by place where two columns have one name."""
    names: dict[int, str] = {}
    layout = file.layout
    header = file.header()
    seen = set(header)
    used: set[str] = set()
    for place, name in enumerate(header, 1):
        if name.strip() and name in used:
            number = 2
            while f"{name}_{number}" in seen:
                number += 1
            names[place] = f"{name}_{number}"
            seen.add(names[place])
            notes.append(
                f"two columns have the name {name!r}; the one in place {place} is read as "
                f"{names[place]!r}"
            )
        used.add(name)
    return replace(layout, names=names)
