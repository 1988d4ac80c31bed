"""Buckets and objects of one S3 server, as the settings name it.

An object appears whole or not at all: S3 shows a written one only when its last byte has come.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import boto3
import msgspec
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

from sentinel.domain import ConfigurationError, ObjectStoreUnavailable
from sentinel.object_store.errors import (
    away,
    exists_already,
    is_missing,
    is_no_bucket,
    translated,
)
from sentinel.settings import S3Settings

_ATTEMPTS: Final = 3
_PAUSE_SECONDS: Final = 0.5
_DELETED_AT_ONCE: Final = 1000  # S3's limit
_PART_BYTES: Final = 16 << 20
_ADDRESS_VARIABLES: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")


class StoredObject(msgspec.Struct, frozen=True):
    """An object of a bucket.

    Attributes:
        key: Its name.
        size: Bytes.
        tag: Changes when its content does.
    """

    key: str
    size: int
    tag: str


class ObjectStore:
    """One S3 server.

    Args:
        settings: Where it is and how to speak to it.

    Raises:
        ConfigurationError: Keys, bucket, region or address are wrong. Raised by every method.
        ObjectStoreUnavailable: The server does not answer, or not to the end. By every method.
    """

    def __init__(self, settings: S3Settings) -> None:
        self.settings = settings
        address = address_of(settings)
        self.where = f"S3 at {address}" if address else "S3 of AWS"
        with translated(self.where, "", "opening it"):
            self._client: Any = boto3.client(
                "s3",
                endpoint_url=address or None,
                region_name=settings.region,
                aws_access_key_id=settings.access_key_id or None,
                aws_secret_access_key=settings.secret_access_key.get_secret_value() or None,
                config=_client_config(settings),
            )

    def ensure_bucket(self, bucket: str, *, wait_seconds: float = 0.0) -> bool:
        """Make a bucket where it is missing.

        Args:
            bucket: Its name.
            wait_seconds: How long to wait for a server that does not answer yet.

        Returns:
            Whether it was made.
        """
        deadline = time.monotonic() + wait_seconds
        while True:
            try:
                return self._ensure_bucket(bucket)
            except ObjectStoreUnavailable:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(_PAUSE_SECONDS)

    def objects(self, bucket: str, prefix: str) -> Iterator[StoredObject]:
        """All objects whose keys begin so."""
        with translated(self.where, bucket, f"listing {bucket}/{prefix}"):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=bucket, Prefix=prefix
            )
            for page in pages:
                for found in page.get("Contents", ()):
                    yield StoredObject(found["Key"], int(found["Size"]), str(found["ETag"]))

    def read(self, bucket: str, key: str) -> tuple[bytes, str] | None:
        """The content of a small object and its tag; None where there is no such object."""
        with translated(self.where, bucket, f"reading {bucket}/{key}"):
            try:
                answer = self._client.get_object(Bucket=bucket, Key=key)
            except ClientError as error:
                if is_missing(error):
                    return None
                raise
            return answer["Body"].read(), str(answer["ETag"])

    def write(self, bucket: str, key: str, content: bytes) -> None:
        """Write a small object, over what is there."""
        with translated(self.where, bucket, f"writing {bucket}/{key}"):
            self._client.put_object(Bucket=bucket, Key=key, Body=content)

    def upload(self, bucket: str, key: str, file: Path) -> None:
        """Write a file of any size; interrupted, there is no such object."""
        size = file.stat().st_size
        doing = f"writing {bucket}/{key}"
        with translated(self.where, bucket, doing):
            self._client.upload_file(str(file), bucket, key, Config=_TRANSFER)
            stored = int(self._client.head_object(Bucket=bucket, Key=key)["ContentLength"])
        if stored != size:
            self.delete(bucket, [key])
            raise away(self.where, doing, f"{stored:,} of {size:,} bytes are there.", "fails")

    def download(self, bucket: str, key: str, target: Path) -> bool:
        """Write an object to a file; interrupted, the file is as it was before.

        Returns:
            False where there is no such object.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        partial = Path(name)
        try:
            with (
                os.fdopen(descriptor, "wb") as out,
                translated(self.where, bucket, f"reading {bucket}/{key}"),
            ):
                try:
                    self._client.download_fileobj(bucket, key, out, Config=_TRANSFER)
                except ClientError as error:
                    if is_missing(error):
                        return False
                    raise
                out.flush()
                os.fsync(out.fileno())
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
        return True

    def delete(self, bucket: str, keys: Iterable[str]) -> None:
        """Remove objects; those that are not there are no error."""
        left = list(keys)
        with translated(self.where, bucket, f"deleting in {bucket}"):
            for start in range(0, len(left), _DELETED_AT_ONCE):
                few = [{"Key": key} for key in left[start : start + _DELETED_AT_ONCE]]
                self._client.delete_objects(Bucket=bucket, Delete={"Objects": few, "Quiet": True})

    def _ensure_bucket(self, bucket: str) -> bool:
        with translated(self.where, bucket, f"looking for bucket {bucket}"):
            try:
                # A HEAD request would not say what is wrong: its answers have no body.
                self._client.list_objects_v2(Bucket=bucket, MaxKeys=1)
                return False
            except ClientError as error:
                if not is_no_bucket(error) or not self.settings.create_buckets:
                    raise
        return self._make_bucket(bucket)

    def _make_bucket(self, bucket: str) -> bool:
        options: dict[str, Any] = {}
        if not address_of(self.settings) and self.settings.region != "us-east-1":
            options["CreateBucketConfiguration"] = {"LocationConstraint": self.settings.region}
        doing = f"making bucket {bucket}"
        with translated(self.where, bucket, doing):
            try:
                self._client.create_bucket(Bucket=bucket, **options)
            except ClientError as error:
                if not exists_already(error):
                    raise
                # Made by someone else just now, or it is another account's: listing tells.
        with translated(self.where, bucket, f"looking for bucket {bucket}"):
            try:
                self._client.list_objects_v2(Bucket=bucket, MaxKeys=1)
            except ClientError as error:
                if is_no_bucket(error):
                    raise ConfigurationError(
                        f"{self.where} did not make bucket {bucket} and did not say why. Make it "
                        "by hand, or use keys that may."
                    ) from error
                raise
        return True


_TRANSFER: Final = TransferConfig(
    multipart_threshold=_PART_BYTES, multipart_chunksize=_PART_BYTES, max_concurrency=4
)


def _client_config(settings: S3Settings) -> Config:
    timeout = settings.timeout_seconds
    options: dict[str, Any] = {
        "connect_timeout": timeout,
        "read_timeout": timeout,
        "retries": {"mode": "standard", "total_max_attempts": _ATTEMPTS},
        "s3": {"addressing_style": addressing(settings)},
        "user_agent_extra": "sentinel",
    }
    if address_of(settings):
        # Checksums in trailers are AWS's own; others refuse them, or store them as content.
        options["request_checksum_calculation"] = "when_required"
        options["response_checksum_validation"] = "when_required"
    return Config(**options)


def addressing(settings: S3Settings) -> str:
    """Whether the bucket stands in the ``path`` or in the host name (``virtual``)."""
    if settings.addressing != "auto":
        return settings.addressing
    return "path" if address_of(settings) else "virtual"


def address_of(settings: S3Settings) -> str:
    """Where the server is, by the settings or else by the environment; empty for AWS.

    Asked by all who open S3, since clients differ in what they take from the environment.
    """
    named = (settings.endpoint_url, *map(os.environ.get, _ADDRESS_VARIABLES))
    return next(filter(None, named), "")
