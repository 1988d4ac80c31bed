"""The IEEE-CIS fraud data of Vesta (Kaggle, 2019), as downloaded.

``train_transaction.csv`` (394 columns, 590,540 rows) joined with ``train_identity.csv``
(41 columns, 144,233 rows) on ``TransactionID``. Decisions taken here, each of them debatable,
are explained in ``docs/sources.md``.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentinel.domain import ConfigurationError, Verdict
from sentinel.log.schema import ATTRIBUTE_PREFIX
from sentinel.sources.amounts import amount_column
from sentinel.sources.base import (
    DAY_US,
    DEFAULT_CHUNK_ROWS,
    AttributeType,
    Chunk,
    ColumnUse,
    Description,
    Finding,
    Source,
    canonical_rows,
    transaction_schema,
)
from sentinel.sources.columns import category_column, joined_id, mask_of, number_column
from sentinel.sources.labels_file import require_columns
from sentinel.sources.readers import RawBlock, TableFile, malformed_chunk
from sentinel.sources.verdicts import verdict_column

ORIGIN: Final = datetime(2017, 12, 1, tzinfo=UTC)
"""What TransactionDT counts from. The competition does not say; the analyses agree on it."""

_ORIGIN_US: Final = int(ORIGIN.timestamp()) * 1_000_000
_DAY_SECONDS: Final = 86_400

CARDS: Final = tuple(f"card{n}" for n in range(1, 7))
COUNTS: Final = tuple(f"C{n}" for n in range(1, 15))
DELTAS: Final = tuple(f"D{n}" for n in range(1, 16))
DAY_COUNTS: Final = tuple(name for name in DELTAS if name not in ("D3", "D5", "D9"))
"""Columns that count days from something in the client's past: it began, it bought, it moved.

