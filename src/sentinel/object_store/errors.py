"""What S3 and its client complain of, as our errors that say what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
)

from sentinel.domain import ConfigurationError, ObjectStoreUnavailable, SentinelError

_WRONG_KEYS: Final = {
    "InvalidAccessKeyId": "does not know the key s3.access_key_id",
    "SignatureDoesNotMatch": "says that s3.secret_access_key does not belong to s3.access_key_id",
    "ExpiredToken": "says that the credentials have expired",
    "InvalidToken": "does not take the session token",
}
_NO_BUCKET: Final = {"NoSuchBucket", "InvalidBucketName"}
_OTHER_REGION: Final = {
    "PermanentRedirect",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
    "301",
}
_FORBIDDEN: Final = {"AccessDenied", "AllAccessDisabled", "AccountProblem", "403"}
_MISSING: Final = {"NoSuchKey", "404", "NotFound"}


@contextmanager
def translated(where: str, bucket: str, doing: str) -> Iterator[None]:
    """Raise what boto3 raises as ours.

    Args:
        where: The server, for people.
        bucket: The bucket that is spoken of.
        doing: What is being done, as in "when *writing a*".

    Raises:
        ConfigurationError: Keys, bucket, region or address are wrong: trying again is no use.
        ObjectStoreUnavailable: It may work later.
    """
    try:
        yield
    except SentinelError:
        raise
    except ClientError as error:
        raise _answered(where, bucket, doing, error) from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise ConfigurationError(
            f"There are no keys for {where}. Set SENTINEL_S3__ACCESS_KEY_ID and "
            "SENTINEL_S3__SECRET_ACCESS_KEY."
        ) from error
    except (ParamValidationError, ValueError) as error:
        raise ConfigurationError(
            f"{where} cannot be asked when {doing}: {_one_line(error)} Look at the [s3] settings."
        ) from error
    except (BotoCoreError, ConnectionError, TimeoutError) as error:
        raise away(where, doing, error) from error
    except Exception as error:
        # boto3's transfers and urllib3 raise classes of their own for a connection that breaks.
        if type(error).__module__.partition(".")[0] not in ("boto3", "s3transfer", "urllib3"):
            raise
        raise away(where, doing, error) from error


def away(
    where: str, doing: str, error: Exception | str, what: str = "does not answer"
) -> ObjectStoreUnavailable:
    """The error for a server that does not answer, or not to the end."""
    return ObjectStoreUnavailable(
        f"{where} {what} when {doing}: {_one_line(error)} Nothing half-written can be "
        "seen. See that the server runs and that SENTINEL_S3__ENDPOINT_URL is its address, then "
        "do the same again."
    )


def is_missing(error: ClientError) -> bool:
    """Whether S3 says that there is no such object."""
    return _code(error) in _MISSING


def is_no_bucket(error: ClientError) -> bool:
    """Whether S3 says that there is no such bucket."""
    return _code(error) == "NoSuchBucket"


def exists_already(error: ClientError) -> bool:
    """Whether S3 says that the bucket to be made is there."""
    return _code(error) in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists", "OperationAborted")


def _answered(where: str, bucket: str, doing: str, error: ClientError) -> SentinelError:
    code = _code(error)
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code in _WRONG_KEYS:
        return ConfigurationError(
            f"{where} {_WRONG_KEYS[code]}. Set SENTINEL_S3__ACCESS_KEY_ID and "
            "SENTINEL_S3__SECRET_ACCESS_KEY to keys that it knows."
        )
    if code in _FORBIDDEN:
        return ConfigurationError(
            f"{where} forbids {doing} with these keys. Allow them to list, read, write and delete "
            f"in bucket {bucket}, or use other keys."
        )
    if code in _NO_BUCKET:
        return ConfigurationError(
            f"{where} has no bucket {bucket!r} ({_message(error)}). Correct its name in the "
            "settings, make it, or set SENTINEL_S3__CREATE_BUCKETS=true."
        )
    if code in _OTHER_REGION:
        return ConfigurationError(
            f"Bucket {bucket} is in another region ({_message(error)}). Set SENTINEL_S3__REGION "
            "and SENTINEL_S3__ENDPOINT_URL to where it is."
        )
    if code == "RequestTimeTooSkewed":
        return ConfigurationError(
            f"{where} refuses because the clocks differ. Set the clock of this machine or its."
        )
    if status >= 500 or code in ("SlowDown", "RequestTimeout"):
        return away(where, doing, f"{status} {code} ({_message(error)}).", "fails")
    return ConfigurationError(
        f"{where} refuses {doing}: {code} ({_message(error)}). Look at the [s3] settings."
    )


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _message(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Message", "")).rstrip(".")


def _one_line(error: Exception | str) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if text.endswith(".") else f"{text}."
