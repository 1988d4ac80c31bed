"""The vectors of the log as Parquet: parts in log order, and the manifest that names them.

    <offline>/features/<plan hash>/
        plan.json                   the plan
        manifest.json               which parts there are; what it does not name does not exist
        part-00000000000000000001.parquet   named by the first sequence that it covers
        checkpoint/                 the state after the last part

A part has a row for each transaction: ``sequence``, ``transaction_id``, ``event_time_us``,
``received_at_us``, ``amount_minor``, ``customer_id``, ``card_id`` and a float32 column for each
feature, NaN = unknown. `sentinel.pipeline.backfill` writes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from sentinel.domain import WorkspaceError
from sentinel.settings import Settings

PARTS_FORMAT: Final = 1


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
