"""What an import would do, tried on a sample of the rows, before anything is written."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentinel.domain import Verdict
from sentinel.ingest.cards import masked
from sentinel.log.schema import KIND_LABEL
from sentinel.sources.base import Chunk, Description, Source
from sentinel.sources.columns import mask_of
from sentinel.sources.door import with_masks
from sentinel.sources.near_ids import in_words, nearest
from sentinel.sources.observed import Observations
from sentinel.sources.validate import (
    CardJudges,
    Checked,
    KnownIds,
    check_labels,
    check_transactions,
)
from sentinel.sources.verdicts import UNDECIDED

SAMPLE_ROWS: Final = 10_000
"""Rows that a preview checks at least, where there are so many."""

_SAMPLE_LABELS: Final = 100_000
_EXAMPLES: Final = 3
_MATCHING_SECONDS: Final = 5.0


@dataclass
class Sample:
    """What became of the rows that a preview looked at.

    Attributes:
        read, accepted: Transactions.
        rejected: By code.
        reasons: By code the first reason, with the row that it is about.
        labels: Arrived or arriving labels that would be taken.
        frauds: How many of these say fraud.
        frauds_accepted: Accepted rows that labels call fraud.
        labels_rejected, labels_undecided: Labels that would not be taken.
        unmatched: Labels of their own about payments that were not found.
        compared: How many labels of their own were looked up.
        all_compared: Whether all payments were looked through for them.
        refusal: Why an import would be refused whatever else is fine; None if it would not.
    """

    read: int = 0
    accepted: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    reasons: dict[str, str] = field(default_factory=dict)
    labels: int = 0
    frauds: int = 0
    frauds_accepted: int = 0
    labels_rejected: Counter[str] = field(default_factory=Counter)
    labels_undecided: int = 0
    unmatched: int = 0
    compared: int = 0
    all_compared: bool = True
    refusal: str | None = None


@dataclass(frozen=True)
class Preview:
    """What a source understood, and what its first rows become.

    Attributes:
        description: Columns, labels and warnings.
        rows: The first rows in canonical form, those with findings included.
        findings: For each of these rows the reason why it would be rejected, or None.
        scale: Decimals of one unit of money.
        row_count: About how many rows there are, if known.
        examples: By column some values, card numbers masked.
        sample: What became of more rows.
        warnings: What to look at: of the description, and of the sample.
    """

    description: Description
    rows: pa.RecordBatch
    findings: tuple[str | None, ...]
    scale: int
    row_count: int | None
    examples: dict[str, tuple[str, ...]] = field(default_factory=dict)
    sample: Sample = field(default_factory=Sample)
    warnings: tuple[str, ...] = ()


def preview(
    source: Source,
    rows: int = 10,
    *,
    now_us: int,
    sample_rows: int = SAMPLE_ROWS,
    known: Callable[[], KnownIds | None] | None = None,
) -> Preview:
    """Read a sample of a source and check it, as an import would.

    Args:
        source: Where transactions come from.
        rows: How many rows to show.
        now_us: The clock, microseconds UTC.
        sample_rows: How many rows to check at least, where there are so many.
        known: Gives the look-up of transactions that the ledger has; asked only where labels
            are about none of the source.

    >>> from sentinel.sources import open_source
    >>> seen = preview(open_source("simulator", customers=50, days=2), 3, now_us=2 * 10**15)
    >>> seen.rows.num_rows, seen.findings
    (3, (None, None, None))
    """
    look = _Look(source, now_us, max(rows, 1))
    for chunk in source.sample_batches(max(sample_rows, rows), _SAMPLE_LABELS):
        look.at(chunk)
    look.match_labels(known)
    about = source.describe()
    warnings = [*about.warnings, *look.observed.warnings()]
    if look.sample.unmatched:
        some = ", ".join(repr(masked(name)) for name in look.unmatched_ids)
        looked = "no payment" if look.sample.all_compared else "no payment that was looked at"
        warnings.append(
            f"{look.sample.unmatched:,} of {look.sample.compared:,} labels are about {looked}, "
            f"such as {some}; {look.advice()}"
        )
    return Preview(
        about,
        look.first_rows(),
        tuple(look.reasons),
        source.scale,
        source.row_count(),
        look.examples(),
        look.sample,
        tuple(warnings),
    )


class _Look:
    """The sample while it is read."""

    def __init__(self, source: Source, now_us: int, shown: int) -> None:
        self.sample = Sample()
        self.observed = Observations()
        self.reasons: list[str | None] = []
        self.unmatched_ids: tuple[str, ...] = ()
        self._source = source
        self._now_us = now_us
        self._shown = shown
        self._cards = CardJudges([*source.no_cards, *source.token_fields])
        self._kept: list[pa.RecordBatch] = []
        self._ids: set[str] = set()
        self._label_ids: list[str] = []
        self._fraud_ids: set[str] = set()
        self._examples: dict[str, dict[str, None]] = {}

    def at(self, chunk: Chunk) -> None:
        """Check a chunk as an import would."""
        self.observed.add(chunk.observed)
        self.sample.refusal = self.sample.refusal or self.observed.refusal()
        delay_us = self._source.label_delay_us
        if chunk.kind == KIND_LABEL:
            checked = check_labels(chunk, delay_us=delay_us, cards=self._cards)
            self._count_labels(chunk.rows.column("verdict"), checked)
            good = chunk.rows.column("transaction_id").filter(pa.array(checked.accepted))
            self._label_ids += good.to_pylist()
            fraud = mask_of(pc.equal(chunk.rows.column("verdict"), Verdict.FRAUD.value))
            ids = chunk.rows.column("transaction_id")
            self._fraud_ids.update(ids.filter(pa.array(checked.accepted & fraud)).to_pylist())
        else:
            checked = check_transactions(
                chunk, now_us=self._now_us, label_delay_us=delay_us, cards=self._cards
            )
            self._count_transactions(chunk, checked)
        self._remember(checked)
        self._keep(chunk, checked)

    def _count_transactions(self, chunk: Chunk, checked: Checked) -> None:
        sample = self.sample
        sample.read += chunk.rows.num_rows
        counts = checked.counts()
        sample.rejected.update(counts)
        ids = chunk.rows.column("transaction_id").filter(pa.array(checked.accepted)).to_pylist()
        before = len(self._ids)
        self._ids.update(ids)
        new = len(self._ids) - before
        if new < len(ids) and not self._source.overlap:
            sample.rejected["duplicate_id"] += len(ids) - new
            sample.reasons.setdefault(
                "duplicate_id", f"{chunk.origin}: the id stands in an earlier row"
            )
        sample.accepted += new
        labels = chunk.rows.column("verdict")
        if checked.labels is not None:
            self._remember(checked.labels)
            counts = checked.labels.counts()
            sample.labels_undecided += counts.pop(UNDECIDED, 0)
            sample.labels_rejected.update(counts)
            labels = pc.if_else(
                pa.array(checked.labels.accepted), labels, pa.scalar(None, pa.string())
            )
        labels = labels.filter(pa.array(checked.accepted)).drop_null()
        frauds = int(mask_of(pc.equal(labels, Verdict.FRAUD.value)).sum())
        sample.labels += len(labels)
        sample.frauds += frauds
        sample.frauds_accepted += frauds

    def _count_labels(self, verdicts: pa.Array, checked: Checked) -> None:
        sample = self.sample
        counts = checked.counts()
        sample.labels_undecided += counts.pop(UNDECIDED, 0)
        sample.labels_rejected.update(counts)
        good = verdicts.filter(pa.array(checked.accepted))
        sample.labels += len(good)
        sample.frauds += int(mask_of(pc.equal(good, Verdict.FRAUD.value)).sum())

    def _remember(self, checked: Checked) -> None:
        for index, finding in enumerate(checked.findings):
            rows = np.flatnonzero(checked.first == index)
            if finding.code in self.sample.reasons or not len(rows):
                continue
            row = int(rows[0])
            number = int(checked.chunk.row_numbers[row])
            reason = masked(finding.reason_of(row))
            self.sample.reasons[finding.code] = f"{checked.chunk.origin}, row {number:,}: {reason}"

    def _keep(self, chunk: Chunk, checked: Checked) -> None:
        room = self._shown - len(self.reasons)
        if room > 0 and (not self._kept or self._kept[0].schema == chunk.rows.schema):
            part = with_masks(chunk.rows.slice(0, room), self._source.token_fields)
            self._kept.append(part)
            for row in range(part.num_rows):
                index = int(checked.first[row])
                self.reasons.append(None if index < 0 else checked.findings[index].reason_of(row))
        raw = chunk.rows if chunk.raw is None else chunk.raw
        for name in raw.schema.names:
            self._note(name, raw.column(name))

    def _note(self, name: str, values: pa.Array) -> None:
        """Keep some different values of a column."""
        kept = self._examples.setdefault(name, {})
        if len(kept) >= _EXAMPLES:
            return
        for value in values[:2_000].to_pylist():
            text = "" if value is None else masked(" ".join(str(value).split()))
            if text:
                kept.setdefault(text)
            if len(kept) >= _EXAMPLES:
                return

    def first_rows(self) -> pa.RecordBatch:
        """The rows to show."""
        if not self._kept:
            return pa.RecordBatch.from_pydict({"transaction_id": pa.array([], pa.string())})
        batches = pa.Table.from_batches(self._kept).combine_chunks().to_batches()
        return batches[0] if batches else self._kept[0]

    def examples(self) -> dict[str, tuple[str, ...]]:
        """Some values of each column, also of those that an import does not read."""
        for rows in self._source.whole_rows():
            for name in rows.schema.names:
                self._note(name, rows.column(name))
        return {name: tuple(values) for name, values in self._examples.items()}

    def match_labels(self, known: Callable[[], KnownIds | None] | None) -> None:
        """Look for the payments that labels of their own are about."""
        sample = self.sample
        sample.compared = len(self._label_ids)
        sample.frauds_accepted += len(self._fraud_ids & self._ids)
        missing = Counter(name for name in self._label_ids if name not in self._ids)
        if missing:
            sample.all_compared = self._look_through_all(missing)
        held = known() if missing and known is not None else None
        if held is not None:
            ids = pa.array(list(missing), pa.string())
            seen = held(ids)
            there = mask_of(seen) if isinstance(seen, pa.Array) else np.asarray(seen, np.bool_)
            for name in ids.filter(pa.array(there)).to_pylist():
                del missing[name]
        sample.unmatched = missing.total()
        self.unmatched_ids = tuple(list(missing)[:_EXAMPLES])

    def advice(self) -> str:
        """What to do about labels that are about no payment."""
        pair = nearest(self.unmatched_ids, self._ids)
        return in_words(pair) if pair else "are these the ids of the payments?"

    def _look_through_all(self, missing: Counter[str]) -> bool:
        """Take away what any payment has; False if there was no time for all payments."""
        deadline = time.monotonic() + _MATCHING_SECONDS
        for ids in self._source.all_ids():
            for name in ids.filter(pc.is_in(ids, pa.array(list(missing), pa.string()))).to_pylist():
                missing.pop(name, None)
            if not missing:
                return True
            if time.monotonic() > deadline:
                return False
        return True
