"""Checked rows on disk, and the log in order out of them, at any size in bounded memory."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sentinel.domain import ENTITY_COLUMNS, MAX_ID_LENGTH, Unavailable
from sentinel.log.schema import KIND_LABEL, KIND_TRANSACTION, LOG_SCHEMA
from sentinel.sources.base import LABEL_CHUNK_SCHEMA, BoolMask
from sentinel.sources.columns import mask_of
from sentinel.sources.near_ids import ESSENCE_SQL
from sentinel.sources.ordering import merged, resized
from sentinel.sources.report import ImportReport

Ordinals = npt.NDArray[np.int64]

_SORTED_ROWS: Final = 50_000
_THREADS: Final = 4  # each holds blocks of its own: more would need more memory

REPEATED: Final = "repeated"
"""Rows that are in an earlier file as they are, where files overlap."""

_KNOWN_SCHEMA: Final = pa.schema(
    [pa.field("transaction_id", pa.string()), pa.field("event_time_us", pa.int64())]
)
_LABEL_STAGE_SCHEMA: Final = pa.schema(
    [*LABEL_CHUNK_SCHEMA, pa.field("of_row", pa.int64()), pa.field("ordinal", pa.int64())]
)


class Stage:
    """Accepted rows in temporary Parquet files, and DuckDB over them.

    Args:
        folder: A folder of its own, on a disk with room for the import twice.
        schema: Of the source's transaction chunks.
        memory_limit_bytes: What DuckDB may use before it spills to the folder.
        overlap: Whether later files repeat rows of earlier ones.
    """

    def __init__(
        self, folder: Path, schema: pa.Schema, memory_limit_bytes: int, *, overlap: bool = False
    ) -> None:
        kept = [item for item in schema if item.name not in ("verdict", "label_received_at_us")]
        self._schema = pa.schema([*kept, pa.field("ordinal", pa.int64())])
        self._overlap = overlap
        self._compared = [item.name for item in kept]
        self._file_starts: list[tuple[int, str]] = []
        self._log_schema = pa.schema([*LOG_SCHEMA, *kept[len(ENTITY_COLUMNS) + 4 :]])
        self._folder = folder
        self._ordered = True
        self._latest_us = 0
        self._repeated = np.empty(0, np.int64)
        self._timeless = pa.table({"transaction_id": pa.array([], pa.string())})
        self._transactions = _Writer(folder / "transactions.parquet", self._schema)
        self._labels = _Writer(folder / "labels.parquet", _LABEL_STAGE_SCHEMA)
        self._known = _Writer(folder / "known.parquet", _KNOWN_SCHEMA)
        self._database = duckdb.connect(
            config={
                "memory_limit": f"{memory_limit_bytes // 1_000_000}MB",
                "temp_directory": str(folder / "spill"),
                "preserve_insertion_order": False,
                "threads": min(_THREADS, os.cpu_count() or 1),
            }
        )

    def close(self) -> None:
        """Close files and database; the folder may be deleted."""
        self._transactions.close()
        self._labels.close()
        self._known.close()
        self._database.close()

    def add_transactions(
        self,
        rows: pa.RecordBatch,
        ordinals: Ordinals,
        delay_us: int | None,
        origin: str,
        file: str = "",
    ) -> None:
        """Stage accepted transactions, and the labels that stand on their rows.

        Args:
            rows: Checked rows.
            ordinals: Place of each row in the source.
            delay_us: From event to label where a row does not say when its label arrived.
            origin: What the log says of where the labels come from.
            file: Where the rows come from.
        """
        if len(ordinals) and (not self._file_starts or self._file_starts[-1][1] != file):
            self._file_starts.append((int(ordinals[0]), file))
        received = pc.coalesce(rows.column("received_at_us"), rows.column("event_time_us"))
        columns = {name: rows.column(name) for name in rows.schema.names}
        columns |= {"received_at_us": received, "ordinal": pa.array(ordinals)}
        self._transactions.write(columns)
        times = received.to_numpy()
        if len(times):
            rising = bool((times[1:] >= times[:-1]).all())
            self._ordered = self._ordered and rising and int(times[0]) >= self._latest_us
            self._latest_us = int(times[-1])
        self._labels.write(_labels_on(rows, ordinals, delay_us, origin))

    def add_known(
        self,
        rows: pa.RecordBatch,
        ordinals: Ordinals,
        delay_us: int | None,
        origin: str,
        known_labels: Callable[[pa.Array], pa.Array | BoolMask] | None,
    ) -> int:
        """Stage the labels on rows of transactions that the ledger has already.

        Returns:
            How many of these labels the ledger has, too.
        """
        self._known.write({name: rows.column(name) for name in _KNOWN_SCHEMA.names})
        labels = _labels_on(rows, ordinals, delay_us, origin)
        if not len(labels["label_id"]) or known_labels is None:
            self._labels.write(labels)
            return 0
        seen = known_labels(labels["label_id"])
        there = mask_of(seen) if isinstance(seen, pa.Array) else np.asarray(seen, np.bool_)
        new = pa.array(~there)
        self._labels.write({name: column.filter(new) for name, column in labels.items()})
        return int(there.sum())

    def add_labels(self, rows: pa.RecordBatch, ordinals: Ordinals, origin: str) -> None:
        """Stage accepted labels of their own."""
        columns = {name: rows.column(name) for name in rows.schema.names}
        columns["origin"] = pc.fill_null(columns["origin"], origin)
        columns["of_row"] = pa.nulls(rows.num_rows, pa.int64())
        columns["ordinal"] = pa.array(ordinals)
        self._labels.write(columns)

    def seal(self, label_delay_us: int | None) -> tuple[dict[str, Ordinals], dict[str, Ordinals]]:
        """Finish staging: find what only shows when all rows are known.

        Args:
            label_delay_us: Arrival of labels of their own that name no time, counted from their
                transaction.

        Returns:
            Rejected transactions and rejected labels of their own, as ordinals by code.
        """
        for writer in (self._transactions, self._labels, self._known):
            writer.close()
        run = self._database.execute
        with _translated(self._folder):
            for name in ("transactions", "labels"):
                path = str(self._folder / f"{name}.parquet").replace("'", "''")
                run(f"CREATE VIEW {name}_staged AS FROM read_parquet('{path}')")
            path = str(self._folder / "known.parquet").replace("'", "''")
            run(f"CREATE VIEW known AS FROM read_parquet('{path}')")
            self._find_repeated("transactions", "transaction_id", "TRUE")
            self._find_overlapping()
            run(
                "CREATE VIEW transactions AS FROM transactions_staged "
                "ANTI JOIN transactions_repeated USING (ordinal)"
            )
            self._find_repeated("labels", "label_id", "of_row IS NULL")
            run(
                "CREATE TABLE labels AS FROM labels_staged "
                "WHERE CASE WHEN of_row IS NULL "
                "THEN ordinal NOT IN (SELECT ordinal FROM labels_repeated) "
                "ELSE of_row NOT IN (SELECT ordinal FROM transactions_repeated) END"
            )
            # What a repeated row says of its label may be new: it is kept once.
            run(
                "INSERT INTO labels FROM labels_staged "
                "WHERE of_row IN (SELECT ordinal FROM overlapping) "
                "AND label_id NOT IN (SELECT label_id FROM labels) "
                "QUALIFY row_number() OVER (PARTITION BY label_id ORDER BY ordinal) = 1"
            )
            if len(self._ordinals("labels WHERE received_at_us IS NULL")):
                for table in ("transactions", "known"):
                    run(
                        f"UPDATE labels SET received_at_us = t.event_time_us + $1 FROM {table} t "
                        "WHERE labels.received_at_us IS NULL "
                        "AND t.transaction_id = labels.transaction_id",
                        [label_delay_us or 0],
                    )
            timeless = self._ordinals("labels WHERE received_at_us IS NULL")
            self._timeless = self._database.execute(
                "SELECT transaction_id FROM labels WHERE received_at_us IS NULL ORDER BY ordinal"
            ).to_arrow_table()
            run("DELETE FROM labels WHERE received_at_us IS NULL")
            repeated = self._repeated = self._ordinals("transactions_repeated")
            overlapping = self._ordinals("overlapping")
            repeated_labels = self._ordinals("labels_repeated")
        return (
            {"duplicate_id": np.setdiff1d(repeated, overlapping), REPEATED: overlapping},
            {"duplicate_id": repeated_labels, "missing_time": timeless},
        )

    def _find_overlapping(self) -> None:
        """Of the repeated transactions those that are equal to a row of an earlier file."""
        if not self._overlap:
            self._database.execute("CREATE TABLE overlapping (ordinal BIGINT)")
            return
        starts = pa.table(
            {
                "start": pa.array([start for start, _ in self._file_starts], pa.int64()),
                "file": pa.array(range(len(self._file_starts)), pa.int64()),
            }
        )
        self._database.register("starts", starts)
        same = " AND ".join(
            f'a."{name.replace(chr(34), chr(34) * 2)}" IS NOT DISTINCT FROM '
            f'b."{name.replace(chr(34), chr(34) * 2)}"'
            for name in self._compared
        )
        self._database.execute(
            "CREATE TABLE overlapping AS WITH twice AS ("
            "SELECT t.*, s.file FROM (FROM transactions_staged WHERE transaction_id IN ("
            "SELECT transaction_id FROM transactions_staged "
            "SEMI JOIN transactions_repeated USING (ordinal))) t "
            "ASOF JOIN starts s ON t.ordinal >= s.start) "
            "SELECT DISTINCT a.ordinal FROM twice a "
            "JOIN transactions_repeated r ON r.ordinal = a.ordinal "
            f"JOIN twice b ON {same} AND b.file < a.file"
        )
        self._database.unregister("starts")

    def _find_repeated(self, table: str, key: str, where: str) -> None:
        """Exact, but only rows whose 64-bit hash is there twice are compared by text."""
        source = f"(FROM {table}_staged WHERE {where})"
        self._database.execute(
            f"CREATE TABLE {table}_repeated AS SELECT ordinal FROM ("
            f"SELECT ordinal, row_number() OVER (PARTITION BY {key} ORDER BY ordinal) AS place "
            f"FROM {source} WHERE hash({key}) IN "
            f"(SELECT hash({key}) FROM {source} GROUP BY 1 HAVING count(*) > 1)) "
            "WHERE place > 1"
        )

    def _ordinals(self, what: str) -> Ordinals:
        query = f"SELECT ordinal FROM {what} ORDER BY 1"
        found = self._database.execute(query).fetchnumpy()
        return np.asarray(found["ordinal"], np.int64)

    def summarise(self, report: ImportReport, now_us: int) -> int:
        """Fill in what the report says of labels and times; returns the entries of the log."""
        with _translated(self._folder):
            row = self._database.execute(
                "SELECT min(event_time_us), max(event_time_us), count(*) FROM transactions"
            ).fetchone()
            assert row is not None
            report.first_event_us, report.last_event_us, transactions = row
            row = self._database.execute(
                "SELECT count(*) FILTER (received_at_us <= $1), "
                "count(*) FILTER (received_at_us > $1), count(of_row) FROM labels",
                [now_us],
            ).fetchone()
            assert row is not None
            report.labels_accepted, report.labels_not_arrived, on_rows = row
            report.labels_read += on_rows
            row = self._database.execute(
                "SELECT count(*) FROM (SELECT transaction_id, "
                "arg_max(verdict, (received_at_us, of_row IS NULL, ordinal)) AS verdict "
                "FROM labels WHERE received_at_us <= $1 GROUP BY 1) "
                "SEMI JOIN transactions USING (transaction_id) WHERE verdict = 'fraud'",
                [now_us],
            ).fetchone()
            assert row is not None
            report.frauds = row[0]
        return int(transactions) + report.labels_accepted

    def unmatched(self, now_us: int) -> Iterator[pa.Array]:
        """Transaction ids of arrived labels of their own that no accepted transaction has.

        Those that have no arrival time, since it would be counted from their transaction, too.
        """
        yield from self._timeless.column(0).chunks
        with _translated(self._folder):
            reader = self._database.execute(
                "SELECT transaction_id FROM labels "
                "ANTI JOIN transactions USING (transaction_id) "
                "WHERE of_row IS NULL AND received_at_us <= $1 ORDER BY ordinal",
                [now_us],
            ).to_arrow_reader(_SORTED_ROWS)
            for batch in reader:
                yield batch.column(0)

    def nearly(self, ids: Sequence[str]) -> tuple[str, str] | None:
        """One of some unmatched ids that is nearly a transaction's, with that one; None if none."""
        label, transaction = ESSENCE_SQL.format("id"), ESSENCE_SQL.format("transaction_id")
        with _translated(self._folder):
            found = self._database.execute(
                "SELECT id, transaction_id FROM (SELECT unnest($1::VARCHAR[]) AS id) AS asked "
                f"JOIN transactions ON {transaction} = {label} WHERE {label} != '' LIMIT 1",
                [list(ids)],
            ).fetchone()
        return None if found is None else (str(found[0]), str(found[1]))

    def in_order(self, now_us: int, batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Transactions and arrived labels in log order, as log batches.

        Sorted by time of receipt; at the same time transactions before labels, and each in the
        order of the source. Transactions that came in order are not sorted again.
        """
        batches = self._merged(now_us, batch_rows) if self._ordered else self._sorted(now_us)
        with _translated(self._folder):
            yield from resized(batches, self._log_schema, batch_rows)

    def _sorted(self, now_us: int) -> Iterator[pa.RecordBatch]:
        query = (
            "SELECT * EXCLUDE (ordinal, of_row) FROM ("
            f"SELECT {KIND_TRANSACTION}::TINYINT AS kind, * FROM transactions "
            "UNION ALL BY NAME "
            f"SELECT {KIND_LABEL}::TINYINT AS kind, * FROM labels WHERE received_at_us <= $1) "
            "ORDER BY received_at_us, kind, of_row IS NULL, ordinal"
        )
        yield from self._database.execute(query, [now_us]).to_arrow_reader(_SORTED_ROWS)

    def _merged(self, now_us: int, batch_rows: int) -> Iterator[pa.RecordBatch]:
        labels = self._database.execute(
            f"SELECT {KIND_LABEL}::TINYINT AS kind, * EXCLUDE (ordinal, of_row) FROM labels "
            "WHERE received_at_us <= $1 ORDER BY received_at_us, of_row IS NULL, ordinal",
            [now_us],
        ).to_arrow_reader(_SORTED_ROWS)
        with pq.ParquetFile(self._folder / "transactions.parquet") as file:
            yield from merged(file.iter_batches(batch_rows), self._repeated, labels)


class _Writer:
    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._schema = schema
        self._path = path
        with _translated(path.parent):
            self._file = pq.ParquetWriter(path, schema, compression="lz4", use_dictionary=False)

    def write(self, columns: dict[str, pa.Array]) -> None:
        with _translated(self._path.parent):
            self._file.write_batch(
                pa.RecordBatch.from_arrays(
                    [columns[item.name] for item in self._schema], schema=self._schema
                )
            )

    def close(self) -> None:
        with _translated(self._path.parent):
            self._file.close()


def _labels_on(
    rows: pa.RecordBatch, ordinals: Ordinals, delay_us: int | None, origin: str
) -> dict[str, pa.Array]:
    """The labels that stand on the rows of transactions."""
    labelled = pc.is_valid(rows.column("verdict"))
    of_row = pa.array(ordinals).filter(labelled)
    arrival = rows.column("label_received_at_us").filter(labelled)
    if delay_us is not None:
        delayed = pc.add(rows.column("event_time_us").filter(labelled), delay_us)
        arrival = pc.coalesce(arrival, delayed)
    count = len(of_row)
    return with_label_ids(
        {
            "label_id": pa.nulls(count, pa.string()),
            "transaction_id": rows.column("transaction_id").filter(labelled),
            "verdict": rows.column("verdict").filter(labelled),
            "received_at_us": arrival,
            "origin": pa.array([origin] * count, pa.string()),
            "of_row": of_row,
            "ordinal": of_row,
        }
    )


def with_label_ids(columns: dict[str, pa.Array]) -> dict[str, pa.Array]:
    """Labels without an id get one made of what they say, the same in every import.

    >>> made = with_label_ids({"label_id": pa.nulls(1, pa.string()),
    ...                        "transaction_id": pa.array(["t1"]),
    ...                        "verdict": pa.array(["fraud"]), "received_at_us": pa.array([7])})
    >>> made["label_id"].to_pylist()
    ['t1:fraud:7']
    """
    if not columns["label_id"].null_count:
        return columns
    arrival = pc.fill_null(pc.cast(columns["received_at_us"], pa.string()), "")
    made = pc.binary_join_element_wise(columns["transaction_id"], columns["verdict"], arrival, ":")
    long = mask_of(pc.greater(pc.utf8_length(made), MAX_ID_LENGTH))
    if long.any():
        texts = made.to_pylist()
        for row in np.flatnonzero(long).tolist():
            texts[row] = hashlib.sha256(texts[row].encode()).hexdigest()
        made = pa.array(texts, pa.string())
    return columns | {"label_id": pc.coalesce(columns["label_id"], made)}


@contextmanager
def _translated(folder: Path) -> Iterator[None]:
    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise Unavailable(
            f"Bringing the log in order ran out of memory or disk at {folder}: {error}. "
            "Free some, or give another work folder."
        ) from error
    except (duckdb.IOException, OSError) as error:
        full = isinstance(error, OSError) and error.errno == errno.ENOSPC
        what = "The disk is full" if full else f"The work folder cannot be used ({error})"
        raise Unavailable(f"{what}: {folder}. Free some space, or give another folder.") from error
