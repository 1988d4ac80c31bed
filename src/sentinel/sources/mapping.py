"""Any CSV or Parquet table as a source, by a mapping file that says which column is what."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import Final

import pyarrow as pa

from sentinel.domain import ENTITY_COLUMNS
from sentinel.ingest.names import secret_of
from sentinel.log.schema import ATTRIBUTE_PREFIX
from sentinel.sources.attributes import choose_attributes, infer_types
from sentinel.sources.base import (
    DAY_US,
    DEFAULT_CHUNK_ROWS,
    Chunk,
    ColumnUse,
    Description,
    Source,
    check_attribute_names,
    transaction_schema,
)
from sentinel.sources.columns import is_text
from sentinel.sources.currencies import currencies_in, is_currency_name
from sentinel.sources.door import (
    OWN_FIELDS,
    card_columns,
    check_columns,
    check_tokens,
    fields_of,
    secret_columns,
    with_masks,
)
from sentinel.sources.labels_file import (
    describe_labels,
    label_files,
    require_columns,
)
from sentinel.sources.mapping_file import (
    AttributesTable,
    Mapping,
    TimeColumn,
    load_mapping,
    several,
    suggestion,
)
from sentinel.sources.mapping_rows import OUTCOME_ATTRIBUTE, RowReader
from sentinel.sources.mapping_times import time_note
from sentinel.sources.readers import TableFile, columns_of, find_files, malformed_chunk

_BY_ATTRIBUTE: Final = ("attributes.types", "attributes.tokenize", "attributes.exempt")
_SAMPLE_ROWS: Final = 10_000
_LATER_FILES: Final = 10  # files after the first that a sample looks into
_WHOLE_ROWS: Final = 200
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
        self.overlap = mapping.files.overlap
        check_tokens(mapping, mapping.name)
        files = mapping.files
        paths = [folder / path for path in several(files.path)]
        self._files = find_files(paths, files.format, files.layout())
        columns = columns_of(self._files)
        self._types = dict(columns.types)
        self._full_files = columns.files
        self._core = self._core_columns()
        shown = next(iter(columns.files), self._files[0])
        require_columns(list(self._core), [*self._types], shown.name, file=shown)
        self._warnings: list[str] = list(columns.warnings)
        table = mapping.attributes
        self._attribute_of, self._unusable = choose_attributes(table, self._types, self._core)
        check_columns([*self._core, *self._attribute_of], mapping.name)
        self._leave_out_cards()
        self.token_fields = fields_of(mapping, self._attribute_of)
        self.no_cards = self._exempt()
        made = [name for f in self.token_fields.values() for name in (f.bin, f.last_four) if name]
        added = [*made, *table.times, *([OUTCOME_ATTRIBUTE] if mapping.outcome is not None else [])]
        check_attribute_names([*self._attribute_of.values(), *added])
        self.attributes, otherwise = infer_types(
            table, self._attribute_of, self._types, self._full_files
        )
        self._warnings += [_other_point(column, table) for column in otherwise]
        for name in added:
            words = name == OUTCOME_ATTRIBUTE or name in made
            self.attributes[name] = "category" if words else "number"
        for field in self.token_fields:
            if field.startswith(ATTRIBUTE_PREFIX):
                self.attributes[field.removeprefix(ATTRIBUTE_PREFIX)] = "category"
        self._money_columns = self._may_hold_money()
        self._labels = label_files(mapping, folder)
        if self._labels is not None:
            self._warnings += [f"labels: {each}" for each in self._labels.describe().warnings]
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
        reader = self._reader()
        for file in self._full_files:
            yield from self._chunks_of(file, reader, chunk_rows)
        if self._labels is not None:
            yield from self._labels.raw_batches(chunk_rows)

    def sample_batches(self, rows: int, labels: int) -> Iterator[Chunk]:
        """The first rows, some rows of later files, and the first labels of their own."""
        reader = self._reader()
        left = rows
        rest = list(self._full_files)
        while rest and left > 0:
            for chunk in self._chunks_of(rest.pop(0), reader, rows):
                yield chunk
                left -= chunk.rows.num_rows
                if left <= 0:
                    break
        for file in rest[:: max(1, len(rest) // _LATER_FILES)]:
            yield from islice(self._chunks_of(file, reader, rows // _LATER_FILES), 1)
        if self._labels is not None:
            yield from self._labels.sample_batches(rows, labels)

    def whole_rows(self) -> Iterator[pa.RecordBatch]:
        """The first rows of the first files, with all columns."""
        for file in self._full_files[:_LATER_FILES]:
            for block in islice(file.blocks(_WHOLE_ROWS), 1):
                unshown = [name for name in block.rows.schema.names if secret_of(name)]
                yield with_masks(block.rows, [*secret_columns(self.mapping), *unshown])

    def all_ids(self) -> Iterator[pa.Array]:
        """The ids of all transactions; no other column is looked at."""
        reader = self._reader()
        columns = list(several(self.mapping.id_table().column)) or [*self._core][:1]
        for file in self._full_files:
            for block in file.blocks(DEFAULT_CHUNK_ROWS, columns):
                if block.rows.num_rows:
                    yield reader.ids(file, block)

    def _reader(self) -> RowReader:
        return RowReader(
            self.mapping,
            self._attribute_of,
            self.attributes,
            _prefixes(self.mapping, self._full_files),
            self._money_columns,
        )

    def _chunks_of(self, file: TableFile, reader: RowReader, chunk_rows: int) -> Iterator[Chunk]:
        schema = transaction_schema(self.attributes)
        there = file.schema().names
        require_columns(list(self._core), there, file.name, file=file)
        wanted = dict.fromkeys([*self._core, *self._attribute_of, *self._money_columns])
        for block in file.blocks(chunk_rows, [name for name in wanted if name in there]):
            broken = malformed_chunk(file, block, schema)
            if broken is not None:
                yield broken
            if block.rows.num_rows:
                yield reader.chunk(file, block, schema)

    def _leave_out_cards(self) -> None:
        """Keep no attribute whose values are card numbers, and say so."""
        table = self.mapping.attributes
        allowed = {*table.tokenize, *table.exempt}
        asked = [c for c, a in self._attribute_of.items() if not allowed & {c, a}]
        for file in self._full_files[:1]:
            there = [name for name in asked if name in file.schema().names]
            sample = next(file.blocks(_SAMPLE_ROWS, there), None) if there else None
            for name in card_columns(sample.rows) if sample is not None else ():
                del self._attribute_of[name]
                self._unusable[name] = "not used: raw card numbers"
                self._warnings.append(
                    f"the column {name!r} holds raw card numbers and is left out: name it in "
                    "attributes.tokenize, or make it the card_id with tokenize = true; if these "
                    "are no card numbers, name it in attributes.exempt"
                )

    def _exempt(self) -> frozenset[str]:
        """Fields whose values look like card numbers and are none."""
        found: set[str] = set()
        for name in self.mapping.attributes.exempt:
            becomes = self._core.get(name, ("", ""))[0].split(", ")
            found.update(field for field in becomes if field in OWN_FIELDS)
            found.add(ATTRIBUTE_PREFIX + self._attribute_of.get(name, name))
        return frozenset(found)

    def _may_hold_money(self) -> tuple[str, ...]:
        """Columns that may say of which currency the amounts are."""
        amount = self.mapping.amount
        if amount.column is None or amount.currency is not None:
            return ()
        if amount.currency_column is not None:
            return (amount.currency_column,)
        named = [name for name in self._types if is_currency_name(name)]
        texts = [n for n, kind in self._types.items() if is_text(kind) and n not in self._core]
        for file in self._full_files[:1]:
            there = [name for name in texts if name in file.schema().names]
            sample = next(file.blocks(10_000, there), None) if there else None
            if sample is not None:
                named += [name for name in there if currencies_in(name, sample.rows.column(name))]
        return tuple(dict.fromkeys(named))

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

        def add_time(time: TimeColumn | None, target: str) -> None:
            if time is None:
                return
            for column in time.columns:
                add(column, target, time_note(time))
            if time.offset_column is not None:
                add(time.offset_column, target, "hours from UTC")

        ids = several(mapping.id_table().column)
        for column in ids:
            add(column, "transaction_id", "joined" if len(ids) > 1 else "")
        add_time(mapping.time, "event_time_us")
        add_time(mapping.received_at, "received_at_us")
        amount = mapping.amount
        if amount.column is not None:
            add(amount.column, "amount_minor", f"{amount.unit} units, {amount.scale} decimals")
        if amount.rate_column is not None:
            add(amount.rate_column, "amount_minor", "the rate")
        if amount.currency_column is not None and amount.rates:
            add(amount.currency_column, "amount_minor", "the currency of the rate")
        for entity, columns in mapping.entities.columns().items():
            for column in columns:
                add(column, entity, "joined" if len(columns) > 1 else "")
        for attribute, time in mapping.attributes.times.items():
            add_time(time, ATTRIBUTE_PREFIX + attribute)
        if mapping.outcome is not None:
            add(mapping.outcome.column, ATTRIBUTE_PREFIX + OUTCOME_ATTRIBUTE, "decided before")
        labels = mapping.labels
        if labels is not None and labels.path is None:
            add(labels.column or "", "verdict")
            add_time(labels.arrival, "label_received_at_us")
        return core

    def _warn(self) -> None:
        table, columns = self.mapping.attributes, list(self._types)
        for what, names in (
            ("attributes.include", table.include),
            ("attributes.exclude", table.exclude),
            ("attributes.types", tuple(table.types)),
            ("attributes.rename", tuple(table.rename)),
            ("attributes.tokenize", table.tokenize),
            ("attributes.exempt", table.exempt),
        ):
            for name in names:
                known = name in self.attributes and what in _BY_ATTRIBUTE
                if name != "*" and not known and not any(fnmatchcase(c, name) for c in columns):
                    hint = suggestion(name, columns)
                    self._warnings.append(f"{what}: there is no column {name!r}{hint}")
        mapped = self.mapping.entities.columns()
        free = [name for name in columns if name not in self._core]
        missing = [f"{e}{suggestion(e, free)}" for e in ENTITY_COLUMNS if e not in mapped]
        if missing:
            self._warnings.append(f"no column is the {', '.join(missing)}")
        for column in self._attribute_of:
            if column not in self._core and any(word in column.lower() for word in _TELLTALE):
                self._warnings.append(
                    f"the attribute {column!r} sounds like the truth about a payment; exclude it "
                    "unless it is known at the time of the payment"
                )
        if self.mapping.labels is None:
            self._warnings.append("there are no labels: models need some to learn from")


def _other_point(column: str, table: AttributesTable) -> str:
    """What is to be said of text that would be numbers with another decimal point."""
    found, declared = (",", ".") if table.decimal == "." else (".", table.decimal)
    return (
        f"the attribute {column!r} is taken for words: its numbers have {found!r} where "
        f"attributes.decimal is {declared!r}; if all numbers of the file do, set "
        f'attributes.decimal = "{found}"'
    )


def _prefixes(mapping: Mapping, files: Sequence[TableFile]) -> dict[str, str]:
    """What stands before the row numbers of each file, where these are the ids."""
    table = mapping.id_table()
    if not table.row_number:
        return {}
    stems = {file.name: re.sub(r"\.[^/]*$", "", file.name).replace("/", "-") for file in files}
    if len(set(stems.values())) < len(stems):
        stems = {name: name.replace("/", "-") for name in stems}
    if table.prefix is None:
        return {name: f"{stem}-" for name, stem in stems.items()}
    if len(files) == 1:
        return dict.fromkeys(stems, table.prefix)
    return {name: f"{table.prefix}{stem}-" for name, stem in stems.items()}
