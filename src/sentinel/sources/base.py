"""The one interface that all sources of transactions keep.

A source reads its vendor's format and yields chunks of *canonical but unvalidated* rows: the
columns have Sentinel's names, types and units, the values may still be missing or impossible.
What could not even be brought into canonical form is a finding of the chunk. Validation, labels
and the order of the log are the same for all sources (see ``validate`` and ``log``).

Columns of a transaction chunk (all may be null), beside any ``attributes.NAME``:

    transaction_id                              string
    event_time_us, received_at_us               int64, microseconds UTC
    amount_minor                                int64
    customer_id ... ip_address                  string
    verdict                                     string: "fraud", "legitimate", null = no label
    label_received_at_us                        int64, null = event time + the declared delay

Columns of a label chunk (a source that has labels of their own):

    label_id, transaction_id, verdict, origin   string
    received_at_us                              int64, null = the declared delay applies
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sentinel.domain import ENTITY_COLUMNS, ConfigurationError
from sentinel.ingest.names import FORBIDDEN_FIELD, good_name, name_flaw, shown_name
from sentinel.ingest.tokens import TokenField
from sentinel.ingest.values import Flaw
from sentinel.log.schema import ATTRIBUTE_PREFIX, KIND_LABEL, KIND_TRANSACTION
from sentinel.sources.observed import Observed

AttributeType = Literal["category", "number"]
BoolMask = npt.NDArray[np.bool_]

DAY_US: Final = 86_400_000_000
"""Microseconds of a day."""

DEFAULT_CHUNK_ROWS: Final = 50_000
"""Rows that a source reads at a time."""

CORE_FIELDS: Final = (
    pa.field("transaction_id", pa.string()),
    pa.field("event_time_us", pa.int64()),
    pa.field("received_at_us", pa.int64()),
    pa.field("amount_minor", pa.int64()),
    *(pa.field(name, pa.string()) for name in ENTITY_COLUMNS),
    pa.field("verdict", pa.string()),
    pa.field("label_received_at_us", pa.int64()),
)

LABEL_CHUNK_SCHEMA: Final = pa.schema(
    [
        pa.field("label_id", pa.string()),
        pa.field("transaction_id", pa.string()),
        pa.field("verdict", pa.string()),
        pa.field("received_at_us", pa.int64()),
        pa.field("origin", pa.string()),
    ]
)

_ARROW_TYPE: Final = {"category": pa.string(), "number": pa.float64()}


@dataclass(frozen=True)
class Finding:
    """Rows of a chunk that cannot be accepted, and why.

    Attributes:
        code: Stable name of the reason, for counting.
        rows: Mask over the chunk's rows.
        reason: What was wrong and what is allowed; one text, or one per row of the chunk.
    """

    code: str
    rows: BoolMask
    reason: str | Sequence[str | None]

    def reason_of(self, row: int) -> str:
        """The reason for one row of the chunk."""
        if isinstance(self.reason, str):
            return self.reason
        return self.reason[row] or self.code


@dataclass(frozen=True)
class Chunk:
    """Some rows of a source, canonical but unvalidated.

    Attributes:
        origin: The file (or generator) that the rows come from.
        row_numbers: int64, each row's number in its origin, counted from 1 without header.
        rows: The canonical columns.
        raw: The rows as the source has them, for the rejects file; None if ``rows`` says it all.
        findings: What could not be brought into canonical form.
        kind: Transactions or labels (see ``sentinel.log.schema``).
        label_findings: Of transactions: what is wrong with the labels on their rows. The
            payment is accepted all the same, without the label.
        observed: What was noticed in rows that may be accepted.
        exact: Attributes that are numbers to their texts, where they have more digits than a
            double keeps; null elsewhere.
    """

    origin: str
    row_numbers: npt.NDArray[np.int64]
    rows: pa.RecordBatch
    raw: pa.RecordBatch | None = None
    findings: tuple[Finding, ...] = ()
    kind: int = KIND_TRANSACTION
    label_findings: tuple[Finding, ...] = ()
    observed: tuple[Observed, ...] = ()
    exact: Mapping[str, pa.Array] = field(default_factory=dict)


@dataclass(frozen=True)
class ColumnUse:
    """What a source's column became.

    Attributes:
        column: Name in the source.
        type: Type in the source, as found.
        becomes: Canonical name, or "" where the column is not used.
        note: Unit, format, time zone, or why it is unused.
    """

    column: str
    type: str
    becomes: str
    note: str = ""


@dataclass(frozen=True)
class Description:
    """What a source understood of its data, for people to check before an import."""

    source: str
    files: tuple[str, ...]
    columns: tuple[ColumnUse, ...]
    labels: str
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class Source(ABC):
    """Where transactions (and what is known about them) come from.

    Attributes:
        name: Short name, part of the ids of labels that the source declares.
        scale: Decimals of one unit of money: amounts are in units of 10^-scale.
        attributes: The attribute columns of all chunks, and whether each is a category (text)
            or a number.
        label_delay_us: Time from a transaction to its label where the data has no arrival time.
            None if the data must have it.
        label_origin: What the log says about where labels come from.
        no_cards: Columns whose values look like card numbers and are none.
        token_fields: Fields that are stored as tokens, and what is kept of them before.
        overlap: Whether later files repeat rows of earlier ones; those are no duplicates.
        labels_only: Whether it has no transactions by its nature.
    """

    name: str
    scale: int = 2
    attributes: Mapping[str, AttributeType]
    label_delay_us: int | None = None
    label_origin: str = "chargeback"
    no_cards: frozenset[str] = frozenset()
    token_fields: Mapping[str, TokenField] = {}
    overlap: bool = False
    labels_only: bool = False

    @abstractmethod
    def describe(self) -> Description:
        """What the source understood of its data."""

    @abstractmethod
    def row_count(self) -> int | None:
        """About how many transactions there are, if that is cheap to say; for progress only."""

    @abstractmethod
    def raw_batches(self, chunk_rows: int = DEFAULT_CHUNK_ROWS) -> Iterator[Chunk]:
        """All rows in source order, chunk by chunk, in bounded memory; the same every time."""

    def sample_batches(self, rows: int, labels: int) -> Iterator[Chunk]:
        """Chunks of the first rows, and of the first labels that have a place of their own.

        Args:
            rows, labels: How many of each to give at least, where there are so many.
        """
        taken = {KIND_TRANSACTION: 0, KIND_LABEL: 0}
        wanted = {KIND_TRANSACTION: rows, KIND_LABEL: labels}
        for chunk in self.raw_batches(rows):
            if taken[chunk.kind] >= wanted[chunk.kind]:
                return
            taken[chunk.kind] += chunk.rows.num_rows
            yield chunk

    def whole_rows(self) -> Iterator[pa.RecordBatch]:
        """Some rows with all their columns, also those that an import does not read."""
        yield from ()

    def all_ids(self) -> Iterator[pa.Array]:
        """The ids of all transactions, batch by batch."""
        for chunk in self.raw_batches():
            if chunk.kind == KIND_TRANSACTION:
                yield chunk.rows.column("transaction_id")


def transaction_schema(attributes: Mapping[str, AttributeType]) -> pa.Schema:
    """Schema of the transaction chunks of a source with these attributes.

    >>> transaction_schema({"mcc": "category"}).names[-1]
    'attributes.mcc'
    """
    return pa.schema(
        [
            *CORE_FIELDS,
            *(
                pa.field(ATTRIBUTE_PREFIX + name, _ARROW_TYPE[kind])
                for name, kind in attributes.items()
            ),
        ]
    )


def canonical_rows(
    columns: Mapping[str, pa.Array], schema: pa.Schema, num_rows: int
) -> pa.RecordBatch:
    """A batch with exactly the schema's columns; those not given are null."""
    return pa.RecordBatch.from_arrays(
        [
            columns[item.name] if item.name in columns else pa.nulls(num_rows, item.type)
            for item in schema
        ],
        schema=schema,
    )


