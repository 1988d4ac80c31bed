"""Counts of hours, what was found in them, and what was said in advance.

The role of the monitor may do with these tables what it likes; nobody else needs them but who
silences or plans. All but silences and plans can be made anew from the log.
"""

from __future__ import annotations

from typing import Final

from alembic import context, op

from sentinel.drift.tables import POSTGRES_TABLES

revision: Final = "0001"
down_revision: Final = None


def upgrade() -> None:
    """Make them."""
    namespace = context.config.attributes["namespace"]
    for statement in POSTGRES_TABLES.strip().split(";\n"):
        op.execute(statement.replace("{t}", f'"{namespace}".drift_').rstrip(";"))
