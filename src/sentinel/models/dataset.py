"""What a model may learn from at a given moment: rows, and the truth as far as it was known.

Everything here is a pure function of arrays; who reads them from where is not its business.

A label counts only if it arrived before the cut-off. A row without one is legitimate only if it was
approved and its maturity period is over by then; before that nobody knows, and it is left out. So
is a payment without a label that was declined or waits for an analyst: it never had the chance to
turn out as fraud. What each known payment stands for is up to `sentinel.models.weights`.
`sentinel.models.splitting` draws the parts of a split from this.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from sentinel.models.decided import REVIEW, Decided
from sentinel.models.weights import effective_size, weights_of

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Targets = npt.NDArray[np.int8]

FRAUD: Final = 1
LEGITIMATE: Final = 0
UNKNOWN: Final = -1

MIN_FRAUDS: Final = 10
"""With fewer known frauds, or fewer good payments, nothing can be said of a model."""

_HASH_BLOCK_BYTES: Final = 1 << 26


@dataclass(frozen=True, kw_only=True, eq=False)
class PaymentLog:
    """The transactions of the log, in log order. All arrays are (n_rows,).

    Attributes:
        event_time_us: int64, when each happened.
        received_at_us: int64, when Sentinel learnt of it; of history that was imported late, when
            its source did.
        amount_minor: int64.
        card: int64 code of the card or customer, negative = unknown.
        decided: What was decided on each; None if all were approved and nothing was random.
        void: bool, whether it was declared void: nothing is known of it, whatever its labels say;
            None if none was.
    """

    event_time_us: Ints
    received_at_us: Ints
    amount_minor: Ints
    card: Ints
    decided: Decided | None = None
    void: npt.NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.event_time_us)

    @property
    def withheld(self) -> npt.NDArray[np.bool_] | None:
        """Whether each was declined or waited for an analyst; None if none was."""
        if self.decided is None or not self.decided.withheld.any():
            return None
        return self.decided.withheld


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelLog:
    """Labels in log order: a later one for the same row corrects the earlier one.

    Attributes:
        row: int64 (n_labels,), row of the payment that each is about; negative = not in it.
        fraud: bool (n_labels,), its verdict.
        received_at_us: int64 (n_labels,), when it arrived; of labels that were imported late, at
            their source.
    """

    row: Ints
    fraud: npt.NDArray[np.bool_]
    received_at_us: Ints


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """Payments with their truth, in log order.

    Attributes:
        rows: int64 (n,), rows of the payments.
        fraud: bool (n,).
        weight: float64 (n,), how many payments each stands for; see `sentinel.models.weights`.
        unclipped: float64 (n,), the same before it was cut.
        start_us, end_us: Event times they were taken from, the end exclusive.
        cutoff_us: Labels that arrived from here on were not looked at.
    """

    rows: Ints
    fraud: npt.NDArray[np.bool_]
    weight: Floats
    unclipped: Floats
    start_us: int
    end_us: int
    cutoff_us: int

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def frauds(self) -> int:
        return int(self.fraud.sum())

    @property
    def effective_frauds(self) -> float:
        """How many equally weighted frauds say as much as these."""
        return effective_size(self.weight[self.fraud])

    def take(self, places: slice | Ints) -> Sample:
        """Some of its payments."""
        return replace(
            self,
            rows=self.rows[places],
            fraud=self.fraud[places],
            weight=self.weight[places],
            unclipped=self.unclipped[places],
        )


def rows_of(transaction_ids: pa.Array, label_transaction_ids: pa.Array) -> Ints:
    """For each label the row of its transaction: int64 (n_labels,), -1 = not there."""
    found = pc.index_in(label_transaction_ids, value_set=transaction_ids)
    rows: Ints = found.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return rows


def codes_of(keys: pa.Array) -> Ints:
    """Number entity keys: int64 (n_rows,), equal keys alike, null = -1."""
    indices = keys.dictionary_encode().indices
    codes: Ints = indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return codes


def verdicts_by(labels: LabelLog, n_rows: int, cutoff_us: int) -> Targets:
    """The latest verdict on each row that had arrived before a moment.

    Returns:
        int8 (n_rows,): FRAUD, LEGITIMATE, or UNKNOWN where no label had arrived.
    """
    verdicts = np.full(n_rows, UNKNOWN, dtype=np.int8)
    arrived = np.flatnonzero((labels.received_at_us < cutoff_us) & (labels.row >= 0))
    order = arrived[np.argsort(labels.received_at_us[arrived], kind="stable")]
    rows, last = np.unique(labels.row[order][::-1], return_index=True)
    verdicts[rows] = labels.fraud[order][::-1][last]
    return verdicts


def targets_at(payments: PaymentLog, labels: LabelLog, cutoff_us: int, maturity_us: int) -> Targets:
    """What was known of each row at a moment.

    Args:
        payments: Of the log.
        labels: All labels, also those from after the cut-off.
        cutoff_us: The moment.
        maturity_us: How long after a payment its silence starts to count.

    Returns:
        int8 (n_rows,): FRAUD or LEGITIMATE by the latest label that had arrived, LEGITIMATE
        where none had and silence counts (see `silence_counts`), else UNKNOWN. A payment that is
        void is UNKNOWN, also at a moment before it was declared so.
    """
    targets = verdicts_by(labels, len(payments), cutoff_us)
    silent = silence_counts(payments, labels, cutoff_us, maturity_us)
    if payments.withheld is not None:
        silent &= ~payments.withheld
    targets[(targets == UNKNOWN) & silent] = LEGITIMATE
    targets[payments.received_at_us >= cutoff_us] = UNKNOWN
    if payments.void is not None:
        targets[payments.void] = UNKNOWN
    return targets


def silence_counts(
    payments: PaymentLog, labels: LabelLog, cutoff_us: int, maturity_us: int
) -> npt.NDArray[np.bool_]:
    """Whether a payment without a label had turned out to be legitimate, had it been approved.

    Its maturity period has to be over. The period counts from the payment. Where Sentinel learnt of
    it later, it counts from then on, unless some label has arrived since: then the feed of labels
    has had its say on a payment that it knew all along.

    Args:
        payments, labels, cutoff_us, maturity_us: See `targets_at`.

    Returns:
        bool (n_rows,).
    """
    happened, received = payments.event_time_us, payments.received_at_us
    arrived = labels.received_at_us[labels.received_at_us < cutoff_us]
    heard_until = int(arrived.max()) if len(arrived) else -1
    heard = (received + maturity_us <= cutoff_us) | (received <= heard_until)
    return np.asarray((happened + maturity_us <= cutoff_us) & heard)


def sample(
    payments: PaymentLog,
    labels: LabelLog,
    *,
    start_us: int,
    end_us: int,
    cutoff_us: int,
    maturity_us: int,
) -> Sample:
    """Rows of a span of event time with what was known of them at the cut-off.

    A payment whose silence would not count yet is left out even if it has a label: of those that
    are not mature, labels single out the frauds. A review is complete with its verdict.

    Args:
        payments, labels: The log.
        start_us, end_us: Span of event times; the end is exclusive.
        cutoff_us: The moment of knowledge.
        maturity_us: See `targets_at`.
    """
    targets = targets_at(payments, labels, cutoff_us, maturity_us)
    complete = silence_counts(payments, labels, cutoff_us, maturity_us)
    if payments.decided is not None:
        complete |= payments.decided.outcome == REVIEW
    known = (targets != UNKNOWN) & complete
    weights = weights_of(payments.decided, known, payments.event_time_us)
    inside = (payments.event_time_us >= start_us) & (payments.event_time_us < end_us)
    rows = np.flatnonzero(inside & (weights.weight > 0))
    return Sample(
        rows=rows,
        fraud=targets[rows] == FRAUD,
        weight=weights.weight[rows],
        unclipped=weights.unclipped[rows],
        start_us=start_us,
        end_us=end_us,
        cutoff_us=cutoff_us,
    )


def weight_column(weight: Floats) -> Floats | None:
    """Weights as they are handed on: None if each row stands for itself."""
    return weight if (weight != 1.0).any() else None


def unclipped_column(of: Sample) -> Floats | None:
    """The weights before they were cut; None if none was."""
    return of.unclipped if (of.unclipped != of.weight).any() else None


def data_hash(*arrays: npt.NDArray[np.generic]) -> str:
    """Thirty-two hex digits that name arrays: XXH3-128 of types, shapes and bytes.

    Memory-mapped arrays are read block by block.
    """
    digest = xxhash.xxh3_128()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        rows = max(1, _HASH_BLOCK_BYTES // max(1, array.nbytes // max(1, len(array))))
        for start in range(0, len(array), rows):
            digest.update(np.ascontiguousarray(array[start : start + rows]).tobytes())
    return digest.hexdigest()
