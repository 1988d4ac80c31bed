"""Feast's online store in production: windows as they are now, everything else from Redis."""

from __future__ import annotations

from typing import Any, ClassVar, Final, Literal
from urllib.parse import unquote, urlsplit

from feast import FeatureView
from feast.infra.online_stores.redis import RedisOnlineStore, RedisOnlineStoreConfig
from feast.repo_config import RepoConfig

from sentinel.domain import ConfigurationError
from sentinel.feast_plugin.online_store import WindowReads
from sentinel.retrieval.watermarks import Watermark, decode_watermark, encode_watermark

_CLASS_PATH: Final = "sentinel.feast_plugin.online_redis.SentinelRedisOnlineStore"
_TIMEOUT_SECONDS: Final = 10


class SentinelRedisOnlineStoreConfig(RedisOnlineStoreConfig):
    """Options in Feast's settings file.

    Attributes:
        type: The class path of the store.
        connection_string: ``redis://user:password@host:port/database`` (``rediss://`` for TLS), or
            in Feast's own form, ``host:port,db=1,password=...``.
        workspace, now_us: See `SentinelOnlineStoreConfig`.
    """

    type: Literal["sentinel.feast_plugin.online_redis.SentinelRedisOnlineStore"] = _CLASS_PATH  # type: ignore[assignment]
    workspace: str = "../.sentinel"
    now_us: int | None = None


class SentinelRedisOnlineStore(WindowReads, RedisOnlineStore):
    """The online store that Feast loads by class path where views are kept in Redis."""

    _overwriting: ClassVar[dict[str, Any]] = {"skip_dedup": True}

    @staticmethod
    def _parse_connection_string(
        connection_string: str,
    ) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        if "://" not in connection_string:
            if not connection_string or connection_string.startswith("${"):
                raise ConfigurationError(
                    "Feast's online store is in Redis, but SENTINEL_FEAST__ONLINE_URL is not set. "
                    "Name the server, such as redis://redis:6379/1."
                )
            parsed: tuple[list[dict[str, Any]], dict[str, Any]] = (
                RedisOnlineStore._parse_connection_string(connection_string)
            )
            return parsed
        url = urlsplit(connection_string)
        options: dict[str, Any] = {
            "db": int(url.path.strip("/") or 0),
            "socket_timeout": _TIMEOUT_SECONDS,
            "socket_connect_timeout": _TIMEOUT_SECONDS,
        }
        if url.scheme == "rediss":
            options["ssl"] = True
        if url.username:
            options["username"] = unquote(url.username)
        if url.password:
            options["password"] = unquote(url.password)
        return [{"host": url.hostname or "localhost", "port": url.port or 6379}], options

    def release(self) -> None:
        """Close connections; Feast's own `close` is for its server, and asynchronous."""
        super().release()
        if self._client is not None:
            self._client.close()
            self._client = None

    def watermark(self, config: RepoConfig, view: FeatureView) -> Watermark:
        """How much of a view's table is in Redis."""
        client = self._get_client(config.online_store)
        return decode_watermark(client.hget(_watermarks(config), view.name))

    def set_watermark(self, config: RepoConfig, view: FeatureView, watermark: Watermark) -> None:
        """Remember it."""
        client = self._get_client(config.online_store)
        client.hset(_watermarks(config), view.name, encode_watermark(watermark))

    def empty(self, config: RepoConfig, view: FeatureView) -> None:
        """Delete a view's rows."""
        self.delete_table(config, view)


def _watermarks(config: RepoConfig) -> str:
    return f"sentinel:materialized:{config.project}"
