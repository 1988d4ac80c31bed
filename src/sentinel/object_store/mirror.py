"""A deployment's buckets and workspace as one tar stream, for backups.

    python -m sentinel.object_store.mirror save >stores.tar
    python -m sentinel.object_store.mirror restore <stores.tar

``buckets/NAME/KEY`` is an object, ``workspace/PATH`` a file. Databases have their own tools, and
Redis holds nothing that the ledger does not; see docs/production.md.
"""

from __future__ import annotations

import contextlib
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import BinaryIO, Final

from sentinel.domain import SentinelError, WorkspaceError
from sentinel.object_store.store import ObjectStore
from sentinel.private_files import keep_files_private
from sentinel.settings import Settings, load_settings

_PARTS: Final = ("buckets", "workspace")
# Follow from the ledger, or belong to a process that runs.
_LEFT_OUT: Final = ("index.db", "logs", "scorer.json", "starting.json", "up.lock", "models")


def buckets_of(settings: Settings) -> list[str]:
    """The buckets that a deployment uses."""
    named = (settings.s3.artifacts_bucket, settings.s3.offline_bucket)
    return list(dict.fromkeys(bucket for bucket in named if bucket))


def save(settings: Settings, out: BinaryIO) -> tuple[int, int]:
    """Write all objects and the workspace's files as a tar stream.

    Args:
        settings: Name the buckets and the workspace.
        out: Gets the tar.

    Returns:
        How many objects and how many files.

    Raises:
        ObjectStoreUnavailable, ConfigurationError: S3 does not answer, or refuses.
    """
    objects = files = 0
    # What a link points to is saved in its place: a restore takes plain files only.
    with tarfile.open(fileobj=out, mode="w|", dereference=True) as archive:
        if buckets_of(settings):
            store = ObjectStore(settings.s3)
            for bucket in buckets_of(settings):
                for found in store.objects(bucket, ""):
                    with tempfile.TemporaryDirectory() as folder:
                        file = Path(folder) / "object"
                        if store.download(bucket, found.key, file):  # or it went meanwhile
                            archive.add(file, f"buckets/{bucket}/{found.key}")
                            objects += 1
        state = settings.workspace / "online" / "state.json"
        # The state names its learners, of which the latest before stay: it goes first.
        for path in sorted(settings.workspace.rglob("*"), key=lambda one: (one != state, one)):
            relative = path.relative_to(settings.workspace)
            if path.is_file() and not relative.parts[0].startswith(_LEFT_OUT):
                with contextlib.suppress(FileNotFoundError):  # it went meanwhile
                    archive.add(path, f"workspace/{relative.as_posix()}")
                    files += 1
    return objects, files


def restore(settings: Settings, source: BinaryIO) -> tuple[int, int]:
    """Put objects and files back; what is there under another name stays.

    Args:
        settings: Name the buckets and the workspace.
        source: A tar that `save` wrote.

    Returns:
        How many objects and how many files.

    Raises:
        WorkspaceError: It is no such tar, not a whole one, or a member would land outside of the
            workspace or the deployment's buckets. Members before it are restored.
        ObjectStoreUnavailable, ConfigurationError: S3 does not answer, or refuses.
    """
    counts = dict.fromkeys(_PARTS, 0)
    store = ObjectStore(settings.s3) if buckets_of(settings) else None
    for bucket in buckets_of(settings):
        if store is not None:
            store.ensure_bucket(bucket)
    try:
        with tarfile.open(fileobj=source, mode="r|") as archive:
            for member in archive:
                part, _, rest = member.name.partition("/")
                content = archive.extractfile(member) if member.isreg() else None
                if part not in counts or content is None or not _is_plain(rest):
                    raise WorkspaceError(
                        f"{member.name!r} does not belong in a backup: it holds plain files below "
                        "workspace/ and buckets/ only. Make another with backup.sh."
                    )
                if part == "workspace":
                    _put(settings.workspace, rest, content.read())
                elif store is None:
                    raise WorkspaceError(
                        "The backup holds buckets. Set SENTINEL_S3__ARTIFACTS_BUCKET and the other "
                        "S3 settings of the deployment it was made of."
                    )
                else:
                    bucket, _, key = rest.partition("/")
                    if bucket not in buckets_of(settings):
                        raise WorkspaceError(
                            f"{member.name!r} is of the bucket {bucket!r}, and this deployment has "
                            f"{', '.join(buckets_of(settings))}. Set the S3 settings of the "
                            "deployment that the backup was made of."
                        )
                    with tempfile.NamedTemporaryFile() as file:
                        file.write(content.read())
                        file.flush()
                        store.upload(bucket, key, Path(file.name))
                counts[part] += 1
    except tarfile.TarError as error:
        raise WorkspaceError(f"The backup cannot be read to its end: {error}") from None
    return counts["buckets"], counts["workspace"]


def _is_plain(path: str) -> bool:
    """Whether a path names something below a folder, in the one way to write it."""
    parts = path.split("/")
    return "\0" not in path and not {"", ".", ".."} & set(parts)


def _put(workspace: Path, path: str, content: bytes) -> None:
    """Write a file of the workspace, for its owner alone; links in the way are not followed."""
    root, target = workspace.resolve(), workspace.resolve() / path
    if not target.parent.resolve().is_relative_to(root):
        raise WorkspaceError(
            f"{target} would be written outside of the workspace: a folder on the way is a link. "
            "Remove the link, or restore into an empty workspace."
        )
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as file:  # mode 0600
        file.write(content)
    Path(file.name).replace(target)


def main(arguments: list[str]) -> int:
    """Save to the standard output, or restore from the standard input."""
    keep_files_private()
    try:
        if arguments == ["save"]:
            done, objects_files = "Saved", save(load_settings(), sys.stdout.buffer)
        elif arguments == ["restore"]:
            done, objects_files = "Restored", restore(load_settings(), sys.stdin.buffer)
        else:
            print(__doc__, file=sys.stderr)  # noqa: T201
            return 2
    except SentinelError as error:
        print(f"sentinel: {error}", file=sys.stderr)  # noqa: T201
        return 1
    objects, files = objects_files
    print(f"{done} {objects:,} objects and {files:,} files.", file=sys.stderr)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
