"""The slow-changing and the per-transaction views into the online store.

Windows need none of this: they are read live. What is materialized is computed from the ledger into
a Parquet table of the offline store, and from there copied to the online store. All of it the first
time, then what is new since.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import msgspec
import xxhash

from sentinel.ledger.export import export_parquet
from sentinel.ledger.timeline import timeline_at
from sentinel.models.champion import champion_of
from sentinel.models.signature import check_folder
from sentinel.models.signing_keys import trusted_keys_of
from sentinel.object_store.folder import split_url
from sentinel.object_store.store import ObjectStore
from sentinel.pipeline.backfill import backfill
from sentinel.pipeline.scored_payments import BulkScorer, scored_payments
from sentinel.pipeline.workspace import ledger_reader, only_one
from sentinel.retrieval.view_table import TableManifest, ViewTable, offline_root
from sentinel.retrieval.watermarks import Watermark
from sentinel.scoring.served import load_plan
from sentinel.settings import Settings
from sentinel.sources.progress import ProgressCallback, no_progress

if TYPE_CHECKING:
    from sentinel.feast_plugin.online_views import OnlineView, OnlineViews

Mode = Literal["full", "incremental"]


@dataclass(frozen=True)
class MaterializedView:
    """What was done for one view.

    Attributes:
        view: Its name.
        mode: ``full`` where all of it was written, ``incremental`` where what is new was.
        rows: Rows written to the online store.
        from_us, to_us: What they are of, microseconds UTC: entries that were received from the
            first to before the second. ``from_us`` is 0 for the beginning.
        seconds: How long it took.
    """

    view: str
    mode: Mode
    rows: int
    from_us: int
    to_us: int
    seconds: float


@dataclass(frozen=True)
class MaterializeReport:
    """What a materialization did.

    Attributes:
        mode: ``full`` if any view was written in full, else ``incremental``.
        views: Each view, in the order they were done.
        sequence: The last log entry that is materialized.
        seconds: How long it took.
    """

    mode: Mode
    views: tuple[MaterializedView, ...]
    sequence: int
    seconds: float

    @property
    def rows(self) -> int:
        """Rows written to the online store, over all views."""
        return sum(view.rows for view in self.views)


def materialize(
    settings: Settings,
    *,
    full: bool = False,
    now_us: int | None = None,
    progress: ProgressCallback = no_progress,
) -> MaterializeReport:
    """Bring the online store's copies up to the end of the log.

    All of a view is written the first time, after its definition or the champion's plan changed,
    where the online store was emptied, and when asked for; otherwise what is new. A run that was
    interrupted is gone on with by the next.

    Views over sources of Feast's own are materialized by Feast, up to now.

    Args:
        settings: The deployment.
        full: Compute and write everything again.
        now_us: The clock for views over Feast's own sources, microseconds UTC; default: now.
        progress: Told of the stages "labels", "backfill" and "export" in log entries, and of each
            view in rows.

    Raises:
        DefinitionError: Nothing was applied yet, or a view cannot be understood.
        ModelNotSigned: No key that is trusted here signed the champion to serve.
        WorkspaceError: There is no ledger, or another process materializes.
        ConfigurationError: Feast's settings file is missing or incomplete.
        Unavailable: Registry, online store or offline store does not answer; run it again.
    """
    # Feast takes seconds to import; only who materializes needs it.
    from sentinel.feast_plugin.online_views import OnlineViews

    started = time.monotonic()
    root = offline_root(settings)
    if root.startswith("s3://"):
        ObjectStore(settings.s3).ensure_bucket(split_url(root)[0])
    with (
        only_one(settings.workspace / "materialize.lock", "a materialization"),
        OnlineViews.open(settings) as online,
    ):
        now_us = time.time_ns() // 1000 if now_us is None else now_us
        run = _Run(settings, online, full, now_us, progress)
        views = tuple(run.one(view) for view in online.views())
    mode: Mode = "full" if any(view.mode == "full" for view in views) else "incremental"
    return MaterializeReport(mode, views, run.sequence, time.monotonic() - started)


class _Run:
    """One materialization: the log up to one entry, for all views."""

    def __init__(
        self,
        settings: Settings,
        online: OnlineViews,
        full: bool,
        now_us: int,
        progress: ProgressCallback,
    ) -> None:
        self._settings = settings
        self._online = online
        self._full = full
        self._now_us = now_us
        self._progress = progress
        self._exported = False
        with ledger_reader(settings) as ledger:
            self._ledger = timeline_at(ledger, 1)
            # In this order: the moment is not before any entry that is covered.
            self.sequence = ledger.last_sequence()
            self._as_of_us = ledger.last_received_at_us() + 1

    def one(self, view: OnlineView) -> MaterializedView:
        """Bring one view up to date."""
        started = time.monotonic()
        if view.is_ordinary:
            self._progress(view.name, 0, None)
            rows = self._online.materialize_ordinary(view, self._now_us, self._full)
            self._progress(view.name, rows, rows)
            return MaterializedView(
                view.name, "incremental", rows, 0, self._now_us, time.monotonic() - started
            )
        table = ViewTable(offline_root(self._settings), view.table, self._settings)
        if view.is_history:
            self._grow_history(view, table)
        else:
            self._grow_profile(view, table)
        return self._copy(view, table, started)

    def _grow_profile(self, view: OnlineView, table: ViewTable) -> None:
        """Compute the profiles of who had a transaction since the last time."""
        from sentinel.pipeline.profiles import profile_rows

        assert view.profile is not None
        manifest = self._begun(view, table, xxhash.xxh3_64_hexdigest(repr(view.profile).encode()))
        if self.sequence <= manifest.sequence:
            return
        if not self._exported:
            with ledger_reader(self._settings) as ledger:
                folder = self._settings.offline_dir
                export_parquet(ledger, folder, anew=True, progress=self._progress)
            self._exported = True
        rows = profile_rows(
            self._settings,
            view.profile,
            after=manifest.sequence,
            until=self.sequence,
            as_of_us=self._as_of_us,
        )
        table.append(rows, self.sequence, self._as_of_us, self._timeline(self.sequence))

    def _champion(self) -> BulkScorer | None:
        """The model in charge, if a trusted key signed it to serve; None if there is none.

        Raises:
            ModelNotSigned: Nobody vouches for it, or a file was changed since.
        """
        champion = champion_of(self._settings)
        if champion is None:
            return None
        folder, keys = self._settings.models_dir / champion.folder, trusted_keys_of(self._settings)
        check_folder(folder, keys, version=champion.version, to_serve=True)
        return BulkScorer(folder)

    def _grow_history(self, view: OnlineView, table: ViewTable) -> None:
        """Add the transactions that are new, with vectors of the plan that serving runs."""
        plan = load_plan(self._settings)
        parts = backfill(self._settings, plan=plan, progress=self._progress).parts
        model = self._champion()
        manifest = self._begun(view, table, plan.hash)
        for portion in scored_payments(parts, plan, model, manifest.sequence):
            timeline = self._timeline(portion.last_sequence)
            table.append(portion.rows, portion.last_sequence, portion.as_of_us, timeline)

    def _begun(self, view: OnlineView, table: ViewTable, definition: str) -> TableManifest:
        """The table's manifest, of a new table where the old one is of something else."""
        manifest = table.manifest
        other_log = manifest is not None and (
            manifest.ledger != self._ledger
            or manifest.sequence > self.sequence
            or (manifest.timeline and manifest.timeline != self._timeline(manifest.sequence))
        )
        if other_log:
            self._online.empty(view)
        if manifest is None or other_log or self._full or manifest.definition != definition:
            manifest = table.begin(definition, self._ledger)
        return manifest

    def _timeline(self, sequence: int) -> str:
        with ledger_reader(self._settings) as ledger:
            return timeline_at(ledger, sequence)

    def _copy(self, view: OnlineView, table: ViewTable, started: float) -> MaterializedView:
        """Write to the online store what it does not hold of the table yet."""
        manifest = table.manifest
        assert manifest is not None
        mark = self._online.watermark(view)
        if mark.generation != manifest.generation:
            mark = Watermark(manifest.generation)
        mode: Mode = "incremental" if mark.complete else "full"
        parts = [part for part in manifest.parts if part.last_sequence > mark.sequence]
        before = [part.as_of_us for part in manifest.parts if part.last_sequence <= mark.sequence]
        from_us = before[-1] if before else 0
        total = sum(part.rows for part in parts) - mark.rows
        written = 0
        self._progress(view.name, 0, total)
        for part in parts:
            rows = table.read(part).slice(mark.rows)
            for done in self._online.write(view, rows):
                at = msgspec.structs.replace(mark, rows=mark.rows + done)
                self._online.set_watermark(view, at)
                self._progress(view.name, written + done, total)
            written += rows.num_rows
            mark = msgspec.structs.replace(mark, sequence=part.last_sequence, rows=0)
            self._online.set_watermark(view, mark)
        if not mark.complete:
            self._online.set_watermark(view, msgspec.structs.replace(mark, complete=True))
        if written:
            self._online.record(view, from_us, manifest.as_of_us)
        return MaterializedView(
            view.name, mode, written, from_us, manifest.as_of_us, time.monotonic() - started
        )
