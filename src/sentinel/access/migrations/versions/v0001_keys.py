"""Keys, when they were last used, and a number that grows with every change of one.

They have a chain of revisions of their own: a scorer of a version that knows no keys goes on
working beside them.
"""

from __future__ import annotations

from typing import Final

from alembic import context, op

revision: Final = "0001"
down_revision: Final = None

# A scorer needs SELECT on the first two, and SELECT, INSERT and UPDATE on the third; only who
# manages keys writes the first two.
TABLES: Final = """
CREATE TABLE {ns}.access_state (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    version bigint NOT NULL,
    pepper_check bytea NOT NULL
);
INSERT INTO {ns}.access_state (version, pepper_check) VALUES (0, '');
CREATE TABLE {ns}.access_keys (
    key_id text PRIMARY KEY,
    document bytea NOT NULL
);
CREATE TABLE {ns}.access_uses (
    key_id text PRIMARY KEY,
    last_used_at_us bigint NOT NULL
);
"""


def upgrade() -> None:
    """Make it all."""
    namespace = context.config.attributes["namespace"]
    for statement in TABLES.strip().split(";\n"):
        op.execute(statement.replace("{ns}", namespace).rstrip(";"))
