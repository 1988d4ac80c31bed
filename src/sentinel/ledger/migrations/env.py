"""Alembic's entry point: migrates on the connection that `sentinel.ledger.schema` opened."""

from __future__ import annotations

from alembic import context


def run() -> None:
    """Run what is due, each revision in a transaction of its own."""
    config = context.config
    context.configure(
        connection=config.attributes["connection"],
        version_table=config.attributes["version_table"],
        version_table_schema=config.attributes["namespace"],
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


if __name__ == "env_py":  # the name that Alembic loads it by
    run()
