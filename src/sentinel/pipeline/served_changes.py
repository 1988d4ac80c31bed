"""What became of shared records after they were loaded, by the log and by notes of the ledger."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sentinel.domain import Label, Transaction
from sentinel.features.plan.program import POSITION_MASK
from sentinel.ledger.imports import imported_entries
from sentinel.log.entries import (
    FLAG_DEGRADED,
    Group,
    GroupKind,
    decode_decisions,
    decode_labels,
    decode_voids,
)
from sentinel.state.redis.layout import same_load


class Rebuilt(NamedTuple):
    """A record that was replaced by what the ledger said.

    Attributes:
        view, key: Which record.
        position: Its position from then on.
        through_sequence: The last log entry that the ledger was read through.
    """

    view: int
    key: str
    position: int
    through_sequence: int


class Voided(NamedTuple):
    """A change that was taken back, since it never reached the log.

    Attributes:
        view, key: Of which record.
        position: Of the change.
        at: Position from which on the record is without it.
    """

    view: int
    key: str
    position: int
    at: int


class Effect(NamedTuple):
    """A change of the records of a transaction that no live decision made.

    Attributes:
        transaction_id: Whose records.
        kind: KIND_FRAUD or KIND_RETRACT for a label; KIND_ADD for a transaction that was imported
            or decided without these records.
        positions: Of the change, by view; 0 where the transaction names no entity.
        sequence: The place in the log of the label, or of the transaction.
    """

    transaction_id: str
    kind: int
    positions: tuple[int, ...]
    sequence: int


@dataclass
class LiveLog:
    """What the log holds after the state was loaded: decisions by row, and what came between them.

    Attributes:
        transactions: Decided ones.
        sequences: Their places in the log.
        positions: int64 (n_views,) each, positions of their changes; 0 where a record was not read.
        vectors: float32 (n_features,) each, as served.
        degraded: Whether the vector is null because the records could not be read.
        labels: Labels with their places in the log.
        voids: Place in the log of the first void of a transaction, by its id.
    """

    transactions: list[Transaction] = field(default_factory=list)
    sequences: list[int] = field(default_factory=list)
    positions: list[npt.NDArray[np.int64]] = field(default_factory=list)
    vectors: list[npt.NDArray[np.float32]] = field(default_factory=list)
    degraded: list[bool] = field(default_factory=list)
    labels: list[tuple[int, Label]] = field(default_factory=list)
    voids: dict[str, int] = field(default_factory=dict)

    def take(self, group: Group, plan_hash: str, views: int, epoch: int | None) -> None:
        """Take the next group of the log in.

        Args:
            group: The group.
            plan_hash, views: Of the plan that served.
            epoch: Of the load; None if positions go on from those of the records that were loaded.
        """
        if group.kind == GroupKind.LABELS:
            labels = decode_labels(group.payload).labels
            self.labels += list(enumerate(labels, group.first_sequence))
        elif group.kind == GroupKind.IMPORT:
            for sequence, entry in enumerate(imported_entries(group), group.first_sequence):
                if isinstance(entry, Label):
                    self.labels.append((sequence, entry))
        elif group.kind == GroupKind.VOIDS:
            for sequence, void in enumerate(
                decode_voids(group.payload).voids, group.first_sequence
            ):
                self.voids.setdefault(void.transaction_id, sequence)
        else:
            decided = decode_decisions(group.payload)
            n = len(decided.transactions)
            self.transactions += decided.transactions
            self.sequences += range(group.first_sequence, group.first_sequence + n)
            placed = np.zeros(n, dtype=np.bool_)
            positions = np.zeros((n, views), dtype=np.int64)
            if decided.plan_hash == plan_hash and decided.positions:
                positions = (
                    np.frombuffer(decided.positions, "<i8").reshape(n, views) & POSITION_MASK
                )
                placed = (
                    np.ones(n, dtype=np.bool_)
                    if epoch is None
                    else same_load(positions.max(axis=1, initial=0), epoch)
                )
                positions = np.where(placed[:, None], positions, 0)
            self.positions += list(positions)
            self.vectors += list(decided.vector_array())
            self.degraded += (~placed | (decided.flag_array() & FLAG_DEGRADED != 0)).tolist()
