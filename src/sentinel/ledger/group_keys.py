"""The ids that a group brings into the log: what a ledger that many write keeps unique."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from sentinel.domain import Label, Verdict
from sentinel.log.entries import Group, GroupKind, decode_labels


class GroupKeys(NamedTuple):
    """Ids of a group as UTF-8, by its row.

    Attributes:
        transaction_ids, transaction_rows: Its transactions.
        label_ids, label_rows: Its labels.
        labelled, is_fraud: What each label is about and says.
    """

    transaction_ids: list[bytes]
    transaction_rows: list[int]
    label_ids: list[bytes]
    label_rows: list[int]
    labelled: list[bytes]
    is_fraud: list[bool]


class _Transaction(msgspec.Struct, array_like=True, gc=False):
    """The first field of `Transaction`: decoding skips the rest."""

    transaction_id: str


class _DecisionGroup(msgspec.Struct, array_like=True):
    """The leading fields of `DecisionGroup`: decoding skips the rest."""

    format: int
    plan_hash: msgspec.Raw
    model_name: msgspec.Raw
    model_version: msgspec.Raw
    transactions: list[_Transaction]


_decode_decisions = msgspec.msgpack.Decoder(_DecisionGroup).decode


def keys_of(kind: GroupKind, payload: bytes, transaction_ids: Sequence[str] = ()) -> GroupKeys:
    """The ids in a payload.

    Args:
        kind: What the payload is.
        payload: See `Group`.
        transaction_ids: Of a group of decisions where they are known; saves decoding it.
    """
    if kind == GroupKind.LABELS:
        return _of_labels(decode_labels(payload).labels)
    if kind == GroupKind.VOIDS:  # they are about ids that the log holds, and bring none
        return GroupKeys([], [], [], [], [], [])
    if kind == GroupKind.IMPORT:
        return _of_import(payload)
    ids = list(transaction_ids) or [
        t.transaction_id for t in _decode_decisions(payload).transactions
    ]
    return GroupKeys([i.encode() for i in ids], list(range(len(ids))), [], [], [], [])


def _of_labels(labels: Sequence[Label]) -> GroupKeys:
    return GroupKeys(
        [],
        [],
        [label.label_id.encode() for label in labels],
        list(range(len(labels))),
        [label.transaction_id.encode() for label in labels],
        [label.verdict == Verdict.FRAUD for label in labels],
    )


def _of_import(payload: bytes) -> GroupKeys:
    from sentinel.ledger.imports import imported_rows  # loads Arrow, which few appends need

    group = Group(
        first_sequence=0, entries=0, kind=GroupKind.IMPORT, received_at_us=0, payload=payload
    )
    transactions, labels = imported_rows(group)
    return GroupKeys(
        [row[1].encode() for row in transactions],
        [row[0] for row in transactions],
        [row[1].encode() for row in labels],
        [row[0] for row in labels],
        [row[2].encode() for row in labels],
        [row[3] == Verdict.FRAUD.value for row in labels],
    )