def check_attribute_names(names: Sequence[str]) -> None:
    """Refuse attribute names that could not be told apart later.

    Names of the transaction's own columns, and names that differ in case only (SQL engines do
    not tell them apart).

    Raises:
        ConfigurationError: Two columns would have the same name.

    >>> check_attribute_names(["mcc", "MCC"])
    Traceback (most recent call last):
        ...
    sentinel.domain.ConfigurationError: Attributes 'mcc' and 'MCC' clash: rename or exclude one.
    """
    own = {item.name for item in CORE_FIELDS} | {"label_id", "origin", "kind", "sequence"}
    seen: dict[str, str] = {}
    for name in names:
        if name.lower() in own:
            raise ConfigurationError(
                f"The attribute {name!r} has the name of a transaction's own column; "
                "give it another name, or exclude it."
            )
        if not name:
            raise ConfigurationError("An attribute has an empty name; name it, or exclude it.")
        flaw = name_flaw(name)
        if flaw is not None:
            raise ConfigurationError(_flawed(name, flaw))
        if name.lower() in seen:
            raise ConfigurationError(
                f"Attributes {seen[name.lower()]!r} and {name!r} clash: rename or exclude one."
            )
        seen[name.lower()] = name


def _flawed(name: str, flaw: Flaw) -> str:
    """What is to be said of a name that an attribute cannot have."""
    if flaw.code == FORBIDDEN_FIELD:
        return (
            f"The attribute {shown_name(name)!r} {flaw.message}. In a mapping, attributes.exclude "
            "leaves a column out."
        )
    better = good_name(name)
    such = "attributes.rename renames it"
    if better != name and name_flaw(better) is None:
        # JSON writes texts as TOML does, but for one character.
        written = json.dumps(name, ensure_ascii=False).replace("\x7f", "\\u007F")
        such += f": rename = {{ {written} = {json.dumps(better, ensure_ascii=False)} }}"
    return (
        f"The attribute {shown_name(name)!r} cannot have this name: {flaw.message}. In a mapping, "
        f"attributes.exclude leaves a column out, and {such}."
    )
