"""Stops: what guardrails ended that the line-up still has; rows are added by scorers.

A scorer may not write the line-up. It may add a stop, which can only take an experiment away: the
champion decides in its place. Whoever changes the line-up next writes the stops into it.
"""

from __future__ import annotations

from typing import Final

from alembic import context, op

revision: Final = "0002"
down_revision: Final = "0001"

# A scorer needs SELECT and INSERT.
TABLES: Final = """
CREATE TABLE {ns}.line_up_stops (
    name text NOT NULL CHECK (length(name) <= 64),
    started_at_us bigint NOT NULL,
    why text NOT NULL CHECK (length(why) <= 1000),
    at_us bigint NOT NULL,
    PRIMARY KEY (name, started_at_us)
);
"""


def upgrade() -> None:
    """Make it."""
    namespace = context.config.attributes["namespace"]
    for statement in TABLES.strip().split(";\n"):
        op.execute(statement.replace("{ns}", namespace).rstrip(";"))
