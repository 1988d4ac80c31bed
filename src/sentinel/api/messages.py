"""The JSON bodies of the scoring routes, and how they become domain values."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Annotated, Any, Final, TypeVar

import msgspec

from sentinel.api.problems import ProblemError, invalid
from sentinel.domain import (
    ENTITY_COLUMNS,
    FUTURE_TOLERANCE_US,
    MAX_AMOUNT_MINOR,
    MAX_ID_LENGTH,
    AttributeValue,
    InvalidTransaction,
    Label,
    Transaction,
    Verdict,
    id_for_display,
    looks_like_card_number,
)

T = TypeVar("T")

MAX_ATTRIBUTES: Final = 500
MAX_ATTRIBUTE_TEXT: Final = 1_000

_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND: Final = dt.timedelta(microseconds=1)
_EXACT: Final = 2**53
_DAY_US: Final = 86_400_000_000

_TextId = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID_LENGTH)]
Id = _TextId | Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
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
        verdict: What is known now; a later label corrects an earlier one.
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
        rows: Entity column to key.
        now_us: The time of the question, microseconds UTC; default: now.
        features: Names to return; default: all of the plan.
    """

    rows: Annotated[list[dict[str, str]], msgspec.Meta(max_length=100_000)]
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


def transaction_of(
    request: PredictRequest, received_at_us: int, numbers: frozenset[str], at: str = ""
) -> Transaction:
    """The transaction of a request.

    Args:
        request: The decoded body.
        received_at_us: When it arrived.
        numbers: Attributes that the running plan reads as numbers.
        at: Prefix for field names in errors.

    Raises:
        InvalidTransaction: Naming every offending field.
    """
    problems: dict[str, str] = {}
    moment = request.event_time
    event_time_us = received_at_us
    if moment is not None:
        event_time_us = (moment - _EPOCH) // _MICROSECOND
        if event_time_us < 0:
            problems[at + "event_time"] = "before 1970"
        elif event_time_us > received_at_us + FUTURE_TOLERANCE_US:
            problems[at + "event_time"] = "more than 5 minutes ahead of the clock"
    keys: tuple[str | int | None, ...] = (
        request.transaction_id,
        request.customer_id,
        request.card_id,
        request.merchant_id,
        request.device_id,
        request.ip_address,
    )
    texts = [key if key is None or isinstance(key, str) else str(key) for key in keys]
    identifier, customer, card, merchant, device, address = texts
    for place, text in enumerate(texts):
        if text is None:
            continue
        if not text.isprintable():
            problems[at + _ID_FIELDS[place]] = "holds a control character"
        elif len(text) >= 13 and looks_like_card_number(text):
            problems[at + _ID_FIELDS[place]] = _CARD_NUMBER
    attributes = request.attributes
    if attributes:
        plain = _attributes(attributes, numbers, at, problems)
    else:
        plain = {}
    if problems:
        raise invalid(problems)
    return Transaction(
        transaction_id=identifier or "",
        event_time_us=event_time_us,
        received_at_us=received_at_us,
        amount_minor=request.amount_minor,
        customer_id=customer,
        card_id=card,
        merchant_id=merchant,
        device_id=device,
        ip_address=address,
        attributes=plain,
    )


class _Payment(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, gc=False):
    """`PredictRequest` as most payments are: ids are text, and all numbers fit a double."""

    transaction_id: _TextId
    amount_minor: Annotated[int, msgspec.Meta(ge=-MAX_AMOUNT_MINOR, le=MAX_AMOUNT_MINOR)]
    event_time: Moment | None = None
    customer_id: _TextId | None = None
    card_id: _TextId | None = None
    merchant_id: _TextId | None = None
    device_id: _TextId | None = None
    ip_address: _TextId | None = None
    attributes: dict[str, str | float | bool | None] | None = None


class _Payments(msgspec.Struct, forbid_unknown_fields=True):
    """`BatchRequest` of such payments."""

    transactions: Annotated[list[_Payment], msgspec.Meta(min_length=1)]


_decode_payment: Final = msgspec.json.Decoder(_Payment).decode
_decode_payments: Final = msgspec.json.Decoder(_Payments).decode
_request_decoder: Final = msgspec.json.Decoder(PredictRequest)
_batch_decoder: Final = msgspec.json.Decoder(BatchRequest)
_UNUSUAL: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_good_names: Final[set[str]] = set()
_GOOD_NAMES_KEPT: Final = 4096


