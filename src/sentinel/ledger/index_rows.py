"""From groups of the ledger to rows of the index. Runs beside the hot path: every step counts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any

import msgspec

from sentinel.log.entries import (
    GROUP_FORMAT,
    N_REASONS,
    Group,
    GroupKind,
    check_format,
    decode_decisions,
    decode_labels,
    decode_voids,
)

Row = tuple[Any, ...]
ModelKey = tuple[str, str, str]
"""Model name, model version, plan hash."""


class _Transaction(msgspec.Struct, array_like=True, gc=False):
    """The leading fields of `Transaction`: decoding skips the attributes."""

    transaction_id: str
    event_time_us: int
    received_at_us: int
    amount_minor: int
    customer_id: str | None
    card_id: str | None
    merchant_id: str | None
    device_id: str | None
    ip_address: str | None


class _Columns(msgspec.Struct, frozen=True):
    """Of `DecisionColumns`, what says that another model than the champion decided."""

    deciders: bytes = b""


class _DecisionGroup(msgspec.Struct, array_like=True):
    """The leading fields of `DecisionGroup`: decoding skips what the index does not hold."""

    format: int
    plan_hash: str
    model_name: str
    model_version: str
    transactions: list[_Transaction]
    vectors: msgspec.Raw
    scores: bytes
    probabilities: bytes
    flags: bytes
    reason_features: bytes
    reason_contributions: msgspec.Raw
    latencies_us: bytes
    positions: msgspec.Raw = msgspec.Raw(b"")
    policy_hash: msgspec.Raw = msgspec.Raw(b"")
    columns: _Columns = _Columns()


_decode = msgspec.msgpack.Decoder(_DecisionGroup).decode


@dataclass
class Chunk:
    """Rows of consecutive groups, on their way into the index.

    Attributes:
        model_ids: The index's number of each model; `add` counts on for models it has not seen.
        through: Sequence of the last entry.
        tail: The last group.
        imported, decisions, labels, voids: Rows of these tables.
    """

    model_ids: dict[ModelKey, int]
    through: int = 0
    tail: Group | None = None
    entries: int = 0
    imported: list[Row] = field(default_factory=list)
    decisions: list[Row] = field(default_factory=list)
    labels: list[Row] = field(default_factory=list)
    voids: list[Row] = field(default_factory=list)

    def add(self, group: Group) -> None:
        """Take in a group.

        Raises:
            WorkspaceError: A newer Sentinel wrote it.
        """
        if group.kind == GroupKind.DECISIONS:
            self._add_decisions(group)
        elif group.kind == GroupKind.LABELS:
            self._add_labels(group)
        elif group.kind == GroupKind.VOIDS:
            asked = decode_voids(group.payload).voids
            first = group.first_sequence
            self.voids += [(void.transaction_id, first + i) for i, void in enumerate(asked)]
        else:
            from sentinel.ledger.imports import imported_rows

            transactions, labels = imported_rows(group)
            self.imported += transactions
            self.labels += labels
        self.tail = group
        self.entries += group.entries
        self.through = group.first_sequence + group.entries - 1

    def _add_decisions(self, group: Group) -> None:
        decided = _decode(group.payload)
        check_format(decided.format, GROUP_FORMAT)
        if decided.columns.deciders:
            probabilities, scores, model_ids = self._decided_by_roles(group)
        else:
            probabilities = memoryview(decided.probabilities).cast("d")
            scores = memoryview(decided.scores).cast("d")
            key = (decided.model_name, decided.model_version, decided.plan_hash)
            model_ids = repeat(self._model_id(key), group.entries)
        all_flags: Sequence[int] = decided.flags
        if decided.format > 1:
            all_flags = memoryview(decided.flags).cast("I")
        sequence = group.first_sequence
        floor_us = group.floor_us
        add = self.decisions.append
        for t, probability, score, flags, model_id, latency_us, reason in zip(
            decided.transactions,
            probabilities,
            scores,
            all_flags,
            model_ids,
            memoryview(decided.latencies_us).cast("I"),
            memoryview(decided.reason_features).cast("h")[::N_REASONS],
            strict=True,
        ):
            add(
                (
                    sequence,
                    t.transaction_id,
                    t.event_time_us,
                    max(t.received_at_us, floor_us),
                    t.amount_minor,
                    t.customer_id,
                    t.card_id,
                    t.merchant_id,
                    t.device_id,
                    t.ip_address,
                    probability,
                    score,
                    flags,
                    model_id,
                    latency_us,
                    reason,
                )
            )
            sequence += 1

    def _model_id(self, key: ModelKey) -> int:
        """The index's number of a model."""
        return self.model_ids.setdefault(key, len(self.model_ids) + 1)

    def _decided_by_roles(
        self, group: Group
    ) -> tuple[Iterable[float], Iterable[float], Iterable[int]]:
        """Probabilities, scores and models of a group that not the champion alone decided."""
        decided = decode_decisions(group.payload)
        models = [self._model_id((*model, decided.plan_hash)) for model in decided.decided_by()]
        return decided.deciding_probabilities().tolist(), decided.deciding_scores().tolist(), models

    def _add_labels(self, group: Group) -> None:
        arrived = decode_labels(group.payload)
        self.labels += [
            (
                group.first_sequence + i,
                label.label_id,
                label.transaction_id,
                label.verdict.value,
                max(label.received_at_us, group.floor_us),
                label.origin,
            )
            for i, label in enumerate(arrived.labels)
        ]
