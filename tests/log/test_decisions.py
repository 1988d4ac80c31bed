"""Decisions as groups hold them: format 2, and format 1 read and written beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from sentinel.domain import Label, Outcome, Verdict, WorkspaceError
from sentinel.ledger.export_tables import decisions_table
from sentinel.ledger.index import LedgerIndex
from sentinel.ledger.lookup import TransactionLookup
from sentinel.ledger.open import open_writer
from sentinel.log.columns import (
    NO_COLUMNS,
    DecisionColumns,
    RoleScores,
    called_by,
    fired_rules,
)
from sentinel.log.entries import (
    FLAG_IS_FRAUD,
    GROUP_FORMAT,
    DecisionGroup,
    GroupKind,
    LabelGroup,
    decode_decisions,
    decode_labels,
    encode_group,
    outcome_codes,
    outcome_of,
)
from sentinel.log.placed import placed_decisions
from sentinel.settings import LedgerSettings, Settings
from tests.ledger.material import NOON_US, decision_group, new_ledger, transaction

N = 4
PAYMENTS = [transaction(number, NOON_US + number) for number in range(N)]


def full_group() -> DecisionGroup:
    """A group that has every column: a challenger decided rows 1 and 3."""
    challenger = RoleScores(
        "challenger", "fraud", "9", np.array([np.nan, 2.0, 3.0, 4.0]).tobytes(),
        np.array([np.nan, 0.2, 0.3, 0.4]).tobytes(),
    )  # fmt: skip
    rules = fired_rules([("velocity@3",), (), ("velocity@3", "vip@1"), ()])
    callers = called_by(["shop-a", "", "shop-a", "shop-b"])
    columns = DecisionColumns(
        roles=(challenger,),
        deciders=bytes([0, 1, 0, 1]),
        rules=rules.rules,
        rule_rows=rules.rule_rows,
        rule_ids=rules.rule_ids,
        base_outcomes=bytes([0, 2, 1, 0]),
        eligible=bytes([0, 1, 0, 0]),
        propensities=np.array([1, 0.05, 1, 1], dtype="<f4").tobytes(),
        callers=callers.callers,
        caller_rows=callers.caller_rows,
        clock_offset_us=1_700_000_000_000_000,
    )
    group = decision_group(PAYMENTS, outcomes=(0, 0, 1, 2))
    flags = group.flag_array() | np.uint32(1 << 31)
    return msgspec.structs.replace(
        group, flags=flags.tobytes(), policy_hash="0123456789abcdef", columns=columns
    )


def test_every_column_comes_back() -> None:
    group = full_group()
    assert decode_decisions(encode_group(group)) == group


def test_who_decided_is_who_is_shown(tmp_path: Path) -> None:
    group = full_group()
    with new_ledger(tmp_path) as ledger:
        received = PAYMENTS[-1].received_at_us
        ledger.append(GroupKind.DECISIONS, N, received, encode_group(group))
        index = LedgerIndex(tmp_path / "index.db", ledger)
        index.catch_up()
        whole = TransactionLookup(index).recorded(p.transaction_id for p in PAYMENTS)
        decisions = [whole[payment.transaction_id].decision for payment in PAYMENTS]
        listed = {p.transaction_id: index.decision_row(p.transaction_id) for p in PAYMENTS}
        index.close()
        table = decisions_table(list(ledger.groups()))
    champion = np.frombuffer(group.probabilities, "<f8")
    assert table is not None
    rows = table.to_pylist()
    for row, probability in enumerate([champion[0], 0.2, champion[2], 0.4]):
        decision, exported = decisions[row], rows[row]
        assert decision is not None
        version = "9" if row in (1, 3) else "1"
        assert (decision.fraud_probability, decision.model_version) == (probability, version)
        assert (exported["fraud_probability"], exported["model_version"]) == (probability, version)
        found = listed[decision.transaction_id]
        assert found is not None
        assert (found.fraud_probability, found.model_version) == (probability, version)
    assert [decision.outcome for decision in decisions if decision] == [
        "approve", "approve", "review", "decline",
    ]  # fmt: skip
    assert [decision.base_outcome for decision in decisions if decision] == [
        "approve", "decline", "review", "approve",
    ]  # fmt: skip
    assert [row["rules"] for row in rows] == [["velocity@3"], [], ["velocity@3", "vip@1"], []]
    assert [row["called_by"] for row in rows] == ["shop-a", "", "shop-a", "shop-b"]
    assert [row["eligible"] for row in rows] == [False, True, False, False]
    assert table.column("propensity").type == pa.float32()
    assert {row["policy_hash"] for row in rows} == {"0123456789abcdef"}


def test_what_a_group_does_not_have_takes_one_byte() -> None:
    plain = decision_group(PAYMENTS)
    assert plain.columns == NO_COLUMNS
    assert len(encode_group(plain)) - len(encode_group(as_format(plain, 1))) == N * 3 + 2
    columns = plain.columns
    assert columns.rules_by_row(N) == [()] * N
    assert columns.callers_by_row(N) == [""] * N
    assert columns.propensity_array(N).tolist() == [1.0] * N
    assert not columns.eligible_array(N).any()
    assert plain.base_outcome_codes().tolist() == outcome_codes(plain.flag_array()).tolist()


def as_format(group: DecisionGroup, number: int) -> DecisionGroup:
    return msgspec.structs.replace(group, format=number)


@pytest.mark.parametrize("format_", [1, 2])
@pytest.mark.parametrize("views", [0, 3])
def test_followers_read_the_same_without_the_rest(format_: int, views: int) -> None:
    positions = np.arange(N * views, dtype="<i8").tobytes()
    group = decision_group(PAYMENTS, outcomes=(0, 0, 1, 2))
    payload = encode_group(msgspec.structs.replace(group, format=format_, positions=positions))
    whole, placed = decode_decisions(payload), placed_decisions(payload, N)
    assert placed.plan_hash == whole.plan_hash
    assert placed.flags.tolist() == whole.flag_array().tolist()
    if views:
        assert placed.positions is not None
        assert placed.positions.tobytes() == whole.positions
    else:
        assert placed.positions is None


def test_format_1_is_read_to_the_same_object() -> None:
    plain = decision_group(PAYMENTS, outcomes=(0, 1, 2))
    older = decode_decisions(encode_group(as_format(plain, 1)))
    assert as_format(older, GROUP_FORMAT) == plain


def test_scorers_of_two_versions_can_share_a_log(tmp_path: Path) -> None:
    """While the older ones run, the newer ones write what those read (``ledger.group_format``)."""
    settings = Settings(workspace=tmp_path, ledger=LedgerSettings(group_format=1))
    group = full_group()
    with open_writer(settings) as ledger:
        ledger.append(GroupKind.DECISIONS, N, PAYMENTS[-1].received_at_us, encode_group(group))
        (stored,) = ledger.groups()
    fields: list[Any] = msgspec.msgpack.decode(stored.payload)
    assert fields[0] == 1
    assert len(fields) == 13
    flags: bytes = fields[8]
    assert list(flags) == (group.flag_array() & 0xFF).tolist()


class _OldLabelGroup(msgspec.Struct, array_like=True):
    """A group of labels as versions read it that know no callers."""

    format: int
    labels: list[Label]


def test_labels_of_a_known_caller_are_read_by_versions_that_know_none() -> None:
    label = Label(label_id="l", transaction_id="t", verdict=Verdict.FRAUD, received_at_us=1)
    nobody, bank = LabelGroup(1, [label]), LabelGroup(1, [label], "bank")
    assert decode_labels(encode_group(bank)) == bank
    assert decode_labels(encode_group(nobody)) == nobody
    assert encode_group(nobody) == msgspec.msgpack.encode(_OldLabelGroup(1, [label]))
    old = msgspec.msgpack.decode(encode_group(bank), type=_OldLabelGroup)
    assert old.labels == [label]


def test_a_format_of_the_future_is_refused_and_says_what_to_do() -> None:
    payload = encode_group(as_format(decision_group(PAYMENTS), GROUP_FORMAT + 1))
    with pytest.raises(WorkspaceError, match="Install the version that wrote them"):
        decode_decisions(payload)


def test_an_outcome_is_read_in_one_place() -> None:
    flags = np.array([0, 1, 2 | FLAG_IS_FRAUD, 1 | 1 << 31], dtype=np.uint32)
    assert [outcome_of(word) for word in flags.tolist()] == [
        Outcome.APPROVE, Outcome.REVIEW, Outcome.DECLINE, Outcome.REVIEW,
    ]  # fmt: skip
    assert outcome_codes(flags).tolist() == [0, 1, 2, 1]
    assert outcome_codes(flags.astype(np.uint8)).dtype == np.uint8
