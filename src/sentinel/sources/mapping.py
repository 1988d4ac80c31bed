"""Any CSV or Parquet table as a source, by a mapping file that says which column is what."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from sentinel.domain import ENTITY_COLUMNS, ConfigurationError, Verdict
from sentinel.schema import ATTRIBUTE_PREFIX
from sentinel.sources.amounts import amount_column
from sentinel.sources.attributes import choose_attributes, infer_types
from sentinel.sources.base import (
    DAY_US,
    DEFAULT_CHUNK_ROWS,
    Chunk,
    ColumnUse,
    Description,
    Finding,
    Source,
    canonical_rows,
    check_attribute_names,
    transaction_schema,
)
from sentinel.sources.columns import address_column, category_column, joined_id, number_column
from sentinel.sources.labels_file import (
    LabelsFileSource,
    describe_labels,
    require_columns,
    verdict_column,
)
from sentinel.sources.mapping_file import (
    Mapping,
    TimeColumn,
    load_mapping,
    several,
    suggestion,
)
from sentinel.sources.readers import RawBlock, TableFile, columns_of, find_files, malformed_chunk
from sentinel.sources.times import time_column

_TELLTALE: Final = ("fraud", "chargeback", "dispute", "label", "verdict")


class MappingSource(Source):
    """A table (one file, a folder or a glob) read as a mapping says.

    Args:
        mapping: What is what.
        folder: Where relative paths begin.

    Raises:
        ConfigurationError: Files or columns are missing, or names clash.
    """

    def __init__(self, mapping: Mapping, folder: Path) -> None:
        self.mapping = mapping
        self.name = mapping.name
        self.scale = mapping.amount.scale
        _refuse_inactive(mapping)
        files = mapping.files
        paths = [folder / path for path in several(files.path)]
        self._files = find_files(paths, files.format, files.layout())
        columns = columns_of(self._files)
        self._types = dict(columns.types)
        self._full_files = columns.files
        self._core = self._core_columns()
        require_columns(list(self._core), [*self._types], self._files[0].name)
        self._warnings: list[str] = list(columns.warnings)
        table = mapping.attributes
        self._attribute_of, self._unusable = choose_attributes(table, self._types, self._core)
        check_attribute_names(list(self._attribute_of.values()))
        self.attributes = infer_types(table, self._attribute_of, self._types, self._full_files)
        self._labels = self._label_files(folder)
        labels = mapping.labels
        if labels is not None:
            self.label_origin = labels.origin
            if labels.delay_days is not None:
                self.label_delay_us = round(labels.delay_days * DAY_US)
        self._warn()

    @classmethod
    def from_file(cls, path: Path | str) -> MappingSource:
        """The source of a mapping file; paths in it are relative to it."""
        path = Path(path)
        return cls(load_mapping(path), path.parent)

    def describe(self) -> Description:
        """What each column became, and what looks odd."""
        becomes = {name: (target, note) for name, (target, note) in self._core.items()}
        for column, attribute in self._attribute_of.items():
            kind = self.attributes[attribute]
            target, note = becomes.get(column, ("", ""))
            both = ", ".join(filter(None, (target, ATTRIBUTE_PREFIX + attribute)))
            becomes[column] = (both, ", ".join(filter(None, (note, kind))))
        uses = tuple(
            ColumnUse(
                name, str(kind), *becomes.get(name, ("", self._unusable.get(name, "not used")))
            )
            for name, kind in self._types.items()
        )
        return Description(
            self.name,
            tuple(str(file.path) for file in self._files),
            uses,
            describe_labels(self.mapping.labels),
            warnings=tuple(self._warnings),
        )

    def row_count(self) -> int | None:
        """Rows of all files; of CSV files an estimate."""
        counts = [file.row_count() for file in self._files]
        known = [count for count in counts if count is not None]
        return sum(known) if len(known) == len(counts) else None

    def raw_batches(self, chunk_rows: int = DEFAULT_CHUNK_ROWS) -> Iterator[Chunk]:
        """The rows of all files, file by file; then the labels' own files."""
        schema = transaction_schema(self.attributes)
        for file in self._full_files:
            there = file.schema().names
            require_columns(list(self._core), there, file.name)
            wanted = dict.fromkeys([*self._core, *self._attribute_of])
            for block in file.blocks(chunk_rows, [name for name in wanted if name in there]):
                broken = malformed_chunk(file, block, schema)
                if broken is not None:
                    yield broken
                if block.rows.num_rows:
                    yield self._chunk(file, block, schema)
        if self._labels is not None:
            yield from self._labels.raw_batches(chunk_rows)

    def _core_columns(self) -> dict[str, tuple[str, str]]:
        """Columns that the mapping names: what they become, and a note."""
        mapping = self.mapping
        core: dict[str, tuple[str, str]] = {}

        def add(column: str, target: str, note: str = "") -> None:
            before, old = core.get(column, ("", ""))
            core[column] = (
                ", ".join(filter(None, (before, target))),
                ", ".join(filter(None, (old, note))),
            )

        for column in several(mapping.id_table().column):
            add(column, "transaction_id")
        add(mapping.time.columns[0], "event_time_us", _time_note(mapping.time))
        if mapping.received_at:
            add(mapping.received_at.columns[0], "received_at_us", _time_note(mapping.received_at))
        add(
            mapping.amount.column or "",
            "amount_minor",
            f"{mapping.amount.unit} units, {mapping.amount.scale} decimals",
        )
        for entity, columns in mapping.entities.columns().items():
            for column in columns:
                add(column, entity, "joined" if len(columns) > 1 else "")
        labels = mapping.labels
        if labels is not None and labels.path is None:
            add(labels.column or "", "verdict")
            if labels.arrival is not None:
                add(labels.arrival.columns[0], "label_received_at_us", _time_note(labels.arrival))
        return core

    def _label_files(self, folder: Path) -> LabelsFileSource | None:
        labels = self.mapping.labels
        if labels is None or labels.path is None or labels.format == "json_map":
            return None
        paths = [folder / path for path in several(labels.path)]
        files = find_files(paths, labels.format, labels.layout())
        return LabelsFileSource(files, labels, f"{self.name} labels")

    def _warn(self) -> None:
        table, columns = self.mapping.attributes, list(self._types)
        for what, names in (
            ("attributes.include", table.include),
            ("attributes.exclude", table.exclude),
            ("attributes.types", tuple(table.types)),
            ("attributes.rename", tuple(table.rename)),
        ):
            for name in names:
                known = name in self.attributes and what == "attributes.types"
                if name != "*" and not known and not any(fnmatchcase(c, name) for c in columns):
                    hint = suggestion(name, columns)
                    self._warnings.append(f"{what}: there is no column {name!r}{hint}")
        mapped = self.mapping.entities.columns()
        for entity in ENTITY_COLUMNS:
            if entity not in mapped:
                hint = suggestion(entity, [name for name in columns if name not in self._core])
                self._warnings.append(f"no column is the {entity}{hint}")
        for column in self._attribute_of:
            if column not in self._core and any(word in column.lower() for word in _TELLTALE):
                self._warnings.append(
                    f"the attribute {column!r} sounds like the truth about a payment; exclude it "
                    "unless it is known at the time of the payment"
                )
        if self.mapping.labels is None:
            self._warnings.append("there are no labels: models need some to learn from")

    def _chunk(self, file: TableFile, block: RawBlock, schema: pa.Schema) -> Chunk:
        mapping, rows = self.mapping, block.rows
        found: list[Finding] = []

        def times(column: TimeColumn, what: str) -> pa.Array:
            values, findings = time_column(
                rows.column(column.columns[0]),
                what=what,
                layout=str(column.format),
                unit=column.unit or "s",
                timezone=column.timezone,
            )
            found.extend(findings)
            return values

        out = {
            "transaction_id": joined_id(
                [rows.column(name) for name in several(mapping.id_table().column)]
            ),
            "event_time_us": times(mapping.time, "time"),
        }
        if mapping.received_at is not None:
            out["received_at_us"] = times(mapping.received_at, "received_at time")
        out["amount_minor"], findings = amount_column(
            rows.column(mapping.amount.column or ""),
            scale=mapping.amount.scale,
            minor=mapping.amount.unit == "minor",
            decimal_point=mapping.amount.decimal,
            thousands=mapping.amount.thousands,
        )
        found.extend(findings)
        for entity, columns in mapping.entities.columns().items():
            out[entity] = joined_id([rows.column(name) for name in columns])
        if "ip_address" in out:
            out["ip_address"] = address_column(out["ip_address"])
        labels = mapping.labels
        if labels is not None and labels.path is None and labels.column is not None:
            verdicts, findings = verdict_column(
                rows.column(labels.column),
                fraud=labels.fraud_values,
                legitimate=labels.legitimate_values,
            )
            found.extend(findings)
            if not labels.record_legitimate:
                fraud = pc.equal(verdicts, Verdict.FRAUD.value)
                verdicts = pc.if_else(fraud, verdicts, pa.scalar(None, pa.string()))
            out["verdict"] = verdicts
            if labels.arrival is not None:
                out["label_received_at_us"] = times(labels.arrival, "arrival time of the label")
        found.extend(self._attributes_into(out, rows))
        canonical = canonical_rows(out, schema, rows.num_rows)
        return Chunk(file.name, block.row_numbers, canonical, rows, tuple(found))

    def _attributes_into(self, out: dict[str, pa.Array], rows: pa.RecordBatch) -> Iterator[Finding]:
        for column, attribute in self._attribute_of.items():
            if column not in rows.schema.names:
                continue
            target = ATTRIBUTE_PREFIX + attribute
            if self.attributes[attribute] == "category":
                out[target] = category_column(rows.column(column))
                continue
            out[target], bad = number_column(rows.column(column))
            if bad.any():
                yield Finding(
                    "invalid_attribute",
                    bad,
                    f"the attribute {column!r} is a number by its first rows, but not here; "
                    f'set attributes.types: {column} = "category"',
                )


