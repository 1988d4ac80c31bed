"""What was decided is read from the log as it was recorded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa

from sentinel.domain import AttributeValue, Label, Transaction
from sentinel.features.plan.plan import DAY_US
from sentinel.ledger.log import read_log
from sentinel.log.columns import DecisionColumns
from sentinel.log.entries import GroupKind, encode_group
from sentinel.log.schema import ARRIVED
from sentinel.models.dataset import FRAUD, UNKNOWN, verdicts_by
from sentinel.models.decided import APPROVE, BEFORE, DECLINE, REVIEW, SENTINEL, UNSAID
from sentinel.pipeline.history import OUTCOME_BEFORE, History, read_arrivals, read_history
from tests.ledger.material import (
    NOON_US,
    append_decisions,
    append_history,
    append_labels,
    decision_group,
    entries_from,
    label,
    new_ledger,
    transaction,
)


def said(number: int, outcome: str | None) -> Transaction:
    """A payment of which the system before said something."""
    given: dict[str, AttributeValue] = {} if outcome is None else {OUTCOME_BEFORE: outcome}
    return transaction(number, NOON_US + number, attributes=given)


def history_of(folder: Path, ids: Sequence[str], until: int = 1_000) -> History:
    with new_ledger(folder) as ledger:
        return read_history(ledger.groups(), pa.array(ids, pa.large_string()), until)


def ids_of(*numbers: int) -> list[str]:
    return [f"tx-{number}" for number in numbers]


def test_an_import_says_what_the_system_before_decided(tmp_path: Path) -> None:
    with new_ledger(tmp_path) as ledger:
        words = ["approve", "review", "decline", None, "who knows"]
        append_history(ledger, [said(i, word) for i, word in enumerate(words)])
    decided = history_of(tmp_path, ids_of(*range(5))).decided
    assert decided is not None
    assert decided.outcome.tolist() == [APPROVE, REVIEW, DECLINE, APPROVE, APPROVE]
    assert decided.source.tolist() == [BEFORE, BEFORE, BEFORE, UNSAID, UNSAID]
    assert decided.propensity.tolist() == [1.0] * 5


def test_an_import_without_outcomes_says_nothing(tmp_path: Path) -> None:
    with new_ledger(tmp_path) as ledger:
        append_history(ledger, [said(0, None), said(1, None)])
    assert history_of(tmp_path, ids_of(0, 1)).decided is None


def test_what_sentinel_decided_is_read_with_its_chances(tmp_path: Path) -> None:
    payments = [said(i, None) for i in range(4)]
    group = msgspec.structs.replace(
        decision_group(payments, outcomes=(0, 2, 0, 1)),
        columns=DecisionColumns(
            base_outcomes=bytes([0, 2, 2, 1]),
            eligible=bytes([0, 1, 1, 0]),
            propensities=np.array([1, 0.96, 0.04, 1], dtype="<f4").tobytes(),
        ),
    )
    with new_ledger(tmp_path) as ledger:
        append_history(ledger, [said(9, None)])
        ledger.append(GroupKind.DECISIONS, 4, NOON_US + 9, encode_group(group))
    decided = history_of(tmp_path, ids_of(9, 0, 1, 2, 3)).decided
    assert decided is not None
    assert decided.outcome.tolist() == [APPROVE, APPROVE, DECLINE, APPROVE, REVIEW]
    assert decided.base_outcome.tolist() == [APPROVE, APPROVE, DECLINE, DECLINE, REVIEW]
    assert decided.explored.tolist() == [False, False, False, True, False]
    assert decided.eligible.tolist() == [False, False, True, True, False]
    np.testing.assert_allclose(decided.propensity, [1, 1, 0.96, 0.04, 1], rtol=1e-6)
    assert decided.source.tolist() == [UNSAID, *[SENTINEL] * 4]


def test_a_payment_goes_through_only_if_both_systems_let_it(tmp_path: Path) -> None:
    payments = [said(0, "decline"), said(1, "approve"), said(2, "review"), said(3, "review")]
    with new_ledger(tmp_path) as ledger:
        append_decisions(ledger, payments, outcomes=(0, 2, 2, 0))
    decided = history_of(tmp_path, ids_of(*range(4))).decided
    assert decided is not None
    assert decided.outcome.tolist() == [DECLINE, DECLINE, DECLINE, REVIEW]
    assert decided.source.tolist() == [BEFORE, SENTINEL, SENTINEL, BEFORE]


def test_nothing_is_read_beyond_the_entry_that_vectors_reach(tmp_path: Path) -> None:
    with new_ledger(tmp_path) as ledger:
        append_history(ledger, [said(0, "decline"), label(1, "tx-0", NOON_US + 1)])
        append_decisions(ledger, [said(i, None) for i in range(2, 5)], outcomes=(2,))
        append_labels(ledger, [label(2, "tx-2", NOON_US + 10)])
    part = history_of(tmp_path, ids_of(0, 2), until=3)
    assert part.decided is not None
    assert part.decided.outcome.tolist() == [DECLINE, DECLINE]
    assert part.labels.row.tolist() == [0]
    assert part.end_us == NOON_US + 3
    whole = history_of(tmp_path, ids_of(0, 2, 3, 4))
    assert whole.labels.row.tolist() == [0, 1]
    assert whole.labels.received_at_us.tolist() == [NOON_US + 1, NOON_US + 10]
    assert whole.end_us == NOON_US + 11


def test_labels_that_were_imported_late_arrived_when_their_source_says(tmp_path: Path) -> None:
    """The log received all of them at its end; a cut-off goes by what the source says."""
    end = NOON_US + 100 * DAY_US
    with new_ledger(tmp_path) as ledger:
        payments = [transaction(i, NOON_US + i * DAY_US) for i in range(3)]
        append_history(ledger, payments)
        append_decisions(ledger, [transaction(9, end)])
        late: list[Transaction | Label] = [
            transaction(4, NOON_US + 5 * DAY_US),
            label(1, "tx-0", NOON_US + 10 * DAY_US),
            label(2, "tx-1", NOON_US + 60 * DAY_US),
            label(3, "tx-4", end + DAY_US),
        ]
        assert append_history(ledger, late).clamped == 3
        received = [
            entry.received_at_us
            for _, batch in read_log(ledger)
            for _, entry in entries_from(1, batch)
        ]
        assert received[-4:] == [end, end, end, end + DAY_US]
        arrivals = read_arrivals(ledger.groups()).tolist()
    assert arrivals == [NOON_US + 10 * DAY_US, NOON_US + 60 * DAY_US, end + DAY_US]
    history = history_of(tmp_path, ids_of(0, 1, 2, 9, 4))
    assert history.labels.received_at_us.tolist() == arrivals
    assert history.arrived_at_us.tolist() == [0, 0, 0, 0, NOON_US + 5 * DAY_US]
    assert history.end_us == end + DAY_US + 1
    known = verdicts_by(history.labels, 5, NOON_US + 50 * DAY_US)
    assert known.tolist() == [FRAUD, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN]


def test_an_import_that_is_not_late_says_no_more_than_before(tmp_path: Path) -> None:
    with new_ledger(tmp_path) as ledger:
        append_history(ledger, [said(0, None), label(1, "tx-0", NOON_US + 5)])
        (_, batch), *_ = read_log(ledger)
    assert ARRIVED not in batch.schema.names
