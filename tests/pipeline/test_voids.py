"""What a void in the log changes for backfills, proofs and training, and what it leaves alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from sentinel.domain import Label, Verdict, Void
from sentinel.ledger.log import read_log
from sentinel.models.dataset import FRAUD, UNKNOWN, targets_at
from sentinel.pipeline.backfill import backfill
from sentinel.pipeline.labelled_payments import labelled_payments
from sentinel.pipeline.verify import verify
from sentinel.pipeline.workspace import ledger_reader, ledger_writer
from sentinel.settings import Settings
from tests.ledger.material import append_decisions, append_labels, append_voids, transaction
from tests.pipeline.test_backfill import same, vectors

YEAR_US = 365 * 86_400_000_000


def poisoned(settings: Settings) -> dict[str, Any]:
    """The log gets a payment of a known card a year ahead, and payments of that card after it."""
    with ledger_reader(settings) as ledger:
        (_, batch) = next(iter(read_log(ledger, max_rows=500)))
        payments = batch.filter(pa.compute.equal(batch.column("kind"), 0))
        entity: dict[str, Any] = (
            payments.select(["customer_id", "card_id", "merchant_id"])
            .slice(payments.num_rows - 1)
            .to_pylist()[0]
        )
        now = ledger.last_received_at_us()
    with ledger_writer(settings) as ledger:
        ahead = transaction(900_001, now + 1, event_time_us=now + YEAR_US, **entity)
        append_decisions(ledger, [ahead])
        append_decisions(ledger, [transaction(900_002, now + 2, **entity)])
        label = Label(
            label_id="void-1",
            transaction_id="tx-900001",
            verdict=Verdict.FRAUD,
            received_at_us=now + 3,
        )
        append_labels(ledger, [label])
    return {**entity, "now": now}


def void(settings: Settings, at_us: int) -> None:
    with ledger_writer(settings) as ledger:
        append_voids(
            ledger,
            [Void(transaction_id="tx-900001", received_at_us=at_us, reason="a clock a year ahead")],
        )


def after(settings: Settings, entity: dict[str, Any], at_us: int) -> None:
    with ledger_writer(settings) as ledger:
        known = {name: value for name, value in entity.items() if name != "now"}
        append_decisions(ledger, [transaction(900_003, at_us, **known)])


def test_vectors_behind_a_void_stay_valid_and_those_after_it_are_without_its_payment(
    workspace: Settings,
) -> None:
    """A payment a year ahead empties the windows of all that comes after it, until it is void."""
    entity = poisoned(workspace)
    now = entity["now"]
    before = backfill(workspace).parts
    rows = before.manifest.rows
    void(workspace, now + 4)
    after(workspace, entity, now + 5)
    grown = backfill(workspace)
    assert grown.new_rows == 1
    table = vectors(grown.parts)
    assert same(table.slice(0, rows), vectors(before))
    counts = [name for name in table.schema.names if name.startswith("customer_count")]
    assert counts
    emptied, repaired = (
        table.select(counts).slice(row, 1).to_pylist()[0] for row in (rows - 1, rows)
    )
    assert max(emptied.values()) <= 1
    assert max(repaired.values()) > 1

    anew = backfill(workspace, rebuild=True)
    assert same(vectors(anew.parts), table)
    assert verify(workspace).mismatches == 0


def test_training_leaves_out_what_is_void(workspace: Settings) -> None:
    entity = poisoned(workspace)
    known = labelled_payments(workspace)
    assert known.payments.void is None
    row = len(known.payments) - 2
    assert targets_at(known.payments, known.labels, known.end_us, YEAR_US)[row] == FRAUD

    void(workspace, entity["now"] + 4)
    known = labelled_payments(workspace)
    assert known.payments.void is not None
    assert np.flatnonzero(known.payments.void).tolist() == [row]
    for maturity_us in (0, YEAR_US):
        targets = targets_at(known.payments, known.labels, 3 * known.end_us, maturity_us)
        assert targets[row] == UNKNOWN
    assert row not in known.labels.row
