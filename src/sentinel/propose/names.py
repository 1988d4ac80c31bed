"""What a column's name says about it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Final

from sentinel.propose.languages import in_english


def words(text: str) -> frozenset[str]:
    """A set of words, written as text."""
    return frozenset(text.split())


_RUNS: Final = words(
    "customer client user account acct cust member buyer payer holder cardholder consumer card pan "
    "merchant terminal shop store seller vendor payee beneficiary device fingerprint browser "
    "address time date stamp amount value price total label fraud orig dest id number name num "
    "country city state type code"
)

_NOTHING: Final = (
    r"((col(umn)?|var(iable)?|feat(ure)?|field|attr(ibute)?|unnamed|c|f|v|x)[ _:-]*)?[a-z]{0,2}\d*"
)

ID: Final = {"id", "ref", "reference", "uuid", "guid", "key", "num", "number", "no", "nr"}
PAYMENT: Final = {
    *("transaction", "trans", "trx", "txn", "tx", "payment", "pay", "order", "event", "charge"),
    *("invoice", "purchase"),
}
TIME: Final = {
    *("time", "date", "datetime", "timestamp", "ts", "created", "at", "when", "dt", "step"),
    *("occurred", "posted", "day", "hour", "unix", "epoch", "zeit", "datum", "fecha", "moment"),
}
EVENT_TIME: Final = PAYMENT | {"created", "occurred", "event", "timestamp", "authorised"}
EARLIER: Final = {
    *("signup", "registered", "registration", "opened", "open", "birth", "dob", "birthday"),
    *("joined", "since", "issued", "enrolled", "first", "member", "expires", "expiry", "exp"),
    *("valid", "until", "activated"),
}
LATER: Final = {
    *("settled", "settlement", "captured", "capture", "refunded", "refund", "updated", "modified"),
    *("chargeback", "dispute", "disputed", "arrived", "arrival", "reported", "resolved", "closed"),
    *("investigated", "confirmed", "returned", "reversed", "reversal", "processed", "received"),
    *("cleared", "payout", "representment", "reviewed"),
}
AMOUNT: Final = {
    *("amount", "amt", "value", "price", "total", "sum", "betrag", "importe", "montant", "paid"),
}
MINOR: Final = {"cents", "cent", "minor", "pence", "paise", "ore"}
MONEY_BESIDE: Final = {
    *("balance", "oldbalance", "newbalance", "old", "new", "limit", "income", "debt", "fee", "tax"),
    *(
        "tip",
        "shipping",
        "discount",
        "refund",
        "refunded",
        "credit",
        "median",
        "mean",
        "avg",
        "max",
    ),
}
LABEL: Final = {"fraud", "fraudulent", "isfraud", "class", "label", "target", "chargeback"}
LABEL_WEAK: Final = {"dispute", "disputed", "verdict", "truth", "chargebacked", "y"}
NOT_LABEL: Final = {
    *("flagged", "flag", "score", "risk", "rule", "rules", "alert", "date", "time", "type"),
    *("amount", "reason", "code", "id", "count", "rate", "at"),
}
PREDICTED: Final = {
    *("pred", "preds", "predicted", "prediction", "predictions", "predict", "yhat"),
    *("proba", "prob", "probability"),
}
"""Of what a model said of the payment."""
OUTCOME: Final = {
    *("status", "decision", "outcome", "result", "response", "approved", "declined", "flagged"),
    *("authorised", "authorized", "state", "accepted", "refused", "rejected", "blocked", "action"),
}
CURRENCY: Final = {"currency", "ccy", "curr", "iso4217"}
CODES: Final = {
    *("code", "mcc", "type", "category", "status", "zip", "zipcode", "postal", "postcode", "class"),
    *("id", "bin", "brand", "channel", "country", "state", "city", "region", "version", "browser"),
}
ENTITY_WORDS: Final[dict[str, frozenset[str]]] = {
    "customer_id": words(
        "customer client user account acct cust member buyer payer consumer orig sender person "
        "nameorig kunde cardholder entity payor"
    ),
    "card_id": words("card cc pan creditcard cardnumber"),
    "merchant_id": words(
        "merchant terminal shop store seller vendor payee beneficiary dest receiver recipient "
        "namedest mid tid pos retailer counterparty"
    ),
    "device_id": words("device fingerprint imei handset useragent deviceid"),
    "ip_address": words("ip ipaddress ipaddr ipv4 remoteip"),
}
ABOUT: Final = {
    *("city", "state", "country", "type", "brand", "zip", "category", "lat", "long", "lon"),
    *("latitude", "longitude", "age", "gender", "sex", "balance", "risk", "score", "count", "days"),
    *("present", "system", "os", "browser", "model", "info", "limit", "mcc", "region", "street"),
    *("address1", "postcode", "zipcode", "created", "since", "opened", "date", "time", "job"),
    *("currency", "bank", "network", "level", "entry", "mode", "status", "tenure", "language"),
}


def words_of(name: str) -> tuple[str, ...]:
    """The words of a name, in lower case and, where the word is known, in English.

    >>> words_of("trans_date_trans_time"), words_of("isFraud"), words_of("Is Fraud?")
    (('trans', 'date', 'trans', 'time'), ('is', 'fraud'), ('is', 'fraud'))
    >>> words_of("nameOrig"), words_of("TransactionDT"), words_of("deviceid")
    (('name', 'orig'), ('transaction', 'dt'), ('device', 'id'))
    >>> words_of("Código cliente"), words_of("Kartennummer")
    (('id', 'customer'), ('card', 'number'))
    """
    # In lower case, the capital i with a dot is two characters, of which one is no letter.
    plain = unicodedata.normalize("NFC", name).replace("\u0130", "I")
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", plain)
    spaced = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1 \2", spaced)
    found: list[str] = []
    for word in re.findall(r"[^\W_]+", spaced.lower()):
        for english in in_english(word).split():
            found += _parted(english)
    return tuple(found)


def says_nothing(name: str) -> bool:
    """Whether a name is a mere place holder.

    >>> says_nothing("col_aa"), says_nothing("V12"), says_nothing("present")
    (True, True, False)
    """
    return bool(re.fullmatch(_NOTHING, name, re.IGNORECASE))


def has(name: str, known: Iterable[str]) -> bool:
    """Whether one of the name's words is among the known ones."""
    return not set(words_of(name)).isdisjoint(known)


def _parted(word: str) -> list[str]:
    """Words that were written together: ``customerid``, ``cardnumber``."""
    for first in sorted(_RUNS):
        rest = word.removeprefix(first)
        if rest != word and rest in _RUNS:
            return [first, rest]
    return [word]


def slug(text: str) -> str:
    """A name as part of a file's or setting's name.

    >>> slug("Sales 2024 (EU)")
    'sales_2024_eu'
    """
    return re.sub(r"\W+", "_", text.lower()).strip("_") or "data"
