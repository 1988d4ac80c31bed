"""Decided payments as drift of labels looks at them: what each stands for, and when a label came.

Weights are those of training (docs/learning.md): what a decision hides is unknown, so a payment
that was declined or waits for an analyst weighs nothing, and those that the control group let
through stand for it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import xxhash

from sentinel.domain import Verdict
from sentinel.drift.label_drift import LabelledPayments
from sentinel.ledger.base import Ledger
from sentinel.ledger.imports import read_import
from sentinel.ledger.log import sequence_before
from sentinel.log.entries import (
    Group,
    GroupKind,
    decode_decisions,
    decode_labels,
    decode_voids,
    outcome_codes,
)
from sentinel.log.schema import ARRIVED, KIND_LABEL
from sentinel.models.decided import APPROVE, SENTINEL, Decided
from sentinel.models.weights import weights_of

log = logging.getLogger(__name__)

MOST_ROWS: Final = 2_000_000
"""Decisions that are looked at; where there are more, every k-th group of them counts k times."""
MOST_LABELS: Final = 2_000_000
"""Payments whose labels are looked at; the log says if there were more."""

_LABEL_COLUMNS: Final = ("kind", "transaction_id", "verdict", ARRIVED)
Ints = npt.NDArray[np.int64]


class _Labels:
    """What labels say of payments: by id, when the first said fraud, and whether the last did."""

    def __init__(self) -> None:
        self._said: dict[int, tuple[int, bool]] = {}
        self.void: set[int] = set()
        self._left_out = 0

    def take(self, group: Group) -> None:
        """Read a group of labels, imports or voids."""
        if group.kind == GroupKind.VOIDS:
            self.void.update(_code(one.transaction_id) for one in decode_voids(group.payload).voids)
            return
        for transaction_id, at_us, fraud in _labels_in(group):
            code = _code(transaction_id)
            before = self._said.get(code)
            if before is None and len(self._said) >= MOST_LABELS:
                self._left_out += 1
                continue
            first_us = at_us if fraud and (before is None or before[0] < 0) else -1
            self._said[code] = (max(first_us, before[0] if before else -1), fraud)

    def of(self, codes: Ints) -> tuple[Ints, npt.NDArray[np.bool_]]:
        """When a label said that each is fraud, -1 if none does; and whether any label is there."""
        if self._left_out:
            log.warning("Labels of %d further payments are not looked at.", self._left_out)
        found = [self._said.get(code) for code in codes.tolist()]
        label_us = [-1 if one is None or not one[1] else one[0] for one in found]
        return np.array(label_us, np.int64), np.array([one is not None for one in found], np.bool_)


def decided_labels(ledger: Ledger, since_us: int) -> LabelledPayments:
    """The decisions from a moment on, and what is known of them by the end of the log.

    Args:
        ledger: The log.
        since_us: Only those that were received from then on, microseconds UTC.

    Raises:
        LedgerUnavailable, WorkspaceError: It cannot be read.
    """
    last = ledger.last_sequence()
    after = sequence_before(ledger, since_us, last)
    every = max(1, -(-(last - after) // MOST_ROWS))
    labels, parts, number = _Labels(), _Parts(), 0
    for group in ledger.groups(after):
        if group.first_sequence > last:
            break
        if group.kind != GroupKind.DECISIONS:
            labels.take(group)
        else:
            if number % every == 0:
                parts.take(group, since_us)
            number += 1
    return parts.joined(labels, every)


class _Parts:
    """Decisions on their way into arrays."""

    def __init__(self) -> None:
        self._times: list[Ints] = []
        self._codes: list[Ints] = []
        self._probabilities: list[npt.NDArray[np.float64]] = []
        self._decided: list[Decided] = []

    def take(self, group: Group, since_us: int) -> None:
        decided = decode_decisions(group.payload)
        n, floor = len(decided.transactions), group.floor_us
        times = np.array([max(t.received_at_us, floor) for t in decided.transactions], np.int64)
        here = times >= since_us
        self._times.append(times[here])
        codes = np.array([_code(t.transaction_id) for t in decided.transactions], np.int64)
        self._codes.append(codes[here])
        probabilities = np.asarray(decided.deciding_probabilities(), np.float64)
        self._probabilities.append(probabilities[here])
        self._decided.append(
            Decided(
                outcome=outcome_codes(decided.flag_array()).astype(np.int8)[here],
                base_outcome=decided.base_outcome_codes().astype(np.int8)[here],
                eligible=decided.columns.eligible_array(n)[here],
                propensity=decided.columns.propensity_array(n).astype(np.float32)[here],
                source=np.full(int(here.sum()), SENTINEL, np.int8),
            )
        )

    def joined(self, labels: _Labels, every: int) -> LabelledPayments:
        """All of them, each counting for so many."""
        if not self._times:
            empty = np.empty(0, np.int64)
            nothing = np.empty(0, np.float64)
            return LabelledPayments(
                time_us=empty, weight=nothing, label_us=empty, probability=nothing
            )
        times, codes = np.concatenate(self._times), np.concatenate(self._codes)
        decided = Decided(
            **{
                name: np.concatenate([getattr(part, name) for part in self._decided])
                for name in ("outcome", "base_outcome", "eligible", "propensity", "source")
            }
        )
        label_us, labelled = labels.of(codes)
        # An approved payment is known once it is mature, a reviewed one with its verdict.
        weight = weights_of(decided, (decided.outcome == APPROVE) | labelled, times).weight
        void = np.isin(codes, np.fromiter(labels.void, np.int64, len(labels.void)))
        return LabelledPayments(
            time_us=times,
            weight=np.where(void, 0.0, weight * every),
            label_us=label_us,
            probability=np.concatenate(self._probabilities),
        )


def _labels_in(group: Group) -> Iterator[tuple[str, int, bool]]:
    """Transaction, arrival and whether it is fraud, of the labels in a group."""
    if group.kind == GroupKind.LABELS:
        for label in decode_labels(group.payload).labels:
            at_us = max(label.received_at_us, group.floor_us)
            yield label.transaction_id, at_us, label.verdict == Verdict.FRAUD
        return
    batch = read_import(group, _LABEL_COLUMNS)
    batch = batch.filter(pc.equal(batch.column("kind"), KIND_LABEL))
    received = batch.column("received_at_us")
    arrived = received
    if ARRIVED in batch.schema.names:
        arrived = pc.coalesce(batch.column(ARRIVED), received)
    columns = (batch.column("transaction_id"), arrived, batch.column("verdict"))
    for transaction_id, at_us, verdict in zip(*(one.to_pylist() for one in columns), strict=True):
        yield transaction_id, at_us, verdict == Verdict.FRAUD


def _code(transaction_id: str) -> int:
    """A number for an id, 63 bits."""
    return xxhash.xxh3_64_intdigest(transaction_id.encode()) >> 1
