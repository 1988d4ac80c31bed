"""Which tables lie at the paths that a user names, and their rows for the profile."""

from __future__ import annotations

import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from sentinel.domain import ConfigurationError
from sentinel.propose.profile import TableProfile, TableProfiler
from sentinel.sources.byte_streams import first_bytes
from sentinel.sources.columns import id_column
from sentinel.sources.find_files import find_files
from sentinel.sources.progress import ProgressCallback, no_progress
from sentinel.sources.sniff import SniffedTable, sniff

_CHUNK_ROWS: Final = 65_536
_HEAD: Final = 65_536
_STRING: Final = r'"((?:[^"\\]|\\.)*)"'
_MAP_START: Final = re.compile(
    rf"^\s*{{\s*(?:{_STRING}\s*:\s*{{\s*)?{_STRING}\s*:\s*(\"[^\"]*\"|true|false|\d+)\s*[,}}]"
)
_ENTRY: Final = re.compile(rf"{_STRING}\s*:\s*(\"[^\"]*\"|true|false|-?\d+)")
_TABLE: Final = re.compile(r"\.(csv|tsv|txt|json|jsonl|ndjson|parquet)$", re.IGNORECASE)
STAGE: Final = "Looking at every row"


@dataclass(frozen=True)
class LabelMap:
    """A JSON object of ids and verdicts.

    Attributes:
        path: The file.
        key: Where in it the object is; empty if it is the whole file.
        counts: How often each verdict stands there.
    """

    path: Path
    key: str
    counts: dict[str, int]


@dataclass(frozen=True)
class Tables:
    """What lies at the paths.

    Attributes:
        main: The payments.
        paths: As a mapping names them.
        labels: A JSON object of verdicts, if there is one.
        others: Further tables, by name.
    """

    main: SniffedTable
    paths: tuple[str, ...]
    labels: LabelMap | None
    others: tuple[tuple[str, SniffedTable], ...]

    def files(self) -> dict[str, Any]:
        """The keys of a mapping's table ``[files]``."""
        path: str | list[str] = list(self.paths) if len(self.paths) > 1 else self.paths[0]
        return {"path": path, **self.main.settings()}

    @property
    def bytes(self) -> int:
        """Size of the payments' files."""
        return sum(path.stat().st_size for path in {file.path for file in self.main.files})


def look(paths: Sequence[Path], encoding: str = "") -> Tables:
    """Find the payments among the files at some paths.

    Files with the same columns are one table. Of several tables the largest holds the payments.

    Args:
        paths: Files, folders, globs or archives.
        encoding: Of their text; empty: told by its letters.

    Raises:
        ConfigurationError: There is no table, or its text is not of that encoding.
    """
    maps: list[LabelMap] = []
    groups: dict[frozenset[str], list[tuple[Path, SniffedTable]]] = {}
    for path in _each(paths):
        found = label_map(path)
        if found is not None:
            maps.append(found)
            continue
        try:
            table = sniff(path, encoding)
        except ConfigurationError:
            if _is_empty(path):
                continue
            raise
        groups.setdefault(frozenset(table.names), []).append((path, table))
    if not groups:
        listed = ", ".join(map(str, paths))
        raise ConfigurationError(
            f"{listed} is empty (0 bytes); there is no table of payments to look at."
            if len(paths) == 1 and _is_empty(paths[0])
            else f"There is no table of payments at {listed}."
        )
    sizes = {key: sum(_size(path) for path, _ in group) for key, group in groups.items()}
    best = max(groups, key=lambda key: sizes[key])
    members = [path for path, _ in groups[best]]
    others = tuple((path.name, t) for key, g in groups.items() if key != best for path, t in g)
    whole = len(groups) == 1 and not maps
    shown = list(paths) if whole else members
    main = groups[best][0][1]
    if len(members) > 1:
        main = sniff([_found(path) for path in shown], encoding)
    named = tuple(_found(path).resolve().as_posix() for path in shown)
    return Tables(main, named, maps[0] if maps else None, others)


