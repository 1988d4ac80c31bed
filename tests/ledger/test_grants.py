"""A scorer's role reads the log and adds to it; it changes and deletes nothing."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path

import psycopg
import pytest
from prometheus_client import CollectorRegistry
from psycopg import sql

from sentinel.access.postgres import TABLES, PostgresKeys
from sentinel.documents.postgres import PostgresDocuments
from sentinel.domain import ConfigurationError, LedgerUnavailable, WorkspaceError
from sentinel.drift.rows import Step
from sentinel.drift.store import DriftStore
from sentinel.drift.tables import PostgresTables, drift_tables
from sentinel.experiments.store import LINE_UPS
from sentinel.ledger.base import LabelEffect, StateRebuild
from sentinel.ledger.database import Database
from sentinel.ledger.grants import grant_to_monitor, grant_to_scorers
from sentinel.ledger.open import held_lock
from sentinel.ledger.postgres import PostgresLedger, migrate
from sentinel.pipeline.monitor import LOCK_PURPOSE, WATCHES
from sentinel.pipeline.watches import ClosedWatch, MonitorContext, WatchThread
from sentinel.policy.store import POLICY
from sentinel.settings import AlertSettings, DigestSettings, LedgerSettings
from testkit.scratch import make_workspace
from testkit.servers import Mail
from tests.ledger.material import NOON_US, append_history, append_labels, fill, label, transaction

_numbers = itertools.count()


@pytest.fixture
def owner(postgres_url: str) -> Database:
    """A ledger whose tables belong to a role that is no superuser, beside a role for scorers."""
    number = next(_numbers)
    roles = [f"owner_{number}", f"scorer_{number}"]
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        for role in roles:
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
        make = sql.SQL("GRANT CREATE ON DATABASE ledger TO {}")
        connection.execute(make.format(sql.Identifier(roles[0])))
    database = Database(as_role(postgres_url, roles[0]), f"granted_{number}", retry_seconds=1.0)
    migrate(database)
    migrate(database, TABLES)
    migrate(database, POLICY.tables())
    migrate(database, LINE_UPS.tables())
    migrate(database, drift_tables())
    return database


def as_role(url: str, role: str) -> str:
    return url.replace("postgres@", f"{role}@")


@pytest.fixture
def scorer(owner: Database, postgres_url: str) -> Database:
    role = f"scorer_{owner.namespace.rpartition('_')[2]}"
    grant_to_scorers(owner, role)
    return Database(as_role(postgres_url, role), owner.namespace, retry_seconds=1.0)


def test_a_scorer_does_all_its_work(scorer: Database) -> None:
    with PostgresLedger.open_writer(scorer, exclusive=False) as ledger:
        append_history(ledger, [transaction(1, NOON_US), transaction(2, NOON_US)])
        first = next(iter(ledger.groups())).first_sequence
        append_labels(ledger, [label(1, "tx-1", NOON_US)])
        assert ledger.settle(bytes(16)) == 0
        ledger.record_rebuild(StateRebuild("plan", "card", "c-1", 1, 2))
        ledger.record_label_effects([LabelEffect("plan", "t-1", 3, 1, (1,))])
        assert len(list(ledger.rebuilds("plan"))) == len(list(ledger.label_effects("plan"))) == 1
        assert (first, ledger.last_sequence()) == (1, 3)
    with PostgresLedger.open_writer(scorer, exclusive=True) as ledger:
        append_labels(ledger, [label(2, "tx-2", NOON_US)])
    with PostgresLedger.open_reader(scorer) as ledger:
        assert sum(group.entries for group in ledger.groups()) == ledger.last_sequence() == 4
    keys = PostgresKeys(scorer)
    assert keys.version() == 0
    assert keys.read().keys == {}
    keys.note_uses({"key": 7})
    keys.note_uses({"key": 9})
    assert keys.uses() == {"key": 9}
    keys.close()
    policies = PostgresDocuments(POLICY, scorer)
    assert (policies.latest(), policies.read()) == (0, None)
    policies.close()
    line_ups = PostgresDocuments(LINE_UPS, scorer)
    assert (line_ups.latest(), line_ups.read()) == (0, None)
    line_ups.close()


@pytest.fixture
def monitor(owner: Database, postgres_url: str) -> Database:
    role = f"monitor_{owner.namespace.rpartition('_')[2]}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
    grant_to_monitor(owner, role)
    return Database(as_role(postgres_url, role), owner.namespace, retry_seconds=1.0)


def test_the_monitor_writes_the_record_of_drift_and_scorers_show_it(
    monitor: Database, scorer: Database
) -> None:
    with PostgresLedger.open_writer(scorer, exclusive=False) as ledger:
        append_history(ledger, [transaction(1, NOON_US)])
    with PostgresLedger.open_reader(monitor) as ledger:  # samples of served rows read all of these
        assert [group.entries for group in ledger.groups()] == [1]
        assert not list(ledger.rebuilds("plan"))
        assert not list(ledger.label_effects("plan"))
    kept, shown = DriftStore(PostgresTables(monitor)), DriftStore(PostgresTables(scorer))
    try:
        kept.keep(Step(kept.progress(), through=1, clock_us=NOON_US))
        assert shown.progress().through == 1
        assert not any((shown.streams(), shown.changes(NOON_US), shown.notices(), shown.hours(1)))
        with pytest.raises(LedgerUnavailable, match="lacks a right"):
            shown.forget_counts()
    finally:
        kept.close()
        shown.close()


def test_all_watches_of_the_monitor_do_their_work_as_its_role(
    monitor: Database, scorer: Database, tmp_path: Path
) -> None:
    given = LedgerSettings(url=monitor.url, namespace=monitor.namespace, retry_seconds=1.0)
    settings = make_workspace(tmp_path / "w", trees=2, leaves=4)
    settings = settings.model_copy(update={"ledger": given, "digest": DigestSettings(hour=0)})
    with PostgresLedger.open_writer(scorer, exclusive=False) as ledger:
        fill(ledger)
        last = ledger.last_sequence()
    stop = threading.Event()
    with Mail(tmp_path / "box") as mail:
        told = AlertSettings(
            smtp_host="127.0.0.1", smtp_port=mail.port, smtp_tls="none", mail_to="ann@example.com"
        )
        settings = settings.model_copy(update={"alerts": told})
        context = MonitorContext(settings, stop, CollectorRegistry())
        watches = [watch for make in WATCHES if (watch := make(context)) is not None]
        assert len(watches) == len(WATCHES)
        for _ in range(2):
            for watch in watches:
                thread = WatchThread(watch, stop)
                thread.run_once()
                assert thread.state().problem == "", watch.name
        assert mail.messages()  # a digest, which reads policy, line-up and log
    for watch in watches:
        if isinstance(watch, ClosedWatch):
            watch.close()
    with PostgresLedger.open_reader(monitor) as ledger:  # samples of parity read these
        assert not list(ledger.piece_effects("plan"))
    shown = context.registry.get_sample_value
    assert shown("sentinel_label_feed_sequence") == last
    assert shown("sentinel_drift_followed_sequence") == last
    assert shown("sentinel_drift_lag_entries") == 0
    lock = held_lock(settings, LOCK_PURPOSE)
    assert lock is not None
    try:
        assert lock.take()
    finally:
        lock.close()


MAY_NOT_BE_SEEN = [
    "SELECT * FROM {ns}.access_keys",
    "SELECT * FROM {ns}.access_state",
    "SELECT * FROM {ns}.access_uses",
    "SELECT * FROM {ns}.tokens",
]


def test_the_monitor_changes_nothing_but_the_record_of_drift(
    monitor: Database, scorer: Database
) -> None:
    with PostgresLedger.open_writer(scorer, exclusive=True) as ledger:
        fill(ledger)
        before = [bytes(group.payload) for group in ledger.groups()]
    added = [
        f"INSERT INTO {{ns}}.{table} OVERRIDING SYSTEM VALUE SELECT * FROM {{ns}}.{table} LIMIT 0"
        for table in ("groups", "transactions", "labels", "state_rebuilds", "label_effects",
                      "line_up_stops", "policy_versions", "line_up_versions")
    ]  # fmt: skip
    its_own = ("drift_notices", "drift_changes", "drift_progress")
    forbidden = [one for one in FORBIDDEN if not any(table in one for table in its_own)]
    with psycopg.connect(monitor.url, autocommit=True) as connection:
        for statement in [*forbidden, *added, *MAY_NOT_BE_SEEN]:
            asked = sql.SQL(statement).format(ns=sql.Identifier(monitor.namespace))
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(asked)
    with (
        pytest.raises(LedgerUnavailable),
        PostgresLedger.open_writer(monitor, exclusive=False) as own,
    ):
        append_labels(own, [label(9, "tx-9", NOON_US)])
    with PostgresLedger.open_reader(monitor) as ledger:
        assert [bytes(group.payload) for group in ledger.groups()] == before


FORBIDDEN = [
    "UPDATE {ns}.groups SET payload = ''",
    "DELETE FROM {ns}.groups",
    "TRUNCATE {ns}.groups",
    "DROP TABLE {ns}.groups",
    "ALTER TABLE {ns}.groups DISABLE TRIGGER ALL",
    "ALTER TABLE {ns}.groups OWNER TO CURRENT_USER",
    "UPDATE {ns}.transactions SET sequence = 0",
    "DELETE FROM {ns}.transactions",
    "UPDATE {ns}.labels SET is_fraud = false",
    "DELETE FROM {ns}.labels",
    "DELETE FROM {ns}.tokens",
    "UPDATE {ns}.tokens SET first_sequence = 1",
    "DELETE FROM {ns}.label_effects",
    "DELETE FROM {ns}.state_rebuilds",
    "DELETE FROM {ns}.access_uses",
    "INSERT INTO {ns}.access_keys VALUES ('mine', '')",
    "UPDATE {ns}.access_keys SET document = ''",
    "DELETE FROM {ns}.access_keys",
    "UPDATE {ns}.access_state SET version = 0",
    "INSERT INTO {ns}.policy_versions VALUES (1, '')",
    "UPDATE {ns}.policy_versions SET document = ''",
    "DELETE FROM {ns}.policy_versions",
    "INSERT INTO {ns}.line_up_versions VALUES (1, '')",
    "UPDATE {ns}.line_up_versions SET document = ''",
    "DELETE FROM {ns}.line_up_versions",
    "UPDATE {ns}.line_up_stops SET why = ''",
    "DELETE FROM {ns}.line_up_stops",
    "UPDATE {ns}.line_up_growths SET at_us = 0",
    "DELETE FROM {ns}.line_up_growths",
    "INSERT INTO {ns}.drift_notices VALUES (1, '')",
    "DELETE FROM {ns}.drift_changes",
    "UPDATE {ns}.drift_progress SET through = 0",
    "UPDATE {ns}.alembic_version SET version_num = '0'",
    "CREATE TABLE {ns}.mine (n int)",
    "CREATE FUNCTION {ns}.mine() RETURNS bigint LANGUAGE sql AS 'SELECT 1'",
    "ALTER FUNCTION {ns}.settle(bytea) SECURITY DEFINER",
    "DROP FUNCTION {ns}.settle(bytea)",
    "DROP SCHEMA {ns} CASCADE",
]


def test_a_scorer_changes_nothing(scorer: Database) -> None:
    with PostgresLedger.open_writer(scorer, exclusive=True) as ledger:
        fill(ledger)
        before = [bytes(group.payload) for group in ledger.groups()]
    with psycopg.connect(scorer.url, autocommit=True) as connection:
        for statement in FORBIDDEN:
            asked = sql.SQL(statement).format(ns=sql.Identifier(scorer.namespace))
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(asked)
    with PostgresLedger.open_reader(scorer) as ledger:
        assert [bytes(group.payload) for group in ledger.groups()] == before


def test_granting_again_takes_what_was_given_by_hand(owner: Database, scorer: Database) -> None:
    groups = sql.Identifier(owner.namespace, "groups")
    role = psycopg.conninfo.conninfo_to_dict(scorer.url)["user"]
    give = sql.SQL("GRANT DELETE ON {} TO {}").format(groups, sql.Identifier(str(role)))
    with psycopg.connect(owner.url, autocommit=True) as connection:
        connection.execute(give)
    grant_to_scorers(owner, str(role))
    remove = sql.SQL("DELETE FROM {}").format(groups)
    with (
        psycopg.connect(scorer.url) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(remove)


def test_the_owner_and_superusers_are_no_roles_for_scorers(owner: Database) -> None:
    for role in (str(psycopg.conninfo.conninfo_to_dict(owner.url)["user"]), "postgres"):
        with pytest.raises(ConfigurationError, match="a role of its own for scorers"):
            grant_to_scorers(owner, role)
    with pytest.raises(WorkspaceError, match='role "nobody" does not exist'):
        grant_to_scorers(owner, "nobody")
