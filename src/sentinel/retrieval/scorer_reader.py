"""Asks the running scorer for features, over a local socket."""

from __future__ import annotations

import http.client
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from sentinel.access.own_key import OwnKey
from sentinel.domain import DefinitionError, StateUnavailable
from sentinel.retrieval.current import CurrentFeatures, Row

ADDRESS_FILE: Final = "scorer.json"
READ_PATH: Final = "/features/read"
TIMEOUT_SECONDS: Final = 10.0
ROWS_PER_REQUEST: Final = 2_000


class NotRunning(Exception):
    """Nobody listens where a scorer was said to be."""


class _Address(msgspec.Struct):
    pid: int
    host: str
    port: int


class _Reply(msgspec.Struct):
    plan_hash: str
    now_us: int
    features: tuple[str, ...]
    rows: list[list[float | None]]


class _Problem(msgspec.Struct):
    detail: str = ""
    title: str = ""


class ScorerReader:
    """A `FeatureReader` that asks a scorer.

    Args:
        host, port: Where it listens.
        own_key: The key to send; None to send none.
    """

    def __init__(self, host: str, port: int, own_key: OwnKey | None = None) -> None:
        self._own_key = own_key
        self.host = host
        self.port = port

    @classmethod
    def find(cls, workspace: Path, own_key: OwnKey | None = None) -> ScorerReader | None:
        """The scorer that the workspace's address file names, None if there is no such file."""
        try:
            content = (workspace / ADDRESS_FILE).read_bytes()
            address = msgspec.json.decode(content, type=_Address)
        except (FileNotFoundError, msgspec.DecodeError):
            return None
        return cls(address.host, address.port, own_key)

    def read(
        self, rows: Sequence[Row], features: Sequence[str], now_us: int | None
    ) -> CurrentFeatures:
        """See `FeatureReader.read`. Many rows are asked for in parts, all as of the same moment.

        Raises:
            NotRunning: The scorer has gone.
        """
        parts: list[_Reply] = []
        for start in range(0, max(len(rows), 1), ROWS_PER_REQUEST):
            part = self._ask(rows[start : start + ROWS_PER_REQUEST], features, now_us)
            now_us = part.now_us
            parts.append(part)
        values = np.array([row for part in parts for row in part.rows], dtype=np.float64)
        return CurrentFeatures(
            plan_hash=parts[0].plan_hash,
            now_us=parts[0].now_us,
            features=parts[0].features,
            values=values.reshape(len(rows), len(features)).astype(np.float32),
        )

    def _ask(self, rows: Sequence[Row], features: Sequence[str], now_us: int | None) -> _Reply:
        body = msgspec.json.encode({"now_us": now_us, "rows": rows, "features": features})
        connection = http.client.HTTPConnection(self.host, self.port, timeout=TIMEOUT_SECONDS)
        try:
            headers = {} if self._own_key is None else self._own_key.headers()
            headers["content-type"] = "application/json"
            connection.request("POST", READ_PATH, body, headers)
            response = connection.getresponse()
            content = response.read()
        except ConnectionRefusedError:
            raise NotRunning from None
        except (OSError, http.client.HTTPException) as error:
            raise StateUnavailable(
                f"The scorer at {self.host}:{self.port} does not answer: {error}. "
                "Look at it with `sentinel status`."
            ) from error
        finally:
            connection.close()
        if response.status == 200:
            return msgspec.json.decode(content, type=_Reply)
        message = f"The scorer refused to read features ({response.status}): {_detail(content)}"
        if response.status in (401, 403):
            raise StateUnavailable(
                f"{message} The key in SENTINEL_ACCESS__KEY_FILE is sent, or the workspace's own, "
                "which `sentinel keys create tools --for-tools` makes."
            )
        if response.status < 500:
            raise DefinitionError(
                f"{message} If the definitions changed, run `sentinel features apply`."
            )
        raise StateUnavailable(message)


def _detail(content: bytes) -> str:
    try:
        problem = msgspec.json.decode(content, type=_Problem)
    except msgspec.DecodeError:
        return content[:200].decode(errors="replace")
    return problem.detail or problem.title
