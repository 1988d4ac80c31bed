"""What only the PostgreSQL ledger keeps: many writers, ids used once, appends tried again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sentinel.domain import (
    AlreadyRecorded,
    ConfigurationError,
    Label,
    LedgerUnavailable,
    Transaction,
    Verdict,
    WorkspaceError,
)
from sentinel.ledger.base import Appended, Standing, StateRebuild
from sentinel.ledger.database import Database
from sentinel.ledger.index import LedgerIndex
from sentinel.ledger.log import read_log
from sentinel.ledger.postgres import PostgresLedger, migrate
from sentinel.ledger.schema import FOLDER, VERSIONS
from sentinel.log.entries import LABEL_FORMAT, GroupKind, LabelGroup, encode_group
from testkit.event_loops import told_on_loop
from testkit.servers import wait_until
from tests.ledger.backends import PostgresBackend
from tests.ledger.material import (
    NOON_US,
    append_history,
    decision_group,
    entries_from,
    label,
    transaction,
)

TOKEN = bytes(range(16))
HUSH = "not-to-be-shown"


@pytest.fixture
def shared(postgres: PostgresBackend) -> Iterator[PostgresLedger]:
    """An empty ledger, as one of many scorers has it."""
    with postgres.open_shared() as ledger:
        yield ledger


def decide(
    ledger: PostgresLedger, *numbers: int, at: int = NOON_US, token: bytes | None = None
) -> Appended:
    decided = [transaction(number, at) for number in numbers]
    payload = encode_group(decision_group(decided))
    return ledger.append(GroupKind.DECISIONS, len(decided), at, payload, token=token)


def say(ledger: PostgresLedger, *labels: Label, token: bytes | None = None) -> Appended:
    payload = encode_group(LabelGroup(LABEL_FORMAT, list(labels)))
    received = labels[-1].received_at_us
    return ledger.append(GroupKind.LABELS, len(labels), received, payload, token=token)


def query(database: Database, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(database.url, autocommit=True) as connection:
        return connection.execute(statement.encode()).fetchall()


# ----------------------------------------------------------------------------- used once


def test_a_transaction_is_in_the_log_once(shared: PostgresLedger) -> None:
    decide(shared, 1, 2, 3)
    with pytest.raises(AlreadyRecorded, match=r"holds 'tx-2', 'tx-3' already") as caught:
        decide(shared, 2, 3, 4)
    assert sorted(caught.value.ids) == ["tx-2", "tx-3"]
    assert shared.last_sequence() == 3
    assert decide(shared, 4).first_sequence == 4


def test_a_label_is_in_the_log_once(shared: PostgresLedger) -> None:
    say(shared, label(1, "tx-1", NOON_US))
    with pytest.raises(AlreadyRecorded, match="'label-1'"):
        say(shared, label(2, "tx-1", NOON_US), label(1, "tx-1", NOON_US, fraud=False))
    assert shared.last_sequence() == 1


def test_history_is_in_the_log_once(shared: PostgresLedger) -> None:
    entries: list[Transaction | Label] = [transaction(i, NOON_US) for i in range(5)]
    append_history(shared, [*entries, label(1, "tx-0", NOON_US)])
    for again in ([transaction(9, NOON_US), entries[3]], [label(1, "tx-9", NOON_US)]):
        with pytest.raises(AlreadyRecorded):
            append_history(shared, again)
    with pytest.raises(AlreadyRecorded):
        decide(shared, 2)
    assert shared.last_sequence() == 6
    assert shared.verdicts(["tx-0", "tx-4"]) == {
        "tx-0": Standing(1, Verdict.FRAUD, 6),
        "tx-4": Standing(5, None, 0),
    }


def test_an_append_looks_ids_up_however_many_there_are(shared: PostgresLedger) -> None:
    """Plans are kept by a connection that opened when the tables were empty."""
    for first in range(0, 400, 10):
        decide(shared, *range(first, first + 10))
    say(shared, label(1, "tx-3", NOON_US))
    shared.close()  # counts are told when a connection ends
    read = (
        "SELECT relname, seq_tup_read FROM pg_stat_user_tables "
        f"WHERE schemaname = '{shared.database.namespace}' "
        "AND relname IN ('transactions', 'labels', 'groups', 'tokens') ORDER BY relname"
    )
    looked = (
        f"SELECT sum(idx_scan) >= 400 FROM pg_stat_user_tables "
        f"WHERE schemaname = '{shared.database.namespace}' AND relname = 'transactions'"
    )
    wait_until(lambda: query(shared.database, looked) == [(True,)], 10, "the server's counts")
    assert query(shared.database, read) == [
        ("groups", 0),
        ("labels", 0),
        ("tokens", 0),
        ("transactions", 0),
    ]


def test_ids_may_hold_what_text_in_a_database_may_not(shared: PostgresLedger) -> None:
    odd = label(1, "tx-\x00-\ud7ff-日本", NOON_US)
    say(shared, odd)
    assert shared.verdicts([odd.transaction_id]) == {
        odd.transaction_id: Standing(0, Verdict.FRAUD, 1)
    }


# ---------------------------------------------------------------------------- tried again


def test_the_same_token_appends_once(shared: PostgresLedger) -> None:
    first = decide(shared, 1, 2, token=TOKEN)
    decide(shared, 3)
    assert decide(shared, 1, 2, token=TOKEN) == first
    assert shared.last_sequence() == 3


def test_a_repeat_sees_what_the_first_attempt_saw(shared: PostgresLedger) -> None:
    say(shared, label(1, "tx-5", NOON_US))
    first = decide(shared, 5, token=TOKEN)
    say(shared, label(2, "tx-5", NOON_US, fraud=False))
    assert first.before == {"tx-5": Standing(0, Verdict.FRAUD, 1)}
    assert decide(shared, 5, token=TOKEN) == first


def test_a_settled_append_is_in_the_log_or_never_will_be(shared: PostgresLedger) -> None:
    assert decide(shared, 1, token=TOKEN).first_sequence == shared.settle(TOKEN) == 1
    other = TOKEN[::-1]
    assert shared.settle(other) == 0
    with pytest.raises(LedgerUnavailable, match="given up before it came"):
        decide(shared, 2, token=other)
    assert shared.last_sequence() == 1


def test_a_broken_connection_is_replaced(shared: PostgresLedger) -> None:
    others = (
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
        "WHERE application_name = 'sentinel' AND datname = current_database()"
    )
    for number in range(1, 4):
        decide(shared, number)
        assert shared.last_sequence() == number
        assert query(shared.database, others) != [(0,)]
        assert len(list(shared.groups())) == number


# ------------------------------------------------------------------------- on an event loop


def begin(ledger: PostgresLedger, *numbers: int, token: bytes) -> tuple[Appended | None, bool]:
    """What an append is told that no thread waits for, and whether it was begun."""
    decided = [transaction(number, NOON_US) for number in numbers]
    payload = encode_group(decision_group(decided))
    return told_on_loop(
        lambda hands, tell: ledger.begin_append(
            hands.loop,
            GroupKind.DECISIONS,
            len(decided),
            NOON_US,
            payload,
            transaction_ids=[one.transaction_id for one in decided],
            token=token,
            done=tell,
        )
    )


def test_an_append_that_no_thread_waits_for_is_an_append(shared: PostgresLedger) -> None:
    say(shared, label(1, "tx-5", NOON_US))
    appended, begun = begin(shared, 4, 5, token=TOKEN)
    assert begun
    assert appended == decide(shared, 4, 5, token=TOKEN)
    assert [group.entries for group in shared.groups()] == [1, 2]
    with pytest.raises(AlreadyRecorded) as refused:
        begin(shared, 6, 4, token=TOKEN[::-1])
    assert refused.value.ids == ("tx-4",)
    assert shared.last_sequence() == 3


def test_a_group_of_megabytes_is_sent_as_the_server_takes_it(shared: PostgresLedger) -> None:
    appended, begun = begin(shared, *range(20_000), token=TOKEN)
    assert begun
    assert appended is not None
    assert appended.first_sequence == 1
    assert shared.last_sequence() == 20_000


def test_an_append_whose_connection_is_lost_is_made_again_once(shared: PostgresLedger) -> None:
    end_all = (
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
        "WHERE application_name = 'sentinel' AND datname = current_database()"
    )
    assert query(shared.database, end_all) != [(0,)]
    assert begin(shared, 1, token=TOKEN) == (None, True), "whether it is in the log is not known"
    assert decide(shared, 1, token=TOKEN).first_sequence == 1
    assert decide(shared, 1, token=TOKEN).first_sequence == 1
    assert shared.last_sequence() == 1


def test_nothing_is_begun_where_a_thread_is_needed(shared: PostgresLedger) -> None:
    with PostgresLedger.open_reader(shared.database) as reader:
        assert begin(reader, 1, token=TOKEN) == (None, False)
    shared.close()
    assert begin(shared, 1, token=TOKEN) == (None, False)


# ----------------------------------------------------------------------- whichever is second


def test_a_transaction_sees_the_labels_that_waited_for_it(shared: PostgresLedger) -> None:
    say(shared, label(1, "tx-1", NOON_US), label(2, "tx-2", NOON_US, fraud=False))
    say(shared, label(3, "tx-2", NOON_US))
    assert decide(shared, 1, 2, 3).before == {
        "tx-1": Standing(0, Verdict.FRAUD, 1),
        "tx-2": Standing(0, Verdict.FRAUD, 3),
    }


def test_a_label_sees_its_transaction_and_the_verdict_before(shared: PostgresLedger) -> None:
    decide(shared, 1, 2)
    assert say(shared, label(1, "tx-1", NOON_US), label(2, "tx-9", NOON_US)).before == {
        "tx-1": Standing(1, None, 0),
        "tx-9": Standing(0, None, 0),
    }
    assert say(shared, label(3, "tx-1", NOON_US, fraud=False)).before == {
        "tx-1": Standing(1, Verdict.FRAUD, 3)
    }


def test_one_of_a_label_and_its_transaction_sees_the_other(postgres: PostgresBackend) -> None:
    rounds = 40
    seen: dict[str, list[bool]] = {"transaction": [], "label": []}
    meet = threading.Barrier(2)

    def transactions() -> None:
        with postgres.open_shared() as ledger:
            for i in range(rounds):
                meet.wait(300)
                seen["transaction"].append(f"tx-{i}" in decide(ledger, i).before)

    def labels() -> None:
        with postgres.open_shared() as ledger:
            for i in range(rounds):
                meet.wait(300)
                before = say(ledger, label(i, f"tx-{i}", NOON_US)).before
                seen["label"].append(before[f"tx-{i}"].sequence > 0)

    threads = [threading.Thread(target=transactions), threading.Thread(target=labels)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [a + b for a, b in zip(*seen.values(), strict=True)] == [1] * rounds


# --------------------------------------------------------------------------------- time


def test_a_clock_that_is_behind_is_raised_to_the_log(
    shared: PostgresLedger, tmp_path: Path
) -> None:
    decide(shared, 1, at=NOON_US)
    behind = decide(shared, 2, 3, at=NOON_US - 50)
    assert (behind.first_sequence, behind.received_at_us) == (2, NOON_US)
    say(shared, label(1, "tx-1", NOON_US - 9))
    assert [(g.received_at_us, g.floor_us) for g in shared.groups()] == [
        (NOON_US, 0),
        (NOON_US, NOON_US),
        (NOON_US, NOON_US),
    ]
    read = [e for first, batch in read_log(shared) for _, e in entries_from(first, batch)]
    assert [entry.received_at_us for entry in read] == [NOON_US] * 4
    index = LedgerIndex(tmp_path / "index.db", shared)
    index.catch_up()
    assert [row.received_at_us for row in index.decisions_page(limit=10).decisions] == [NOON_US] * 3
    raw = index.transaction("tx-2")
    assert raw is not None
    assert raw.received_at_us == NOON_US - 50, "a repeat is compared with what was sent"
    index.close()


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(times=st.lists(st.lists(st.integers(1, 50), min_size=1, max_size=4), max_size=8))
def test_the_log_is_in_order_whatever_the_clocks_said(
    postgres: PostgresBackend, times: list[list[int]]
) -> None:
    number = highest = 0
    expected = []
    with postgres.empty() as ledger:
        for group in times:
            stamped = sorted(group)
            decided = [transaction(number + i, at) for i, at in enumerate(stamped)]
            number += len(decided)
            payload = encode_group(decision_group(decided))
            ledger.append(GroupKind.DECISIONS, len(decided), stamped[-1], payload)
            expected += [max(at, highest) for at in stamped]
            highest = max(highest, stamped[-1])
        received = [
            value
            for _, batch in read_log(ledger)
            for value in batch.column("received_at_us").to_pylist()
        ]
        assert received == expected == sorted(received)
        assert ledger.last_received_at_us() == highest


# --------------------------------------------------------------------------- one or many


def test_many_may_write_unless_one_must_be_alone(postgres: PostgresBackend) -> None:
    with postgres.open_shared() as one, postgres.open_shared() as other:
        assert [decide(one, 1).first_sequence, decide(other, 2).first_sequence] == [1, 2]
        with pytest.raises(WorkspaceError, match=r"Another process is writing .* only one may"):
            postgres.open_writer()
    with (
        postgres.open_writer(),
        pytest.raises(WorkspaceError, match=r"state\.backend = embedded"),
    ):
        postgres.open_shared()


def test_the_only_writer_notices_that_it_was_not(postgres: PostgresBackend) -> None:
    with postgres.open_writer() as alone:
        decide(alone, 1)
        query(
            alone.database,
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'",
        )
        with postgres.open_shared() as intruder:
            decide(intruder, 2)
            postgres.database = replace(postgres.database, retry_seconds=0.2)
        with pytest.raises(LedgerUnavailable, match="has gone on to entry 2 without this process"):
            decide(alone, 3)
        # Its owner has made its state anew by now.
        assert decide(alone, 3).first_sequence == 3


# ------------------------------------------------------------------------------ rebuilds


def test_rebuilds_are_kept_in_their_order(shared: PostgresLedger) -> None:
    rebuilds = [StateRebuild("plan-a", "card", f"k{i % 3}", 10 + i, 100 + i) for i in range(5)]
    for rebuild in rebuilds:
        shared.record_rebuild(rebuild)
    shared.record_rebuild(rebuilds[-1])
    shared.record_rebuild(StateRebuild("plan-b", "card", "k\x00", 1, 1))
    assert list(shared.rebuilds("plan-a")) == rebuilds
    assert [r.entity_key for r in shared.rebuilds("plan-b")] == ["k\x00"]


# ---------------------------------------------------------------------------- migrations


def test_the_code_knows_all_migrations() -> None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    config.set_main_option("path_separator", "os")
    scripts = ScriptDirectory.from_config(config)
    assert tuple(r.revision for r in reversed(list(scripts.walk_revisions()))) == VERSIONS
    assert scripts.get_heads() == [VERSIONS[-1]]


def test_migrating_makes_the_tables_and_then_has_nothing_to_do(postgres: PostgresBackend) -> None:
    assert not PostgresLedger.exists(postgres.database)
    assert migrate(postgres.database) == (None, VERSIONS[-1])
    assert migrate(postgres.database) == (VERSIONS[-1], VERSIONS[-1])
    assert PostgresLedger.exists(postgres.database)


def test_processes_that_start_at_once_migrate_once(postgres: PostgresBackend) -> None:
    problems: list[Exception] = []

    def start() -> None:
        try:
            postgres.open_shared().close()
        except Exception as error:  # noqa: BLE001 -- shown by the assertion
            problems.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


def test_a_newer_database_is_left_alone(postgres: PostgresBackend) -> None:
    postgres.open_writer().close()
    name = f"{postgres.database.namespace}.alembic_version"
    query(postgres.database, f"UPDATE {name} SET version_num = '9999' RETURNING 1")
    for opening in (postgres.open_writer, postgres.open_reader):
        with pytest.raises(WorkspaceError, match="schema version 9999, this Sentinel knows up to"):
            opening()


def test_a_schema_of_something_else_is_left_alone(postgres: PostgresBackend) -> None:
    namespace = postgres.database.namespace
    with psycopg.connect(postgres.database.url, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {namespace}".encode())
        connection.execute(f"CREATE TABLE {namespace}.groups (mine int)".encode())
    with pytest.raises(WorkspaceError, match="already exists"):
        postgres.open_writer()
    assert query(postgres.database, f"SELECT count(*) FROM {namespace}.groups") == [(0,)]


# --------------------------------------------------------------------------- set up wrongly


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://user@127.0.0.1/db", "begins with 'mysql'"),
        ("postgresql://127.0.0.1:port/db", "cannot be read"),
        (f"postgresql://u:%ZZ{HUSH}@127.0.0.1/db", "cannot be understood"),
        (f"postgresql://u:pa@ss{HUSH}@127.0.0.1/db?no=such", "cannot be understood"),
    ],
)
def test_a_url_that_is_none_says_so_without_the_password(url: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        PostgresLedger.open_reader(Database(url))
    assert HUSH not in str(caught.value)


def test_a_wrong_password_says_so_and_does_not_show_it(
    postgres: PostgresBackend, tmp_path: Path
) -> None:
    url = postgres.database.url.replace("postgres@", f"nobody:{HUSH}@")
    with pytest.raises(WorkspaceError, match="does not let this user in") as caught:
        PostgresLedger.open_writer(Database(url), exclusive=True)
    assert HUSH not in str(caught.value)


def test_no_server_and_no_database_say_so(postgres: PostgresBackend) -> None:
    gone = Database(f"postgresql://user:{HUSH}@127.0.0.1:1/db", connect_seconds=2)
    with pytest.raises(LedgerUnavailable, match="does not answer") as caught:
        PostgresLedger.open_reader(gone)
    assert HUSH not in str(caught.value)
    missing = Database(postgres.database.url.replace("/ledger", "/nothing"))
    with pytest.raises(WorkspaceError, match="no such database"):
        PostgresLedger.open_writer(missing, exclusive=True)


def test_a_scorer_needs_few_rights(postgres: PostgresBackend) -> None:
    namespace = postgres.database.namespace
    migrate(postgres.database)
    with psycopg.connect(postgres.database.url, autocommit=True) as connection:
        for statement in (
            f"CREATE ROLE scorer_{namespace} LOGIN",
            f"GRANT USAGE ON SCHEMA {namespace} TO scorer_{namespace}",
            f"GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA {namespace} TO scorer_{namespace}",
        ):
            connection.execute(statement.encode())
    url = postgres.database.url.replace("postgres@", f"scorer_{namespace}@")
    with PostgresLedger.open_writer(replace(postgres.database, url=url), exclusive=False) as ledger:
        decide(ledger, 1)
        ledger.record_rebuild(StateRebuild("plan", "card", "k", 1, 1))
        assert (ledger.last_sequence(), ledger.settle(TOKEN)) == (1, 0)


def test_the_host_that_can_be_written_is_found(postgres: PostgresBackend) -> None:
    url = postgres.database.url.replace("@127.0.0.1:", "@127.0.0.1:1,127.0.0.1:")
    with PostgresLedger.open_writer(replace(postgres.database, url=url), exclusive=True) as ledger:
        decide(ledger, 1)


def test_a_user_without_rights_is_told_which(postgres: PostgresBackend) -> None:
    namespace = postgres.database.namespace
    with psycopg.connect(postgres.database.url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE guest_{namespace} LOGIN".encode())
    url = postgres.database.url.replace("postgres@", f"guest_{namespace}@")
    guest = replace(postgres.database, url=url)
    with pytest.raises(WorkspaceError, match="lacks a right"):
        PostgresLedger.open_writer(guest, exclusive=True)
    with postgres.open_writer() as ledger:
        decide(ledger, 1)
    with pytest.raises(WorkspaceError, match="lacks a right"):
        PostgresLedger.open_reader(guest)
