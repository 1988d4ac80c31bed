"""Tokens and masks for the rows of an import: what raw ids become before anything is kept."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping as MappingOf
from dataclasses import replace
from typing import Final

import numpy as np
import pyarrow as pa

from sentinel.domain import ENTITY_COLUMNS, ConfigurationError
from sentinel.ingest.card_columns import shaped_and_right
from sentinel.ingest.cards import card_digits
from sentinel.ingest.columns import category_column, id_column, id_flaws, is_text, text_flaws
from sentinel.ingest.guard import Guard
from sentinel.ingest.names import secret_of, shown_name
from sentinel.ingest.tokens import TokenField, is_token
from sentinel.log.schema import ATTRIBUTE_PREFIX
from sentinel.sources.base import Chunk, Finding
from sentinel.sources.mapping_file import Mapping, several

OWN_FIELDS: Final = ("transaction_id", *ENTITY_COLUMNS)
_NEARLY_ALL: Final = 0.9
_COMPARED: Final = 1_000


def with_tokens(chunk: Chunk, guard: Guard) -> Chunk:
    """A chunk with the tokens of all fields that the deployment tokenises.

    Args:
        chunk: Canonical rows with raw ids.
        guard: Of the deployment.

    Raises:
        ConfigurationError: An attribute is to be tokenised and is read as a number.
    """
    rows = chunk.rows
    columns = dict(zip(rows.schema.names, rows.columns, strict=True))
    fields = [name for name in guard.fields if name in columns]
    if not fields:
        return chunk
    raw = chunk.raw if chunk.raw is not None else rows
    found: list[Finding] = []
    for name in fields:
        values = columns[name]
        if not is_text(values.type):
            raise ConfigurationError(
                f"{name} is to be tokenised, but was read as a number. Set "
                f'attributes.types: {name.removeprefix(ATTRIBUTE_PREFIX)} = "category".'
            )
        flaws = id_flaws(values) if name in OWN_FIELDS else text_flaws(values)
        found += [Finding(flaw.code, bad, f"the {name} {flaw.message}") for flaw, bad in flaws]
        raw = with_masks(raw, _same(raw, values))
        columns[name] = guard.tokens_of(values)
    made = pa.RecordBatch.from_arrays(list(columns.values()), schema=rows.schema)
    return replace(chunk, rows=made, raw=raw, findings=(*chunk.findings, *found))


def _same(raw: pa.RecordBatch, values: pa.Array) -> list[str]:
    """Columns of the source that hold the values of a field."""
    return [
        name
        for name, column in zip(raw.schema.names, raw.columns, strict=True)
        if is_text(column.type) or pa.types.is_integer(column.type)
        if id_column(column.slice(0, _COMPARED)).equals(values.slice(0, _COMPARED))
    ]


def with_masks(rows: pa.RecordBatch, fields: Iterable[str]) -> pa.RecordBatch:
    """Rows with masks instead of the values of some columns, to be shown to people.

    >>> rows = pa.RecordBatch.from_pydict({"card": ["4111 1111 1111 1111", "c-7", None]})
    >>> with_masks(rows, ["card"]).column("card").to_pylist()
    ['411111******1111', '***', None]
    """
    names = [name for name in dict.fromkeys(fields) if name in rows.schema.names]
    for name in names:
        at = rows.schema.get_field_index(name)
        encoded = id_column(rows.column(at)).dictionary_encode()
        shown = pa.array([mask_of_id(text) for text in encoded.dictionary.to_pylist()], pa.string())
        rows = rows.set_column(at, pa.field(name, pa.string()), shown.take(encoded.indices))
    return rows


def mask_of_id(text: str) -> str:
    """What may be shown of an id that is kept as a token.

    >>> mask_of_id("4111-1111-1111-1111"), mask_of_id("676770000018"), mask_of_id("a@b.example")
    ('411111******1111', '********0018', '***')
    """
    if is_token(text):
        return text
    digits = card_digits(text)
    if digits is None:
        return "***"
    first = digits[:6] if len(digits) >= 13 else ""
    return first + "*" * (len(digits) - len(first) - 4) + digits[-4:]


def card_columns(sample: pa.RecordBatch) -> list[str]:
    """Columns whose values nearly all are card numbers, or mention one.

    Args:
        sample: First rows of a table.

    >>> cards = ["paid with 4111111111111111", "5555 5555 5555 4444"]
    >>> card_columns(pa.RecordBatch.from_pydict({"note": cards, "n": [1, 2]}))
    ['note']
    """
    found = []
    for name, column in zip(sample.schema.names, sample.columns, strict=True):
        kind = column.type
        if not (is_text(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            continue
        texts = category_column(column)
        given = len(texts) - texts.null_count
        right = shaped_and_right(texts)[1]
        if given and np.count_nonzero(right) >= _NEARLY_ALL * given:
            found.append(name)
    return found


def check_columns(columns: Iterable[str], where: str) -> None:
    """Raise ``ConfigurationError`` if a column that is read holds a secret by its name.

    Args:
        columns: Columns of the source.
        where: Name of the source or file, for the message.
    """
    secret = {name: holds for name in columns if (holds := secret_of(name)) is not None}
    if secret:
        each = ", ".join(f"{shown_name(name)!r} ({holds})" for name, holds in secret.items())
        names = ", ".join(f'"{shown_name(name)}"' for name in secret)
        raise ConfigurationError(
            f"{where}: security codes, PINs and tracks of cards must not be stored, and by their "
            f"names these columns hold such: {each}. Leave them out: attributes.exclude = "
            f"[{names}]. A column that holds something else needs another name in the data, such "
            "as cvv_match, pin_entry_mode or postal_code."
        )


def fields_of(mapping: Mapping, attribute_of: MappingOf[str, str]) -> dict[str, TokenField]:
    """Which fields a mapping tokenises, by the names that all doors use.

    Args:
        mapping: What is what.
        attribute_of: Column to the name of the attribute that it becomes.
    """
    fields: dict[str, TokenField] = {}
    if mapping.id_table().tokenize:
        fields["transaction_id"] = TokenField()
    for entity, key in mapping.entities.keys().items():
        if key.tokenize:
            fields[entity] = TokenField(key.bin or "", key.last_four or "")
    for name in mapping.attributes.tokenize:
        fields[ATTRIBUTE_PREFIX + attribute_of.get(name, name)] = TokenField()
    return fields


def secret_columns(mapping: Mapping) -> tuple[str, ...]:
    """Columns of the source that are shown as masks only."""
    table = mapping.id_table()
    columns = [*several(table.column)] if table.tokenize else []
    for key in mapping.entities.keys().values():
        columns += several(key.column) if key.tokenize else ()
    renamed = {attribute: column for column, attribute in mapping.attributes.rename.items()}
    columns += [renamed.get(name, name) for name in mapping.attributes.tokenize]
    return tuple(dict.fromkeys(columns))


def check_tokens(mapping: Mapping, where: str) -> None:
    """Raise ``ConfigurationError`` for keys that have no effect without ``tokenize``."""
    for entity, key in mapping.entities.keys().items():
        if (key.bin or key.last_four) and not key.tokenize:
            raise ConfigurationError(
                f"{where}: {entity} has bin or last_four without tokenize = true; they are the "
                "digits that stay of a card number which becomes a token."
            )
