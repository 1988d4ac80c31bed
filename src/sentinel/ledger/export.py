"""The ledger as partitioned Parquet: the offline store.

    TARGET/transactions/date=2024-03-01/part-000000000001-000000250000.parquet
    TARGET/labels/date=.../...        date = day of arrival
    TARGET/decisions/date=.../...     date = day of the event, as for transactions
    TARGET/voids/date=.../...         date = day of arrival; which transactions are void, and why
    TARGET/export.json                how far it is

A part is named by the sequences of the stretch of the log it was made from. Parts appear whole
or not at all. `export.json` moves on once all parts of a stretch are on disk; what a cut-short
export left beyond it is removed by the next.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Final, Literal

import msgspec
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from sentinel.domain import WorkspaceError
from sentinel.ingest.columns import numbers_as_text
from sentinel.ledger.base import Ledger
from sentinel.ledger.export_tables import by_date, decisions_table, log_tables, voids_table
from sentinel.ledger.timeline import timeline_at
from sentinel.log.entries import Group, fingerprint
from sentinel.log.schema import ATTRIBUTE_PREFIX

Progress = Callable[[str, int, int | None], None]
"""Called with the stage ("export"), entries done, and entries there are."""
Table = Literal["transactions", "labels", "decisions", "voids"]

STATE_FILE: Final = "export.json"
FORMAT: Final = 1

_STRETCH_ENTRIES: Final = 250_000
_STRETCH_BYTES: Final = 32 << 20
"""Of payload: a stretch this long fits in memory several times over."""
_DATE_OF: Final[dict[Table, str]] = {
    "transactions": "event_time_us",
    "labels": "received_at_us",
    "decisions": "event_time_us",
    "voids": "received_at_us",
}


class ExportState(msgspec.Struct, kw_only=True):
    """What `export.json` holds.

    Attributes:
        format: FORMAT.
        ledger: Fingerprint of the exported ledger's first group.
        exported_through: Sequence of the last entry exported.
        timeline: The log through that entry, see `sentinel.ledger.timeline`; empty if an older
            version exported it.
        is_text: For each attribute of the transactions, whether its column is text or numbers.
    """

    format: int = FORMAT
    ledger: str = ""
    exported_through: int = 0
    timeline: str = ""
    is_text: dict[str, bool] = {}


def export_parquet(
    ledger: Ledger,
    target: Path,
    *,
    anew: bool = False,
    progress: Progress = lambda *_: None,
) -> ExportState:
    """Bring a Parquet export up to the ledger.

    Writes only what came since the last time, in bounded memory. May be cut short at any point
    and called again. An attribute that is a number in some entries and text in others is text
    in all parts; parts written before that was known are rewritten.

    Args:
        ledger: What to export.
        target: Folder of the export; made where it does not exist.
        anew: Where it holds an export of another log, delete that and begin with the first entry.
        progress: Told how far it is.

    Returns:
        How far the export is now.

    Raises:
        WorkspaceError: The folder cannot be written, another export is writing it, or it holds
            an export of another ledger or of a newer Sentinel.
        LedgerUnavailable: The ledger cannot be read right now.
    """
    try:
        target.mkdir(parents=True, exist_ok=True)
        with FileLock(target / "export.lock", timeout=0):
            return _export(ledger, target, anew, progress)
    except Timeout:
        raise WorkspaceError(
            f"Another export is writing {target}; wait until it is done."
        ) from None
    except OSError as error:
        raise WorkspaceError(
            f"Cannot write {error.filename or target}: {error.strerror or error}. Free some space "
            "or make the folder writable, then export again: it goes on where it stopped."
        ) from error


def open_table(target: Path, table: Table) -> ds.Dataset:
    """A table of an export, with the columns that any of its parts has.

    Args:
        target: Folder of the export.
        table: Which one.

    Raises:
        WorkspaceError: Nothing was exported to the folder yet.
    """
    files = sorted(str(path) for path in (target / table).glob("date=*/part-*.parquet"))
    if not files:
        raise WorkspaceError(f"There are no {table} in {target}; run `sentinel export` first.")
    partitioning = ds.partitioning(pa.schema([("date", pa.string())]), flavor="hive")
    schemas = {pq.read_schema(file) for file in files}
    fields = pa.unify_schemas([*schemas, pa.schema([("date", pa.string())])])
    return ds.dataset(
        files,
        schema=fields,
        format="parquet",
        partitioning=partitioning,
        partition_base_dir=str(target / table),
    )


def _export(ledger: Ledger, target: Path, anew: bool, progress: Progress) -> ExportState:
    state = _load_state(target)
    first = timeline_at(ledger, 1)
    through = state.exported_through
    if (
        through > ledger.last_sequence()
        or (state.ledger and state.ledger != first)
        or (state.timeline and state.timeline != timeline_at(ledger, through))
    ):
        if not anew:
            raise _other_ledger(target)
        (target / STATE_FILE).unlink(missing_ok=True)
        for table in _DATE_OF:
            shutil.rmtree(target / table, ignore_errors=True)
        state = ExportState()
    if not first:
        return state
    state.ledger = first
    _remove_unfinished(target, state.exported_through)
    start, total = state.exported_through, ledger.last_sequence()
    progress("export", 0, total - start)
    for stretch in _stretches(ledger.groups(start)):
        _export_stretch(stretch, target, state)
        progress("export", state.exported_through - start, total - start)
    return state


def _export_stretch(groups: list[Group], target: Path, state: ExportState) -> None:
    through = groups[-1].first_sequence + groups[-1].entries - 1
    part = f"part-{groups[0].first_sequence:012d}-{through:012d}.parquet"
    transactions, labels = log_tables(groups, state.is_text)
    tables: dict[Table, pa.Table | None] = {
        "transactions": None
        if transactions is None
        else _settle_attributes(transactions, target, state),
        "labels": labels,
        "decisions": decisions_table(groups),
        "voids": voids_table(groups),
    }
    for table, rows in tables.items():
        if rows is not None:
            for date, of_day in by_date(rows, _DATE_OF[table]):
                _write_part(of_day, target / table / f"date={date}" / part)
    state.exported_through = through
    state.timeline = fingerprint(groups[-1])
    _write_whole(target / STATE_FILE, msgspec.json.format(msgspec.json.encode(state)))


def _settle_attributes(transactions: pa.RecordBatch, target: Path, state: ExportState) -> pa.Table:
    """Bring attribute columns to one kind per name, in these rows and in all parts."""
    found = {
        field.name.removeprefix(ATTRIBUTE_PREFIX): field.type == pa.string()
        for field in transactions.schema
        if field.name.startswith(ATTRIBUTE_PREFIX)
    }
    became_text = {n for n, is_text in found.items() if is_text and state.is_text.get(n) is False}
    if became_text:
        # The state says so only once all parts are rewritten; a cut-short rewrite is done again.
        for path in sorted((target / "transactions").glob("date=*/part-*.parquet")):
            _rewrite_as_text(path, became_text)
    state.is_text |= {n: is_text or state.is_text.get(n, False) for n, is_text in found.items()}
    return _texts(pa.table(transactions), {n for n in found if state.is_text[n]})


def _rewrite_as_text(path: Path, names: set[str]) -> None:
    table = pq.ParquetFile(path).read()
    changed = _texts(table, names)
    if changed.schema != table.schema:
        _write_part(changed, path)


def _texts(table: pa.Table, names: set[str]) -> pa.Table:
    """The table with these attributes as text."""
    for name in names:
        at = table.schema.get_field_index(ATTRIBUTE_PREFIX + name)
        if at >= 0 and table.schema.field(at).type == pa.float64():
            column = numbers_as_text(table.column(at).combine_chunks())
            table = table.set_column(at, ATTRIBUTE_PREFIX + name, column)
    return table


def _stretches(groups: Iterable[Group]) -> Iterator[list[Group]]:
    stretch: list[Group] = []
    entries = size = 0
    for group in groups:
        stretch.append(group)
        entries += group.entries
        size += len(group.payload)
        if entries >= _STRETCH_ENTRIES or size >= _STRETCH_BYTES:
            yield stretch
            stretch, entries, size = [], 0, 0
    if stretch:
        yield stretch


def _load_state(target: Path) -> ExportState:
    path = target / STATE_FILE
    try:
        state = msgspec.json.decode(path.read_bytes(), type=ExportState)
    except FileNotFoundError:
        return ExportState()
    except msgspec.DecodeError as error:
        raise WorkspaceError(
            f"{path} cannot be read: {error}. Delete the folder {target} and export anew."
        ) from error
    if state.format != FORMAT:
        raise WorkspaceError(
            f"The export in {target} has format {state.format}, this Sentinel writes {FORMAT}. "
            "Export to another folder."
        )
    return state


def _remove_unfinished(target: Path, exported_through: int) -> None:
    """Remove parts of a stretch that was not finished."""
    for table in _DATE_OF:
        folder = target / table
        for path in chain(folder.glob("date=*/part-*.parquet"), folder.glob("date=*/.*.new")):
            if path.suffix == ".new" or int(path.name.split("-")[1]) > exported_through:
                path.unlink()


def _write_part(table: pa.Table, path: Path) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    _write_whole(path, sink.getvalue())


def _write_whole(path: Path, content: bytes | pa.Buffer) -> None:
    """Write a file so that it is there whole, on disk, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    with fresh.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def _other_ledger(target: Path) -> WorkspaceError:
    return WorkspaceError(
        f"{target} holds an export of another ledger. Export to an empty folder, or delete it."
    )
