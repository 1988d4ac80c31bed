"""Alembic's entry point: migrates on the connection that `sentinel.ledger.schema` opened."""

from __future__ import annotations

from sentinel.ledger.migrations.env import run

if __name__ == "env_py":  # the name that Alembic loads it by
    run()
