"""Payments from JSON to what the log holds: quickly as most are, carefully where they are not.

The careful way is the rule, see `payment_bodies.transaction_of`. The quick way gives the same for
payments that have nothing unusual about them, in a fraction of the time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Annotated, Final

import msgspec

from sentinel.access.principals import Principal
from sentinel.api.body import Moment, TextId, parse
from sentinel.api.json_lists import list_pieces
from sentinel.api.large import LARGE_BYTES, ROWS_AT_ONCE
from sentinel.api.problems import invalid
from sentinel.api.routes.payment_bodies import (
    EPOCH,
    ID_FIELDS,
    BatchRequest,
    PredictRequest,
    ReadingRules,
    transaction_of,
)
from sentinel.domain import (
    FUTURE_TOLERANCE_US,
    MAX_AMOUNT_MINOR,
    AttributeValue,
    InvalidTransaction,
    Transaction,
)
from sentinel.features.plan.plan import Plan
from sentinel.ingest.cards import holds_card_number, is_card_value, may_hold_card
from sentinel.ingest.guard import Guard
from sentinel.ingest.names import name_flaw
from sentinel.ingest.tokens import is_token
from sentinel.ingest.values import (
    EXACT,
    MAX_ATTRIBUTE_TEXT,
    BadValue,
    as_text,
    id_flaw,
    id_of,
    normal_address,
    normal_category,
    normal_id,
    text_flaw,
)
from sentinel.log.schema import ATTRIBUTE_PREFIX
from sentinel.spare_time import Between, go_on

_DAY_US: Final = 86_400_000_000
_LARGEST: Final = float(EXACT)


class _Payment(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, gc=False):
    """`PredictRequest` as most payments are: ids are text, and all numbers fit a double."""

    transaction_id: TextId
    amount_minor: Annotated[int, msgspec.Meta(ge=-MAX_AMOUNT_MINOR, le=MAX_AMOUNT_MINOR)]
    event_time: Moment | None = None
    customer_id: TextId | None = None
    card_id: TextId | None = None
    merchant_id: TextId | None = None
    device_id: TextId | None = None
    ip_address: TextId | None = None
    attributes: dict[str, str | float | bool | None] | None = None


class _Payments(msgspec.Struct, forbid_unknown_fields=True):
    """`BatchRequest` of such payments."""

    transactions: Annotated[list[_Payment], msgspec.Meta(min_length=1)]


class _RawPayments(msgspec.Struct, forbid_unknown_fields=True):
    """`BatchRequest` of payments that are decoded one by one."""

    transactions: Annotated[list[msgspec.Raw], msgspec.Meta(min_length=1)]


_decode_payment: Final = msgspec.json.Decoder(_Payment).decode
_decode_payments: Final = msgspec.json.Decoder(_Payments).decode
_decode_list: Final = msgspec.json.Decoder(list[_Payment]).decode
_decode_raw_payments: Final = msgspec.json.Decoder(_RawPayments).decode
_request_decoder: Final = msgspec.json.Decoder(PredictRequest)
_batch_decoder: Final = msgspec.json.Decoder(BatchRequest)
_UNUSUAL: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_KEPT: Final = 4096
_good_names: Final[set[str]] = set()
_good_texts: Final[set[str]] = set()
_LONGEST_TEXT_KEPT: Final = 200


def read_payment(body: bytes, received_at_us: int, rules: ReadingRules) -> Transaction:
    """The transaction of a body.

    What is unusual in any way, or wrong, is left to `parse` and `transaction_of`, whose result
    this has for all others in a fraction of the time.

    Args:
        body: JSON of a `PredictRequest`.
        received_at_us: When it arrived.
        rules: How values are read.

    Raises:
        ProblemError: 400 if the body is not JSON.
        InvalidTransaction: Naming every offending field.
    """
    try:
        payment = _decode_payment(body)
    except _UNUSUAL:
        transaction = None
    else:
        transaction = _usual(payment, received_at_us, rules)
    if transaction is None:
        transaction = transaction_of(parse(_request_decoder, body), received_at_us, rules)
        _learn_names(transaction.attributes)
    return transaction


def read_payments(
    body: bytes,
    received_at_us: int,
    rules: ReadingRules,
    most: int,
    between: Between = go_on,
) -> list[Transaction]:
    """The transactions of a batch's body; see `read_payment`.

    Args:
        body: JSON of a `BatchRequest`.
        received_at_us: When it arrived.
        rules: How values are read.
        most: Most transactions in it.
        between: Called after every `ROWS_AT_ONCE` payments.

    Raises:
        ProblemError: 400 if the body is not JSON.
        InvalidTransaction: Naming every offending field.
    """
    transactions: list[Transaction] = []
    try:
        payments = _payments_of(body, most, between)
    except _UNUSUAL:
        payments = []
    if len(payments) <= most:
        for i, payment in enumerate(payments, 1):
            transaction = _usual(payment, received_at_us, rules)
            if transaction is None:
                break
            transactions.append(transaction)
            if i % ROWS_AT_ONCE == 0:
                between()
        else:
            if payments:
                return transactions
    rows = parse(_batch_decoder, body).transactions
    if len(rows) > most:
        raise invalid({"transactions": f"more than {most:,}"})
    transactions.clear()
    problems: dict[str, str] = {}
    for i, row in enumerate(rows):
        if i % ROWS_AT_ONCE == 0:
            between()
        try:
            transactions.append(transaction_of(row, received_at_us, rules, f"transactions[{i}]."))
        except InvalidTransaction as error:
            problems.update(error.fields)
    if problems:
        raise invalid(problems)
    for transaction in transactions:
        _learn_names(transaction.attributes)
    return transactions


class _Id(msgspec.Struct):
    """Of a payment, the id alone."""

    transaction_id: str | int | float


class _Ids(msgspec.Struct):
    """The same of a batch."""

    transactions: list[_Id]


_decode_id: Final = msgspec.json.Decoder(_Id).decode
_decode_ids: Final = msgspec.json.Decoder(_Ids).decode


def check_sender(
    body: bytes, transactions: Sequence[Transaction], who: Principal, *, batch: bool
) -> None:
    """Hold the ids of payments against the prefix of who sent them.

    Where ids become tokens, it is the ids as they were sent that count.

    Args:
        body: As it was sent; it could be read.
        transactions: What was read.
        who: Who sent it; has a prefix.
        batch: Whether the body is a batch.

    Raises:
        Forbidden: Naming the first id that is not theirs.
    """
    ids = [transaction.transaction_id for transaction in transactions]
    if any(map(is_token, ids)):
        sent = _decode_ids(body).transactions if batch else [_decode_id(body)]
        ids = [id_of(one.transaction_id) or "" for one in sent]
    for place, identifier in enumerate(ids):
        at = f"transactions[{place}]." if batch else ""
        who.require_own(identifier, f"{at}transaction_id")


def _payments_of(body: bytes, most: int, between: Between) -> list[_Payment]:
    """The payments of a batch, those of a large body in pieces; none if there are too many."""
    if len(body) < LARGE_BYTES:
        return _decode_payments(body).transactions
    pieces = list_pieces(body, "transactions")
    if pieces is not None:
        payments: list[_Payment] = []
        with suppress(*_UNUSUAL):
            for piece in pieces:
                payments += _decode_list(piece)
                if len(payments) > most:
                    return []
                between()
            return payments
    return _payments_one_by_one(body, most, between)


def _payments_one_by_one(body: bytes, most: int, between: Between) -> list[_Payment]:
    """The same for any body: the decoder finds where each payment ends, all at once."""
    pieces = _decode_raw_payments(body).transactions
    payments: list[_Payment] = []
    for first in range(0, len(pieces) if len(pieces) <= most else 0, ROWS_AT_ONCE):
        payments += [_decode_payment(piece) for piece in pieces[first : first + ROWS_AT_ONCE]]
        between()
    return payments


def unused_attributes(plan: Plan) -> list[str]:
    """Names of attributes that payments brought lately and no feature of a plan reads, in order.

    They are recorded and change no decision. Lately: since the process began, or since the names
    that are kept were forgotten (`_KEPT`).
    """
    return sorted(_good_names.copy() - plan.number_columns - plan.category_columns)


def _usual(payment: _Payment, received_at_us: int, rules: ReadingRules) -> Transaction | None:
    """The transaction of a usual payment; None if it needs a closer look.

    Args:
        payment: Decoded.
        received_at_us: When it arrived.
        rules: How values are read.
    """
    made = None
    if rules.tokens:
        made = _with_tokens(payment, rules.guard)
        if made is None:
            return None
    moment = payment.event_time
    if moment is None:
        event_time_us = received_at_us
    else:
        since = moment - EPOCH
        event_time_us = since.days * _DAY_US + since.seconds * 1_000_000 + since.microseconds
        if not 0 <= event_time_us <= received_at_us + FUTURE_TOLERANCE_US:
            return None
    identifier = payment.transaction_id
    customer = payment.customer_id
    card = payment.card_id
    merchant = payment.merchant_id
    device = payment.device_id
    address = payment.ip_address
    # One look at all ids: printable text without odd spaces is in normal form, unless it may be a
    # number with decimals or "inf", and so are addresses of numbers and dots. The letters between
    # them part the digits of one from those of the next.
    joined = f" {identifier} x {customer} x {card} x {merchant} x {device} x {address} "
    if not joined.isprintable() or "  " in joined or "inf " in joined:
        return None
    if address is None:
        if "." in joined or "+" in joined:
            if not _are_normal(payment):
                return None
    elif (
        joined.count(".") != 3
        or address.count(".") != 3
        or len(address) > 15
        or ":" in joined
        or "+" in joined
    ):
        address = _address(address)
        if address is None or not _are_normal(payment):
            return None
    if may_hold_card(joined) and _holds_card(payment, rules.guard):
        return None
    attributes = payment.attributes
    if not attributes:
        plain: dict[str, AttributeValue] = {}
    else:
        if not attributes.keys() <= _good_names and not _learn_names(attributes):
            return None
        if len(attributes) > rules.most_attributes:
            return None
        numbers, categories, good = rules.numbers, rules.categories, _good_texts
        fresh: list[str] = []
        for name, value in attributes.items():
            if type(value) is str:
                if name in numbers:
                    return None
                if value not in good:
                    fresh.append(value)
            elif type(value) is float:
                if not -1e12 < value < 1e12 and (
                    not -_LARGEST < value < _LARGEST or is_card_value(value)
                ):
                    return None
                if name in categories:
                    attributes[name] = as_text(value)
            elif type(value) is bool:
                if name in numbers:
                    attributes[name] = 1.0 if value else 0.0
                else:
                    attributes[name] = "true" if value else "false"
            else:
                return None
        if fresh and not _learn_texts(fresh):
            return None
        plain = attributes
    if made:
        plain = plain | made
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


def _with_tokens(payment: _Payment, guard: Guard) -> dict[str, AttributeValue] | None:
    """Put tokens in the place of ids, and give the attributes that are made before.

    None if the payment needs a closer look.
    """
    made: dict[str, AttributeValue] = {}
    for name in guard.fields:
        if name.startswith(ATTRIBUTE_PREFIX):
            if payment.attributes and name.removeprefix(ATTRIBUTE_PREFIX) in payment.attributes:
                return None
            continue
        given = getattr(payment, name)
        if given is None:
            continue
        try:
            token = guard.id(name, given)
        except BadValue:
            return None
        if token is None:
            return None
        setattr(payment, name, token)
        made.update(guard.card_parts(name, given))
    return made


def _holds_card(payment: _Payment, guard: Guard) -> bool:
    """Whether an id that is not exempt holds a card number."""
    for name in ID_FIELDS:
        key = getattr(payment, name)
        if key is not None and name not in guard.exempt and holds_card_number(key):
            return True
    return False


def _are_normal(payment: _Payment) -> bool:
    """Whether the ids that stand for no address are in normal form."""
    return all(
        key is None or (normal_id(key) == key and id_flaw(key) is None)
        for key in (
            payment.transaction_id,
            payment.customer_id,
            payment.card_id,
            payment.merchant_id,
            payment.device_id,
        )
    )


@lru_cache(maxsize=_KEPT)
def _address(address: str) -> str | None:
    """The one spelling of an address; None if it needs a closer look."""
    if normal_id(address) != address or id_flaw(address):
        return None
    return normal_address(address)


def _learn_names(attributes: Mapping[str, object]) -> bool:
    """Remember names of attributes that need no further look; False: one does."""
    if attributes.keys() <= _good_names:
        return True
    if any(name_flaw(name) is not None for name in attributes):
        return False
    if len(_good_names) + len(attributes) > _KEPT:
        _good_names.clear()
    _good_names.update(attributes)
    return True


def _learn_texts(texts: Sequence[str]) -> bool:
    """Remember texts that are categories in normal form; False: one takes a closer look."""
    for text in texts:
        if (
            not text
            or len(text) > MAX_ATTRIBUTE_TEXT
            or normal_category(text) != text
            or text_flaw(text) is not None
        ):
            return False
    # One look at all texts, with letters between the digits of one and those of the next.
    if may_hold_card("x".join(texts)) and any(map(holds_card_number, texts)):
        return False
    if len(_good_texts) + len(texts) > _KEPT:
        _good_texts.clear()
    _good_texts.update(text for text in texts if len(text) <= _LONGEST_TEXT_KEPT)
    return True