def read_payment(body: bytes, received_at_us: int, numbers: frozenset[str]) -> Transaction:
    """The transaction of a body.

    What is unusual in any way, or wrong, is left to `parse` and `transaction_of`, whose result
    this has for all others in a fraction of the time.

    Args:
        body: JSON of a `PredictRequest`.
        received_at_us: When it arrived.
        numbers: Attributes that the running plan reads as numbers.

    Raises:
        ProblemError: 400 if the body is not JSON.
        InvalidTransaction: Naming every offending field.
    """
    try:
        payment = _decode_payment(body)
    except _UNUSUAL:
        transaction = None
    else:
        transaction = _usual(payment, received_at_us, numbers, len(body) > MAX_ATTRIBUTE_TEXT)
    if transaction is None:
        return transaction_of(parse(_request_decoder, body), received_at_us, numbers)
    return transaction


def read_payments(
    body: bytes, received_at_us: int, numbers: frozenset[str], most: int
) -> list[Transaction]:
    """The transactions of a batch's body; see `read_payment`.

    Args:
        body: JSON of a `BatchRequest`.
        received_at_us: When it arrived.
        numbers: Attributes that the running plan reads as numbers.
        most: Most transactions in it.

    Raises:
        ProblemError: 400 if the body is not JSON.
        InvalidTransaction: Naming every offending field.
    """
    transactions: list[Transaction] = []
    try:
        payments = _decode_payments(body).transactions
    except _UNUSUAL:
        payments = []
    if len(payments) <= most:
        for payment in payments:
            transaction = _usual(payment, received_at_us, numbers, True)
            if transaction is None:
                break
            transactions.append(transaction)
        else:
            if payments:
                return transactions
    rows = parse(_batch_decoder, body).transactions
    if len(rows) > most:
        raise invalid({"transactions": f"more than {most:,}"})
    transactions.clear()
    problems: dict[str, str] = {}
    for i, row in enumerate(rows):
        try:
            transactions.append(transaction_of(row, received_at_us, numbers, f"transactions[{i}]."))
        except InvalidTransaction as error:
            problems.update(error.fields)
    if problems:
        raise invalid(problems)
    return transactions


def _usual(
    payment: _Payment, received_at_us: int, numbers: frozenset[str], long: bool
) -> Transaction | None:
    """The transaction of a usual payment; None: it takes a closer look.

    Args:
        payment: Decoded.
        received_at_us: When it arrived.
        numbers: Attributes that the running plan reads as numbers.
        long: Whether its text may be longer than an attribute's may be.
    """
    moment = payment.event_time
    if moment is None:
        event_time_us = received_at_us
    else:
        since = moment - _EPOCH
        event_time_us = since.days * _DAY_US + since.seconds * 1_000_000 + since.microseconds
        if not 0 <= event_time_us <= received_at_us + FUTURE_TOLERANCE_US:
            return None
    identifier = payment.transaction_id
    customer = payment.customer_id
    card = payment.card_id
    merchant = payment.merchant_id
    device = payment.device_id
    address = payment.ip_address
    if not f"{identifier}{customer}{card}{merchant}{device}{address}".isprintable():
        return None
    for key in (identifier, customer, card, merchant, device, address):
        if key is not None and len(key) >= 13 and looks_like_card_number(key):
            return None
    attributes = payment.attributes
    if not attributes:
        plain: dict[str, AttributeValue] = {}
    else:
        if not attributes.keys() <= _good_names and not _learn_names(attributes):
            return None
        if len(attributes) > MAX_ATTRIBUTES:
            return None
        for name in numbers:
            if type(attributes.get(name)) is str:
                return None
        for name, value in attributes.items():
            if type(value) is str:
                if long and len(value) > MAX_ATTRIBUTE_TEXT:
                    return None
            elif type(value) is bool:
                attributes[name] = float(value)
            elif type(value) is not float or not -_EXACT < value < _EXACT:
                return None
        plain = attributes
    return Transaction(
        transaction_id=identifier,
        event_time_us=event_time_us,
        received_at_us=received_at_us,
        amount_minor=payment.amount_minor,
        customer_id=customer,
        card_id=card,
        merchant_id=merchant,
        device_id=device,
        ip_address=address,
        attributes=plain,
    )


