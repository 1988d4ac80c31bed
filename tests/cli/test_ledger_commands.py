"""The command line on a ledger in PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import psycopg

from tests.cli.test_commands import MAPPING, ROWS, sentinel

PASSWORD = "not-to-be-shown"


def test_a_ledger_in_postgres_is_made_filled_and_deleted(postgres_url: str, tmp_path: Path) -> None:
    (tmp_path / "payments.csv").write_text(ROWS)
    mapping = tmp_path / "mapping.toml"
    mapping.write_text(MAPPING)
    names = {
        "SENTINEL_LEDGER__URL": postgres_url.replace("postgres@", f"postgres:{PASSWORD}@"),
        "SENTINEL_LEDGER__NAMESPACE": "from_the_command_line",
        "SENTINEL_WORKSPACE": str(tmp_path / "w"),
    }
    where = f"the ledger in schema from_the_command_line of {postgres_url}"

    def said(*arguments: str, code: int = 0) -> str:
        done = sentinel(*arguments, **names)
        assert done.returncode == code, done.stderr
        assert PASSWORD not in done.stdout + done.stderr
        return done.stdout + done.stderr

    assert f"Made {where}, schema version" in said("ledger", "migrate")
    said("import", str(mapping), "--allow-rejects", "0.6")
    # A database may be shared: a first run does not take for its own what it finds there.
    assert "holds 2 entries already" in said("up", code=1)
    assert f"Deleted {where}" in said("reset", "--yes", "--ledger")
    with psycopg.connect(postgres_url) as connection:
        query = "SELECT count(*) FROM pg_namespace WHERE nspname = 'from_the_command_line'"
        assert connection.execute(query).fetchone() == (0,)


def test_a_database_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    names = {
        "SENTINEL_LEDGER__URL": f"postgresql://user:{PASSWORD}@127.0.0.1:1/sentinel",
        "SENTINEL_WORKSPACE": str(tmp_path / "w"),
    }
    for arguments in (("ledger", "migrate"), ("export",)):
        done = sentinel(*arguments, **names)
        assert done.returncode == 1
        assert "sentinel: Cannot open the ledger postgresql://user@127.0.0.1:1/sentinel: the" in (
            done.stderr
        )
        assert PASSWORD not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr


def test_sqlite_has_nothing_to_migrate(tmp_path: Path) -> None:
    done = sentinel("ledger", "migrate", "--workspace", str(tmp_path / "w"))
    assert (done.returncode, "is in SQLite: there is nothing to migrate" in done.stdout) == (
        0,
        True,
    )
