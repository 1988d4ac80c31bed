"""Tables of materialized views in the offline store: Parquet parts and the manifest naming them.

    <offline>/views/<view>/
        manifest.json                   which parts there are; what it does not name does not exist
        part-<first sequence>.parquet   rows computed from a stretch of the log

The offline store is a folder or a bucket. A part is there whole or not at all, and counts once the
manifest names it, so whoever is killed in between leaves nothing that anybody reads.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from sentinel.domain import Unavailable, WorkspaceError
from sentinel.settings import Settings

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
        format: Version of this layout.
    """

    generation: str
    definition: str
    ledger: str
    parts: tuple[TablePart, ...] = ()
    format: int = TABLE_FORMAT

    @property
    def sequence(self) -> int:
        """The last log entry that is covered; 0 if there is none."""
        return self.parts[-1].last_sequence if self.parts else 0

    @property
    def as_of_us(self) -> int:
        """The moment that the table is of; 0 if it is empty."""
        return self.parts[-1].as_of_us if self.parts else 0


@dataclass
class ViewTable:
    """The table of one view.

    Attributes:
        location: Where it is, for messages.
        manifest: What it holds; None: nothing yet.
    """

    location: str
    _files: pafs.FileSystem
    _folder: str
    manifest: TableManifest | None

    @classmethod
    def open(cls, root: str, view: str) -> ViewTable:
        """The table of a view, whether or not there is anything yet.

        Args:
            root: Folder or ``s3://`` address of the offline store.
            view: Name of the table.

        Raises:
            Unavailable: The offline store does not answer, or refuses.
            WorkspaceError: The manifest is damaged or of another version.
        """
        location = f"{root.rstrip('/')}/views/{view}"
        with _translated(location):
            files, folder = _filesystem(location)
            table = cls(location, files, folder, None)
            table.manifest = table._read_manifest()
        return table

    def begin(self, definition: str, ledger: str) -> TableManifest:
        """Start the table anew; the old rows go once the first new part is committed."""
        generation = f"{time.time_ns():x}-{uuid.uuid4().hex[:8]}"
        self.manifest = TableManifest(generation, definition, ledger)
        return self.manifest

    def append(self, rows: pa.Table, last_sequence: int, as_of_us: int) -> None:
        """Add rows that were computed from the log up to an entry; an empty part is fine."""
        manifest = self._begun
        first = manifest.sequence + 1
        part = TablePart(
            f"part-{manifest.generation}-{first:020d}.parquet",
            first,
            last_sequence,
            rows.num_rows,
            as_of_us,
        )
        with _translated(self.location):
            self._files.create_dir(self._folder, recursive=True)
            with self._whole(part.file) as output:
                pq.write_table(rows, output, compression="zstd", compression_level=1)
            self.manifest = msgspec.structs.replace(manifest, parts=(*manifest.parts, part))
            with self._whole("manifest.json") as output:
                output.write(msgspec.json.encode(self.manifest))
            if first == 1:
                self._delete_others()

    def read(self, part: TablePart) -> pa.Table:
        """The rows of a part."""
        with _translated(self.location):
            return pq.read_table(f"{self._folder}/{part.file}", filesystem=self._files)

    def dataset(self) -> ds.Dataset | None:
        """All rows, in log order; None where there are none."""
        if self.manifest is None:
            return None
        files = [f"{self._folder}/{part.file}" for part in self.manifest.parts if part.rows]
        with _translated(self.location):
            return ds.dataset(files, filesystem=self._files, format="parquet") if files else None

    @property
    def _begun(self) -> TableManifest:
        assert self.manifest is not None, "begin the table first"
        return self.manifest

    def _read_manifest(self) -> TableManifest | None:
        path = f"{self._folder}/manifest.json"
        try:
            with self._files.open_input_file(path) as file:
                content = file.read()
        except FileNotFoundError:
            return None
        try:
            manifest = msgspec.json.decode(content, type=TableManifest)
        except msgspec.DecodeError as error:
            raise WorkspaceError(
                f"{self.location}/manifest.json cannot be read ({error}). Delete the folder and "
                "run `sentinel features materialize`."
            ) from None
        return manifest if manifest.format == TABLE_FORMAT else None

    @contextmanager
    def _whole(self, name: str) -> Iterator[pa.NativeFile]:
        """A file that appears whole or not at all."""
        path = f"{self._folder}/{name}"
        if isinstance(self._files, pafs.S3FileSystem):  # an object appears when it is complete
            with self._files.open_output_stream(path) as output:
                yield output
            return
        with self._files.open_output_stream(f"{path}.partial") as output:
            yield output
        self._files.move(f"{path}.partial", path)

    def _delete_others(self) -> None:
        named = {part.file for part in self._begun.parts} | {"manifest.json"}
        for info in self._files.get_file_info(pafs.FileSelector(self._folder)):
            if info.type == pafs.FileType.File and info.base_name not in named:
                self._files.delete_file(info.path)


def offline_root(settings: Settings) -> str:
    """Where the offline store is: a folder or an ``s3://`` address."""
    return settings.feast.offline_url or str(settings.offline_dir.resolve())


def _filesystem(location: str) -> tuple[pafs.FileSystem, str]:
    if not location.startswith("s3://"):
        return pafs.LocalFileSystem(), str(Path(location))
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    files = pafs.S3FileSystem(
        endpoint_override=endpoint,
        region=os.environ.get("AWS_DEFAULT_REGION", "us-east-1"),
        connect_timeout=5,
        request_timeout=20,
        allow_bucket_creation=False,
    )
    return files, location.removeprefix("s3://")


@contextmanager
def _translated(location: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unavailable(
            f"The offline store at {location} cannot be used: {error}. Look at the address, the "
            "keys and the bucket; then run the command again, it goes on where it was."
        ) from error
