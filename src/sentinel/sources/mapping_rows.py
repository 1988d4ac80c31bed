"""Raw rows to canonical rows, as a mapping says."""

from __future__ import annotations

from collections.abc import Mapping as MappingOf
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sentinel.domain import Verdict
from sentinel.ingest.tokens import card_part_columns
from sentinel.ingest.values import EXACT
from sentinel.log.schema import ATTRIBUTE_PREFIX
from sentinel.sources.amounts import read_amounts
from sentinel.sources.base import AttributeType, Chunk, Finding, canonical_rows
from sentinel.sources.columns import (
    address_column,
    category_column,
    id_column,
    joined_id,
    number_column,
)
from sentinel.sources.currencies import currencies_in, currency_of
from sentinel.sources.door import secret_columns, with_masks
from sentinel.sources.mapping_file import Mapping, several
from sentinel.sources.mapping_times import odd_times, read_times
from sentinel.sources.number_text import read_numbers
from sentinel.sources.observed import Kind, Observed
from sentinel.sources.readers import RawBlock, TableFile
from sentinel.sources.verdicts import outcome_column, verdict_column
from sentinel.sources.words import boolean_column, counted, nothing_words

OUTCOME_ATTRIBUTE: Final = "outcome_before"


class RowReader:
    """Turns the rows of a mapping's files into canonical chunks.

    Args:
        mapping: What is what.
        attribute_of: Column to the name of the attribute that it becomes.
        attributes: Attribute to its type, those that the mapping adds included.
        prefixes: Name of a file to what stands before its row numbers, where these are ids.
        money_columns: Columns that may hold currencies.
    """

    def __init__(
        self,
        mapping: Mapping,
        attribute_of: MappingOf[str, str],
        attributes: MappingOf[str, AttributeType],
        prefixes: MappingOf[str, str],
        money_columns: tuple[str, ...],
    ) -> None:
        self._mapping = mapping
        self._attribute_of = attribute_of
        self._attributes = attributes
        self._prefixes = prefixes
        self._money_columns = money_columns
        self._secret = secret_columns(mapping)
        declared = mapping.attributes.types
        self._booleans = {
            column
            for column, attribute in attribute_of.items()
            if "boolean" in (declared.get(column), declared.get(attribute))
        }

    def chunk(self, file: TableFile, block: RawBlock, schema: pa.Schema) -> Chunk:
        """The canonical rows of a block, with what is wrong and what was noticed.

        Args:
            file: Where the block comes from.
            block: Its rows.
            schema: Of the source's chunks.
        """
        mapping, rows = self._mapping, block.rows
        found: list[Finding] = []
        seen: list[Observed] = []
        out = {"transaction_id": self.ids(file, block)}
        out["event_time_us"], findings = read_times(rows, mapping.time, "time")
        found += findings
        seen += odd_times(out["event_time_us"], mapping.time)
        if mapping.received_at is not None:
            times, findings = read_times(rows, mapping.received_at, "received_at time")
            out["received_at_us"] = times
            found += findings
        self._amounts(out, rows, found, seen)
        for entity, columns in mapping.entities.columns().items():
            out[entity] = joined_id([rows.column(name) for name in columns])
            if entity == "ip_address":
                out[entity] = address_column(out[entity])
            for name in columns:
                said = counted(nothing_words(rows.column(name)))
                seen.append(
                    Observed(Kind.NOTHING_IN_ENTITY, name, said, rows.num_rows, becomes=entity)
                )
        self._card_parts(out)
        wrong_labels = self._labels(out, rows, seen)
        exact = self._attributes_into(out, rows, found, seen)
        return Chunk(
            file.name,
            block.row_numbers,
            canonical_rows(out, schema, rows.num_rows),
            with_masks(rows, self._secret),
            tuple(found),
            label_findings=wrong_labels,
            observed=tuple(seen),
            exact=exact,
        )

    def _card_parts(self, out: dict[str, pa.Array]) -> None:
        """The digits that stay of card numbers which become tokens."""
        for entity, key in self._mapping.entities.keys().items():
            if key.bin or key.last_four:
                first, last = card_part_columns(out[entity])
                for name, part in ((key.bin, first), (key.last_four, last)):
                    if name:
                        out[ATTRIBUTE_PREFIX + name] = part

    def ids(self, file: TableFile, block: RawBlock) -> pa.Array:
        """The transaction ids of a block."""
        table = self._mapping.id_table()
        if not table.row_number:
            return joined_id([block.rows.column(name) for name in several(table.column)])
        numbers = pc.cast(pa.array(block.row_numbers), pa.string())
        return pc.binary_join_element_wise(self._prefixes[file.name], numbers, "")

    def _amounts(
        self,
        out: dict[str, pa.Array],
        rows: pa.RecordBatch,
        found: list[Finding],
        seen: list[Observed],
    ) -> None:
        amount = self._mapping.amount
        if amount.column is None:
            out["amount_minor"] = pa.array(np.zeros(rows.num_rows, np.int64))
            return
        read = read_amounts(
            rows.column(amount.column),
            scale=amount.scale,
            minor=amount.unit == "minor",
            decimal_point=amount.decimal,
            thousands=amount.thousands,
            rates=self._rates(rows),
            rateless_because=lambda row: self._rateless_because(rows, row),
        )
        out["amount_minor"] = read.minor
        found += read.findings
        if amount.currency is not None or amount.rates or amount.rate_column is not None:
            return
        for name in self._money_columns:
            if name in rows.schema.names:
                kinds = currencies_in(name, rows.column(name))
                seen.append(Observed(Kind.CURRENCY, f"the column {name!r}", kinds, rows.num_rows))
        if read.money is not None:
            kinds = {currency_of(word): rows for word, rows in counted(read.money).items()}
            if kinds:
                place = f"the column {amount.column!r}"
                seen.append(Observed(Kind.CURRENCY, place, kinds, rows.num_rows))

    def _rates(self, rows: pa.RecordBatch) -> npt.NDArray[np.float64] | None:
        """What one unit of each row's money is worth; None where all is one currency."""
        amount = self._mapping.amount
        if amount.rate_column is not None:
            rates, _ = number_column(rows.column(amount.rate_column))
        elif amount.rates and amount.currency_column is not None:
            codes = pc.utf8_upper(category_column(rows.column(amount.currency_column)))
            worth = {code.strip().upper(): rate for code, rate in amount.rates.items()}
            places = pc.index_in(codes, pa.array(list(worth), pa.string()))
            rates = pa.array(list(worth.values()), pa.float64()).take(places)
        else:
            return None
        given = pc.fill_null(rates, float("nan")).to_numpy(zero_copy_only=False)
        return np.asarray(given, np.float64)

    def _rateless_because(self, rows: pa.RecordBatch, row: int) -> str:
        """Why the money of a row has no rate, and what would give it one."""
        amount = self._mapping.amount
        column = amount.rate_column or amount.currency_column or ""
        given = rows.column(column)[row].as_py()
        said = "nothing" if given is None else repr(given)
        if amount.rate_column is not None:
            return f"{column!r} holds {said} where a number above 0 is needed"
        rates = ", ".join(amount.rates)
        return f"{column!r} holds {said}, and amount.rates has {rates}"

    def _labels(
        self, out: dict[str, pa.Array], rows: pa.RecordBatch, seen: list[Observed]
    ) -> tuple[Finding, ...]:
        """The labels on the rows; what is wrong with them is no matter of the payments."""
        labels = self._mapping.labels
        if labels is None or labels.path is not None or labels.column is None:
            return ()
        verdicts, findings, observed = verdict_column(
            rows.column(labels.column),
            fraud=labels.fraud_values,
            legitimate=labels.legitimate_values,
            undecided=labels.undecided_values,
            name=labels.column,
        )
        seen += observed
        if not labels.record_legitimate:
            fraud = pc.equal(verdicts, Verdict.FRAUD.value)
            verdicts = pc.if_else(fraud, verdicts, pa.scalar(None, pa.string()))
        out["verdict"] = verdicts
        if labels.arrival is None:
            return findings
        arrivals, late = read_times(rows, labels.arrival, "arrival time of the label")
        out["label_received_at_us"] = arrivals
        given = np.asarray(pc.is_valid(verdicts).to_numpy(zero_copy_only=False), np.bool_)
        return (*findings, *(Finding(f.code, f.rows & given, f.reason) for f in late))

    def _attributes_into(
        self,
        out: dict[str, pa.Array],
        rows: pa.RecordBatch,
        found: list[Finding],
        seen: list[Observed],
    ) -> dict[str, pa.Array]:
        """Put the attributes into ``out``; gives the texts of numbers that lose digits."""
        exact: dict[str, pa.Array] = {}
        for column, attribute in self._attribute_of.items():
            if column not in rows.schema.names:
                continue
            values, target = rows.column(column), ATTRIBUTE_PREFIX + attribute
            if column in self._booleans:
                out[target], strange = boolean_column(values)
                seen.append(Observed(Kind.UNKNOWN_BOOLEAN, column, strange, rows.num_rows))
            elif self._attributes[attribute] == "category":
                out[target] = category_column(values)
            else:
                out[target] = self._numbers(column, values, found, seen)
                texts = _with_lost_digits(values, out[target])
                if texts is not None:
                    exact[attribute] = texts
        for attribute, times in self._mapping.attributes.times.items():
            moments, findings = read_times(rows, times, attribute)
            seconds = pc.divide(
                pc.cast(pc.subtract(out["event_time_us"], moments), pa.float64()), 1e6
            )
            out[ATTRIBUTE_PREFIX + attribute] = seconds
            for finding in findings:
                name = times.columns[0]
                bad = rows.column(name).filter(pa.array(finding.rows))
                said = counted(pc.cast(bad, pa.string()))
                seen.append(
                    Observed(Kind.TIME_UNREADABLE, name, said, rows.num_rows, becomes=attribute)
                )
        outcome = self._mapping.outcome
        if outcome is not None:
            decided, observed = outcome_column(rows.column(outcome.column), outcome)
            out[ATTRIBUTE_PREFIX + OUTCOME_ATTRIBUTE] = decided
            seen += observed
        return exact

    def _numbers(
        self, column: str, values: pa.Array, found: list[Finding], seen: list[Observed]
    ) -> pa.Array:
        table = self._mapping.attributes
        numbers, bad = read_numbers(values, table.decimal, table.thousands)
        if not bad.any():
            return numbers
        words = nothing_words(values)
        unknown = np.asarray(pc.is_valid(words).to_numpy(zero_copy_only=False), np.bool_)
        if unknown.any():
            seen.append(Observed(Kind.NOTHING_IN_NUMBER, column, counted(words), len(values)))
            bad &= ~unknown
        if bad.any():
            reason = (
                f"the attribute {column!r} is a number by its first rows, but not here; "
                f'set attributes.types: {column} = "category"'
            )
            point = "," if table.decimal == "." else "."
            if not read_numbers(values.filter(pa.array(bad)), point)[1].all():
                reason += f', or attributes.decimal = "{point}" if numbers are written so'
            found.append(Finding("invalid_attribute", bad, reason))
        return numbers


def _with_lost_digits(values: pa.Array, numbers: pa.Array) -> pa.Array | None:
    """The texts of values that a double does not keep, null elsewhere; None if all are kept."""
    if pa.types.is_floating(values.type) or pa.types.is_null(values.type):
        return None
    lost = pc.greater_equal(pc.abs(numbers), pa.scalar(float(EXACT)))
    if not pc.any(lost).as_py():
        return None
    nothing = pa.scalar(None, pa.string())
    return pc.if_else(pc.fill_null(lost, False), id_column(values), nothing)
