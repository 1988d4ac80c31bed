"""What a process knows of keys, and what it does when it cannot know."""

from __future__ import annotations

import asyncio
import secrets
import tracemalloc
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from sentinel.access import principals
from sentinel.access.keys import Pepper, new_key
from sentinel.access.managing import KeyRights, create_key, revoke_key, rotate_key
from sentinel.access.opening import open_gatekeeper
from sentinel.access.principals import NOBODY, Gatekeeper
from sentinel.access.scopes import Scope
from sentinel.access.sqlite import SqliteKeys
from sentinel.access.store import now_us
from sentinel.domain import (
    AccessUnavailable,
    ConfigurationError,
    LedgerUnavailable,
    Unauthenticated,
)
from sentinel.settings import AccessSettings, ApiSettings, Settings

SCORE = KeyRights(scopes=frozenset({Scope.SCORE}))


class Watched:
    """A gatekeeper that keeps itself current beside a test, and how often it forgot."""

    def __init__(self, folder: Path, pepper: Pepper, outage_seconds: float = 60.0) -> None:
        self.path = folder / "keys.db"
        self.store = SqliteKeys(self.path)
        self.pepper = pepper
        self.at_hand: Pepper = pepper
        self.forgotten = 0
        self.keeper = Gatekeeper(self.store, lambda: self.at_hand, outage_seconds=outage_seconds)
        self.keeper.forget.append(self._forget)

    def _forget(self) -> None:
        self.forgotten += 1

    def admits(self, key: str | None) -> bool:
        try:
            self.keeper.admit(key)
        except Unauthenticated:
            return False
        return True

    async def until(self, test: Callable[[], bool], seconds: float = 1.0) -> None:
        deadline = asyncio.get_running_loop().time() + seconds
        while not test():
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.01)

    def run(self, story: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async def both() -> None:
            self.keeper.start()
            watching = asyncio.create_task(self.keeper.watch())
            try:
                await story()
            finally:
                watching.cancel()

        try:
            asyncio.run(both())
        finally:
            self.keeper.close()


@pytest.fixture
def watched(tmp_path: Path, pepper: Pepper) -> Watched:
    return Watched(tmp_path, pepper)


def test_anyone_comes_in_until_there_is_a_key_and_never_again(watched: Watched) -> None:
    async def story() -> None:
        assert watched.keeper.admit(None) is NOBODY
        key = create_key(watched.store, watched.pepper, "a", SCORE)
        await watched.until(lambda: not watched.admits(None))
        assert watched.keeper.admit(key).key_id == "a"
        revoke_key(watched.store, watched.pepper, "a")
        await watched.until(lambda: not watched.admits(key))
        assert not watched.admits(None), "without a live key nobody comes in"

    watched.run(story)


def test_every_change_acts_within_a_second_and_has_all_principals_forgotten(
    watched: Watched,
) -> None:
    first = create_key(watched.store, watched.pepper, "a", SCORE)
    soon = create_key(
        watched.store,
        watched.pepper,
        "b",
        KeyRights(scopes=SCORE.scopes, expires_at_us=now_us() + 700_000),
    )

    async def story() -> None:
        assert watched.admits(first)
        assert watched.admits(soon)
        forgotten = watched.forgotten
        second = rotate_key(watched.store, watched.pepper, "a", grace_hours=0)
        await watched.until(lambda: watched.admits(second))
        assert not watched.admits(first)
        assert watched.forgotten > forgotten
        forgotten = watched.forgotten
        await watched.until(lambda: watched.forgotten > forgotten)
        assert not watched.admits(soon), "it has expired"

    watched.run(story)


def test_known_keys_outlast_a_store_that_is_away_for_a_stated_time(
    tmp_path: Path, pepper: Pepper
) -> None:
    watched = Watched(tmp_path, pepper, outage_seconds=0.8)
    key = create_key(watched.store, watched.pepper, "a", SCORE)
    unknown = new_key("b")

    async def story() -> None:
        away = watched.path.rename(tmp_path / "away")
        await asyncio.sleep(0.5)
        assert watched.admits(key)
        assert not watched.admits(unknown), "nothing opens"
        assert not watched.admits(None)
        forgotten = watched.forgotten
        await watched.until(lambda: watched.forgotten > forgotten)
        for given in (key, unknown, None):
            with pytest.raises(AccessUnavailable, match=r"access\.outage_seconds"):
                watched.keeper.admit(given)
        away.rename(watched.path)
        await asyncio.sleep(0.6)
        assert watched.admits(key)
        watched.path.write_bytes(b"damaged, and longer than SQLite's header would have to be .....")
        await asyncio.sleep(0.4)
        assert watched.admits(key)

    watched.run(story)


@pytest.mark.parametrize("part", ["version", "note_uses"])
def test_when_keys_were_used_is_noted_although_the_store_was_away(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    key = create_key(watched.store, watched.pepper, "a", SCORE)
    monkeypatch.setattr(principals, "USES_SECONDS", 0.0)
    failed: list[str] = []
    admitted: list[bool] = []

    async def story() -> None:
        before = getattr(watched.store, part)

        def away(*about: object) -> object:
            if admitted and not watched.keeper._used and not failed:  # they are being noted
                failed.append(part)
                raise LedgerUnavailable("The store is away.")
            return before(*about)

        monkeypatch.setattr(watched.store, part, away)
        admitted.append(watched.admits(key))
        await watched.until(lambda: "a" in watched.store.uses(), 5)
        assert failed == [part]

    watched.run(story)


def test_keys_of_another_pepper_let_nobody_in(watched: Watched) -> None:
    watched.at_hand = Pepper(b"quite another one")

    async def story() -> None:
        assert watched.keeper.admit(None) is NOBODY
        key = create_key(watched.store, watched.pepper, "a", SCORE)
        await watched.until(lambda: not watched.keeper.is_open)
        for given in (key, None):
            with pytest.raises(AccessUnavailable, match="another pepper"):
                watched.keeper.admit(given)
        watched.at_hand = watched.pepper
        await asyncio.sleep(0.7)
        assert watched.admits(key), "it is looked for again"

    watched.run(story)
    with pytest.raises(ConfigurationError, match="another pepper"):
        Gatekeeper(watched.store, lambda: Pepper(b"quite another one"), outage_seconds=1).start()


def test_when_a_key_was_used_is_noted_off_the_loop_and_seldom(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(principals, "USES_SECONDS", 0.3)
    key = create_key(watched.store, watched.pepper, "a", SCORE)

    async def story() -> None:
        before = now_us()
        assert watched.admits(key)
        assert watched.store.uses() == {}
        await watched.until(lambda: "a" in watched.store.uses(), seconds=2.0)
        assert watched.store.uses()["a"] >= before
        assert watched.forgotten > 0, "a remembered principal would hide the next use"

    watched.run(story)


def test_a_flood_of_forged_keys_leaves_nothing_in_memory(watched: Watched) -> None:
    good = create_key(watched.store, watched.pepper, "a", SCORE)
    watched.keeper.start()
    forged = [
        *(new_key("a") for _ in range(2_000)),
        *(new_key(f"k{n}") for n in range(2_000)),
        *(good[:n] for n in range(len(good))),
        *(secrets.token_urlsafe(4_000) for _ in range(100)),
        "a." + "x" * 10_000_000,
    ]
    assert not watched.admits(forged[0])
    tracemalloc.start()
    try:
        accepted = sum(watched.admits(key) for key in forged)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        watched.keeper.close()
    assert accepted == 0
    assert kept < 100_000


def test_a_process_beyond_loopback_needs_a_key_and_says_how_to_make_one(tmp_path: Path) -> None:
    beyond = Settings(workspace=tmp_path, api=ApiSettings(host="0.0.0.0"))
    with pytest.raises(ConfigurationError, match="keys create tools --for-tools"):
        open_gatekeeper(beyond)
    open_gatekeeper(Settings(workspace=tmp_path)).close()
    access = AccessSettings(pepper="0123456789abcdef")
    pepper = Pepper(b"0123456789abcdef")
    create_key(SqliteKeys(tmp_path / "keys.db"), pepper, "a", SCORE)
    with pytest.raises(ConfigurationError, match="no pepper"):
        open_gatekeeper(beyond)
    open_gatekeeper(beyond.model_copy(update={"access": access})).close()
