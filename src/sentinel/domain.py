"""The values that every part of Sentinel speaks of, and the errors it raises.

The error tree (each class has a stable ``code`` that clients may rely on):

    SentinelError
    ├── ConfigurationError          the deployment is set up wrongly
    │   ├── DefinitionError         a feature definition cannot be compiled
    │   └── WorkspaceError          the workspace is busy, half-finished or of another version
    ├── InputError                  what came in cannot be accepted
    │   ├── InvalidTransaction
    │   ├── InvalidLabel
    │   ├── InvalidQuery
    │   ├── TransactionConflict     the same transaction id with another body
    │   └── AlreadyRecorded         the log holds some of these ids already
    ├── NotFound
    │   ├── UnknownTransaction
    │   ├── NotDecided              the transaction was imported, so nothing was decided
    │   └── ModelGone               the model that decided is kept nowhere any more
    ├── ModelError
    │   ├── NoModel                 nothing has been promoted yet
    │   ├── PlanMismatch            the model was trained with another feature plan
    │   ├── ModelFormatError        a model file cannot be read
    │   ├── ModelNotSigned          nobody who is trusted vouches for the model's files
    │   ├── LabelsStopped           no label came for too long, so that silence says nothing
    │   └── GateRefused             the candidate is worse than the champion
    │       └── GateWaits           too little truth has matured to tell
    ├── AccessDenied                who calls may not do this
    │   ├── Unauthenticated         no key came, or none that is good
    │   └── Forbidden               the key is not for this
    ├── Overloaded                  more was asked at once than is worked on; come again
    │   └── RateLimited             one caller sends more than it may
    └── Unavailable
        ├── AccessUnavailable       keys cannot be checked right now
        ├── ClockJumped             the machine's clock cannot be trusted right now
        ├── LedgerUnavailable       a record could not be made durable
        ├── LookupTooSlow           a look-up was ended because it took too long
        ├── ObjectStoreUnavailable  the S3 server does not answer
        └── StateUnavailable        feature state cannot be read right now

Money is an integer in minor units of one base currency (``*_minor``), time is integer
microseconds since 1970-01-01 UTC (``*_us``).
"""

from __future__ import annotations

import enum
from typing import ClassVar, Final, NamedTuple

import msgspec

MAX_AMOUNT_MINOR: Final = 10**12
"""Largest legal absolute amount, in minor units."""

FUTURE_TOLERANCE_US: Final = 5 * 60 * 1_000_000
"""An event time further ahead of the clock than this is refused."""

MAX_ID_LENGTH: Final = 128
"""Longest legal identifier, in characters."""

ENTITY_COLUMNS: Final = ("customer_id", "card_id", "merchant_id", "device_id", "ip_address")
"""Identifier columns of a transaction that feature views may be keyed by."""

AttributeValue = str | float | None


class Verdict(enum.StrEnum):
    """What is known about a transaction after the fact."""

    FRAUD = "fraud"
    LEGITIMATE = "legitimate"

    @classmethod
    def _missing_(cls, value: object) -> Verdict | None:
        """People write "Fraud", too."""
        word = value.strip().lower() if isinstance(value, str) else ""
        return next((verdict for verdict in cls if verdict.value == word), None)


class Outcome(enum.StrEnum):
    """What the policy decided. The order is that of rising suspicion."""

    APPROVE = "approve"
    REVIEW = "review"
    DECLINE = "decline"


