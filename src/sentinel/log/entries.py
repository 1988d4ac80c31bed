"""What one durable append of the ledger holds: a packed group of log entries.

The groups are the source of truth; the queryable tables are derived from them. There are four
kinds: imported history (an Arrow batch of the log), decisions that came together, labels that came
together, and voids that were asked for together. Sequences number the entries of all groups from 1,
in log order.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Final, Protocol

import msgspec
import numpy as np
import numpy.typing as npt
import xxhash

from sentinel.domain import (
    Entry,
    Label,
    Outcome,
    PartlyTracked,
    Transaction,
    Void,
    WorkspaceError,
)
from sentinel.log.columns import NO_COLUMNS, DecisionColumns

GROUP_FORMAT: Final = 2
"""Format of the groups of decisions that are written; format 1 is read, too."""
LABEL_FORMAT: Final = 1
"""Format of the groups of labels."""
VOID_FORMAT: Final = 1
"""Format of the groups of voids."""
N_REASONS: Final = 4

OUTCOMES: Final = (Outcome.APPROVE, Outcome.REVIEW, Outcome.DECLINE)
"""Outcome by its code; see `outcome_of`."""
OUTCOME_BITS: Final = 3
FLAG_IS_FRAUD: Final = 4
FLAG_DEGRADED: Final = 8
FLAG_LATE_EVENT: Final = 16
FLAG_EXPIRED_EVENT: Final = 32

Flags = npt.NDArray[np.unsignedinteger]


def outcome_of(flags: int) -> Outcome:
    """The outcome in a decision's flags.

    >>> outcome_of(2 | FLAG_IS_FRAUD)
    <Outcome.DECLINE: 'decline'>
    """
    return OUTCOMES[flags & OUTCOME_BITS]


def outcome_codes(flags: Flags) -> Flags:
    """The outcomes in the flags of many decisions, as indices into `OUTCOMES`."""
    codes: Flags = flags & np.array(OUTCOME_BITS, dtype=flags.dtype)
    return codes


class GroupKind(enum.IntEnum):
    """What a group's payload is."""

    IMPORT = 0
    DECISIONS = 1
    LABELS = 2
    VOIDS = 3


_KINDS: Final = tuple(GroupKind)


def kind_of(number: int) -> GroupKind:
    """The kind that a ledger stores as a number.

    Raises:
        WorkspaceError: A newer Sentinel wrote the group.
    """
    try:
        return _KINDS[number]
    except IndexError:
        raise WorkspaceError(
            f"The ledger has groups of kind {number}, this Sentinel knows up to "
            f"{_KINDS[-1].value}. Install the version that wrote them."
        ) from None


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
            VOIDS: MessagePack of `VoidGroup`. Versions without voids cannot read a log with one.
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
    Format 1 had flags of 8 bits and ended with the positions; it is read to the same object.

    Attributes:
        format: The format that it was written in.
        plan_hash: The plan that served.
        model_name, model_version: The champion.
        transactions: The transactions in log order.
        vectors: float32 (n, f), NaN = unknown.
        scores: float64 (n,), the champion's raw scores.
        probabilities: float64 (n,), its calibrated probabilities.
        flags: uint32 (n,): outcome code and FLAG_* bits.
        reason_features: int16 (n, N_REASONS), index in the plan, -1 = none.
        reason_contributions: float32 (n, N_REASONS), log-odds.
        latencies_us: uint32 (n,), arrival to commit.
        positions: int64 (n, views) of entity records before the event was added; empty where
            positions follow the sequence.
        policy_hash: The policy that ruled; empty in format 1.
        columns: What few groups have.
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
    policy_hash: str = ""
    columns: DecisionColumns = NO_COLUMNS

    def vector_array(self) -> npt.NDArray[np.float32]:
        """float32 (n, f), read-only."""
        return np.frombuffer(self.vectors, dtype="<f4").reshape(len(self.transactions), -1)

    def flag_array(self) -> npt.NDArray[np.uint32]:
        """uint32 (n,), read-only."""
        return np.frombuffer(self.flags, dtype="<u4")

    def base_outcome_codes(self) -> Flags:
        """Outcome codes before the control group, (n,)."""
        if self.columns.base_outcomes:
            return np.frombuffer(self.columns.base_outcomes, np.uint8)
        return outcome_codes(self.flag_array())

    def decided_by(self) -> list[tuple[str, str]]:
        """Name and version of the model whose probability was ruled on, by row."""
        models = [(self.model_name, self.model_version)]
        models += [(role.model_name, role.model_version) for role in self.columns.roles]
        deciders = self.columns.deciders or bytes(len(self.transactions))
        return [models[i] for i in deciders]

    def deciding_scores(self) -> npt.NDArray[np.float64]:
        """float64 (n,): raw scores of the models that decided."""
        return self._deciding("scores")

    def deciding_probabilities(self) -> npt.NDArray[np.float64]:
        """float64 (n,): probabilities that were ruled on."""
        return self._deciding("probabilities")

    def _deciding(self, name: str) -> npt.NDArray[np.float64]:
        champion = np.frombuffer(getattr(self, name), "<f8")
        if not self.columns.deciders:
            return champion
        said = [champion]
        said += [np.frombuffer(getattr(role, name), "<f8") for role in self.columns.roles]
        deciders = np.frombuffer(self.columns.deciders, np.uint8)
        return np.stack(said)[deciders, np.arange(len(deciders))]


