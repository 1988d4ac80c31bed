"""History and labels into the ledger."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from sentinel.domain import ConfigurationError, LedgerInUse
from sentinel.ingest.guard import Guard
from sentinel.ingest.tokens import remember_rules
from sentinel.ledger.base import Ledger
from sentinel.ledger.log import append_import, read_log
from sentinel.ledger.open import ledger_exists
from sentinel.log.schema import KIND_LABEL
from sentinel.pipeline.workspace import ledger_reader, ledger_writer
from sentinel.settings import Settings
from sentinel.sources.base import BoolMask, Source
from sentinel.sources.labels_file import labels_from_file, labels_of_mapping
from sentinel.sources.log import ImportRefused, log_batches
from sentinel.sources.mapping_file import LabelColumns
from sentinel.sources.progress import ProgressCallback, no_progress
from sentinel.sources.report import ImportReport
from sentinel.state.known_ids import KnownIds

_FOLDER: Final = "imports"

_ROW_BYTES: Final = 150
_ATTRIBUTE_BYTES: Final = 20
"""What a row, and each attribute of it, may take of the disk while it is imported. The Handbook's
rows, without attributes, take 58 bytes at most and 23 in the end."""


@dataclass(frozen=True)
class ImportResult:
    """What an import did.

    Attributes:
        report: Counts of what was read, accepted and rejected, and where the rejects are.
        first_sequence, last_sequence: Its entries in the log; first > last if there are none.
        clamped: Entries received before the end of the log as it was; they enter it with the
            time of that end.
        seconds: How long it took.
    """

    report: ImportReport
    first_sequence: int
    last_sequence: int
    clamped: int
    seconds: float


class ImportRecord(msgspec.Struct, frozen=True):
    """An import as the workspace remembers it.

    Attributes:
        source: Name of the source.
        started_at_us: When it began, microseconds UTC.
        finished: False while it runs, and for ever if it was interrupted.
        entries: Entries it added to the log.
    """

    source: str
    started_at_us: int
    finished: bool
    entries: int = 0


def import_history(
    settings: Settings,
    source: Source,
    *,
    now_us: int | None = None,
    allow_rejects: float = 1.0,
    progress: ProgressCallback = no_progress,
) -> ImportResult:
    """Check what a source gives, and append it to the ledger in log order.

    Rows that the ledger has already are counted apart, so that an interrupted import goes on
    where it was when it is started again.

    Args:
        settings: The deployment.
        source: Where transactions and labels come from.
        now_us: The clock, microseconds UTC; default: now. Later events are rejected, labels
            that arrive later are left out.
        allow_rejects: Largest share of rejected rows, 0 to 1. If more are rejected, nothing is
            imported.
        progress: Told of the stages "known", "read", "sort" and "log".

    Raises:
        WorkspaceError: A scorer holds the ledger; stop it first.
        ConfigurationError: The source has money of another scale than the deployment, the
            tokens of the workspace were made with another secret, or the disk has too little
            room.
        ImportRefused: Too much was rejected, or amounts are of several currencies.
        LedgerUnavailable: The disk is full or failing; what was appended before stays.
    """
    started = time.monotonic()
    now = time.time_ns() // 1000 if now_us is None else now_us
    name = _file_name(source.name, now)
    folder = settings.workspace / _FOLDER
    with ledger_writer(settings) as ledger:
        settings.workspace.mkdir(parents=True, exist_ok=True)
        check_room(source, settings.workspace, shutil.disk_usage(settings.workspace).free)
        _remember(folder / f"{name}.json", ImportRecord(source.name, now, finished=False))
        remember_rules(settings, source.token_fields, tuple(sorted(source.no_cards)))
        guard = Guard.of(settings)
        known, known_labels = _known(ledger, settings.state_dir, progress)
        before = ledger.last_sequence()
        clamped = 0
        with (
            _forgotten_if_refused(folder / f"{name}.json"),
            log_batches(
                source,
                now_us=now,
                rejects_path=folder / f"{name}-rejects.parquet",
                allow_rejects=allow_rejects,
                known=known,
                known_labels=known_labels,
                progress=progress,
                scale=settings.money.scale,
                guard=guard,
                work_folder=folder,
            ) as batches,
        ):
            for batch in batches:
                clamped += append_import(ledger, batch).clamped
        last = ledger.last_sequence()
        remember_rules(settings, {}, batches.report.look_alikes)
        _remember(
            folder / f"{name}.json",
            ImportRecord(source.name, now, finished=True, entries=last - before),
        )
    return ImportResult(batches.report, before + 1, last, clamped, time.monotonic() - started)


def import_labels(
    settings: Settings,
    path: Path,
    *,
    columns: LabelColumns | None = None,
    now_us: int | None = None,
    allow_rejects: float = 1.0,
    progress: ProgressCallback = no_progress,
) -> ImportResult:
    """Append the labels of a table to the ledger.

    Args:
        settings: The deployment.
        path: The file, a folder, or a glob; or a mapping file (.toml) whose labels have files
            of their own.
        columns: Which column is what; default: ``transaction_id``, ``verdict``,
            ``received_at`` and, if it is there, ``label_id``.
        now_us, allow_rejects, progress: See `import_history`.

    Raises:
        ConfigurationError: A column is missing.
        WorkspaceError: A scorer holds the ledger; send the labels to it, or stop it first.
    """
    if path.suffix == ".toml":
        source = labels_of_mapping(path)
    else:
        source = labels_from_file(path) if columns is None else labels_from_file(path, columns)
    try:
        return import_history(
            settings, source, now_us=now_us, allow_rejects=allow_rejects, progress=progress
        )
    except LedgerInUse as error:
        raise LedgerInUse(
            f"{error} A scorer that runs takes labels itself: send them with POST /labels."
        ) from None


def check_room(source: Source, folder: Path, free_bytes: int) -> None:
    """See that a disk has room for an import, before every row is read.

    Args:
        source: What is imported; where its rows are not counted cheaply, nothing is said.
        folder: On the disk.
        free_bytes: Of the disk.

    Raises:
        ConfigurationError: It has too little.
    """
    rows = source.row_count() or 0
    need = rows * (_ROW_BYTES + _ATTRIBUTE_BYTES * len(source.attributes))
    if need > free_bytes:
        raise ConfigurationError(
            f"An import of about {rows:,} rows may need {need / 1e9:.1f} GB, and "
            f"{free_bytes / 1e9:.1f} GB are free at {folder.resolve()}. Free some space, or name a "
            "folder on another disk with --workspace. Nothing was read yet."
        )


def known_transactions(settings: Settings) -> _Known | None:
    """The look-up of transactions that the ledger has; None if there is no ledger yet."""
    if not ledger_exists(settings):
        return None
    with ledger_reader(settings) as ledger:
        return _known(ledger, settings.state_dir, no_progress)[0]


def import_records(settings: Settings) -> list[ImportRecord]:
    """The imports of a workspace, oldest first, also those that were interrupted."""
    paths = (settings.workspace / _FOLDER).glob("*.json")
    return [msgspec.json.decode(path.read_bytes(), type=ImportRecord) for path in sorted(paths)]


def _file_name(source: str, now_us: int) -> str:
    moment = datetime.fromtimestamp(now_us / 1e6, UTC)
    return f"{moment:%Y%m%dT%H%M%S%f}-{re.sub(r'[^A-Za-z0-9_-]+', '-', source)}"


def _remember(path: Path, record: ImportRecord) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_bytes(msgspec.json.encode(record))
    partial.replace(path)


@contextmanager
def _forgotten_if_refused(path: Path) -> Iterator[None]:
    """An import that was refused was none: nothing of it is in the log."""
    try:
        yield
    except ImportRefused:
        path.unlink(missing_ok=True)
        raise


class _Known:
    """Which ids the ledger has, as sources ask for it."""

    def __init__(self, folder: Path) -> None:
        self._ids = KnownIds(folder)

    def add(self, ids: pa.Array) -> None:
        self._ids.add(ids.to_pylist())

    def __call__(self, ids: pa.Array) -> BoolMask:
        return self._ids.which(ids.to_pylist())


def _known(
    ledger: Ledger, folder: Path, progress: ProgressCallback
) -> tuple[_Known | None, _Known | None]:
    """The ids of the log's transactions and labels; None where the log is empty."""
    total = ledger.last_sequence()
    if total == 0:
        return None, None
    transactions, labels = _Known(folder), _Known(folder)
    for first, batch in read_log(ledger):
        is_label = pc.equal(batch.column("kind"), KIND_LABEL)
        transactions.add(batch.column("transaction_id").filter(pc.invert(is_label)))
        labels.add(batch.column("label_id").filter(is_label))
        progress("known", first + batch.num_rows - 1, total)
    return transactions, labels
