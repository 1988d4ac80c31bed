"""What labels say of change: one document, which the monitor makes anew from the log each day."""

from __future__ import annotations

from typing import Final

from alembic import context, op

from sentinel.drift.tables import POSTGRES_LABEL_TABLES

revision: Final = "0002"
down_revision: Final = "0001"


def upgrade() -> None:
    """Make the table."""
    namespace = context.config.attributes["namespace"]
    op.execute(POSTGRES_LABEL_TABLES.replace("{t}", f'"{namespace}".drift_').strip().rstrip(";"))