def _refuse_inactive(mapping: Mapping) -> None:
    """Refuse keys of the mapping that are declared, and that nothing obeys yet."""
    table, amount, attributes = mapping.id_table(), mapping.amount, mapping.attributes
    times = [mapping.time, mapping.received_at, mapping.labels and mapping.labels.arrival]
    keys = mapping.entities.keys().values()
    given = {
        "id.row_number": table.row_number,
        "tokenize": table.tokenize or attributes.tokenize or any(key.tokenize for key in keys),
        "bin and last_four": any(key.bin or key.last_four for key in keys),
        "attributes.exempt": attributes.exempt,
        "attributes.times": attributes.times,
        "files.overlap": mapping.files.overlap,
        "a time of several columns": any(t and len(t.columns) > 1 for t in times),
        "time.start": any(t and t.start for t in times),
        "time.offset_column": any(t and t.offset_column for t in times),
        "amount.none": amount.none,
        "currencies": amount.currency or amount.currency_column or amount.rate_column,
        "the type boolean": "boolean" in attributes.types.values(),
        "outcome": mapping.outcome,
        "labels.format json_map": mapping.labels and mapping.labels.format == "json_map",
    }
    for key, value in given.items():
        if value:
            raise ConfigurationError(f"{key} is declared, but not active yet.")


def _time_note(column: TimeColumn) -> str:
    layout = f"{column.unit or 's'} since 1970" if column.format == "epoch" else column.format
    return f"{layout}, {column.timezone} unless it says otherwise"
