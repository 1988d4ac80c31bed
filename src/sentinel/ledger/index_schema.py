"""The tables of the index, and the statements that fill them."""

from __future__ import annotations

from typing import Final

from sentinel.log.entries import FLAG_IS_FRAUD

OUTCOME_CODE: Final = "flags & 3"
"""`outcome_of` in SQL. SQLite uses an index only for the same words."""

APPLICATION_ID: Final = 0x534E5458
"""Marks the file as an index ("SNTX"), in SQLite's header."""
FORMAT_VERSION: Final = 2
"""A file of another version is built anew from the ledger."""
RUN_BITS: Final = 15
"""A run covers 2 to this power sequences: 32,768."""
ENTITIES: Final = ("card_id", "customer_id", "merchant_id")
"""Columns that decisions can be filtered by; their number is their place here."""
LIKELY: Final = (0.8, 0.3, 0.05)
"""Fraud probabilities from which on decisions are in an index of their own."""

TABLES: Final = {
    "bookmark": """(
        indexed_through INTEGER NOT NULL,
        head TEXT NOT NULL,
        tail_sequence INTEGER NOT NULL,
        tail TEXT NOT NULL
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
    "models": """(
        model_id INTEGER PRIMARY KEY,
        name TEXT NOT NULL, version TEXT NOT NULL, plan_hash TEXT NOT NULL
    )""",
    "judged": """(
        verdict TEXT NOT NULL, sequence INTEGER NOT NULL, PRIMARY KEY (verdict, sequence)
    ) WITHOUT ROWID""",
    "voids": "(transaction_id TEXT PRIMARY KEY, sequence INTEGER NOT NULL) WITHOUT ROWID",
    "runs": "(run INTEGER PRIMARY KEY)",
    "entity_runs": """(
        run INTEGER NOT NULL, entity INTEGER NOT NULL, key TEXT NOT NULL, sequence INTEGER NOT NULL,
        PRIMARY KEY (run, entity, key, sequence)
    ) WITHOUT ROWID""",
}
"""A transaction is in `imported` or in `decisions`, never in both: one insert, one index entry.
`judged` holds the latest verdict of each decision that has one, `voids` the first void of each
transaction that is void. An index that an older version made lacks `voids`, and gets it, empty:
that version could not read a log with a void.

`entity_runs` finds the decisions of an entity. An index over a column of ids costs more than all
the rest of a decision, because every insert lands on another page. So the entries of 32,768
sequences are sorted at once and appended as one run; a question asks every run, newest first
(`runs` lists those that hold anything), and reads what is younger than the last run row by row."""

INDEXES: Final = f"""
CREATE UNIQUE INDEX imported_by_id ON imported (transaction_id);
CREATE UNIQUE INDEX decisions_by_id ON decisions (transaction_id);
CREATE UNIQUE INDEX labels_by_id ON labels (label_id);
CREATE INDEX labels_by_transaction ON labels (transaction_id);
CREATE INDEX alerts ON decisions (sequence) WHERE {OUTCOME_CODE} > 0;
CREATE INDEX to_review ON decisions (sequence) WHERE {OUTCOME_CODE} = 1;
CREATE INDEX declined ON decisions (sequence) WHERE {OUTCOME_CODE} = 2;
CREATE INDEX called_fraud ON decisions (sequence) WHERE flags & {FLAG_IS_FRAUD} > 0;
{
    "".join(
        f"CREATE INDEX likely_{i} ON decisions (sequence) WHERE probability >= {at};"
        for i, at in enumerate(LIKELY)
    )
}
"""
"""Those with a condition hold few decisions, in the order of their arrival: they cost little."""

INSERT_IMPORTED: Final = f"INSERT OR IGNORE INTO imported VALUES (?{', ?' * 9})"
INSERT_DECISIONS: Final = f"INSERT OR IGNORE INTO decisions VALUES (?{', ?' * 15})"
INSERT_LABELS: Final = f"INSERT OR IGNORE INTO labels VALUES (?{', ?' * 5})"
INSERT_VOIDS: Final = "INSERT OR IGNORE INTO voids VALUES (?, ?)"
_LATEST: Final = """(SELECT verdict FROM labels WHERE transaction_id = d.transaction_id
    ORDER BY sequence DESC LIMIT 1)"""
JUDGE: Final = (
    """
DELETE FROM judged WHERE verdict IN ('fraud', 'legitimate') AND sequence IN (
    SELECT d.sequence FROM labels AS l CROSS JOIN decisions AS d USING (transaction_id)
    WHERE l.sequence BETWEEN ?1 AND ?2)""",
    f"""
INSERT OR IGNORE INTO judged SELECT {_LATEST}, d.sequence
FROM labels AS l CROSS JOIN decisions AS d USING (transaction_id)
WHERE l.sequence BETWEEN ?1 AND ?2""",
    f"""
INSERT OR IGNORE INTO judged SELECT {_LATEST} AS verdict, d.sequence FROM decisions AS d
WHERE d.sequence BETWEEN ?1 AND ?2
AND EXISTS (SELECT 1 FROM labels WHERE transaction_id = d.transaction_id)""",
)
"""Bring `judged` up to date after a chunk with these first and last sequences."""
ADD_RUN: Final = tuple(
    f"""
INSERT INTO entity_runs SELECT ?1, {number}, {column}, sequence FROM decisions
WHERE sequence BETWEEN ?2 AND ?3 AND {column} IS NOT NULL ORDER BY {column}, sequence"""
    for number, column in enumerate(ENTITIES)
)
"""Append a run: its number, its first and its last sequence."""


def first_beyond_runs(through: int) -> int:
    """The first sequence that no run covers, once a ledger is indexed through an entry."""
    return (through + 1) >> RUN_BITS << RUN_BITS
