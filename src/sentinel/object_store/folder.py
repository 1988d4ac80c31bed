"""A folder of files in a bucket that changes as a whole.

    PREFIX/contents.json                             what the folder holds; written last
    PREFIX/transactions/date=2026-03-01/part-….3f9a0c5e7b21.parquet
                                                     a file, its name with its hash

S3 knows no transaction over several objects. So a file never replaces another one: its key
carries the hash of its content, and `contents.json`, one object, says which keys count. Whoever
reads what it lists sees the folder before or after a change, never in between; whoever is
interrupted leaves objects that nothing lists, and the next publication uses or removes them.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from sentinel.domain import ConfigurationError, ObjectStoreUnavailable, WorkspaceError
from sentinel.object_store.store import ObjectStore
from sentinel.settings import S3Settings

CONTENTS: Final = "contents.json"
FORMAT: Final = 1

_HASH_CHARACTERS: Final = 12
_WITH_HASH: Final = re.compile(rf"\.[0-9a-f]{{{_HASH_CHARACTERS}}}(?:\.\w+)?$")
_THREADS: Final = 4
_LOOKS: Final = 3

Progress = Callable[[str, int, int | None], None]
"""Called with the stage, files done, and files there are."""


class StoredFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a folder.

    Attributes:
        path: In the folder, with ``/``.
        key: In the bucket.
        size: Bytes.
        sha256: In hex.
    """

    path: str
    key: str
    size: int
    sha256: str


class Contents(msgspec.Struct, frozen=True, kw_only=True):
    """What a folder holds.

    Attributes:
        files: By rising path.
        note: What the one who published it wants to know of it.
        published_at_us: When, microseconds UTC.
        format: FORMAT.
    """

    files: tuple[StoredFile, ...] = ()
    note: dict[str, Any] = {}
    published_at_us: int = 0
    format: int = FORMAT


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """What a publication did.

    Attributes:
        uploaded, kept, removed: Files that were new, were there already, and are no longer.
        uploaded_bytes: How much went up.
        url: Where the folder is.
    """

    uploaded: int
    kept: int
    removed: int
    uploaded_bytes: int
    url: str