class Transaction(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """A payment as the log holds it.

    Attributes:
        transaction_id: Unique in the log.
        event_time_us: When the payment happened, microseconds UTC.
        received_at_us: When Sentinel learnt of it; never decreases along the log.
        amount_minor: Amount in minor units of the base currency, at most 10^12 in size.
            Zero is legal, negative amounts are refunds.
        customer_id, card_id, merchant_id, device_id, ip_address: Entity keys, None if unknown.
        attributes: Everything else: category text or numbers by name.
        untracked: Entities whose records do not hold it, see `PartlyTracked`.
    """

    untracked: ClassVar[tuple[str, ...]] = ()

    transaction_id: str
    event_time_us: int
    received_at_us: int
    amount_minor: int
    customer_id: str | None = None
    card_id: str | None = None
    merchant_id: str | None = None
    device_id: str | None = None
    ip_address: str | None = None
    attributes: dict[str, AttributeValue] = {}


class PartlyTracked(Transaction, frozen=True, kw_only=True, array_like=True, gc=False):
    """A payment that came when feature state had no room for the records of its new entities.

    Groups of the log hold these entities in a column of their own (`DecisionColumns.untracked`).

    Attributes:
        untracked: Entities whose records do not hold it, by their keys (``card_id``,
            ``customer_id+merchant_id``), which are the same in all plans. Older logs have the
            names of views.
    """

    untracked: tuple[str, ...] = ()  # type: ignore[misc]


class Label(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """A verdict on a transaction, at the moment it arrived.

    A later label for the same transaction corrects the earlier one; nothing is overwritten.
    """

    label_id: str
    transaction_id: str
    verdict: Verdict
    received_at_us: int
    origin: str = "chargeback"


class Void(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Takes a transaction out of the features, from this place in the log on.

    The transaction stands in the log before it and stays there. See `sentinel.log.labels` for what
    becomes of its labels, and `sentinel.features.voids` for what becomes of records.

    Attributes:
        transaction_id: Of the transaction.
        received_at_us: When the void was asked for.
        reason: Why, in the words of who asked.
    """

    transaction_id: str
    received_at_us: int
    reason: str


Entry = Transaction | Label | Void
"""What the log holds."""


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """Why a score is what it is: one feature's exact Shapley contribution.

    Attributes:
        feature: Name in the plan.
        value: The feature's value, None where it is unknown.
        contribution: Added log-odds of fraud (above 0: towards fraud).
        words: The same in a sentence.
    """

    feature: str
    value: float | None
    contribution: float
    words: str


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What Sentinel answered for a transaction, as the ledger holds it.

    Attributes:
        transaction_id: The transaction decided on.
        sequence: Its place in the log.
        score: The model's raw score (log-odds).
        fraud_probability: Calibrated probability of fraud, 0 to 1.
        is_fraud: Whether the probability reaches the model's fraud threshold.
        outcome: The policy's decision.
        model_name, model_version: The model that decided.
        plan_hash: The feature plan the vector was computed with.
        degraded: True where state could not be read, or had no room for a new entity: what the
            vector would take from there is null.
        reasons: Strongest contributions first.
        latency_us: Time from arrival to commit, microseconds.
        vector: Feature values in plan order, None where unknown.
        policy_hash: The policy that ruled; empty if the record is of before there was one.
        base_outcome: The outcome before the control group; None: the same.
        propensity: The probability with which the payment got the outcome that it has.
        rules: Ids of the rules that fired.
        called_by: Who sent the payment; empty if nobody is known.
        eligible: Whether the control group could have let it through.
    """

    transaction_id: str
    sequence: int
    score: float
    fraud_probability: float
    is_fraud: bool
    outcome: Outcome
    model_name: str
    model_version: str
    plan_hash: str
    degraded: bool
    reasons: tuple[Reason, ...]
    latency_us: int
    vector: tuple[float | None, ...] = ()
    policy_hash: str = ""
    base_outcome: Outcome | None = None
    propensity: float = 1.0
    rules: tuple[str, ...] = ()
    called_by: str = ""
    eligible: bool = False

    @property
    def explored(self) -> bool:
        """Whether the control group let it through."""
        return self.eligible and self.base_outcome not in (None, self.outcome)

    @property
    def control_share(self) -> float:
        """The share of such payments that the control group let through; 0 if it could not."""
        if not self.eligible:
            return 0.0
        share = self.propensity if self.explored else 1.0 - self.propensity
        return round(share, 6)  # a propensity is kept with 24 bits


class SentinelError(Exception):
    """Base of all errors that Sentinel raises on purpose.

    Args:
        message: What was wrong, what is allowed, and what to do next.
        fields: For input errors, the message of each offending field.
    """

    code: ClassVar[str] = "sentinel_error"

    def __init__(self, message: str, *, fields: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.fields: dict[str, str] = fields or {}


class ConfigurationError(SentinelError):
    code = "configuration_error"


class DefinitionError(ConfigurationError):
    code = "definition_error"


class WorkspaceError(ConfigurationError):
    code = "workspace_error"


class LedgerInUse(WorkspaceError):
    """Another process writes the ledger, and only one may."""


class InputError(SentinelError):
    code = "invalid_input"


class InvalidTransaction(InputError):
    code = "invalid_transaction"


class InvalidLabel(InputError):
    code = "invalid_label"


class InvalidQuery(InputError):
    code = "invalid_query"


class TransactionConflict(InputError):
    code = "transaction_conflict"


class AlreadyRecorded(InputError):
    """The log holds some of what was to be appended; nothing was.

    Args:
        message: See `SentinelError`.
        ids: The ids that it holds.
    """

    code = "already_recorded"

    def __init__(self, message: str, *, ids: tuple[str, ...]) -> None:
        super().__init__(message)
        self.ids = ids


class NotFound(SentinelError):
    code = "not_found"


class UnknownTransaction(NotFound):
    code = "unknown_transaction"


class NotDecided(NotFound):
    code = "not_decided"


class ModelGone(NotFound):
    code = "model_gone"


class ModelError(SentinelError):
    code = "model_error"


class NoModel(ModelError):
    code = "no_model"


class PlanMismatch(ModelError):
    code = "plan_mismatch"


class ModelFormatError(ModelError):
    code = "model_format_error"


class ModelNotSigned(ModelError):
    code = "model_not_signed"


class LabelsStopped(ModelError):
    code = "labels_stopped"


class GateRefused(ModelError):
    code = "gate_refused"


class GateWaits(GateRefused):
    code = "gate_waits"


class AccessDenied(SentinelError):
    code = "access_denied"


class Unauthenticated(AccessDenied):
    code = "unauthenticated"


class Forbidden(AccessDenied):
    code = "forbidden"


class Overloaded(SentinelError):
    """More was asked for at once than is worked on; nothing of it was begun.

    Args:
        message: What is full, and what to do.
        retry_after_seconds: When it is worth to ask again.
    """

    code = "overloaded"

    def __init__(self, message: str, *, retry_after_seconds: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class Allowance(NamedTuple):
    """What a caller may still send.

    Attributes:
        name: Of what.
        per_minute: So many in a minute.
        left: So many now.
        full_seconds: When it may send as many as a minute allows again.
    """

    name: str
    per_minute: int
    left: int
    full_seconds: float


class RateLimited(Overloaded):
    """A caller sent more than it may; nothing of it was begun.

    Args:
        message: How much it may send, and when.
        allowances: What it may still send.
        retry_after_seconds: When it is worth to ask again.
    """

    code = "rate_limited"

    def __init__(
        self, message: str, *, allowances: tuple[Allowance, ...], retry_after_seconds: float
    ) -> None:
        super().__init__(message, retry_after_seconds=retry_after_seconds)
        self.allowances = allowances


class Unavailable(SentinelError):
    code = "unavailable"


class AccessUnavailable(Unavailable):
    code = "access_unavailable"


class ClockJumped(Unavailable):
    code = "clock_jumped"


class LedgerUnavailable(Unavailable):
    code = "ledger_unavailable"


class LookupTooSlow(Unavailable):
    code = "lookup_too_slow"


class ObjectStoreUnavailable(Unavailable):
    code = "object_store_unavailable"


class StateUnavailable(Unavailable):
    code = "state_unavailable"


def id_for_display(identifier: str) -> str | int:
    """An id as answers show it: a number where it is a whole number below 2^53, else text.

    >>> id_for_display("2987000"), id_for_display("007"), id_for_display("tx-1")
    (2987000, '007', 'tx-1')
    """
    if len(identifier) <= 16 and identifier.isascii() and identifier.isdigit():
        number = int(identifier)
        if number < 2**53 and (identifier[0] != "0" or identifier == "0"):
            return number
    return identifier
