"""The vectors of the log as Parquet: parts in log order, and the manifest that names them.

    <offline>/features/<plan hash>/
        plan.json                   the plan
        manifest.json               which parts there are; what it does not name does not exist
        part-00000000000000000001.parquet   named by the first sequence that it covers
        checkpoint/                 the state after the last part

A part has a row for each transaction: ``sequence``, ``transaction_id``, ``event_time_us``,
``received_at_us``, ``amount_minor``, ``customer_id``, ``card_id`` and a float32 column for each
feature, NaN = unknown.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from sentinel.domain import WorkspaceError
from sentinel.features.plan.plan import Plan
from sentinel.log.schema import KIND_TRANSACTION
from sentinel.settings import Settings

PARTS_FORMAT: Final = 1
KEY_COLUMNS: Final = (
    "sequence",
    "transaction_id",
    "event_time_us",
    "received_at_us",
    "amount_minor",
    "customer_id",
    "card_id",
)
_COPIED: Final = KEY_COLUMNS[1:]
_TEXTS: Final = ("transaction_id", "customer_id", "card_id")
_MEASURED: Final = ("sequence", "event_time_us", "received_at_us")


class Part(msgspec.Struct, frozen=True):
    """One Parquet file.

    Attributes:
        file: Its name.
        first_sequence, last_sequence: The log entries that it covers, both included.
        rows: Its transactions.
    """

    file: str
    first_sequence: int
    last_sequence: int
    rows: int


class PartsManifest(msgspec.Struct, frozen=True):
    """What a folder of vectors holds.

    Attributes:
        plan_hash: The plan that they were computed with.
        ledger: Fingerprint of the log's first group.
        timeline: The log through the last part (see `sentinel.ledger.timeline`), so that a log
            that was put back or begun anew is told from the one that the vectors are of. Empty if
            an older version wrote them.
        parts: In log order, without gaps from the first entry on.
        format: Version of this layout.
    """

    plan_hash: str
    ledger: str = ""
    timeline: str = ""
    parts: tuple[Part, ...] = ()
    format: int = PARTS_FORMAT

    @property
    def sequence(self) -> int:
        """The last log entry that is covered; 0 if there is none."""
        return self.parts[-1].last_sequence if self.parts else 0

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.parts)


@dataclass(frozen=True)
class FeatureParts:
    """A folder of vectors.

    Attributes:
        folder: Where it is.
        manifest: What it holds.
    """

    folder: Path
    manifest: PartsManifest

    @classmethod
    def open(cls, settings: Settings, plan_hash: str) -> FeatureParts:
        """The vectors of a plan; none where nothing was backfilled yet."""
        folder = settings.offline_dir / "features" / plan_hash
        nothing = PartsManifest(plan_hash=plan_hash)
        try:
            content = (folder / "manifest.json").read_bytes()
        except FileNotFoundError:
            return cls(folder, nothing)
        try:
            manifest = msgspec.json.decode(content, type=PartsManifest)
        except msgspec.DecodeError as error:
            raise WorkspaceError(
                f"{folder / 'manifest.json'} cannot be read ({error}). Delete the folder and run "
                "`sentinel features backfill`."
            ) from None
        if manifest.format != PARTS_FORMAT or manifest.plan_hash != plan_hash:
            return cls(folder, nothing)
        return cls(folder, manifest)

    @property
    def paths(self) -> list[Path]:
        """The Parquet files in log order."""
        return [self.folder / part.file for part in self.manifest.parts]

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The parts one by one.

        Args:
            columns: Which columns to read; None for all.
        """
        for part in self.manifest.parts:
            yield self.table(part, columns)

    def table(self, part: Part, columns: Sequence[str] | None = None) -> pa.Table:
        """One part.

        Args:
            part: Of the manifest.
            columns: Which columns to read; None for all.
        """
        names = None if columns is None else list(columns)
        return pq.read_table(self.folder / part.file, columns=names)

    def commit(self, manifest: PartsManifest) -> FeatureParts:
        """Make a manifest the true one, and delete what it does not name."""
        partial = self.folder / "manifest.partial"
        partial.write_bytes(msgspec.json.encode(manifest))
        partial.replace(self.folder / "manifest.json")
        named = {part.file for part in manifest.parts}
        for path in self.folder.glob("part-*"):
            if path.name not in named:
                path.unlink()
        return FeatureParts(self.folder, manifest)


class PartWriter:
    """Collects the vectors of log batches, and writes them as a part.

    Args:
        folder: Where parts go.
        plan: Names the features.
        first_sequence: The first log entry that the part covers.
    """

    def __init__(self, folder: Path, plan: Plan, first_sequence: int) -> None:
        self._folder = folder
        self._names = plan.feature_names
        self._first = first_sequence
        self._last = first_sequence - 1
        self._keys: list[pa.RecordBatch] = []
        self._vectors: list[npt.NDArray[np.float32]] = []
        self.rows = 0

    def add(
        self, first_sequence: int, batch: pa.RecordBatch, vectors: npt.NDArray[np.float32]
    ) -> None:
        """Take a log batch and the vectors of its transactions, float32 (n, n_features)."""
        kinds = batch.column("kind").to_numpy(zero_copy_only=False)
        places = np.flatnonzero(kinds == KIND_TRANSACTION)
        few = batch.select(list(_COPIED)).take(pa.array(places))
        self._keys.append(few.add_column(0, "sequence", pa.array(first_sequence + places)))
        self._vectors.append(vectors)
        self.rows += len(places)
        self._last = first_sequence + batch.num_rows - 1

    def write(self) -> Part:
        """Write the file; it is there whole or not at all."""
        name = f"part-{self._first:020d}.parquet"
        keys = pa.Table.from_batches(self._keys).combine_chunks()
        vectors = np.concatenate(self._vectors)
        arrays = [column.chunk(0) if column.num_chunks else pa.nulls(0) for column in keys.columns]
        arrays += [pa.array(np.ascontiguousarray(column)) for column in vectors.T]
        table = pa.Table.from_arrays(arrays, names=[*KEY_COLUMNS, *self._names])
        partial = self._folder / f"{name}.partial"
        pq.write_table(
            table,
            partial,
            compression="zstd",
            compression_level=1,
            use_dictionary=list(_TEXTS[1:]),
            write_statistics=list(_MEASURED),
        )
        partial.replace(self._folder / name)
        return Part(name, self._first, self._last, self.rows)