class _DecisionGroup1(msgspec.Struct, frozen=True, array_like=True):
    """A group of decisions of format 1, as older versions read it."""

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
    positions: bytes


class LabelGroup(msgspec.Struct, frozen=True, array_like=True):
    """Labels that arrived together, in log order; its format is LABEL_FORMAT.

    Where nobody is known to have sent them, the group ends with the labels. Versions that know no
    callers read the others alike, and skip who it was.

    Attributes:
        format: The format that it was written in.
        labels: The labels.
        called_by: Id of who sent them; empty if nobody is known.
    """

    format: int
    labels: list[Label]
    called_by: str = ""


class _LabelsOfNobody(msgspec.Struct, frozen=True, array_like=True):
    """A `LabelGroup` without a caller, as it is written."""

    format: int
    labels: list[Label]


class VoidGroup(msgspec.Struct, frozen=True, array_like=True):
    """Voids that were asked for together, in log order; its format is VOID_FORMAT.

    Attributes:
        format: The format that it was written in.
        voids: The voids, each about a transaction that the log holds before it.
        called_by: Id of who asked for them; empty if nobody is known.
    """

    format: int
    voids: list[Void]
    called_by: str = ""


_encode = msgspec.msgpack.Encoder().encode
_decode_decisions = msgspec.msgpack.Decoder(DecisionGroup).decode
_decode_labels = msgspec.msgpack.Decoder(LabelGroup).decode
_decode_voids = msgspec.msgpack.Decoder(VoidGroup).decode


def fingerprint(group: Group) -> str:
    """What tells a group from any other that could stand in its place."""
    place = f"{group.first_sequence}/{group.entries}/{group.kind.value}/{group.received_at_us}/"
    return place + xxhash.xxh3_128_hexdigest(group.payload)


class Figures(Protocol):
    """What scoring says of a batch, as `decisions_payload` takes it; row i is of its i-th row.

    Attributes:
        vectors: float32 (n, f).
        scores, probabilities: float64 (n,).
        flags: Unsigned (n,): outcome code and FLAG_* bits.
        reason_features: int16 (n, N_REASONS).
        reason_contributions: float32 (n, N_REASONS).
        positions: int64 (n, views), little-endian, or empty.
    """

    @property
    def vectors(self) -> npt.NDArray[np.float32]: ...
    @property
    def scores(self) -> npt.NDArray[np.float64]: ...
    @property
    def probabilities(self) -> npt.NDArray[np.float64]: ...
    @property
    def flags(self) -> Flags: ...
    @property
    def reason_features(self) -> npt.NDArray[np.int16]: ...
    @property
    def reason_contributions(self) -> npt.NDArray[np.float32]: ...
    @property
    def positions(self) -> bytes: ...


def decisions_payload(
    transactions: list[Transaction],
    figures: Figures,
    latencies_us: Sequence[int],
    *,
    plan_hash: str,
    model_name: str,
    model_version: str,
    policy_hash: str = "",
    columns: DecisionColumns = NO_COLUMNS,
) -> bytes:
    """Decisions as a group of the ledger holds them; see `DecisionGroup`."""
    return _encode(
        DecisionGroup(
            GROUP_FORMAT,
            plan_hash,
            model_name,
            model_version,
            _as_written(transactions, columns),
            figures.vectors.tobytes(),
            figures.scores.tobytes(),
            figures.probabilities.tobytes(),
            figures.flags.astype("<u4", copy=False).tobytes(),
            figures.reason_features.tobytes(),
            figures.reason_contributions.tobytes(),
            np.array(latencies_us, dtype="<u4").tobytes(),
            figures.positions,
            policy_hash,
            columns,
        )
    )


