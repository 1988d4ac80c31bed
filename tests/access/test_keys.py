"""Making keys, renewing and ending them."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from sentinel.access.keys import Pepper, fits, id_of_key, new_key
from sentinel.access.managing import KeyRights, create_key, revoke_key, rotate_key, write_key_file
from sentinel.access.own_key import OWN_KEY_FILE, OwnKey
from sentinel.access.pepper import PEPPER_FILE, pepper_of
from sentinel.access.scopes import Scope
from sentinel.access.sqlite import SqliteKeys
from sentinel.access.store import now_us
from sentinel.domain import ConfigurationError, WorkspaceError
from sentinel.settings import AccessSettings, Settings

SCORE = frozenset({Scope.SCORE})
HOUR_US = 3_600_000_000


@pytest.fixture
def keys(tmp_path: Path) -> SqliteKeys:
    return SqliteKeys(tmp_path / "keys.db")


def test_a_key_has_256_random_bits_and_no_two_are_alike() -> None:
    made = {new_key("a") for _ in range(1_000)}
    assert len(made) == 1_000
    secret = made.pop().partition(".snt_")[2]
    assert len(secret) == 43, "32 bytes in base64"


def test_a_text_that_is_no_key_has_no_id() -> None:
    key = new_key("shop-a")
    assert id_of_key(key) == "shop-a"
    broken = [
        key[:-1],
        key + "x",
        key.upper(),
        key.replace(".", ":"),
        f" {key}",
        key + "\n",
        "",
        ".",
    ]
    assert [id_of_key(text) for text in broken] == [None] * len(broken)


def test_a_rotated_key_is_good_beside_the_old_one_for_its_time(
    keys: SqliteKeys, pepper: Pepper
) -> None:
    first = create_key(keys, pepper, "a", KeyRights(scopes=SCORE))
    second = rotate_key(keys, pepper, "a", grace_hours=1)
    now = now_us()
    stored = keys.read().keys["a"]
    assert fits(stored, pepper.hash(first), now)
    assert not fits(stored, pepper.hash(first), now + HOUR_US)
    assert fits(stored, pepper.hash(second), now + HOUR_US)
    third = rotate_key(keys, pepper, "a", grace_hours=0)
    stored = keys.read().keys["a"]
    good = [fits(stored, pepper.hash(text), now_us()) for text in (first, second, third)]
    assert good == [False, False, True], "a rotation without a grace time ends the others at once"


def test_an_id_is_used_once(keys: SqliteKeys, pepper: Pepper) -> None:
    create_key(keys, pepper, "a", KeyRights(scopes=SCORE))
    with pytest.raises(ConfigurationError, match=r"already.*rotate a"):
        create_key(keys, pepper, "a", KeyRights(scopes=SCORE))
    revoke_key(keys, pepper, "a")
    with pytest.raises(ConfigurationError, match="An id is used once"):
        create_key(keys, pepper, "a", KeyRights(scopes=SCORE))
    with pytest.raises(ConfigurationError, match="revoked"):
        rotate_key(keys, pepper, "a")
    with pytest.raises(ConfigurationError, match="no key 'b'; the keys are: a"):
        rotate_key(keys, pepper, "b")


def test_a_key_made_elsewhere_is_taken_once_and_its_rights_are_as_said_last(
    keys: SqliteKeys, pepper: Pepper
) -> None:
    text = new_key("follower")
    create_key(keys, pepper, "follower", KeyRights(scopes=SCORE), text)
    both = frozenset({Scope.SCORE, Scope.MODELS})
    create_key(keys, pepper, "follower", KeyRights(scopes=both), text)
    stored = keys.read().keys["follower"]
    assert frozenset(stored.scopes) == both
    assert fits(stored, pepper.hash(text), now_us())
    with pytest.raises(ConfigurationError, match="rotate follower"):
        create_key(keys, pepper, "follower", KeyRights(scopes=both), new_key("follower"))
    with pytest.raises(ConfigurationError, match="no key of the id"):
        create_key(keys, pepper, "other", KeyRights(scopes=both), text)


def test_prefixes_of_two_senders_cannot_overlap(keys: SqliteKeys, pepper: Pepper) -> None:
    create_key(keys, pepper, "a", KeyRights(scopes=SCORE, sender="shop-a:"))
    create_key(keys, pepper, "a2", KeyRights(scopes=SCORE, sender="shop-a:"))
    create_key(keys, pepper, "b", KeyRights(scopes=SCORE, sender="shop-b:"))
    for number, sender in enumerate(("shop", "shop-a:1")):
        with pytest.raises(ConfigurationError, match="overlaps"):
            create_key(keys, pepper, f"c{number}", KeyRights(scopes=SCORE, sender=sender))


@pytest.mark.parametrize(
    ("rights", "why"),
    [
        (KeyRights(scopes=SCORE, origins=("bank",)), "scope label"),
        (KeyRights(scopes=SCORE, expires_at_us=1), "expired already"),
        (KeyRights(scopes=SCORE, requests_per_minute=0), "1 or more"),
        (KeyRights(scopes=SCORE, sender="x" * 128), "fewer than 128"),
    ],
)
def test_rights_that_do_not_fit_together_are_refused(
    keys: SqliteKeys, pepper: Pepper, rights: KeyRights, why: str
) -> None:
    with pytest.raises(ConfigurationError, match=why):
        create_key(keys, pepper, "a", rights)
    assert keys.version() == 0


def test_the_pepper_is_made_by_who_makes_keys_and_by_nobody_else(tmp_path: Path) -> None:
    settings = Settings(workspace=tmp_path)
    with pytest.raises(WorkspaceError, match="no pepper"):
        pepper_of(settings)
    made = pepper_of(settings, make=True)
    assert made.check == pepper_of(settings).check
    assert (tmp_path / PEPPER_FILE).stat().st_mode & 0o777 == 0o600
    given = Settings(workspace=tmp_path, access=AccessSettings(pepper="0123456789abcdef"))
    assert pepper_of(given).check == Pepper(b"0123456789abcdef").check
    with pytest.raises(ConfigurationError, match="16 or more"):
        pepper_of(Settings(workspace=tmp_path, access=AccessSettings(pepper="short")))


def test_own_clients_send_the_key_that_is_set_or_that_the_workspace_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(workspace=tmp_path)
    own = OwnKey(settings)
    assert own.headers() == {}
    numbers = itertools.count()
    for _ in range(2):  # a rotated one is taken without a new start
        text = f"tools.{next(numbers)}"
        write_key_file(tmp_path / OWN_KEY_FILE, text)
        assert own.headers() == {"authorization": f"Bearer {text}"}
    given = Settings(workspace=tmp_path, access=AccessSettings(key="set.key"))
    assert OwnKey(given).text == "set.key"
    write_key_file(tmp_path / "elsewhere", "file.key")
    monkeypatch.setenv("SENTINEL_ACCESS__KEY_FILE", str(tmp_path / "elsewhere"))
    assert OwnKey(Settings(workspace=tmp_path)).text == "file.key"
