"""Tables of materialized views in the offline store: Parquet parts and the manifest naming them.

    <offline>/views/<view>/
        manifest.json                   which parts there are; what it does not name does not exist
        part-<first sequence>.parquet   rows computed from a stretch of the log

The offline store is a folder or a bucket. A part is there whole or not at all, and counts once the
manifest names it, so whoever is killed in between leaves nothing that anybody reads.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from sentinel.domain import WorkspaceError
from sentinel.object_store.folder import split_url
from sentinel.object_store.store import ObjectStore
from sentinel.settings import Settings

_MANIFEST: Final = "manifest.json"
TABLE_FORMAT: Final = 1


class TablePart(msgspec.Struct, frozen=True):
    """One Parquet file.

    Attributes:
        file: Its name.
        first_sequence, last_sequence: The log entries that it covers, both included.
        rows: How many rows it has.
        as_of_us: The moment after the last entry that it covers.
    """

    file: str
    first_sequence: int
    last_sequence: int
    rows: int
    as_of_us: int


class TableManifest(msgspec.Struct, frozen=True):
    """What a table holds.

    Attributes:
        generation: Names this computation of the table; another one makes all of it anew.
        definition: What it was computed with: a plan, or the statistics of a profile.
        ledger: Fingerprint of the log's first group.
        parts: In log order, without gaps from the first entry on.
        timeline: The log through the last part, see `sentinel.ledger.timeline`; empty if an older
            version wrote it.
        format: Version of this layout.
    """

    generation: str
    definition: str
    ledger: str
    parts: tuple[TablePart, ...] = ()
    timeline: str = ""
    format: int = TABLE_FORMAT

    @property
    def sequence(self) -> int:
        """The last log entry that is covered; 0 if there is none."""
        return self.parts[-1].last_sequence if self.parts else 0

    @property
    def as_of_us(self) -> int:
        """The moment that the table is of; 0 if it is empty."""
        return self.parts[-1].as_of_us if self.parts else 0


class Files(Protocol):
    """Where a table's files are. Each is there whole or not at all."""

    def read(self, name: str) -> bytes | None: ...

    def write(self, name: str, content: bytes) -> None: ...

    def names(self) -> list[str]: ...

    def delete(self, names: Sequence[str]) -> None: ...


class ViewTable:
    """The table of one view.

    Args:
        root: Folder or ``s3://`` address of the offline store.
        name: Of the table.
        settings: For the S3 server.

    Attributes:
        location: Where it is.
        manifest: What it holds; None if there is nothing yet.

    Raises:
        ConfigurationError: S3 refuses the keys or the bucket.
        Unavailable: The offline store does not answer.
        WorkspaceError: The manifest is damaged, or the folder cannot be used.
    """

    def __init__(self, root: str, name: str, settings: Settings) -> None:
        self.location = f"{root.rstrip('/')}/views/{name}"
        self._files = files_at(self.location, settings)
        self.manifest = self._read_manifest()

    def begin(self, definition: str, ledger: str) -> TableManifest:
        """Start the table anew; the old rows go once the first new part is committed."""
        generation = f"{time.time_ns():x}-{uuid.uuid4().hex[:8]}"
        self.manifest = TableManifest(generation, definition, ledger)
        return self.manifest

    def append(self, rows: pa.Table, last_sequence: int, as_of_us: int, timeline: str = "") -> None:
        """Add rows that were computed from the log up to an entry; an empty part is fine."""
        manifest = self.manifest
        assert manifest is not None, "begin the table first"
        first = manifest.sequence + 1
        file = f"part-{manifest.generation}-{first:020d}.parquet"
        output = pa.BufferOutputStream()
        pq.write_table(rows, output, compression="zstd", compression_level=1)
        self._files.write(file, output.getvalue().to_pybytes())
        part = TablePart(file, first, last_sequence, rows.num_rows, as_of_us)
        self.manifest = msgspec.structs.replace(
            manifest, parts=(*manifest.parts, part), timeline=timeline
        )
        self._files.write(_MANIFEST, msgspec.json.encode(self.manifest))
        if first == 1:  # what an earlier generation left
            self._files.delete([n for n in self._files.names() if n not in (file, _MANIFEST)])

    def read(self, part: TablePart, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of a part."""
        content = self._files.read(part.file)
        if content is None:
            raise WorkspaceError(
                f"{self.location}/{part.file} is gone, although the manifest names it. Run "
                "`sentinel features materialize --full`."
            )
        wanted = None if columns is None else list(columns)
        return pq.read_table(pa.BufferReader(content), columns=wanted)

    def rows(self, columns: Sequence[str]) -> pa.Table | None:
        """All rows in log order, some columns; None where there are none."""
        parts = [part for part in self.manifest.parts if part.rows] if self.manifest else []
        if not parts:
            return None
        return pa.concat_tables([self.read(part, columns) for part in parts])

    def _read_manifest(self) -> TableManifest | None:
        content = self._files.read(_MANIFEST)
        if content is None:
            return None
        try:
            manifest = msgspec.json.decode(content, type=TableManifest)
        except msgspec.DecodeError as error:
            raise WorkspaceError(
                f"{self.location}/{_MANIFEST} cannot be read ({error}). Delete the folder and "
                "run `sentinel features materialize`."
            ) from None
        return manifest if manifest.format == TABLE_FORMAT else None


def files_at(location: str, settings: Settings) -> Files:
    """The files in a folder or under an ``s3://`` address of the offline store."""
    if location.startswith("s3://"):
        return _Bucket(location, settings)
    return _Folder(Path(location))


def offline_root(settings: Settings) -> str:
    """Where the offline store is: a folder or an ``s3://`` address."""
    return settings.feast.offline_url or str(settings.offline_dir.resolve())


class _Folder:
    """Files on a disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, name: str) -> bytes | None:
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unusable(error) from error

    def write(self, name: str, content: bytes) -> None:
        partial = self._folder / f"{name}.partial"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(content)
            partial.replace(self._folder / name)
        except OSError as error:
            raise self._unusable(error) from error

    def names(self) -> list[str]:
        return [path.name for path in self._folder.iterdir()] if self._folder.exists() else []

    def delete(self, names: Sequence[str]) -> None:
        for name in names:
            (self._folder / name).unlink(missing_ok=True)

    def _unusable(self, error: OSError) -> WorkspaceError:
        return WorkspaceError(
            f"The offline store at {self._folder} cannot be used: {error.strerror}. Free some "
            "space or make it writable, then run the command again: it goes on where it was."
        )


class _Bucket:
    """Objects under a prefix."""

    def __init__(self, location: str, settings: Settings) -> None:
        self._store = ObjectStore(settings.s3)
        self._bucket, self._prefix = split_url(location)

    def read(self, name: str) -> bytes | None:
        found = self._store.read(self._bucket, f"{self._prefix}/{name}")
        return None if found is None else found[0]

    def write(self, name: str, content: bytes) -> None:
        self._store.write(self._bucket, f"{self._prefix}/{name}", content)

    def names(self) -> list[str]:
        objects = self._store.objects(self._bucket, f"{self._prefix}/")
        return [found.key.rpartition("/")[2] for found in objects]

    def delete(self, names: Sequence[str]) -> None:
        self._store.delete(self._bucket, [f"{self._prefix}/{name}" for name in names])
