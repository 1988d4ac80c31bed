"""Whether a Redis is fit to hold state: it answers, keeps what it gets, and evicts nothing."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from sentinel.domain import ConfigurationError, StateUnavailable


def redis_health(url: str, *, timeout_seconds: float = 5.0) -> str:
    """What a Redis says of itself.

    Args:
        url: Where it is; a password in it is not shown.
        timeout_seconds: How long it may take.

    Raises:
        StateUnavailable: It does not answer, or refuses the password.
        ConfigurationError: It would lose or drop records.
    """
    import redis

    parts = urlsplit(url)
    where = f"Redis at {parts.hostname}:{parts.port or 6379}{parts.path}"
    try:
        client: Any = redis.Redis.from_url(
            url, socket_timeout=timeout_seconds, socket_connect_timeout=timeout_seconds
        )
        with client:
            persistence, memory = client.info("persistence"), client.info("memory")
            version, keys = client.info("server")["redis_version"], client.dbsize()
    except (redis.RedisError, OSError, ValueError) as error:
        raise StateUnavailable(f"{where} does not answer: {error}") from error
    policy = memory.get("maxmemory_policy", "noeviction")
    if memory.get("maxmemory") and policy != "noeviction":
        raise ConfigurationError(
            f"{where} drops records when memory is short (maxmemory-policy {policy}). Set "
            "maxmemory-policy noeviction."
        )
    if not persistence.get("aof_enabled"):
        raise ConfigurationError(
            f"{where} keeps nothing over a restart. Set appendonly yes; see docs/production.md."
        )
    if persistence.get("aof_last_write_status", "ok") != "ok":
        raise StateUnavailable(f"{where} cannot write its file; look for a full disk")
    used = memory["used_memory"] / 1e6
    return f"{where}, version {version}, {keys:,} keys, {used:,.1f} MB, append-only file on"