def encode_group(group: DecisionGroup | LabelGroup | VoidGroup) -> bytes:
    """The payload of a group, in the format that it names.

    A group of decisions in format 1 has no policy hash and no `DecisionColumns`.
    """
    if isinstance(group, DecisionGroup):
        written = _as_written(group.transactions, group.columns)
        group = msgspec.structs.replace(group, transactions=written)
    if isinstance(group, DecisionGroup) and group.format == 1:
        flags = group.flag_array().astype(np.uint8).tobytes()
        fields = [getattr(group, name) for name in _DecisionGroup1.__struct_fields__]
        fields[_DecisionGroup1.__struct_fields__.index("flags")] = flags
        return _encode(_DecisionGroup1(*fields))
    if isinstance(group, LabelGroup) and not group.called_by:
        return _encode(_LabelsOfNobody(group.format, group.labels))
    return _encode(group)


def decode_decisions(payload: bytes) -> DecisionGroup:
    """Read the payload of a DECISIONS group.

    Raises:
        WorkspaceError: A newer Sentinel wrote it.
    """
    group = _decode_decisions(payload)
    check_format(group.format, GROUP_FORMAT)
    if group.format == 1:
        flags = np.frombuffer(group.flags, np.uint8).astype("<u4").tobytes()
        return msgspec.structs.replace(group, flags=flags)
    if group.columns.untracked:
        by_row = group.columns.untracked_by_row(len(group.transactions))
        for row, entities in enumerate(by_row):
            if entities:
                group.transactions[row] = partly_tracked(group.transactions[row], entities)
    return group


def partly_tracked(transaction: Transaction, entities: Sequence[str]) -> PartlyTracked:
    """The transaction, which the records of some entities do not hold; see `PartlyTracked`."""
    return PartlyTracked(**{**msgspec.structs.asdict(transaction), "untracked": tuple(entities)})


def _as_written(transactions: list[Transaction], columns: DecisionColumns) -> list[Transaction]:
    """Transactions as a group holds them: what is not tracked stands in its columns."""
    if not columns.untracked:
        return transactions
    names = Transaction.__struct_fields__
    return [Transaction(**{name: getattr(t, name) for name in names}) for t in transactions]


def check_format(found: int, known: int) -> None:
    """Raise WorkspaceError if a group is of a later format than this version knows."""
    if found > known:
        raise WorkspaceError(
            f"The ledger has groups of format {found}, this Sentinel reads up to {known}. Install "
            "the version that wrote them, or let it write the older format while both run "
            "(ledger.group_format)."
        )


def in_format(kind: GroupKind, payload: bytes, group_format: int) -> bytes:
    """A payload as versions of Sentinel read it that know decisions of a format only."""
    if group_format == GROUP_FORMAT or kind != GroupKind.DECISIONS:
        return payload
    return encode_group(msgspec.structs.replace(decode_decisions(payload), format=group_format))


def decode_labels(payload: bytes) -> LabelGroup:
    """Read the payload of a LABELS group.

    Raises:
        WorkspaceError: A newer Sentinel wrote it.
    """
    group = _decode_labels(payload)
    check_format(group.format, LABEL_FORMAT)
    return group


def decode_voids(payload: bytes) -> VoidGroup:
    """Read the payload of a VOIDS group.

    Raises:
        WorkspaceError: A newer Sentinel wrote it.
    """
    group = _decode_voids(payload)
    check_format(group.format, VOID_FORMAT)
    return group


def entries_of(group: Group) -> Sequence[Entry]:
    """The entries of a live group, each received when the log says so.

    A payload has the times that the clock of its writer showed; see `Group.floor_us`.
    """
    entries: Sequence[Entry]
    if group.kind == GroupKind.DECISIONS:
        entries = decode_decisions(group.payload).transactions
    elif group.kind == GroupKind.LABELS:
        entries = decode_labels(group.payload).labels
    else:
        entries = decode_voids(group.payload).voids
    if group.floor_us == 0 or entries[0].received_at_us >= group.floor_us:
        return entries
    return [
        entry
        if entry.received_at_us >= group.floor_us
        else msgspec.structs.replace(entry, received_at_us=group.floor_us)
        for entry in entries
    ]