D3 and D5 count from the payment before and D9 is the hour of the day, so they tell no such day.
"""
BEGINNINGS: Final = tuple(f"{name}_day" for name in DAY_COUNTS)
"""Attributes made of them: the day they count from, which stays the same for all of a client's
payments while the count grows."""
MATCHES: Final = tuple(f"M{n}" for n in range(1, 10))
VESTA: Final = tuple(f"V{n}" for n in range(1, 340))
IDENTITY: Final = (*(f"id_{n:02d}" for n in range(1, 39)), "DeviceType", "DeviceInfo")

TRANSACTION_COLUMNS: Final = (
    *("TransactionID", "isFraud", "TransactionDT", "TransactionAmt", "ProductCD"),
    *CARDS,
    *("addr1", "addr2", "dist1", "dist2", "P_emaildomain", "R_emaildomain"),
    *COUNTS,
    *DELTAS,
    *MATCHES,
    *VESTA,
)
IDENTITY_COLUMNS: Final = ("TransactionID", *IDENTITY)

_KEPT: Final = (
    *("ProductCD", "card4", "card6", "addr1", "addr2", "dist1", "dist2"),
    *("P_emaildomain", "R_emaildomain"),
    *COUNTS,
    *DELTAS,
    *MATCHES,
)
_NUMBERS: Final = frozenset(
    {
        "dist1",
        "dist2",
        *COUNTS,
        *DELTAS,
        *BEGINNINGS,
        *VESTA,
        *(f"id_{n:02d}" for n in range(1, 12)),
    }
)
_CORE: Final = (
    *("TransactionID", "isFraud", "TransactionDT", "TransactionAmt"),
    *CARDS,
    *("addr1", "D1"),
)
_DEVICE: Final = ("DeviceInfo", "id_30", "id_31", "id_33")


class IeeeCisSource(Source):
    """The two Kaggle files as a source.

    Args:
        path: The folder that holds both files, or the downloaded zip archive.
        v_columns: Which of V1 ... V339 to keep as attributes: names, "all", or none.
        label_delay_days: From a transaction to its label. The data has no arrival times;
            chargebacks take weeks.

    Raises:
        ConfigurationError: A file or a column is missing.
    """

    name = "ieee-cis"
    scale = 3

    def __init__(
        self,
        path: Path | str,
        *,
        v_columns: Sequence[str] | str = (),
        label_delay_days: float = 30.0,
    ) -> None:
        folder = Path(path)
        self._transactions = _find(folder, "train_transaction.csv")
        self._identities = _find(folder, "train_identity.csv")
        require_columns(
            TRANSACTION_COLUMNS[:1], self._transactions.schema().names, self._transactions.name
        )
        kept_v = _choose_v(v_columns)
        self._read = tuple(dict.fromkeys((*_CORE, *_KEPT, *kept_v)))
        there = self._transactions.schema().names
        if "isFraud" not in there:
            raise ConfigurationError(
                f"{self._transactions.name} has no column 'isFraud'; the test files of the "
                "competition have no labels, use the train files."
            )
        require_columns(self._read, there, self._transactions.name)
        require_columns(IDENTITY_COLUMNS, self._identities.schema().names, self._identities.name)
        self._kept = (*_KEPT, *kept_v)
        self.attributes: dict[str, AttributeType] = {
            name: "number" if name in _NUMBERS else "category"
            for name in (*self._kept, *BEGINNINGS, *IDENTITY)
        }
        self._delay_days = label_delay_days
        self.label_delay_us = round(label_delay_days * DAY_US)

    def describe(self) -> Description:
        """What each column became."""
        core = {
            "TransactionID": ("transaction_id", ""),
            "isFraud": ("verdict", "1 = fraud; 0 is no label"),
            "TransactionDT": ("event_time_us", f"seconds since {ORIGIN:%Y-%m-%d}, by convention"),
            "TransactionAmt": ("amount_minor", "US dollars, three decimals"),
            **dict.fromkeys(CARDS, ("card_id", "joined")),
        }
        for name in ("card1", "addr1", "D1"):
            target, _ = core.get(name, ("", ""))
            core[name] = (", ".join(filter(None, (target, "customer_id"))), "joined")
        for name in _DEVICE:
            core[name] = ("device_id", "joined")
        uses = []
        for column in (*TRANSACTION_COLUMNS, *IDENTITY):
            target, note = core.get(column, ("", ""))
            if column in self.attributes:
                target = ", ".join(filter(None, (target, ATTRIBUTE_PREFIX + column)))
                note = ", ".join(filter(None, (note, self.attributes[column])))
            if column in DAY_COUNTS:
                target += f", {ATTRIBUTE_PREFIX}{column}_day"
                note += "; the day it counts from, number"
            uses.append(ColumnUse(column, "text", target, note or ("" if target else "not used")))
        return Description(
            self.name,
            (str(self._transactions.path), str(self._identities.path)),
            tuple(uses),
            f"frauds are known {self._delay_days:g} days after they happened (declared)",
            ("there is no merchant and no IP address in this data",),
        )

    def row_count(self) -> int | None:
        """Estimated from the size of the file."""
        return self._transactions.row_count()

    def raw_batches(self, chunk_rows: int = DEFAULT_CHUNK_ROWS) -> Iterator[Chunk]:
        """Transactions in the order of their file, each with its identity block.

        The identity file (26 MB) is held in memory, the transactions are streamed.
        """
        schema = transaction_schema(self.attributes)
        identities = _Identities(self._identities, chunk_rows)
        for block in self._transactions.blocks(chunk_rows, self._read):
            broken = malformed_chunk(self._transactions, block, schema)
            if broken is not None:
                yield broken
            if block.rows.num_rows:
                yield self._chunk(block, identities, schema)

    def _chunk(self, block: RawBlock, identities: _Identities, schema: pa.Schema) -> Chunk:
        rows = block.rows
        found: list[Finding] = []
        ids = category_column(rows.column("TransactionID"))
        identity = identities.of(ids)
        seconds, bad = number_column(rows.column("TransactionDT"))
        found.append(Finding("invalid_time", bad, "TransactionDT is no number of seconds"))
        amounts, findings = amount_column(rows.column("TransactionAmt"), scale=self.scale)
        found.extend(findings)
        verdicts, wrong_labels, observed = verdict_column(
            rows.column("isFraud"), fraud=(1,), legitimate=(0,), name="isFraud"
        )
        fraud = pc.equal(verdicts, Verdict.FRAUD.value)
        out = {
            "transaction_id": ids,
            "event_time_us": _times(seconds),
            "amount_minor": amounts,
            "customer_id": client_identity(
                rows.column("card1"), rows.column("addr1"), seconds, rows.column("D1")
            ),
            "card_id": joined_id([category_column(rows.column(name)) for name in CARDS]),
            "device_id": joined_id([identity.column(name) for name in _DEVICE]),
            "verdict": pc.if_else(fraud, verdicts, pa.scalar(None, pa.string())),
        }
        for table, names in ((rows, self._kept), (identity, IDENTITY)):
            for name in names:
                target = ATTRIBUTE_PREFIX + name
                if self.attributes[name] == "category":
                    out[target] = category_column(table.column(name))
                else:
                    out[target], bad = number_column(table.column(name))
                    found.append(Finding("invalid_attribute", bad, f"{name} is not a number"))
        for name in DAY_COUNTS:
            days, _ = number_column(rows.column(name))
            out[f"{ATTRIBUTE_PREFIX}{name}_day"] = beginnings(seconds, days)
        canonical = canonical_rows(out, schema, rows.num_rows)
        raw = pa.RecordBatch.from_arrays(
            [*rows.columns, *identity.columns], names=[*rows.schema.names, *identity.schema.names]
        )
        return Chunk(
            self._transactions.name,
            block.row_numbers,
            canonical,
            raw,
            tuple(item for item in found if item.rows.any()),
            label_findings=wrong_labels,
            observed=observed,
        )


def client_identity(card1: pa.Array, addr1: pa.Array, seconds: pa.Array, d1: pa.Array) -> pa.Array:
    """The client behind a transaction: card1, addr1 and the day on which the client began.

    D1 counts the days since the client's first transaction, so (day - D1) stays the same for
    all of a client's transactions (C. Deotte and K. Yakovlev, 1st place solution, 2019). Without
    addr1 the other two still tell clients apart; without card1 or D1 the client is unknown.

    >>> client_identity(pa.array(["13926", "2755"]), pa.array(["315.0", None]),
    ...                 pa.array([86400.0, 172800.0]), pa.array(["14.0", None])).to_pylist()
    ['13926|315|-13', None]
    """
    days, bad = number_column(d1)
    begun = beginnings(seconds, days).to_numpy(zero_copy_only=False)
    card = category_column(card1)
    known = np.isfinite(begun) & ~bad & mask_of(pc.is_valid(card))
    began = pa.array(np.where(known, begun, 0).astype(np.int64), mask=~known)
    joined = joined_id([card, category_column(addr1), began])
    return pc.if_else(pa.array(known), joined, pa.scalar(None, pa.string()))


def beginnings(seconds: pa.Array, days: pa.Array) -> pa.Array:
    """The day from which a count of days runs, in days since `ORIGIN`; null where it is unknown.

    >>> beginnings(pa.array([86400.0 * 20, 86400.0 * 25, 0.0]), pa.array([7, 12, None])).to_pylist()
    [13.0, 13.0, None]
    """
    day = seconds.to_numpy(zero_copy_only=False) / _DAY_SECONDS
    begun = np.floor(day - days.to_numpy(zero_copy_only=False))
    return pa.array(begun, pa.float64(), mask=~np.isfinite(begun))


class _Identities:
    """The identity file in memory, found by TransactionID."""

    def __init__(self, file: TableFile, chunk_rows: int) -> None:
        batches = [block.rows for block in file.blocks(chunk_rows, IDENTITY_COLUMNS)]
        if batches:
            table = pa.Table.from_batches(batches).combine_chunks()
        else:
            table = pa.table({name: pa.array([], pa.string()) for name in IDENTITY_COLUMNS})
        self._ids = category_column(table.column("TransactionID"))
        self._table = table.select(list(IDENTITY))

    def of(self, ids: pa.Array) -> pa.RecordBatch:
        """Each transaction's identity block; null where it has none."""
        found = pc.index_in(ids, self._ids)
        columns = [column.combine_chunks().take(found) for column in self._table.columns]
        return pa.RecordBatch.from_arrays(columns, names=self._table.schema.names)


