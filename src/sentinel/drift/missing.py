"""Shares of unknown values, where they are farthest from the reference's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from sentinel.drift.reference import DriftReference
from sentinel.drift.rows import HourRow
from sentinel.drift.segments import ALL

MOST_MISSING: Final = 20
"""Features whose shares are told."""


def missing_shares(
    reference: DriftReference, rows: Sequence[HourRow], *, most: int = MOST_MISSING
) -> dict[str, float]:
    """Shares of unknown values among all payments of some hours, by feature.

    Args:
        reference: Of the model that decided them.
        rows: Counts of the hours.
        most: So many features, those whose share is farthest from the reference's first.

    Returns:
        Empty without a payment, or without a segment of all payments.
    """
    segments = [segment.name for segment in reference.segments]
    if ALL not in segments:
        return {}
    whole = segments.index(ALL)
    events = sum(int(row.events[whole]) for row in rows)
    if not events:
        return {}
    unknown = reference.bins.starts[:-2]  # a column's first cell; the last column is the score
    counts = np.sum([row.counts[whole, unknown] for row in rows], axis=0, dtype=np.int64)
    usual = reference.counts[whole]
    payments = max(1, int(usual[: reference.bins.starts[1]].sum()))
    shares = np.asarray(counts / events)
    farthest = np.argsort(-np.abs(shares - usual[unknown] / payments), kind="stable")
    return {reference.bins.names[at]: float(shares[at]) for at in farthest[:most]}