class StoredFolder:
    """A folder in a bucket.

    Args:
        settings: The server.
        url: ``s3://bucket/prefix``.

    Raises:
        ConfigurationError: The URL is none, or the server refuses. By every method.
        ObjectStoreUnavailable: The server does not answer. By every method.
    """

    def __init__(self, settings: S3Settings, url: str) -> None:
        self.bucket, self.prefix = split_url(url)
        self.url = f"s3://{self.bucket}/{self.prefix}".rstrip("/")
        self.store = ObjectStore(settings)

    def contents(self) -> Contents | None:
        """What the folder holds; None where nothing was published yet."""
        found = self._look()
        return None if found is None else found[0]

    def publish(
        self,
        source: Path,
        paths: Iterable[str],
        *,
        note: dict[str, Any] | None = None,
        progress: Progress = lambda *_: None,
    ) -> Published:
        """Make the folder hold these files and no others.

        May be cut short at any point and called again: what is there already stays there.

        Args:
            source: Where the files are.
            paths: Relative to it.
            note: Kept in the contents.
            progress: Told of the stage "upload", in files.

        Raises:
            WorkspaceError: Someone else published to it meanwhile; theirs stands.
        """
        self.store.ensure_bucket(self.bucket)
        before = self._look()
        files = [self._describe(source, path) for path in sorted(paths)]
        there = {o.key: o.size for o in self.store.objects(self.bucket, self._key(""))}
        missing = [file for file in files if there.get(file.key) != file.size]
        self._upload(source, missing, progress)
        contents = Contents(
            files=tuple(files), note=note or {}, published_at_us=time.time_ns() // 1000
        )
        now = self._look()
        if (now and now[1]) != (before and before[1]):
            raise WorkspaceError(
                f"Another one published to {self.url} in the meantime, and that is what it holds "
                "now. Do it again if yours is newer; publish from one place at a time."
            )
        self.store.write(self.bucket, self._key(CONTENTS), msgspec.json.encode(contents))
        leftover = self._leftover(there, files, () if before is None else before[0].files)
        self.store.delete(self.bucket, leftover)
        return Published(
            uploaded=len(missing),
            kept=len(files) - len(missing),
            removed=len(leftover),
            uploaded_bytes=sum(file.size for file in missing),
            url=self.url,
        )

    def fetch(
        self, target: Path, *, below: str = "", progress: Progress = lambda *_: None
    ) -> Contents:
        """Copy the folder to a local one, checking every hash; resumes where it stopped.

        Args:
            target: Made where it is missing. Files that the folder does not hold stay.
            below: Only paths that begin so.
            progress: Told of the stage "download", in files.

        Returns:
            What was copied.

        Raises:
            WorkspaceError: Nothing was published there, or a file there is damaged.
        """
        for _ in range(_LOOKS):
            contents = self._needed()
            files = [file for file in contents.files if file.path.startswith(below)]
            if self._download(files, target, progress):
                return msgspec.structs.replace(contents, files=tuple(files))
        raise ObjectStoreUnavailable(
            f"{self.url} keeps changing, or a file that it lists is gone. Publish to it again."
        )

    def urls(self, below: str = "") -> list[str]:
        """``s3://`` addresses of the files whose paths begin so, for readers that speak S3.

        They are of one moment: a publication removes files that it replaces.
        """
        return [
            f"s3://{self.bucket}/{file.key}"
            for file in self._needed().files
            if file.path.startswith(below)
        ]

    def _needed(self) -> Contents:
        contents = self.contents()
        if contents is None:
            raise WorkspaceError(
                f"Nothing was published to {self.url} yet. Run `sentinel export {self.url}`."
            )
        return contents

    def _look(self) -> tuple[Contents, str] | None:
        key = self._key(CONTENTS)
        found = self.store.read(self.bucket, key)
        if found is None:
            return None
        try:
            contents = msgspec.json.decode(found[0], type=Contents)
        except msgspec.DecodeError as error:
            raise WorkspaceError(
                f"s3://{self.bucket}/{key} cannot be read ({error}). Delete it, and publish again."
            ) from error
        if contents.format != FORMAT:
            raise WorkspaceError(
                f"{self.url} has format {contents.format}, this Sentinel writes {FORMAT}. Use "
                "another prefix."
            )
        return contents, found[1]

    def _describe(self, source: Path, path: str) -> StoredFile:
        file = source / path
        with file.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        place = PurePosixPath(path)
        named = f"{place.stem}.{digest[:_HASH_CHARACTERS]}{place.suffix}"
        return StoredFile(
            path=path,
            key=self._key(place.with_name(named).as_posix()),
            size=file.stat().st_size,
            sha256=digest,
        )

    def _upload(self, source: Path, files: list[StoredFile], progress: Progress) -> None:
        progress("upload", 0, len(files))

        def upload(file: StoredFile) -> None:
            self.store.upload(self.bucket, file.key, source / file.path)

        with ThreadPoolExecutor(_THREADS) as pool:
            jobs = [pool.submit(upload, file) for file in files]
            try:
                for done, job in enumerate(jobs, 1):
                    job.result()
                    progress("upload", done, len(files))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _leftover(
        self, there: Iterable[str], files: Iterable[StoredFile], before: Iterable[StoredFile]
    ) -> list[str]:
        """Keys of ours that nothing lists any longer. What others keep beside them stays."""
        listed = {file.key for file in files}
        ours = {file.key for file in before}
        tops = {file.path.partition("/")[0] for file in (*files, *before) if "/" in file.path}
        for key in there:
            top, _, name = key.removeprefix(self._key("")).partition("/")
            if top in tops and _WITH_HASH.search(name):
                ours.add(key)  # of a publication that was cut short
        return sorted(ours - listed)

    def _download(self, files: list[StoredFile], target: Path, progress: Progress) -> bool:
        """Fetch what is not there yet; False if a file is gone, since the folder changed."""
        for done, file in enumerate(files):
            progress("download", done, len(files))
            place = (target / file.path).resolve()
            if not place.is_relative_to(target.resolve()):
                raise WorkspaceError(f"{self.url} has a file named {file.path!r}.")
            if _is(place, file):
                continue
            if not self.store.download(self.bucket, file.key, place):
                return False
            if not _is(place, file):
                place.unlink()
                raise WorkspaceError(
                    f"s3://{self.bucket}/{file.key} is damaged: its SHA-256 is not the one that "
                    "was published. Delete it, and publish again."
                )
        progress("download", len(files), len(files))
        return True

    def _key(self, path: str) -> str:
        return f"{self.prefix}/{path}" if self.prefix else path


def split_url(url: str) -> tuple[str, str]:
    """Bucket and prefix of an address.

    Raises:
        ConfigurationError: It is none.

    >>> split_url("s3://history/of/payments/")
    ('history', 'of/payments')
    """
    parts = urlsplit(url)
    if parts.scheme != "s3" or not parts.netloc:
        raise ConfigurationError(f"{url!r} is no address in S3. One looks like s3://bucket/prefix.")
    return parts.netloc, parts.path.strip("/")


def _is(place: Path, file: StoredFile) -> bool:
    try:
        if place.stat().st_size != file.size:
            return False
        with place.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest() == file.sha256
    except OSError:
        return False
