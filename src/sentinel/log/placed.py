"""What followers of the log ask of every group of decisions, without decoding the rest of it."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from sentinel.log.entries import GROUP_FORMAT, check_format


class PlacedDecisions(NamedTuple):
    """Where the decisions of a group stand in shared records.

    Attributes:
        plan_hash: The plan that served.
        flags: uint32 (n,): outcome code and FLAG_* bits.
        positions: int64 (n, views), see `DecisionGroup`; None where positions follow the sequence.
    """

    plan_hash: str
    flags: npt.NDArray[np.uint32]
    positions: npt.NDArray[np.int64] | None


def placed_decisions(payload: bytes, entries: int) -> PlacedDecisions:
    """The little that followers ask of every group of decisions; nothing else is decoded.

    Args:
        payload: Of a DECISIONS group.
        entries: How many decisions it holds.

    Raises:
        WorkspaceError: A newer Sentinel wrote it.
    """
    group = _decode_placed(payload)
    check_format(group.format, GROUP_FORMAT)
    width = np.uint8 if group.format == 1 else np.dtype("<u4")
    flags = np.frombuffer(group.flags, width).astype(np.uint32, copy=False)
    positions = np.frombuffer(group.positions, "<i8").reshape(entries, -1)
    return PlacedDecisions(group.plan_hash, flags, positions if group.positions else None)


class _PlacedGroup(msgspec.Struct, array_like=True, gc=False):
    """The fields of `DecisionGroup`; those that are raw are passed over."""

    format: int
    plan_hash: str
    model_name: msgspec.Raw
    model_version: msgspec.Raw
    transactions: msgspec.Raw
    vectors: msgspec.Raw
    scores: msgspec.Raw
    probabilities: msgspec.Raw
    flags: bytes
    reason_features: msgspec.Raw
    reason_contributions: msgspec.Raw
    latencies_us: msgspec.Raw
    positions: bytes = b""


_decode_placed = msgspec.msgpack.Decoder(_PlacedGroup).decode