def profile_table(
    table: SniffedTable, name: str, progress: ProgressCallback = no_progress
) -> tuple[TableProfile, int]:
    """Read all rows of a table once.

    Returns:
        The profile, and the number of lines that are no rows of the table.
    """
    profiler = TableProfiler(name)
    counts = [file.row_count() for file in table.files]
    total = None if None in counts else sum(count for count in counts if count is not None)
    progress(STAGE, 0, total)
    broken = 0
    for file in table.files:
        for block in file.blocks(_CHUNK_ROWS):
            broken += len(block.malformed)
            if block.rows.num_rows:
                profiler.add(block.rows)
                progress(STAGE, profiler.rows, total)
    progress(STAGE, profiler.rows, profiler.rows)
    return profiler.finish(), broken


def head_of(table: SniffedTable, name: str) -> TableProfile:
    """The profile of a table's first rows."""
    profiler = TableProfiler(name)
    for batch in _batches(table):
        profiler.add(batch)
        break
    return profiler.finish()


def label_map(path: Path) -> LabelMap | None:
    """The file as a JSON object of ids and verdicts; None if it is something else."""
    if path.suffix.lower() != ".json" or not path.is_file():
        return None
    start = first_bytes(path, None, _HEAD).decode("utf8", "replace").lstrip("\ufeff")
    match = _MAP_START.match(start)
    if match is None:
        return None
    values = Counter(_plain(value) for _, value in _ENTRY.findall(start))
    if len(values) > 12 or sum(values.values()) < 2:
        return None
    return LabelMap(path, match[1] or "", dict(values))


def verdicts_in(labels: LabelMap, wanted: set[str]) -> tuple[dict[str, str], Counter[str]]:
    """The verdicts of some ids, and how often each verdict stands in the whole file."""
    found: dict[str, str] = {}
    counts: Counter[str] = Counter()
    rest = ""
    with labels.path.open(encoding="utf8") as file:
        while block := file.read(1 << 22):
            text = rest + block
            end = 0
            for match in _ENTRY.finditer(text):
                end = match.end()
                verdict = _plain(match[2])
                counts[verdict] += 1
                if match[1] in wanted:
                    found[match[1]] = verdict
            rest = text[end:] if end else text
    return found, counts


def verdicts_of(table: SniffedTable, key: str, column: str, wanted: set[str]) -> dict[str, str]:
    """The verdicts of some ids in a table of ids and verdicts."""
    found: dict[str, str] = {}
    for batch in _batches(table):
        ids = id_column(batch.column(batch.schema.get_field_index(key))).to_pylist()
        said = id_column(batch.column(batch.schema.get_field_index(column))).to_pylist()
        found.update(
            (name, verdict)
            for name, verdict in zip(ids, said, strict=True)
            if verdict is not None and name in wanted
        )
    return found


def _plain(value: str) -> str:
    return value.strip('"')


def _batches(table: SniffedTable) -> Iterator[pa.RecordBatch]:
    for file in table.files:
        for block in file.blocks(_CHUNK_ROWS):
            if block.rows.num_rows:
                yield block.rows


def _each(paths: Sequence[Path]) -> Iterator[Path]:
    """The single tables at the paths: files, and members of archives as paths below them."""
    for path in paths:
        if path.is_dir():
            for file in sorted({table.path for table in find_files(path)} | _maps_in(path)):
                yield from _members(file)
        elif path.is_file():
            yield from _members(path)
        else:
            for file in sorted({table.path for table in find_files(path)}):
                yield from _members(file)


def _maps_in(folder: Path) -> set[Path]:
    return {path for path in folder.glob("*.json") if label_map(path) is not None}


def _members(path: Path) -> Iterator[Path]:
    if not zipfile.is_zipfile(path) or path.suffix.lower() in (".parquet", ".pq"):
        yield path
        return
    with zipfile.ZipFile(path) as archive:
        names = [
            item.filename
            for item in archive.infolist()
            if not item.is_dir()
            and item.file_size
            and not any(part.startswith((".", "__")) for part in Path(item.filename).parts)
            and re.search(
                r"\.(csv|tsv|txt|json|jsonl|ndjson|parquet)$", item.filename, re.IGNORECASE
            )
        ]
    if len(names) <= 1:
        yield path
    else:
        yield from (path / name for name in names)


def _found(path: Path) -> Path:
    return path


def _size(path: Path) -> int:
    if path.exists():
        return path.stat().st_size
    for parent in path.parents:
        if parent.is_file():
            with zipfile.ZipFile(parent) as archive:
                return archive.getinfo(str(path.relative_to(parent))).file_size
    return 0


def _is_empty(path: Path) -> bool:
    return path.is_file() and path.stat().st_size == 0
