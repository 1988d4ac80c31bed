"""Growths: steps of canaries that the line-up does not have yet; rows are added by scorers.

A scorer may not write the line-up. It may note that a canary's model has run for long enough at a
share, which lets that grow up to what the line-up gives it, and no sooner than it says. Whoever
changes the line-up next writes the steps into it.
"""

from __future__ import annotations

from typing import Final

from alembic import context, op

revision: Final = "0003"
down_revision: Final = "0002"

# A scorer needs SELECT and INSERT.
TABLES: Final = """
CREATE TABLE {ns}.line_up_growths (
    name text NOT NULL CHECK (length(name) <= 64),
    started_at_us bigint NOT NULL,
    step integer NOT NULL CHECK (step BETWEEN 1 AND 100),
    at_us bigint NOT NULL,
    PRIMARY KEY (name, started_at_us, step)
);
"""


def upgrade() -> None:
    """Make it."""
    namespace = context.config.attributes["namespace"]
    for statement in TABLES.strip().split(";\n"):
        op.execute(statement.replace("{ns}", namespace).rstrip(";"))