def _learn_names(attributes: Mapping[str, object]) -> bool:
    """Remember names of attributes that need no further look; False: one does."""
    if any(not 0 < len(name) <= MAX_ID_LENGTH for name in attributes):
        return False
    if len(_good_names) + len(attributes) > _GOOD_NAMES_KEPT:
        _good_names.clear()
    _good_names.update(attributes)
    return True


_ID_FIELDS: Final = ("transaction_id", *ENTITY_COLUMNS)
_CARD_NUMBER: Final = "looks like a raw card number; send a token instead"


def _attributes(
    given: Mapping[str, str | int | float | bool | None],
    numbers: frozenset[str],
    at: str,
    problems: dict[str, str],
) -> dict[str, AttributeValue]:
    if len(given) > MAX_ATTRIBUTES:
        problems[at + "attributes"] = f"more than {MAX_ATTRIBUTES}"
        return {}
    plain: dict[str, AttributeValue] = {}
    for name, value in given.items():
        if type(value) is str:
            if name in numbers:
                problems[f"{at}attributes.{name}"] = "must be a number"
            elif len(value) > MAX_ATTRIBUTE_TEXT:
                problems[f"{at}attributes.{name}"] = f"longer than {MAX_ATTRIBUTE_TEXT} characters"
            plain[name] = value
        elif value is None:
            continue
        elif type(value) is int and not -_EXACT <= value <= _EXACT:
            if name in numbers:
                problems[f"{at}attributes.{name}"] = "a whole number beyond 2^53"
            plain[name] = str(value)[:MAX_ATTRIBUTE_TEXT]
        else:
            plain[name] = float(value)
        if not 0 < len(name) <= MAX_ID_LENGTH:
            problems[at + "attributes"] = f"a name must have 1 to {MAX_ID_LENGTH} characters"
    return plain


def label_of(request: LabelRequest, label_id: str, received_at_us: int) -> Label:
    """The label of a request."""
    return Label(
        label_id=label_id,
        transaction_id=str(request.transaction_id),
        verdict=request.verdict,
        received_at_us=received_at_us,
        origin=request.origin,
    )


def shown_id(identifier: str) -> str | int:
    """An id as answers show it; see `domain.id_for_display`."""
    return id_for_display(identifier)


def _offending(kind: Any, body: bytes, first: str) -> dict[str, str]:
    """Every offending field of a body that failed validation, by its path."""
    found = dict([_located(first)])
    try:
        content = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return found
    if kind is PredictRequest and isinstance(content, dict):
        found.update(_offending_fields(content, ""))
    elif kind is BatchRequest and isinstance(content, dict):
        rows = content.get("transactions")
        if isinstance(rows, list):
            for i, row in enumerate(rows[:1000]):
                if isinstance(row, dict):
                    found.update(_offending_fields(row, f"transactions[{i}]."))
                if len(found) >= 100:
                    break
    return found


def _offending_fields(content: dict[str, Any], at: str) -> dict[str, str]:
    found: dict[str, str] = {}
    known = {field.name: field for field in msgspec.structs.fields(PredictRequest)}
    for name, field in known.items():
        if name in content:
            try:
                msgspec.convert(content[name], field.type, strict=True, builtin_types=())
            except msgspec.ValidationError as error:
                path, message = _located(str(error))
                found[at + name + ("" if path == "body" else path)] = message
        elif field.required:
            found[at + name] = "is required"
    for name in content:
        if name not in known:
            found[at + name] = f"is not a field; the fields are {', '.join(known)}"
    return found


def _located(text: str) -> tuple[str, str]:
    """A validation message as (path, message)."""
    message, _, path = text.partition(" - at `$")
    path = path.rstrip("`")
    if message.startswith("Object missing required field `"):
        return _join(path, message.split("`")[1]), "is required"
    if message.startswith("Object contains unknown field `"):
        return _join(path, message.split("`")[1]), "is not a field"
    return path.lstrip(".") or "body", message


def _join(path: str, name: str) -> str:
    return f"{path.lstrip('.')}.{name}" if path else name
