"""Which tables a path means: files, folders, globs, archives, and folders named ``key=value``."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Final
from urllib.parse import unquote

from sentinel.domain import ConfigurationError
from sentinel.sources.byte_streams import first_bytes, foreign_kind, looks_like_json
from sentinel.sources.layout import CsvLayout, FileFormat
from sentinel.sources.table_file import TableFile, translated

_TEXT_SUFFIXES: Final = (".csv", ".tsv", ".txt", ".tab", ".psv", ".dat")
_JSON_SUFFIXES: Final = (".json", ".jsonl", ".ndjson")
_PARQUET_SUFFIXES: Final = (".parquet", ".pq", ".parq")
_PACKED: Final = ("", ".gz", ".bz2", ".xz", ".zst", ".zip")
_SUFFIXES: Final = (
    *(suffix + packed for suffix in _TEXT_SUFFIXES + _JSON_SUFFIXES for packed in _PACKED),
    *(suffix + packed for suffix in _PARQUET_SUFFIXES for packed in ("", ".zip")),
    ".zip",
)
_WILDCARD: Final = re.compile(r"[*?\[]")
_PARTITION: Final = re.compile(r"([^=/]+)=(.*)")
_HIVE_NULL: Final = "__HIVE_DEFAULT_PARTITION__"
_DOCUMENTS: Final = re.compile(r"(read[-_ ]?me|licen[cs]e|changelog|notes?)\b.*", re.IGNORECASE)


def find_files(
    pattern: Path | Sequence[Path],
    format: FileFormat | None = None,
    layout: CsvLayout | None = None,
) -> tuple[TableFile, ...]:
    """The tables that a path means, by name: of one file, a folder, a glob, or each of a list.

    In a folder all tables count, also those in folders named ``key=value``, whose keys become
    columns; other folders below it only if it holds no table itself. Hidden files and what
    operating systems leave behind (``._name``, ``__MACOSX``) are no tables. Of a zip archive
    all tables are read; ``archive.zip/name*.csv`` chooses some.

    Raises:
        ConfigurationError: There are none, their format cannot be told, or the tables of an
            archive have different headers.
    """
    layout = layout or CsvLayout()
    patterns = [pattern] if isinstance(pattern, Path) else list(pattern)
    found: dict[tuple[Path, str | None], TableFile] = {}
    for item in patterns:
        for table in _tables(item, format, layout):
            found.setdefault((table.path, table.member), table)
    if not found:
        raise ConfigurationError("files.path is an empty list; name at least one file.")
    return _with_labels(list(found.values()))


def _tables(pattern: Path, format: FileFormat | None, layout: CsvLayout) -> Iterable[TableFile]:
    archive = next((parent for parent in pattern.parents if _is_archive(parent)), None)
    if archive is not None:
        yield from _members(archive, str(pattern.relative_to(archive)), format, layout)
        return
    paths = _paths(pattern)
    if not paths:
        raise ConfigurationError(_nothing_at(pattern))
    remarks = _left_out(pattern) if pattern.is_dir() else ()
    for path in paths:
        partitions = () if path == pattern else _partitions(path)
        if _is_archive(path):
            for table in _members(path, "*", format, layout):
                yield replace(table, partitions=partitions, remarks=remarks)
        else:
            kind = format or format_of(path)
            yield TableFile(path, kind, layout, None, partitions, remarks=remarks)
        remarks = ()


def _nothing_at(pattern: Path) -> str:
    """Why no table was found at a path, and what to give."""
    if pattern.is_dir():
        named = ", ".join((*_TEXT_SUFFIXES, *_JSON_SUFFIXES, *_PARQUET_SUFFIXES))
        return (
            f"The folder {pattern} holds no tables: no file whose name ends in {named}, packed or "
            "not. Give the file itself if it is named otherwise."
        )
    if _WILDCARD.search(str(pattern)):
        return f"No file fits {pattern}; give a file, a folder or a glob such as payments/*.csv."
    if pattern.exists():
        return (
            f"{pattern} is a pipe or a device, which can be read once at most. A table is read "
            "several times: save it as a file first."
        )
    return f"There is no file or folder {pattern}; check the path and the folder it starts from."


def _paths(pattern: Path) -> list[Path]:
    if pattern.is_file():
        return [pattern]
    if pattern.is_dir():
        return _in_folder(pattern)
    # A glob is relative to somewhere: here, or the root of the file system.
    start = Path(pattern.anchor or ".")
    names = str(pattern.relative_to(pattern.anchor) if pattern.anchor else pattern)
    if not _WILDCARD.search(names):
        return []
    return sorted(path for path in start.glob(names) if path.is_file() and _is_visible(path.name))


def _in_folder(folder: Path) -> list[Path]:
    if (folder / "_delta_log").is_dir():
        raise ConfigurationError(
            f"{folder} is a Delta table, whose folder also holds files with deleted rows; "
            "write the table's current rows to Parquet or CSV files."
        )
    if (folder / "metadata").is_dir() and (folder / "data").is_dir():
        if any((folder / "metadata").glob("*.metadata.json")):
            raise ConfigurationError(
                f"{folder} is an Iceberg table, whose folder also holds files with deleted "
                "rows; write the table's current rows to Parquet or CSV files."
            )
    here = sorted(path for path in folder.iterdir() if _is_table(path))
    below = sorted(
        path for path in folder.iterdir() if path.is_dir() and _is_visible_folder(path.name)
    )
    partitions = [path for path in below if _PARTITION.fullmatch(path.name)]
    for inner in partitions if here else below:
        here.extend(_in_folder(inner))
    return here


def _left_out(folder: Path) -> tuple[str, ...]:
    """A sentence about folders with tables that are not read: there are tables beside them."""
    if not any(map(_is_table, folder.iterdir())):
        return ()
    below = sorted(
        path.name
        for path in folder.iterdir()
        if path.is_dir()
        and _is_visible_folder(path.name)
        and not _PARTITION.fullmatch(path.name)
        and any(_is_table(inner) for inner in path.rglob("*"))
    )
    if not below:
        return ()
    folders = ", ".join(below[:5])
    how = f'files.path = "{folder.name}/**/*" reads them too'
    return (f"the tables in {folders} below {folder.name} are not read; {how}",)


def _is_table(path: Path) -> bool:
    return path.is_file() and _is_visible(path.name) and path.name.lower().endswith(_SUFFIXES)


def _is_visible(name: str) -> bool:
    """No hidden file, and none that an operating system leaves behind."""
    return not name.startswith((".", "~$")) and name not in ("Thumbs.db", "desktop.ini")


def _is_visible_folder(name: str) -> bool:
    """Neither hidden, nor what macOS, Spark and others keep beside their files."""
    return not name.startswith((".", "_"))


def _is_archive(path: Path) -> bool:
    return path.is_file() and zipfile.is_zipfile(path) and not _is_parquet(path)


def _is_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


def _partitions(path: Path) -> tuple[tuple[str, str | None], ...]:
    """Keys and values of the folders right above a file."""
    found: list[tuple[str, str | None]] = []
    for folder in path.parents:
        match = _PARTITION.fullmatch(folder.name)
        if match is None:
            break
        value = unquote(match[2])
        found.append((unquote(match[1]), None if value == _HIVE_NULL else value))
    return tuple(reversed(found))


def _members(
    archive: Path, wanted: str, format: FileFormat | None, layout: CsvLayout
) -> list[TableFile]:
    with translated(TableFile(archive, "csv")), zipfile.ZipFile(archive) as content:
        names = [item.filename for item in content.infolist() if not item.is_dir()]
    workbook = "[Content_Types].xml" in names
    if workbook and any(name.startswith("xl/") for name in names):
        raise ConfigurationError(f"{archive} is an Excel workbook; save the sheet as CSV.")
    if "content.xml" in names and "mimetype" in names:
        raise ConfigurationError(
            f"{archive} is an OpenDocument spreadsheet; save the sheet as CSV."
        )
    visible = [
        name
        for name in names
        if _is_visible(PurePosixPath(name).name)
        and all(map(_is_visible_folder, PurePosixPath(name).parts[:-1]))
    ]
    chosen = sorted(
        name
        for name in visible
        if fnmatchcase(name, wanted) or fnmatchcase(PurePosixPath(name).name, wanted)
    )
    if wanted == "*":
        tables = [name for name in chosen if not _DOCUMENTS.fullmatch(PurePosixPath(name).name)]
        if len(tables) > 1:
            tables = [name for name in tables if name.lower().endswith(_SUFFIXES)] or tables
        chosen = tables or chosen
    listed = ", ".join(visible[:20]) + (" ..." if len(visible) > 20 else "")
    if not chosen:
        raise ConfigurationError(
            f"{archive} holds no table"
            + (f" named {wanted}" if wanted != "*" else "")
            + f". Its members: {listed or 'none'}."
        )
    files = [
        TableFile(archive, format or format_of(archive, name), layout, name) for name in chosen
    ]
    headers = [tuple(file.schema().names) for file in files]
    given = {frozenset(names) for names in headers if names}
    if len(given) > 1:
        raise ConfigurationError(
            f"{archive} holds several tables with different columns: {', '.join(chosen)}. "
            f'Choose by name: files.path = "{archive.name}/{chosen[0]}".'
        )
    return files


def format_of(path: Path, member: str | None = None) -> FileFormat:
    """The format of a file by its first bytes.

    Raises:
        ConfigurationError: It is no table.
    """
    with translated(TableFile(path, "csv", member=member)):
        start = first_bytes(path, member)
    if start.startswith(b"PAR1"):
        return "parquet"
    name = f"{path}/{member}" if member else str(path)
    if start.startswith(b"PK\x03\x04") and member is None:
        raise ConfigurationError(f"{name} is a zip archive that is damaged or not complete.")
    if start.startswith(b"PK\x03\x04"):
        raise ConfigurationError(f"{name} is a zip archive inside another one; unpack it first.")
    foreign = foreign_kind(start)
    if foreign is not None:
        raise ConfigurationError(f"{name} is {foreign}.")
    suffixes = [suffix.lower() for suffix in PurePosixPath(member or path.name).suffixes]
    if any(suffix in _PARQUET_SUFFIXES for suffix in suffixes) and start:
        return "parquet"  # reading it says what is wrong
    if looks_like_json(start):
        return "json"
    return "json" if any(suffix in _JSON_SUFFIXES for suffix in suffixes) else "csv"


def _with_labels(files: list[TableFile]) -> tuple[TableFile, ...]:
    """Files of which no two have the same name for people."""
    names = [file.name for file in files]
    twice = (
        {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else ()
    )
    if not twice:
        return tuple(files)
    paths = [file.path / file.member if file.member else file.path for file in files]
    shared = [list(path.parts) for path, name in zip(paths, names, strict=True) if name in twice]
    depth = 0
    while all(len(parts) > depth + 1 and parts[depth] == shared[0][depth] for parts in shared):
        depth += 1
    return tuple(
        replace(file, label=str(PurePosixPath(*path.parts[depth:]))) if name in twice else file
        for file, path, name in zip(files, paths, names, strict=True)
    )