def _times(seconds: pa.Array) -> pa.Array:
    values = seconds.to_numpy(zero_copy_only=False)
    known = np.isfinite(values) & (np.abs(values) < 1e12)
    times = np.where(known, values, 0.0).astype(np.int64) * 1_000_000 + _ORIGIN_US
    return pa.array(times, mask=~known)


def _choose_v(wanted: Sequence[str] | str) -> tuple[str, ...]:
    if wanted in ("all", "none", ""):
        return VESTA if wanted == "all" else ()
    names = (
        tuple(item.strip() for item in wanted.split(","))
        if isinstance(wanted, str)
        else tuple(wanted)
    )
    unknown = [name for name in names if name not in VESTA]
    if unknown:
        raise ConfigurationError(
            f"v_columns: {', '.join(unknown)} unknown; allowed are V1 ... V339, 'all' or 'none'."
        )
    return names


def _find(path: Path, name: str) -> TableFile:
    """A file of the download: unpacked, or in an archive of all files or of itself."""
    if path.is_dir():
        for candidate in (path / name, path / f"{name}.gz"):
            if candidate.exists():
                return TableFile(candidate, "csv")
        archives = (path / f"{name}.zip", path / "ieee-fraud-detection.zip")
    else:
        archives = (path, path.parent / f"{name}.zip")
    for archive in archives:
        if archive.suffix == ".zip" and zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as content:
                if name in content.namelist():
                    return TableFile(archive, "csv", member=name)
    raise ConfigurationError(
        f"There is no {name} in {path}. Download the competition's data from "
        "https://www.kaggle.com/c/ieee-fraud-detection/data (its rules must be accepted) "
        "and give the folder that holds it, or the zip archive."
    )
