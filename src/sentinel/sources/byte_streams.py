"""The bytes of a file as UTF-8 text in blocks: unpacked, out of archives, whatever their encoding.

What a file is gets told by its first bytes; its name is only a hint. Compressed files (gzip,
bzip2, xz, zstd) and members of zip archives are unpacked while they are read.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import lzma
import re
import zipfile
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from sentinel.domain import ConfigurationError

_BOMS: Final = (
    (codecs.BOM_UTF8, "utf8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

_FOREIGN: Final = (
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook (.xls); save it as CSV"),
    (b"ARROW1", "an Arrow (Feather) file; write it as Parquet"),
    (b"ORC", "an ORC file; write it as Parquet"),
    (b"Obj\x01", "an Avro file; write it as Parquet or CSV"),
    (b"SQLite format 3", "an SQLite database; export the table as CSV"),
    (b"%PDF", "a PDF document; export the table as CSV"),
    (b"7z\xbc\xaf", "a 7z archive; unpack it first"),
    (b"Rar!", "a RAR archive; unpack it first"),
    (b"\x89HDF", "an HDF5 file; write it as Parquet"),
    (b"\x89PNG", "a picture; export the table as CSV"),
    (b"\xff\xd8\xff", "a picture; export the table as CSV"),
)

_SQL: Final = re.compile(
    rb"(--[^\n]*\n\s*|/\*.*?\*/;?\s*)*"
    rb"(insert into|create table|drop table|set names|set \w+ ?=)"
)

COMPRESSED_SUFFIXES: Final = (".gz", ".bz2", ".xz", ".zst", ".zip")


@contextmanager
def open_bytes(path: Path, member: str | None = None) -> Iterator[Any]:
    """A file, or a member of a zip archive, unpacked, as an object with ``read(size)``."""
    with ExitStack() as stack:
        stream: Any
        if member is not None:
            archive = stack.enter_context(zipfile.ZipFile(path))
            stream = stack.enter_context(archive.open(member))
            start = stream.read(6)
            stream.seek(0)
        else:
            stream = stack.enter_context(path.open("rb"))
            start = stream.read(6)
            stream.seek(0)
        if start[:2] == b"\x1f\x8b":
            stream = stack.enter_context(gzip.GzipFile(fileobj=stream))
        elif start[:3] == b"BZh":
            stream = stack.enter_context(bz2.BZ2File(stream))
        elif start == b"\xfd7zXZ\0":
            stream = stack.enter_context(lzma.LZMAFile(stream))
        elif start[:4] == b"\x28\xb5\x2f\xfd":
            stream = stack.enter_context(
                pa.CompressedInputStream(pa.PythonFile(stream, mode="r"), "zstd")
            )
        yield stream


def is_compressed(path: Path) -> bool:
    """Whether the file's size says little about its rows."""
    return path.suffix.lower() in COMPRESSED_SUFFIXES


def first_bytes(path: Path, member: str | None = None, size: int = 1024) -> bytes:
    """The first bytes, unpacked."""
    with open_bytes(path, member) as stream:
        return bytes(stream.read(size))


def foreign_kind(start: bytes) -> str | None:
    """What a file that is no text table is, and what to do; None if it may be text.

    >>> foreign_kind(b"%PDF-1.7")
    'a PDF document; export the table as CSV'
    >>> foreign_kind(b"a,b") is None, foreign_kind(b"MZ" + bytes(9))
    (True, 'a binary file, no text; export the table as CSV')
    """
    for magic, kind in _FOREIGN:
        if start.startswith(magic):
            return kind
    if start[257:262] == b"ustar":
        return "a tar archive; unpack it first"
    text = start.lstrip(codecs.BOM_UTF8 + b" \t\r\n").lower()
    if text.startswith((b"<!doctype", b"<html", b"<table")):
        return "an HTML page; export the table as CSV (a download may need a login)"
    if re.match(rb"<(\?xml|workbook|[a-z_][\w.:-]*[\s/>])", text):
        return "an XML document; export the table as CSV"
    if re.match(_SQL, text):
        return "an SQL dump; load it into its database and export the table as CSV"
    if b"\0\0\0\0" in start and not start.startswith(tuple(bom for bom, _ in _BOMS)):
        return "a binary file, no text; export the table as CSV"
    return None


