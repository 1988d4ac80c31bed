"""The deployment's users of Redis on a test's own server.

redis = Redis(folder / "redis", options=users_of_the_deployment(folder))
scorer = url_as(redis, "scorer")
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from testkit.servers import Redis

RULES: Final = Path(__file__).resolve().parent.parent / "deploy/compose/redis/users.acl"
_PASSWORD: Final = "password-of-a-test"


def users_of_the_deployment(folder: Path) -> tuple[str, str]:
    """Options of a server with these users; the test itself may do anything without a password."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "users.acl"
    text = RULES.read_text().replace("PASSWORD", f">{_PASSWORD}")
    path.write_text(text.replace("user default off", "user default on nopass ~* &* +@all"))
    return "--aclfile", str(path)


def url_as(redis: Redis, user: str, database: int = 0) -> str:
    """Where the server is for one of its users."""
    return f"redis://{user}:{_PASSWORD}@127.0.0.1:{redis.port}/{database}"


def commands_of(user: str) -> set[str]:
    """Commands that a user may run, as the rules write them: ``get``, ``function|load``."""
    (line,) = [line for line in RULES.read_text().splitlines() if line.split()[1] == user]
    return {word[1:] for word in line.split() if word.startswith("+")}
