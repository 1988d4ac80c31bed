"""The Parquet export in S3: published as a whole, read as a whole.

sentinel export s3://bucket/offline

table = open_stored_table(StoredFolder(settings.s3, "s3://bucket/offline"), "transactions")
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow import fs

from sentinel.domain import ObjectStoreUnavailable, WorkspaceError
from sentinel.ledger.export import ExportState, Progress, Table
from sentinel.object_store.folder import Published, StoredFolder
from sentinel.object_store.store import address_of, addressing
from sentinel.settings import S3Settings

TABLES: tuple[Table, ...] = ("transactions", "labels", "decisions")


def publish_export(
    source: Path, state: ExportState, folder: StoredFolder, *, progress: Progress
) -> Published:
    """Bring an export in S3 up to a local one.

    Args:
        source: Folder of the local export.
        state: What `export_parquet` returned for it.
        folder: Where to.
        progress: Told of the stage "upload".

    Raises:
        WorkspaceError: It holds an export of another ledger, or a newer one of this.
        ConfigurationError, ObjectStoreUnavailable: See `StoredFolder`.
    """
    there = folder.contents()
    if there is not None:
        held = exported_state(folder, there.note)
        if held.ledger and held.ledger != state.ledger:
            raise WorkspaceError(
                f"{folder.url} holds an export of another ledger. Export to another prefix, or "
                "delete it."
            )
        if held.exported_through > state.exported_through:
            raise WorkspaceError(
                f"{folder.url} holds entries through {held.exported_through:,}, the ledger ends "
                f"at {state.exported_through:,}. See that this is the right ledger."
            )
    paths = [
        path.relative_to(source).as_posix()
        for table in TABLES
        for path in (source / table).glob("date=*/part-*.parquet")
    ]
    return folder.publish(source, paths, note=msgspec.to_builtins(state), progress=progress)


def exported_state(folder: StoredFolder, note: dict[str, object]) -> ExportState:
    """How far an export in S3 is, from the note of its contents.

    Raises:
        WorkspaceError: The folder holds something else.
    """
    try:
        return msgspec.convert(note, ExportState)
    except msgspec.ValidationError as error:
        raise WorkspaceError(
            f"{folder.url} holds no export ({error}). Use another prefix."
        ) from error


def open_stored_table(folder: StoredFolder, table: Table) -> ds.Dataset:
    """A table of an export in S3, as it is now, with the columns that any of its parts has.

    Args:
        folder: Where it is.
        table: Which one.

    Raises:
        WorkspaceError: Nothing was exported there yet.
        ConfigurationError, ObjectStoreUnavailable: See `StoredFolder`.
    """
    files = [url.removeprefix("s3://") for url in folder.urls(f"{table}/")]
    if not files:
        raise WorkspaceError(
            f"There are no {table} in {folder.url}; run `sentinel export {folder.url}` first."
        )
    filesystem = arrow_filesystem(folder.store.settings)
    partitioning = ds.partitioning(pa.schema([("date", pa.string())]), flavor="hive")
    try:
        schemas = {pq.read_schema(file, filesystem=filesystem) for file in files}
    except OSError as error:
        raise ObjectStoreUnavailable(
            f"A part of {folder.url} cannot be read: {error}. Try again; if it stays, export anew."
        ) from error
    return ds.dataset(
        files,
        schema=pa.unify_schemas([*schemas, pa.schema([("date", pa.string())])]),
        format="parquet",
        filesystem=filesystem,
        partitioning=partitioning,
        partition_base_dir=f"{folder.bucket}/{folder.prefix}/{table}",
    )


def arrow_filesystem(settings: S3Settings) -> fs.S3FileSystem:
    """Arrow's file system for the server of the settings."""
    address = address_of(settings)
    scheme, _, host = address.rpartition("://")
    return fs.S3FileSystem(
        access_key=settings.access_key_id or None,
        secret_key=settings.secret_access_key.get_secret_value() or None,
        region=settings.region,
        scheme=scheme or "https",
        endpoint_override=host.rstrip("/") or None,
        force_virtual_addressing=bool(address) and addressing(settings) == "virtual",
        connect_timeout=settings.timeout_seconds,
        request_timeout=settings.timeout_seconds,
    )
