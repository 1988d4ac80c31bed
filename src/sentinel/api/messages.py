"""The JSON bodies of the scoring routes; `payments` makes transactions of them."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from itertools import islice
from typing import Annotated, Any, Final, TypeVar

import msgspec

from sentinel.api.problems import ProblemError, invalid
from sentinel.api.wording import plain
from sentinel.domain import (
    ENTITY_COLUMNS,
    MAX_AMOUNT_MINOR,
    MAX_ID_LENGTH,
    Label,
    Verdict,
    id_for_display,
)
from sentinel.ingest.guard import Guard
from sentinel.ingest.values import BadValue, id_flaw

T = TypeVar("T")

TextId = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID_LENGTH)]
Id = TextId | Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Moment = Annotated[dt.datetime, msgspec.Meta(tz=True)]


class PredictRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A payment to score.

    Attributes:
        transaction_id: Unique; a repeat gets the recorded decision.
        amount_minor: Amount in minor units (e.g. cents) of the base currency; negative: refund.
        event_time: When the payment happened, RFC 3339 with an offset; default: now.
        customer_id, card_id, merchant_id, device_id, ip_address: Whose history counts; send
            tokens, never card numbers.
        attributes: Anything else by name: text, numbers, booleans.
    """

    transaction_id: Id
    amount_minor: Annotated[int, msgspec.Meta(ge=-MAX_AMOUNT_MINOR, le=MAX_AMOUNT_MINOR)]
    event_time: Moment | None = None
    customer_id: Id | None = None
    card_id: Id | None = None
    merchant_id: Id | None = None
    device_id: Id | None = None
    ip_address: Id | None = None
    attributes: dict[str, str | int | float | bool | None] | None = None


class BatchRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Payments to score in order, each as in a single request."""

    transactions: Annotated[list[PredictRequest], msgspec.Meta(min_length=1)]


class LabelRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A verdict on a transaction.

    Attributes:
        transaction_id: What it is about; it may still be unknown.
        verdict: What is known now, in any letter case; a later label corrects an earlier one.
        label_id: Makes a repeat harmless; made up if missing.
        origin: Who says so, e.g. chargeback or analyst.
    """

    transaction_id: Id
    verdict: Verdict
    label_id: Id | None = None
    origin: Annotated[str, msgspec.Meta(min_length=1, max_length=64)] = "api"


class LabelsRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Labels to record together."""

    labels: Annotated[list[LabelRequest], msgspec.Meta(min_length=1, max_length=10_000)]


class FeaturesRequest(msgspec.Struct, forbid_unknown_fields=True):
    """A question for the features of entities, without a payment.

    Attributes:
        rows: Entity column to key; null where it is unknown.
        now_us: The time of the question, microseconds UTC; default: now.
        features: Names to return; default: all of the plan.
    """

    rows: Annotated[list[dict[str, str | int | None]], msgspec.Meta(max_length=100_000)]
    now_us: Annotated[int, msgspec.Meta(ge=0, le=2**62)] | None = None
    features: list[str] | None = None


def parse(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Decode a body.

    Raises:
        ProblemError: 400 if the body is not JSON.
        InvalidTransaction: Naming every offending field.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise invalid(_offending(decoder.type, body, str(error))) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProblemError(
            400, "malformed_json", "Malformed JSON", f"The body is not JSON: {error}."
        ) from None


def labels_of(
    requests: Sequence[LabelRequest], received_at_us: int, guard: Guard, at: str = "labels[{}]."
) -> list[Label]:
    """The labels of requests; those without a label id get one.

    Args:
        requests: Decoded.
        received_at_us: When they arrived.
        guard: What the deployment does with ids.
        at: Prefix for field names in errors, with a place for the number of the label.

    Raises:
        InvalidTransaction: Naming every offending field.
    """
    problems: dict[str, str] = {}
    labels: list[Label] = []
    for i, request in enumerate(requests):
        ids: dict[str, str] = {}
        for name in ("transaction_id", "label_id"):
            given = getattr(request, name)
            if given is None:
                ids[name] = uuid.uuid4().hex
                continue
            try:
                ids[name] = guard.id(name, given) or ""
            except BadValue as error:
                problems[at.format(i) + name] = str(error)
            else:
                if not ids[name]:
                    problems[at.format(i) + name] = "is empty"
        origin = request.origin.strip()
        if id_flaw(origin) is not None or not origin:
            problems[at.format(i) + "origin"] = "is empty, or holds a control character"
        if not problems:
            labels.append(
                Label(verdict=request.verdict, received_at_us=received_at_us, origin=origin, **ids)
            )
    if problems:
        raise invalid(dict(islice(problems.items(), _MOST_NAMED)))
    return labels


def keys_of(request: FeaturesRequest, guard: Guard) -> list[dict[str, str]]:
    """The rows of a question for features: entity to id, without those that are unknown.

    Raises:
        InvalidTransaction: Naming the offending fields.
    """
    problems: dict[str, str] = {}
    rows: list[dict[str, str]] = []
    for i, row in enumerate(request.rows):
        keys: dict[str, str] = {}
        for name, value in row.items():
            if name not in ENTITY_COLUMNS:
                problems[f"rows[{i}].{name}"] = (
                    f"is not an entity; the entities are {', '.join(ENTITY_COLUMNS)}"
                )
                continue
            try:
                key = guard.id(name, value)
            except BadValue as error:
                problems[f"rows[{i}].{name}"] = str(error)
                continue
            if key is not None:
                keys[name] = key
        rows.append(keys)
    if problems:
        raise invalid(dict(islice(problems.items(), _MOST_NAMED)))
    return rows


def shown_id(identifier: str) -> str | int:
    """An id as answers show it; see `domain.id_for_display`."""
    return id_for_display(identifier)


_LISTS: Final[dict[Any, tuple[str, Any]]] = {
    BatchRequest: ("transactions", PredictRequest),
    LabelsRequest: ("labels", LabelRequest),
}
_MOST_NAMED: Final = 20
_SCALARS: Final = "must be text, a number, true, false or null"
_KEYS: Final = "must be text, a whole number or null"


def _offending(kind: Any, body: bytes, first: str) -> dict[str, str]:
    """Every offending field of a body that failed validation, by its path."""
    path, message = _located(first)
    try:
        content = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {path: message}
    found: dict[str, str] = {}
    if isinstance(content, dict):
        if kind in (PredictRequest, LabelRequest):
            found = _offending_fields(kind, content, "")
        elif kind is FeaturesRequest:
            found = _offending_rows(content.get("rows"))
        elif kind in _LISTS:
            name, item = _LISTS[kind]
            rows = content.get(name)
            for i, row in enumerate(rows[:1000] if isinstance(rows, list) else ()):
                if isinstance(row, dict):
                    found.update(_offending_fields(item, row, f"{name}[{i}]."))
                if len(found) >= 100:
                    break
    if path in found or (found and "[...]" in path):
        return found
    return {path: message, **found}


def _offending_rows(rows: Any) -> dict[str, str]:
    """Cells of a question for features that are no ids."""
    found: dict[str, str] = {}
    for i, row in enumerate(rows if isinstance(rows, list) else ()):
        for name, value in row.items() if isinstance(row, dict) else ():
            if value is not None and type(value) not in (str, int):
                found[f"rows[{i}].{name}"] = f"{_KEYS}, not {_json_name(value)}"
        if len(found) >= _MOST_NAMED:
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
                path, message = _located(str(error))
                found[at + name + ("" if path == "body" else path)] = message
        elif field.required:
            found[at + name] = "is required"
    for name in content:
        if name not in known:
            found[at + name] = f"is not a field; the fields are {', '.join(known)}"
    return found


def _json_name(value: Any) -> str:
    names = {dict: "an object", list: "a list", bool: "true or false", float: "a fraction"}
    return names.get(type(value), "this")


def _located(text: str) -> tuple[str, str]:
    """A validation message as (path, message)."""
    message, _, path = text.partition(" - at `$")
    path = path.rstrip("`")
    if message.startswith("Object missing required field `"):
        return _join(path, message.split("`")[1]), "is required"
    if message.startswith("Object contains unknown field `"):
        return _join(path, message.split("`")[1]), "is not a field"
    if message.startswith("Invalid enum value "):
        given = message.removeprefix("Invalid enum value ")
        message = f"is {given}; allowed: {', '.join(verdict.value for verdict in Verdict)}"
    return path.lstrip(".") or "body", plain(message)


def _join(path: str, name: str) -> str:
    return f"{path.lstrip('.')}.{name}" if path else name
