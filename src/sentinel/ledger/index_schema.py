"""The tables of the index, and the statements that fill them."""

from __future__ import annotations

from typing import Final

APPLICATION_ID: Final = 0x534E5458
"""Marks the file as an index ("SNTX"), in SQLite's header."""
FORMAT_VERSION: Final = 1

TABLES: Final = {
    "bookmark": """(
        indexed_through INTEGER NOT NULL,
        head TEXT NOT NULL,
        tail_sequence INTEGER NOT NULL,
        tail TEXT NOT NULL,
        imported INTEGER NOT NULL,
        labels INTEGER NOT NULL,
        approved INTEGER NOT NULL,
        to_review INTEGER NOT NULL,
        declined INTEGER NOT NULL
    )""",
    "imported": """(
        sequence INTEGER PRIMARY KEY,
        transaction_id TEXT NOT NULL,
        event_time_us INTEGER NOT NULL,
        received_at_us INTEGER NOT NULL,
        amount_minor INTEGER NOT NULL,
        customer_id TEXT, card_id TEXT, merchant_id TEXT, device_id TEXT, ip_address TEXT
    )""",
    "decisions": """(
        sequence INTEGER PRIMARY KEY,
        transaction_id TEXT NOT NULL,
        event_time_us INTEGER NOT NULL,
        received_at_us INTEGER NOT NULL,
        amount_minor INTEGER NOT NULL,
        customer_id TEXT, card_id TEXT, merchant_id TEXT, device_id TEXT, ip_address TEXT,
        probability REAL NOT NULL,
        score REAL NOT NULL,
        flags INTEGER NOT NULL,
        model_id INTEGER NOT NULL,
        latency_us INTEGER NOT NULL,
        top_reason INTEGER NOT NULL
    )""",
    "labels": """(
        sequence INTEGER PRIMARY KEY,
        label_id TEXT NOT NULL,
        transaction_id TEXT NOT NULL,
        verdict TEXT NOT NULL,
        received_at_us INTEGER NOT NULL,
        origin TEXT NOT NULL
    )""",
    "waiting": "(sequence INTEGER PRIMARY KEY, transaction_id TEXT NOT NULL)",
    "models": """(
        model_id INTEGER PRIMARY KEY,
        name TEXT NOT NULL, version TEXT NOT NULL, plan_hash TEXT NOT NULL
    )""",
    "minutes": """(
        minute INTEGER NOT NULL, flags INTEGER NOT NULL, decisions INTEGER NOT NULL,
        PRIMARY KEY (minute, flags)
    ) WITHOUT ROWID""",
}
"""A transaction is in `imported` or in `decisions`, never in both: one insert, one index entry.
`minutes` counts decisions by minute of receipt and flags. `waiting` holds the labels whose
transaction is not in the log yet."""

INDEXES: Final = """
CREATE UNIQUE INDEX imported_by_id ON imported (transaction_id);
CREATE UNIQUE INDEX decisions_by_id ON decisions (transaction_id);
CREATE UNIQUE INDEX labels_by_id ON labels (label_id);
CREATE INDEX labels_by_transaction ON labels (transaction_id);
CREATE INDEX alerts ON decisions (sequence) WHERE flags & 3 > 0;
"""

INSERT_IMPORTED: Final = f"INSERT OR IGNORE INTO imported VALUES (?{', ?' * 9})"
INSERT_DECISIONS: Final = f"INSERT OR IGNORE INTO decisions VALUES (?{', ?' * 15})"
INSERT_LABELS: Final = f"INSERT OR IGNORE INTO labels VALUES (?{', ?' * 5})"
INSERT_WAITING: Final = """
INSERT INTO waiting SELECT sequence, transaction_id FROM labels AS l
WHERE sequence BETWEEN ? AND ?
AND NOT EXISTS (SELECT 1 FROM decisions WHERE transaction_id = l.transaction_id)
AND NOT EXISTS (SELECT 1 FROM imported WHERE transaction_id = l.transaction_id)"""
COUNT_MINUTES: Final = """
INSERT INTO minutes VALUES (?, ?, ?)
ON CONFLICT DO UPDATE SET decisions = decisions + excluded.decisions"""
