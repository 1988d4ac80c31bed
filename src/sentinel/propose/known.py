"""Public data sets whose header is recognised, and what is known of their columns."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from sentinel.propose.names import words
from sentinel.propose.roles import Answers


@dataclass(frozen=True)
class Known:
    """A public data set.

    Attributes:
        name: For people.
        header: Columns that tell it.
        answers: What its columns are.
        late: Columns known too late, with why.
        drop: Columns of no use, with why.
        notes: What to know.
        source: The built-in source that reads it better than a mapping; empty for none.
        without: Pattern of columns that only other tables have beside its header; empty for none.
    """

    name: str
    header: frozenset[str]
    answers: Answers
    late: Mapping[str, str] = field(default_factory=dict)
    drop: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    source: str = ""
    without: str = ""


_AFTER: Final = "a balance after the payment"

DATA_SETS: Final = (
    Known(
        "Sparkov (Kaggle's fraudTrain.csv)",
        words("trans_date_trans_time cc_num merchant amt trans_num unix_time is_fraud"),
        Answers(
            id=("trans_num",),
            time=("trans_date_trans_time",),
            amount="amt",
            currency="USD",
            label="is_fraud",
            entities={"card_id": ("cc_num",), "merchant_id": ("merchant",)},
        ),
    ),
    Known(
        "IEEE-CIS (train_transaction.csv)",
        words("TransactionID TransactionDT TransactionAmt ProductCD card1 addr1 D1"),
        Answers(
            id=("TransactionID",),
            time=("TransactionDT",),
            time_unit="s",
            start="2017-12-01",
            amount="TransactionAmt",
            currency="USD",
            label="isFraud",
            entities={"card_id": ("card1", "card2", "card3", "card4", "card5", "card6")},
        ),
        source="ieee-cis",
    ),
    Known(
        "ULB (creditcard.csv)",
        frozenset({"Time", "Amount", "Class", *(f"V{n}" for n in range(1, 29))}),
        Answers(
            id=("row",),
            time=("Time",),
            time_unit="s",
            start="2013-09-01",
            amount="Amount",
            currency="EUR",
            label="Class",
            entities=dict.fromkeys(
                ("customer_id", "card_id", "merchant_id", "device_id", "ip_address"), ()
            ),
        ),
        without=r"V(29|[3-9]\d|\d{3,})",
        notes=("ULB names no day (September 2013) and no entity: a model without windows.",),
    ),
    Known(
        "PaySim",
        words("step type amount nameOrig nameDest oldbalanceOrg newbalanceOrig"),
        Answers(
            id=("row",),
            time=("step",),
            time_unit="h",
            start="2024-01-01",
            amount="amount",
            label="isFraud",
            entities={"customer_id": ("nameOrig",), "merchant_id": ("nameDest",)},
        ),
        late={"newbalanceOrig": _AFTER, "newbalanceDest": _AFTER},
        notes=("PaySim's step counts hours; its first day is not told.",),
    ),
    Known(
        "BankSim",
        words("step customer age gender merchant category amount fraud"),
        Answers(
            id=("row",),
            time=("step",),
            time_unit="d",
            start="2024-01-01",
            amount="amount",
            currency="EUR",
            label="fraud",
            entities={"customer_id": ("customer",), "merchant_id": ("merchant",)},
        ),
        notes=("BankSim's step counts days; its first day is not told.",),
    ),
    Known(
        "TabFormer (card_transaction.v1.csv)",
        frozenset({"User", "Card", "Year", "Month", "Day", "Time", "Use Chip", "Is Fraud?"}),
        Answers(
            id=("row",),
            amount="Amount",
            currency="USD",
            label="Is Fraud?",
            entities={
                "customer_id": ("User",),
                "card_id": ("User", "Card"),
                "merchant_id": ("Merchant Name",),
            },
        ),
    ),
    Known(
        "Kaggle's financial transactions (transactions_data.csv)",
        words("id date client_id card_id amount use_chip merchant_id mcc errors"),
        Answers(
            id=("id",),
            time=("date",),
            amount="amount",
            currency="USD",
            entities={
                "customer_id": ("client_id",),
                "card_id": ("card_id",),
                "merchant_id": ("merchant_id",),
            },
        ),
    ),
    Known(
        "fraudecom (Fraud_Data.csv)",
        words("user_id signup_time purchase_time purchase_value device_id class"),
        Answers(
            id=("user_id",),
            time=("purchase_time",),
            amount="purchase_value",
            label="class",
            entities={
                "customer_id": (),
                "device_id": ("device_id",),
                "ip_address": ("ip_address",),
            },
        ),
        notes=("Each user buys once: user_id names the payment.",),
    ),
)


def recognise(columns: Iterable[str]) -> Known | None:
    """The public data set that has these columns, if it is one.

    >>> recognise(["step", "type", "amount"]) is None
    True
    """
    there = set(columns)
    found = [
        known
        for known in DATA_SETS
        if known.header <= there
        and not (known.without and any(re.fullmatch(known.without, name) for name in there))
    ]
    return max(found, key=lambda known: len(known.header)) if found else None


def with_known(answers: Answers, known: Known | None, columns: Iterable[str]) -> Answers:
    """What the user said, and for the rest what is known of a data set."""
    if known is None:
        return answers
    there = set(columns) | {"row"}
    facts = known.answers
    merged = dict(facts.entities)
    merged = {entity: named for entity, named in merged.items() if set(named) <= there}
    merged.update(answers.entities)
    takes_time = not answers.time or answers.time == facts.time
    return replace(
        answers,
        id=answers.id or _there(facts.id, there),
        time=answers.time or _there(facts.time, there),
        time_unit=answers.time_unit or (facts.time_unit if takes_time else ""),
        start=answers.start or (facts.start if takes_time else ""),
        amount=answers.amount or (facts.amount if facts.amount in there else ""),
        currency=answers.currency or facts.currency,
        label=answers.label or (facts.label if facts.label in there else ""),
        entities=merged,
    )


def _there(columns: tuple[str, ...], there: set[str]) -> tuple[str, ...]:
    return columns if set(columns) <= there else ()
