"""The ledger: groups, the ids they hold, and the function that appends.

Why it is set up as it is: docs/decisions/104-a-ledger-that-many-write.md.
"""

from __future__ import annotations

from typing import Final

from alembic import context, op

revision: Final = "0001"
down_revision: Final = None

TABLES: Final = """
CREATE TABLE {ns}.groups (
    first_sequence bigint PRIMARY KEY,
    entries integer NOT NULL,
    kind smallint NOT NULL,
    received_at_us bigint NOT NULL,
    floor_us bigint NOT NULL,
    payload bytea NOT NULL
);
-- Packed numbers and compressed columns: to compress them again costs time and gains nothing.
ALTER TABLE {ns}.groups ALTER COLUMN payload SET STORAGE EXTERNAL;
-- Ids are UTF-8 as bytes: compared without a collation, and free to hold what text may not.
CREATE TABLE {ns}.transactions (
    transaction_id bytea PRIMARY KEY,
    sequence bigint NOT NULL
);
CREATE TABLE {ns}.labels (
    label_id bytea PRIMARY KEY,
    sequence bigint NOT NULL,
    transaction_id bytea NOT NULL,
    is_fraud boolean NOT NULL
);
CREATE INDEX labels_by_transaction ON {ns}.labels (transaction_id, sequence);
-- first_sequence is null where an append was given up before it came.
CREATE TABLE {ns}.tokens (
    token bytea PRIMARY KEY,
    first_sequence bigint
);
CREATE TABLE {ns}.state_rebuilds (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    plan_hash text NOT NULL,
    view text NOT NULL,
    entity_key bytea NOT NULL,
    position bigint NOT NULL,
    through_sequence bigint NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (plan_hash, view, entity_key, position)
);
CREATE INDEX state_rebuilds_by_plan ON {ns}.state_rebuilds (plan_hash, number);
CREATE TABLE {ns}.label_effects (
    plan_hash text NOT NULL,
    label_sequence bigint NOT NULL,
    transaction_id bytea NOT NULL,
    kind smallint NOT NULL,
    positions bigint[] NOT NULL,
    PRIMARY KEY (plan_hash, label_sequence)
);
"""

