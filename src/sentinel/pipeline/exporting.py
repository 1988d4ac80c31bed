"""The ledger as Parquet, in a folder or in S3."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sentinel.domain import WorkspaceError
from sentinel.ledger.export import export_parquet
from sentinel.object_store.folder import Published
from sentinel.pipeline.workspace import ledger_reader, only_one
from sentinel.settings import Settings
from sentinel.sources.progress import ProgressCallback, no_progress


@dataclass(frozen=True)
class Exported:
    """What an export left.

    Attributes:
        where: The folder or the address.
        exported_through: Sequence of the last entry that it holds.
        published: What went up to S3; None for a folder.
    """

    where: str
    exported_through: int
    published: Published | None


def export_history(
    settings: Settings, target: str | None = None, *, progress: ProgressCallback = no_progress
) -> Exported:
    """Bring the exported tables up to the ledger.

    To S3, the workspace's offline folder is brought up first and then published: what is there
    changes as a whole or not at all.

    Args:
        settings: The deployment.
        target: Folder or ``s3://bucket/prefix``; default: the bucket of the settings, else the
            workspace's offline store.
        progress: Told of the stages "export", in entries, and "upload", in files.

    Raises:
        WorkspaceError: Another export is running, or the target is of another ledger.
        ConfigurationError: S3 refuses the keys, the bucket or the address.
        ObjectStoreUnavailable: S3 does not answer; what was exported before stays as it was.
    """
    where = target or offline_url(settings) or str(settings.offline_dir)
    if not where.startswith("s3://"):
        if "://" in where:
            raise WorkspaceError(f"{where} is neither a folder nor an address in S3.")
        with ledger_reader(settings) as ledger:
            state = export_parquet(ledger, Path(where), progress=progress)
        return Exported(where, state.exported_through, None)
    # boto3 takes half a second to import.
    from sentinel.ledger.stored_export import publish_export
    from sentinel.object_store.folder import StoredFolder

    folder = StoredFolder(settings.s3, where)
    folder.store.ensure_bucket(folder.bucket)  # before the work, not after it
    local = settings.offline_dir
    with only_one(settings.workspace / "publication.lock", "an export to S3"):
        with ledger_reader(settings) as ledger:
            state = export_parquet(ledger, local, progress=progress)
        published = publish_export(local, state, folder, progress=progress)
    return Exported(folder.url, state.exported_through, published)


def offline_url(settings: Settings) -> str:
    """Where in S3 the offline store is; empty if it is the workspace's folder."""
    if not settings.s3.offline_bucket:
        return ""
    return f"s3://{settings.s3.offline_bucket}/{settings.s3.offline_prefix.strip('/')}".rstrip("/")
