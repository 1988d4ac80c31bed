"""Historic transactions as Feast's online store keeps them in Redis, read without Feast.

The per-transaction view is written by `sentinel features materialize` through Feast. Its layout in
Redis (Feast's online store format): one hash for each entity, under the serialized entity key and
the project's name; in it the serialized value of each feature under the murmur3 hash of
``view:feature``, and the row's time under ``_ts:view``. Serving reads six fields of one hash.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from sentinel.domain import ConfigurationError, StateUnavailable

VIEW: Final = "transaction_history"
PROJECT: Final = "sentinel"
_KEY: Final = b"transaction_id"
_STRING: Final = 2
"""Feast's number of the type of text."""

# Numbers of the fields of Feast's Value message, and how protobuf packs them.
_FIELDS: Final = {2: "text", 4: "int64", 5: "double", 7: "bool", 16: "floats"}


@contextmanager
def redis_errors(setting: str) -> Iterator[None]:
    """Tell of a Redis that does not answer in our own words.

    Args:
        setting: What names the server.
    """
    try:
        yield
    except RedisError as error:
        raise StateUnavailable(
            f"Feast's online store in Redis does not answer: {error}. Look at the server and at "
            f"{setting}, then try again."
        ) from error


class HistoricTransaction:
    """A row of the per-transaction view.

    Attributes:
        plan_hash: The plan that the vector was computed with.
        vector: float32 (n_features,), NaN = unknown.
        fraud_probability, is_fraud, model_version: What the champion of the day said of it; None
            where there was no champion with that plan.
    """

    __slots__ = ("fraud_probability", "is_fraud", "model_version", "plan_hash", "vector")

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.plan_hash: str = values.get("plan_hash") or ""
        vector = values.get("vector")
        self.vector: npt.NDArray[np.float32] = (
            np.empty(0, dtype=np.float32) if vector is None else vector
        )
        self.fraud_probability: float | None = values.get("fraud_probability")
        self.is_fraud: bool | None = values.get("is_fraud")
        self.model_version: str | None = values.get("model_version")


class OnlineHistory:
    """Finds historic transactions in Redis. Safe to share between threads.

    Args:
        url: ``redis://`` or ``rediss://``, as `settings.feast.online_url` has it.
        timeout_seconds: Longest time for one look.
        project: Feast's project.

    Raises:
        ConfigurationError: The address makes no sense.
    """

    def __init__(self, url: str, *, timeout_seconds: float = 1.0, project: str = PROJECT) -> None:
        try:
            self._client: Any = Redis.from_url(
                url,
                socket_timeout=timeout_seconds,
                socket_connect_timeout=timeout_seconds,
                retry=Retry(NoBackoff(), 1),
            )
        except ValueError as error:
            raise ConfigurationError(
                f"SENTINEL_FEAST__ONLINE_URL is no address of a Redis: {error}."
            ) from None
        names = ("plan_hash", "vector", "fraud_probability", "is_fraud", "model_version")
        self._fields = {name: _hash_field(f"{VIEW}:{name}") for name in names}
        self._project = project.encode()

    def find(self, transaction_id: str) -> HistoricTransaction | None:
        """A historic transaction; None where it was not materialized.

        Raises:
            StateUnavailable: Redis did not answer.
        """
        key = entity_key(transaction_id) + self._project
        with redis_errors("SENTINEL_FEAST__ONLINE_URL"):
            found = self._client.hmget(key, [*self._fields.values(), b"_ts:" + VIEW.encode()])
        *values, moment = found
        if moment is None:
            return None
        return HistoricTransaction(
            {name: _value(raw) for name, raw in zip(self._fields, values, strict=True)}
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def entity_key(transaction_id: str) -> bytes:
    r"""Feast's serialized key of a transaction (version 3 of its format).

    >>> entity_key("t1")
    b'\x01\x00\x00\x00\x02\x00\x00\x00\x0e\x00\x00\x00transaction_id\x02\x00\x00\x00\x02\x00\x00\x00t1'
    """
    value = transaction_id.encode()
    return b"".join(
        (
            struct.pack("<III", 1, _STRING, len(_KEY)),
            _KEY,
            struct.pack("<II", _STRING, len(value)),
            value,
        )
    )


def _hash_field(name: str) -> bytes:
    return struct.pack("<I", _murmur3(name.encode()))


def _murmur3(data: bytes) -> int:
    """MurmurHash3, 32 bits, seed 0 (Austin Appleby, public domain).

    >>> hex(_murmur3(b"hello"))
    '0x248bfa47'
    """
    mask, h = 0xFFFFFFFF, 0
    whole = len(data) & ~3
    for (k,) in struct.iter_unpack("<I", data[:whole]):
        h ^= _scrambled(k)
        h = ((h << 13) | (h >> 19)) & mask
        h = (h * 5 + 0xE6546B64) & mask
    if whole < len(data):
        h ^= _scrambled(int.from_bytes(data[whole:], "little"))
    h ^= len(data)
    h = ((h ^ (h >> 16)) * 0x85EBCA6B) & mask
    h = ((h ^ (h >> 13)) * 0xC2B2AE35) & mask
    return h ^ (h >> 16)


def _scrambled(k: int) -> int:
    k = (k * 0xCC9E2D51) & 0xFFFFFFFF
    k = ((k << 15) | (k >> 17)) & 0xFFFFFFFF
    return (k * 0x1B873593) & 0xFFFFFFFF


def _value(raw: bytes | None) -> Any:
    """What a serialized Feast ``Value`` holds; None: null, or of a type not read here."""
    if not raw:
        return None
    tag, at = _varint(raw, 0)
    kind = _FIELDS.get(tag >> 3)
    if kind == "double":
        return struct.unpack_from("<d", raw, at)[0]
    if kind in ("bool", "int64"):
        number, _ = _varint(raw, at)
        return bool(number) if kind == "bool" else number
    if kind == "text":
        size, at = _varint(raw, at)
        return raw[at : at + size].decode()
    if kind == "floats":
        _, at = _varint(raw, at)  # size of the FloatList
        if at == len(raw):
            return np.empty(0, dtype=np.float32)
        _, at = _varint(raw, at)  # its only field, packed
        size, at = _varint(raw, at)
        return np.frombuffer(raw, dtype="<f4", count=size // 4, offset=at)
    return None


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    """A protobuf varint, and where the next thing begins."""
    number = shift = 0
    while True:
        byte = raw[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