def looks_like_json(start: bytes) -> bool:
    """Whether text begins with an object that has a key, or with an array of objects.

    >>> looks_like_json(b'{"id": 1}'), looks_like_json(b"id,amount")
    (True, False)
    """
    text = start.lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n\0")
    return bool(re.match(rb'\{[\s\0]*("|\}|$)|\[[\s\0]*(\{|\])', text))


def encoding_of(start: bytes, declared: str) -> tuple[str, int]:
    r"""Encoding by the byte order mark, by zeros in every other byte, else as declared.

    Returns:
        The encoding, and the length of the mark.

    >>> encoding_of(b"\xff\xfea\x00", "utf8")
    ('utf-16-le', 2)
    >>> encoding_of(b"a\x00b\x00,\x00c\x00", "utf8")
    ('utf-16-le', 0)
    """
    for mark, encoding in _BOMS:
        if start.startswith(mark):
            return encoding, len(mark)
    name = codecs.lookup(declared).name
    if name == "utf-8":
        head = start[:256]
        even, odd = (2 * part.count(0) / max(len(head), 1) for part in (head[0::2], head[1::2]))
        if len(head) >= 8 and max(even, odd) > 0.9 and min(even, odd) < 0.1:
            return ("utf-16-be" if even > odd else "utf-16-le"), 0
        return "utf8", 0
    return {"utf-16": "utf-16-le", "utf-8-sig": "utf8"}.get(name, name), 0


def utf8_blocks(
    path: Path, member: str | None, encoding: str, first_size: int, size: int
) -> Generator[bytes]:
    """The text as UTF-8 in blocks that need not end at a line end, without byte order mark.

    UTF-8 itself is passed on unchecked (see ``check_utf8``): a block may end within a character.

    Args:
        path: The file.
        member: Of a zip archive.
        encoding: As declared.
        first_size: Bytes of the first block; each next one is twice as long, up to ``size``.
        size: Bytes of a block.
    """
    with open_bytes(path, member) as stream:
        start = bytes(stream.read(first_size))
        actual, mark = encoding_of(start, encoding)
        decoder = None if actual == "utf8" else codecs.getincrementaldecoder(actual)()
        block, lines = start[mark:], 1
        while block:
            if decoder is None:
                yield block
            else:
                text = _decoded(decoder, block, False, path, actual, lines)
                lines += text.count("\n")
                if text:
                    yield text.encode("utf8")
            first_size = min(first_size * 2, size)
            block = bytes(stream.read(first_size))
        if decoder is not None:
            rest = _decoded(decoder, b"", True, path, actual, lines)
            if rest:
                yield rest.encode("utf8")


def _decoded(
    decoder: codecs.IncrementalDecoder,
    block: bytes,
    final: bool,
    path: Path,
    encoding: str,
    lines: int,
) -> str:
    try:
        return decoder.decode(block, final)
    except UnicodeDecodeError as error:
        line = lines + bytes(error.object[: error.start]).decode(encoding, "ignore").count("\n")
        raise ConfigurationError(
            f"{path}: line {line} is no {encoding} text ({error.reason}); set files.encoding "
            "(of labels: labels.encoding, or --encoding of `sentinel import-labels`) "
            'to the encoding of the file, such as "utf8", "latin-1" or "cp1252".'
        ) from None


def check_utf8(block: bytes, name: str, first_line: int) -> None:
    """Raise ``ConfigurationError`` that names the line of the first byte that is no UTF-8."""
    if block.isascii():
        return
    try:
        block.decode("utf8")
    except UnicodeDecodeError as error:
        before = block[: error.start]
        line = first_line + before.count(b"\n") + before.replace(b"\r\n", b"").count(b"\r")
        raise ConfigurationError(
            f"{name}: line {line} is no UTF-8 text (byte 0x{block[error.start]:02x}); set "
            "files.encoding (of labels: labels.encoding, or --encoding of `sentinel "
            'import-labels`) to the encoding of the file, such as "latin-1" or "cp1252".'
        ) from None
