"""Bodies from bytes to what a route declares, with every offending field named where they are not.

A route declares its request as a struct beside it; `parse` decodes one, and finds out what was
wrong from the declaration alone.
"""

from __future__ import annotations

import datetime as dt
from functools import cache
from typing import Annotated, Any, Final, TypeVar

import msgspec
from msgspec import inspect

from sentinel.api.problems import ProblemError, invalid
from sentinel.domain import ENTITY_COLUMNS, MAX_ID_LENGTH
from sentinel.ingest.names import secret_flaw, secret_of, shown_name
from sentinel.ingest.values import EXACT
from sentinel.ingest.wording import located

T = TypeVar("T")

TextId = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID_LENGTH)]
Id = TextId | Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Moment = Annotated[dt.datetime, msgspec.Meta(tz=True)]


def parse(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Decode a body.

    Raises:
        ProblemError: 400 if the body is not JSON.
        InvalidTransaction: Naming every offending field.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError:
        try:
            content = _with_whole_ids(msgspec.json.decode(body))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _malformed(error) from None  # and a field that is none stands before that place
        try:
            return msgspec.convert(content, decoder.type)
        except msgspec.ValidationError as error:
            raise invalid(_offending(decoder.type, content, str(error))) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _malformed(error) from None


def _malformed(error: Exception) -> ProblemError:
    return ProblemError(400, "malformed_json", "Malformed JSON", f"The body is not JSON: {error}.")


MOST_NAMED: Final = 20
"""Most fields that one answer names."""
_ROWS_LOOKED_AT: Final = 1000
_ROWS_NAMED: Final = 100
_IDS: Final = frozenset(("transaction_id", "label_id", *ENTITY_COLUMNS))
_SCALARS: Final = "must be text, a number, true, false or null"
_KEYS: Final = "must be text, a whole number or null"


def _with_whole_ids(content: Any) -> Any:
    """The content of a body with whole numbers for ids such as 17.0, as imports read them."""
    for row in (content, *_rows_of(content)):
        for name in _IDS & row.keys() if isinstance(row, dict) else ():
            value = row[name]
            if isinstance(value, float) and abs(value) < EXACT and value.is_integer():
                row[name] = int(value)
    return content


def _rows_of(content: Any) -> list[Any]:
    """What a body lists."""
    listed = content.values() if isinstance(content, dict) else ()
    return [row for rows in listed if isinstance(rows, list) for row in rows]


def _offending(kind: Any, content: Any, first: str) -> dict[str, str]:
    """Every offending field of what failed validation, by its path."""
    path, message = located(first, kind)
    found: dict[str, str] = {}
    if isinstance(content, dict):
        listed = _listed(kind)
        if listed is None:
            found = _offending_fields(kind, content, "")
        elif isinstance(listed[1], inspect.DictType):
            found = _offending_cells(listed[0], content.get(listed[0]))
        else:
            name, item = listed[0], listed[1].cls
            rows = content.get(name)
            for i, row in enumerate(rows[:_ROWS_LOOKED_AT] if isinstance(rows, list) else ()):
                if isinstance(row, dict):
                    found.update(_offending_fields(item, row, f"{name}[{i}]."))
                if len(found) >= _ROWS_NAMED:
                    break
    if path in found or (found and "[...]" in path):
        return found
    return {path: message, **found}


@cache
def _listed(kind: Any) -> tuple[str, inspect.StructType | inspect.DictType] | None:
    """Name and entries of the list that a request consists of; None if it is one thing."""
    declared = inspect.type_info(kind)
    assert isinstance(declared, inspect.StructType)
    for field in declared.fields:
        if isinstance(field.type, inspect.ListType) and isinstance(
            field.type.item_type, inspect.StructType | inspect.DictType
        ):
            return field.name, field.type.item_type
    return None


def _offending_cells(name: str, rows: Any) -> dict[str, str]:
    """Cells of rows that are no ids."""
    found: dict[str, str] = {}
    for i, row in enumerate(rows if isinstance(rows, list) else ()):
        for cell, value in row.items() if isinstance(row, dict) else ():
            if value is not None and type(value) not in (str, int):
                found[f"{name}[{i}].{cell}"] = f"{_KEYS}, not {_json_name(value)}"
        if len(found) >= MOST_NAMED:
            break
    return found


def _offending_fields(kind: Any, content: dict[str, Any], at: str) -> dict[str, str]:
    found: dict[str, str] = {}
    known = {field.name: field for field in msgspec.structs.fields(kind)}
    for name, field in known.items():
        if name in content:
            try:
                msgspec.convert(content[name], field.type, strict=True, builtin_types=())
            except msgspec.ValidationError as error:
                cells = content[name]
                if name == "attributes" and isinstance(cells, dict):
                    for cell, value in cells.items():
                        if isinstance(value, dict | list):
                            found[f"{at}attributes.{cell}"] = f"{_SCALARS}, not {_json_name(value)}"
                    continue
                path, message = located(str(error), field.type)
                found[at + name + ("" if path == "body" else path)] = message
        elif field.required:
            found[at + name] = "is required"
    says_which = f"; the fields are {', '.join(known)}"
    if "attributes" in known:
        says_which += "; whatever else is known of it goes into attributes"
    for name in content:
        if name not in known:
            secret = secret_of(name)
            if secret is not None:
                found[at + shown_name(name)] = secret_flaw(secret).message
                continue
            found[at + shown_name(name)] = f"is not a field{says_which}"
            says_which = ""  # once is enough for whoever sends a record of their own
    return found


def _json_name(value: Any) -> str:
    names = {dict: "an object", list: "a list", bool: "true or false", float: "a fraction"}
    return names.get(type(value), "this")
