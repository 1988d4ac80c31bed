"""Users, sessions and tries: what is kept, how long it counts, and who can shut out whom."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sentinel.cli.main import app
from sentinel.dashboard.login.passwords import hash_password, matches
from sentinel.dashboard.login.sessions import MOST_OF_ONE_USER, REFRESH_SECONDS, Sessions
from sentinel.dashboard.login.throttle import MOST_COUNTS, Counts, Throttle
from sentinel.dashboard.login.users import Session, UserStore
from sentinel.domain import ConfigurationError, NotFound

PASSWORD = "four random words here"
HOUR_US = 3_600_000_000


@pytest.fixture
def store(tmp_path: Path) -> UserStore:
    return UserStore(tmp_path / "dashboard.db")


class Clock:
    def __init__(self) -> None:
        self.us = time.time_ns() // 1000

    def __call__(self) -> int:
        return self.us


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sessions(store: UserStore, clock: Clock) -> Iterator[Sessions]:
    made = Sessions(store, hours=12, idle_minutes=60, now_us=clock)
    yield made
    made.close()


# ---------------------------------------------------------------------------------------- users


def test_a_password_is_kept_as_an_argon2id_hash_with_a_salt(store: UserStore) -> None:
    store.create("ann", PASSWORD)
    store.create("bob", PASSWORD)
    with sqlite3.connect(store.path) as database:
        first, second = (row[0] for row in database.execute("SELECT password FROM users"))
    assert first.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert first != second
    assert PASSWORD.encode() not in store.path.read_bytes()
    assert store.check("ann", PASSWORD)
    assert not store.check("ann", PASSWORD + " ")
    assert not store.check("nobody", PASSWORD)


def test_a_password_is_the_same_however_its_characters_are_composed() -> None:
    assert matches(hash_password("cafe\u0301 au lait \u2460"), "caf\u00e9 au lait 1")


def test_nobody_but_the_owner_can_read_the_file(store: UserStore) -> None:
    store.create("ann", PASSWORD)
    assert store.path.stat().st_mode & 0o777 == 0o600
    store.path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="others can read it"):
        UserStore(store.path)


def test_a_file_that_is_something_else_is_left_alone(tmp_path: Path) -> None:
    other = tmp_path / "dashboard.db"
    other.write_text("something else entirely, and long enough to be looked at" * 20)
    other.chmod(0o600)
    with pytest.raises(ConfigurationError, match="cannot be used"):
        UserStore(other)
    assert other.read_text().startswith("something else")


@pytest.mark.parametrize("name", ["", "Ann", "a b", "ann\n", "-ann", "a" * 65, "änn"])
def test_a_name_that_could_be_mistaken_is_refused(store: UserStore, name: str) -> None:
    with pytest.raises(ConfigurationError, match="user's name"):
        store.create(name, PASSWORD)


@pytest.mark.parametrize(
    "password", ["", "short", "x" * 257, "aaaaaaaaaaaaaaaa", "I am ANNIE, let me in"]
)
def test_a_password_that_is_guessed_is_refused(store: UserStore, password: str) -> None:
    with pytest.raises(ConfigurationError, match="password"):
        store.create("annie", password)
    assert store.users() == []


def test_a_hash_of_weaker_parameters_is_renewed_at_the_next_login(store: UserStore) -> None:
    from argon2 import PasswordHasher

    store.create("ann", PASSWORD)
    weak = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
    with sqlite3.connect(store.path) as database:
        database.execute("UPDATE users SET password = ?", (weak,))
    assert store.check("ann", PASSWORD)
    with sqlite3.connect(store.path) as database:
        ((renewed,),) = database.execute("SELECT password FROM users").fetchall()
    assert "m=65536" in renewed
    assert store.check("ann", PASSWORD)


def test_a_hash_that_another_login_renews_meanwhile_is_the_one_that_counts(
    store: UserStore, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    from argon2 import PasswordHasher

    store.create("ann", PASSWORD)
    weak = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
    with sqlite3.connect(store.path) as database:
        database.execute("UPDATE users SET password = ?", (weak,))

    def beside_another(hashed: str, password: str) -> bool:
        monkeypatch.undo()
        assert store.check("ann", PASSWORD)
        return matches(hashed, password)

    monkeypatch.setattr("sentinel.dashboard.login.users.matches", beside_another)
    assert sessions.open("ann", "password", "", store.check("ann", PASSWORD))


def test_users_are_made_and_removed_by_verbs_that_hide_the_password(tmp_path: Path) -> None:
    def sentinel(*arguments: str, given: str = "") -> Result:
        return CliRunner().invoke(app, ["users", *arguments, "--workspace", str(tmp_path)], given)

    made = sentinel("create", "ann", "--stdin", given=PASSWORD + "\n")
    assert made.exit_code == 0, made.output
    assert PASSWORD not in made.output
    asked = sentinel("create", "bob", given=PASSWORD)
    assert asked.exit_code == 1
    assert "--stdin" in asked.output
    (listed,) = json.loads(sentinel("list", "--json").stdout)
    assert (listed["name"], listed["seen_us"], listed["sessions"]) == ("ann", None, 0)
    assert sentinel("remove", "ann").exit_code == 0
    assert "no user ann" in sentinel("password", "ann", "--stdin", given=PASSWORD).output
    assert json.loads(sentinel("list", "--json").stdout) == []


# ------------------------------------------------------------------------------------- sessions


def test_a_session_is_found_by_its_token_which_is_kept_nowhere(
    sessions: Sessions, store: UserStore
) -> None:
    token = sessions.open("ann", "password", "192.0.2.1")
    found = sessions.find(token)
    assert found is not None
    assert (found.name, found.address) == ("ann", "192.0.2.1")
    assert token.encode() not in store.path.read_bytes()
    for other in ("", token[:-1], token + "A", token.swapcase(), "\udcff"):
        assert sessions.find(other) is None


def test_a_session_ends_however_busy_it_was(sessions: Sessions, clock: Clock) -> None:
    token = sessions.open("ann", "password", "")
    for _ in range(23):
        clock.us += HOUR_US // 2
        assert sessions.find(token) is not None
    clock.us += HOUR_US // 2
    assert sessions.find(token) is None


def test_a_session_that_is_not_used_ends_sooner(sessions: Sessions, clock: Clock) -> None:
    token = sessions.open("ann", "password", "")
    clock.us += HOUR_US - 1
    assert sessions.find(token) is not None
    clock.us += HOUR_US
    assert sessions.find(token) is None
    sessions.refresh()
    assert sessions.find(token) is None


def test_what_runs_out_is_deleted(sessions: Sessions, store: UserStore, clock: Clock) -> None:
    sessions.open("ann", "password", "")
    clock.us += 2 * HOUR_US
    sessions.refresh()
    assert store.sessions() == []


def test_sessions_survive_a_restart_of_the_dashboard(
    sessions: Sessions, store: UserStore, clock: Clock
) -> None:
    token = sessions.open("ann", "password", "")
    again = Sessions(store, hours=12, idle_minutes=60, now_us=clock)
    assert again.find(token) is not None
    again.close()


@pytest.mark.parametrize("how", ["password", "remove", "logout"])
def test_what_the_verbs_do_ends_sessions_at_once(
    sessions: Sessions, store: UserStore, how: str
) -> None:
    store.create("ann", PASSWORD)
    token, other = sessions.open("ann", "password", ""), sessions.open("bob", "oidc", "")
    elsewhere = UserStore(store.path)
    if how == "password":
        elsewhere.set_password("ann", PASSWORD + PASSWORD)
    elif how == "remove":
        elsewhere.remove("ann")
    else:
        assert elsewhere.end_sessions("ann") == 1
    deadline = time.monotonic() + 10 * REFRESH_SECONDS
    while sessions.find(token) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert sessions.find(other) is not None


def test_a_user_has_so_many_sessions_and_the_ones_used_last_stay(
    sessions: Sessions, store: UserStore, clock: Clock
) -> None:
    bystander = sessions.open("bob", "password", "")
    tokens = []
    for _ in range(MOST_OF_ONE_USER + 3):
        clock.us += 1
        tokens.append(sessions.open("ann", "password", ""))
    sessions.refresh()
    assert [sessions.find(token) is not None for token in tokens] == (
        [False] * 3 + [True] * MOST_OF_ONE_USER
    )
    assert sessions.find(bystander) is not None
    assert len(store.sessions()) == MOST_OF_ONE_USER + 1


def test_users_of_a_backup_take_the_place_of_all_and_sessions_end(tmp_path: Path) -> None:
    def verb(workspace: str, *words: str, given: str = "") -> Result:
        arguments = ["users", *words, "--workspace", str(tmp_path / workspace)]
        return CliRunner().invoke(app, arguments, input=given)

    saved = UserStore(tmp_path / "saved" / "dashboard.db")
    saved.create("ann", PASSWORD)
    lost = UserStore(tmp_path / "lost" / "dashboard.db")
    lost.create("eve", PASSWORD)
    lost.add_session(Session(b"d", "eve", "password", 1, 1, ""), most=9, most_of_user=9)
    text = verb("saved", "export").stdout
    assert PASSWORD not in text
    assert "Put back 1 user" in verb("lost", "import", given=text).stdout
    assert [user.name for user in lost.users()] == ["ann"]
    assert lost.check("ann", PASSWORD)
    assert lost.sessions() == []
    for wrong in ("", "{}", text.replace("ann", "../ann"), text.replace("$argon2id$", "plain ")):
        assert verb("lost", "import", given=wrong).exit_code != 0
    assert [user.name for user in lost.users()] == ["ann"]


def test_an_unknown_user_cannot_be_removed(store: UserStore) -> None:
    with pytest.raises(NotFound, match="no user ann"):
        store.remove("ann")


# ---------------------------------------------------------------------------------------- tries


class Ticking:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def ticking() -> Ticking:
    return Ticking()


@pytest.fixture
def throttle(ticking: Ticking) -> Throttle:
    return Throttle(b"k" * 32, clock=ticking, wall_clock=ticking)


def tries(throttle: Throttle, name: str, addresses: Iterator[str], device: str = "") -> int:
    """How many tries there are before one has to wait."""
    for count, address in enumerate(addresses):
        if throttle.take(name, address, device) > 0:
            return count
    raise AssertionError("nothing was refused")


def many_addresses() -> Iterator[str]:
    return (f"198.51.{number // 256}.{number % 256}" for number in range(65_536))


def test_a_password_is_tried_ten_times_from_wherever(throttle: Throttle) -> None:
    assert tries(throttle, "ann", many_addresses()) == 10


def test_many_names_are_not_tried_from_one_address(throttle: Throttle) -> None:
    refused = [throttle.take(f"user{n}", "192.0.2.1", "") > 0 for n in range(60)]
    assert refused == [False] * 30 + [True] * 30
    refused = [throttle.take(f"u{n}", f"2001:db8::{n:x}", "") > 0 for n in range(60)]
    assert refused == [False] * 30 + [True] * 30
    assert throttle.take("user0", "2001:db8:0:1::1", "") == 0


def test_who_tries_passwords_does_not_shut_out_a_browser_that_is_known(
    throttle: Throttle, ticking: Ticking
) -> None:
    device = throttle.new_device("ann")
    tries(throttle, "ann", many_addresses())
    assert throttle.take("ann", "198.51.0.0", "") > 0
    assert throttle.take("ann", "198.51.0.0", device) == 0
    assert tries(throttle, "ann", many_addresses(), device) == 9
    ticking.now += 30
    assert throttle.take("ann", "198.51.0.0", device) == 0


def test_a_browser_is_known_for_its_own_user_and_for_half_a_year(
    throttle: Throttle, ticking: Ticking
) -> None:
    device = throttle.new_device("ann")
    assert throttle.knows(device, "ann")
    assert not throttle.knows(device, "bob")
    nonce, ends, signature = device.split(".")
    for forged in ("", ".", "..", f"{nonce}.{int(ends) + 1}.{signature}", f"{device}0", "a.b.c"):
        assert not throttle.knows(forged, "ann")
    assert not Throttle(b"j" * 32, wall_clock=ticking).knows(device, "ann")
    ticking.now = float(ends)
    assert not throttle.knows(device, "ann")


def test_a_right_password_costs_no_try(throttle: Throttle) -> None:
    for _ in range(100):
        assert throttle.take("ann", "192.0.2.1", "") == 0
        throttle.give_back("ann", "192.0.2.1", "")


def test_counts_are_bounded_and_the_one_used_longest_ago_makes_room() -> None:
    counts = Counts(burst=1, seconds_each=1e9)
    assert counts.take("first", 0.0) == 0
    assert counts.take("first", 1.0) > 0
    for number in range(MOST_COUNTS):
        counts.take(f"k{number}", 1.0)
    assert counts.take("first", 2.0) == 0
