"""What one durable append of the ledger holds: a packed group of log entries.

The groups are the source of truth; the queryable tables are derived from them. There are three
kinds: imported history (an Arrow batch of the log), decisions that came together, and labels
that came together. Sequences number the entries of all groups from 1, in log order.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from sentinel.domain import Label, Outcome, Transaction

GROUP_FORMAT: Final = 1
N_REASONS: Final = 4

OUTCOMES: Final = (Outcome.APPROVE, Outcome.REVIEW, Outcome.DECLINE)
"""Outcome by its code, the low two bits of a decision's flags."""
FLAG_IS_FRAUD: Final = 4
FLAG_DEGRADED: Final = 8
FLAG_LATE_EVENT: Final = 16
FLAG_EXPIRED_EVENT: Final = 32


class GroupKind(enum.IntEnum):
    """What a group's payload is."""

    IMPORT = 0
    DECISIONS = 1
    LABELS = 2


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """One durable append.

    Attributes:
        first_sequence: Sequence of its first entry.
        entries: Number of entries.
        kind: How to read the payload.
        received_at_us: `received_at_us` of its last entry.
        floor_us: `received_at_us` of the group before, where many write: an entry that claims an
            earlier time entered the log at this one. 0: every entry's time is as it says.
        payload: IMPORT: an Arrow IPC stream of one log batch (see `sentinel.log.schema`).
            DECISIONS: MessagePack of `DecisionGroup`. LABELS: MessagePack of `LabelGroup`.
    """

    first_sequence: int
    entries: int
    kind: GroupKind
    received_at_us: int
    payload: bytes
    floor_us: int = 0


class DecisionGroup(msgspec.Struct, frozen=True, array_like=True):
    """Transactions decided together, with everything that was served, in packed columns.

    All arrays are little-endian and C-ordered, n = len(transactions), f = features of the plan.

    Attributes:
        format: GROUP_FORMAT.
        plan_hash, model_name, model_version: What decided.
        transactions: The transactions in log order.
        vectors: float32 (n, f), NaN = unknown.
        scores: float64 (n,) raw scores.
        probabilities: float64 (n,) calibrated probabilities.
        flags: uint8 (n,): outcome code and FLAG_* bits.
        reason_features: int16 (n, N_REASONS), index in the plan, -1 = none.
        reason_contributions: float32 (n, N_REASONS), log-odds.
        latencies_us: uint32 (n,), arrival to commit.
        positions: int64 (n, views) of entity records before the event was added; empty where
            positions follow the sequence.
    """

    format: int
    plan_hash: str
    model_name: str
    model_version: str
    transactions: list[Transaction]
    vectors: bytes
    scores: bytes
    probabilities: bytes
    flags: bytes
    reason_features: bytes
    reason_contributions: bytes
    latencies_us: bytes
    positions: bytes = b""

    def vector_array(self) -> npt.NDArray[np.float32]:
        """float32 (n, f), read-only."""
        return np.frombuffer(self.vectors, dtype="<f4").reshape(len(self.transactions), -1)


class LabelGroup(msgspec.Struct, frozen=True, array_like=True):
    """Labels that arrived together, in log order."""

    format: int
    labels: list[Label]


_encode = msgspec.msgpack.Encoder().encode
_decode_decisions = msgspec.msgpack.Decoder(DecisionGroup).decode
_decode_labels = msgspec.msgpack.Decoder(LabelGroup).decode


def encode_group(group: DecisionGroup | LabelGroup) -> bytes:
    """The payload of a group."""
    return _encode(group)


def decode_decisions(payload: bytes) -> DecisionGroup:
    """Read the payload of a DECISIONS group."""
    return _decode_decisions(payload)


def decode_labels(payload: bytes) -> LabelGroup:
    """Read the payload of a LABELS group."""
    return _decode_labels(payload)


def entries_of(group: Group) -> Sequence[Transaction | Label]:
    """The entries of a live group, each received when the log says so.

    A payload has the times that the clock of its writer showed; see `Group.floor_us`.
    """
    entries: Sequence[Transaction | Label] = (
        decode_decisions(group.payload).transactions
        if group.kind == GroupKind.DECISIONS
        else decode_labels(group.payload).labels
    )
    if group.floor_us == 0 or entries[0].received_at_us >= group.floor_us:
        return entries
    return [
        entry
        if entry.received_at_us >= group.floor_us
        else msgspec.structs.replace(entry, received_at_us=group.floor_us)
        for entry in entries
    ]