# All appends queue for one lock, which is released once the commit is on disk and visible. Under
# READ COMMITTED each statement of the function sees what was committed before it, so what follows
# the lock sees every append before this one: that makes sequences without a hole, times that never
# decrease, and a transaction and its label that cannot miss each other.
APPEND: Final = """
CREATE FUNCTION {ns}.append_group(
    IN p_kind smallint,
    IN p_entries integer,
    IN p_received_at_us bigint,
    IN p_payload bytea,
    IN p_transaction_ids bytea[],
    IN p_transaction_rows integer[],
    IN p_label_ids bytea[],
    IN p_label_rows integer[],
    IN p_labelled bytea[],
    IN p_is_fraud boolean[],
    IN p_token bytea,
    IN p_expected bigint,
    OUT o_status text,
    OUT o_sequence bigint,
    OUT o_received_at_us bigint,
    OUT o_recorded bytea[],
    OUT o_ids bytea[],
    OUT o_sequences bigint[],
    OUT o_is_fraud boolean[],
    OUT o_label_sequences bigint[]
) LANGUAGE plpgsql AS $function$
DECLARE
    last bigint := 0;
    floor bigint := 0;
BEGIN
    PERFORM pg_advisory_xact_lock({append_lock});
    SELECT first_sequence INTO o_sequence FROM {ns}.tokens WHERE token = p_token;
    IF FOUND THEN
        IF o_sequence IS NULL THEN
            o_status := 'given up';
            RETURN;
        END IF;
        o_status := 'repeated';
        SELECT received_at_us INTO o_received_at_us
        FROM {ns}.groups WHERE first_sequence = o_sequence;
    ELSE
        SELECT first_sequence + entries - 1, received_at_us INTO last, floor
        FROM {ns}.groups ORDER BY first_sequence DESC LIMIT 1;
        IF NOT FOUND THEN
            last := 0;
            floor := 0;
        END IF;
        IF last <> p_expected THEN
            o_status := 'moved';
            o_sequence := last;
            RETURN;
        END IF;
        SELECT array_agg(i) INTO o_recorded FROM (
            SELECT i FROM unnest(p_transaction_ids) AS i
            JOIN {ns}.transactions ON transaction_id = i
            UNION ALL
            SELECT i FROM unnest(p_label_ids) AS i JOIN {ns}.labels ON label_id = i
        ) AS found;
        IF o_recorded IS NOT NULL THEN
            o_status := 'recorded';
            RETURN;
        END IF;
        o_status := 'appended';
        o_sequence := last + 1;
        o_received_at_us := greatest(p_received_at_us, floor);
        INSERT INTO {ns}.groups
        VALUES (o_sequence, p_entries, p_kind, o_received_at_us, floor, p_payload);
        INSERT INTO {ns}.tokens VALUES (p_token, o_sequence);
        INSERT INTO {ns}.transactions
        SELECT i, o_sequence + r FROM unnest(p_transaction_ids, p_transaction_rows) AS t (i, r);
        INSERT INTO {ns}.labels
        SELECT i, o_sequence + r, about, fraud
        FROM unnest(p_label_ids, p_label_rows, p_labelled, p_is_fraud) AS t (i, r, about, fraud);
    END IF;
    IF p_kind <> 0 THEN
        SELECT array_agg(s.transaction_id), array_agg(s.sequence), array_agg(s.is_fraud),
               array_agg(s.label_sequence)
        INTO o_ids, o_sequences, o_is_fraud, o_label_sequences
        FROM {ns}.standings(
            CASE p_kind WHEN 2 THEN p_labelled ELSE p_transaction_ids END, o_sequence
        ) AS s
        WHERE p_kind = 2 OR s.label_sequence > 0;
    END IF;
END
$function$;
"""

STANDINGS: Final = """
CREATE FUNCTION {ns}.standings(p_ids bytea[], p_before bigint)
RETURNS TABLE (
    transaction_id bytea, sequence bigint, is_fraud boolean, label_sequence bigint
) LANGUAGE sql STABLE AS $function$
    SELECT i.id,
           coalesce(t.sequence, 0),
           l.is_fraud,
           coalesce(l.sequence, 0)
    FROM (SELECT DISTINCT id FROM unnest(p_ids) AS u (id)) AS i
    LEFT JOIN {ns}.transactions AS t ON t.transaction_id = i.id AND t.sequence < p_before
    LEFT JOIN LATERAL (
        SELECT b.is_fraud, b.sequence FROM {ns}.labels AS b
        WHERE b.transaction_id = i.id AND b.sequence < p_before
        ORDER BY b.sequence DESC LIMIT 1
    ) AS l ON true
$function$;
"""

# Under the same lock: an append with this token is either in the log by now, or will find the
# token given up.
SETTLE: Final = """
CREATE FUNCTION {ns}.settle(p_token bytea) RETURNS bigint LANGUAGE plpgsql AS $function$
DECLARE
    found_sequence bigint;
BEGIN
    PERFORM pg_advisory_xact_lock({append_lock});
    SELECT first_sequence INTO found_sequence FROM {ns}.tokens WHERE token = p_token;
    IF NOT FOUND THEN
        INSERT INTO {ns}.tokens VALUES (p_token, NULL);
    END IF;
    RETURN coalesce(found_sequence, 0);
END
$function$;
"""


def upgrade() -> None:
    """Make it all."""
    attributes = context.config.attributes
    for statement in (*TABLES.split(";\n"), STANDINGS, APPEND, SETTLE):
        op.execute(
            statement.replace("{ns}", attributes["namespace"]).replace(
                "{append_lock}", str(attributes["append_lock"])
            )
        )
