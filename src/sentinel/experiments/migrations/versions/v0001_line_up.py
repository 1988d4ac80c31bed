"""The versions of a deployment's line-up; rows are added, and never changed.

They have a chain of revisions of their own: a scorer of a version that knows no experiments goes
on working beside them, with the champion alone.
"""

from __future__ import annotations

from typing import Final

from alembic import context, op

revision: Final = "0001"
down_revision: Final = None

# A scorer needs SELECT; only who manages experiments writes.
TABLES: Final = """
CREATE TABLE {ns}.line_up_versions (
    version bigint PRIMARY KEY,
    document bytea NOT NULL
);
"""


def upgrade() -> None:
    """Make it."""
    namespace = context.config.attributes["namespace"]
    for statement in TABLES.strip().split(";\n"):
        op.execute(statement.replace("{ns}", namespace).rstrip(";"))
