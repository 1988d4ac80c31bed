"""What every place that keeps keys does alike."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from sentinel.access.keys import Pepper, StoredKey
from sentinel.access.managing import KeyRights, create_key, listed, revoke_key, rotate_key
from sentinel.access.scopes import Scope
from sentinel.access.sqlite import SqliteKeys
from sentinel.access.store import KeyStore
from sentinel.domain import ConfigurationError, LedgerUnavailable, WorkspaceError

SCORE = KeyRights(scopes=frozenset({Scope.SCORE}))


def test_a_place_without_keys_holds_nothing_and_is_not_made_by_a_question(store: KeyStore) -> None:
    assert store.version() == 0
    assert store.read().keys == {}
    assert store.uses() == {}
    store.note_uses({"shop-a": 1})
    assert store.version() == 0


def test_what_is_kept_of_a_key_is_all_but_its_secret(store: KeyStore, pepper: Pepper) -> None:
    rights = KeyRights(
        name="Shop A",
        scopes=frozenset({Scope.SCORE, Scope.LABEL}),
        origins=("chargeback",),
        sender="shop-a:",
        requests_per_minute=600,
        payments_per_minute=6_000,
        expires_at_us=2**60,
    )
    text = create_key(store, pepper, "shop-a", rights)
    kept = store.read()
    assert kept.version == store.version() == 1
    assert kept.pepper_check == pepper.check
    (key,) = kept.keys.values()
    assert (key.name, frozenset(key.scopes), key.origins) == (
        "Shop A",
        rights.scopes,
        ("chargeback",),
    )
    assert (key.sender, key.requests_per_minute, key.payments_per_minute) == ("shop-a:", 600, 6_000)
    assert key.expires_at_us == 2**60
    secret = text.partition(".")[2]
    assert secret.encode() not in msgspec.json.encode(key)
    assert key.secret_hash == pepper.hash(text)


def test_every_change_is_seen_by_its_number(store: KeyStore, pepper: Pepper) -> None:
    create_key(store, pepper, "a", SCORE)
    create_key(store, pepper, "b", SCORE)
    rotate_key(store, pepper, "a")
    revoke_key(store, pepper, "b")
    assert store.version() == 4
    assert [(key.key_id, key.state[:10]) for key in listed(store)] == [
        ("a", "old secret"),
        ("b", "revoked"),
    ]


def test_a_change_that_is_refused_leaves_all_as_it_was(store: KeyStore, pepper: Pepper) -> None:
    create_key(store, pepper, "a", SCORE)
    before = store.read()

    def refuse(keys: Mapping[str, StoredKey]) -> StoredKey:
        raise ConfigurationError("no")

    with pytest.raises(ConfigurationError, match="no"):
        store.change(refuse, pepper.check)
    with pytest.raises(ConfigurationError, match="another pepper"):
        create_key(store, Pepper(b"another pepper!!"), "b", SCORE)
    assert store.read() == before


def test_changes_at_once_come_one_after_the_other(store: KeyStore, pepper: Pepper) -> None:
    create_key(store, pepper, "first", SCORE)
    names = [f"k{n}" for n in range(24)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: create_key(store, pepper, name, SCORE), names))
    assert store.version() == 25
    assert store.read().keys.keys() == {"first", *names}


def test_the_latest_use_of_a_key_is_kept(store: KeyStore, pepper: Pepper) -> None:
    create_key(store, pepper, "a", SCORE)
    store.note_uses({"a": 20})
    store.note_uses({"a": 10})
    assert store.uses() == {"a": 20}
    assert store.version() == 1, "a use is no change"


def test_the_file_is_for_its_owner_alone(tmp_path: Path, pepper: Pepper) -> None:
    store = SqliteKeys(tmp_path / "keys.db")
    create_key(store, pepper, "a", SCORE)
    assert (tmp_path / "keys.db").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["keys.db"]


def test_another_file_is_no_place_of_keys(tmp_path: Path) -> None:
    path = tmp_path / "keys.db"
    path.write_bytes(b"not a database, but longer than a header of one would be, so it is read")
    with pytest.raises(LedgerUnavailable, match="cannot be used"):
        SqliteKeys(path).version()
    path.write_bytes(b"")
    with pytest.raises(WorkspaceError, match="no file of keys"):
        SqliteKeys(path).version()
