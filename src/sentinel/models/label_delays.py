"""How long labels take, and how long silence has to last before it counts as good."""

from __future__ import annotations

from typing import Final

import numpy as np

from sentinel.features.plan.plan import DAY_US
from sentinel.models.dataset import Ints, LabelLog, PaymentLog

_TRUSTED_LABELS: Final = 20
_TRUSTED_FACTOR: Final = 4
_ENOUGH_TO_STRAY: Final = 20
"""Of fewer payments, none is called one that strays."""
_STRAYS_BY: Final = 10
"""What is earlier than the rest by one such part of the history strays."""
_MANY_LATE: Final = 0.1
"""Share of the frauds that are reported too late from which a person should know."""


def label_delay_us(payments: PaymentLog, labels: LabelLog, now_us: int) -> tuple[int, int]:
    """The longest time from a fraud to its first label so far, and how many frauds say so.

    The time counts from the payment or its receipt, whichever is later.
    """
    delays, _ = _delays(payments, labels, now_us)
    return max(0, int(delays.max(initial=0))), len(delays)


def _delays(payments: PaymentLog, labels: LabelLog, now_us: int) -> tuple[Ints, Ints]:
    """Times from frauds to their first labels, and how old the payments are: int64 (n_frauds,)."""
    use = np.flatnonzero((labels.row >= 0) & labels.fraud & (labels.received_at_us < now_us))
    if payments.withheld is not None:  # a verdict comes at once, and says nothing of chargebacks
        use = use[~payments.withheld[labels.row[use]]]
    rows, first = np.unique(labels.row[use], return_index=True)
    since = np.maximum(payments.event_time_us[rows], payments.received_at_us[rows])
    return labels.received_at_us[use][first] - since, now_us - since


def late_labels(payments: PaymentLog, labels: LabelLog, *, now_us: int, gap_us: int) -> str:
    """A line if many frauds are reported after their payment counts as good; else empty.

    Asked of payments that are twice as old: the labels of younger ones may be under way.

    Args:
        payments, labels: The log.
        now_us: The moment of knowledge.
        gap_us: After so long, silence counts as good.
    """
    delays, ages = _delays(payments, labels, now_us)
    delays = delays[ages >= 2 * gap_us]
    late = float((delays > gap_us).mean()) if len(delays) >= _TRUSTED_LABELS else 0.0
    if late < _MANY_LATE:
        return ""
    return (
        f"Of the frauds that were reported, {late:.0%} were reported later than {in_days(gap_us)} "
        f"after the payment, a tenth later than {in_days(int(np.quantile(delays, 0.9)))}. Silence "
        "counts as good by then, so that as many frauds are taken for good ones in the newest "
        "payments. labels.maturity_days of the settings says how long to wait."
    )


def maturity_of(
    payments: PaymentLog, labels: LabelLog, *, now_us: int, maturity_us: int
) -> tuple[int, str]:
    """The maturity period that the labels of the log show, where they show one.

    It is shorter than the default if no label took longer, twenty or more say so, and the
    history is four times as long: a longer delay would have shown in it.

    Args:
        payments, labels: The log.
        now_us: The moment of knowledge.
        maturity_us: The default.

    Returns:
        The period, and a line if it is not the default.
    """
    delay, frauds = label_delay_us(payments, labels, now_us)
    if frauds < _TRUSTED_LABELS or delay >= maturity_us:
        return maturity_us, ""
    if _TRUSTED_FACTOR * delay > now_us - first_payment_us(payments, now_us):
        return maturity_us, ""
    return delay, (
        f"Labels came within {in_days(delay)} here, so the gaps are that long instead of "
        f"{in_days(maturity_us)} (labels.maturity_days)."
    )


def first_payment_us(payments: PaymentLog, now_us: int) -> int:
    """Where the history begins; payments that stray and void ones do not count.

    A payment strays if it is among the earliest thousandth, or is the earliest of twenty or more,
    and what follows begins so much later that a tenth of the history would be empty or nearly so.

    Args:
        payments: The log.
        now_us: The end of the history, and the answer where no payment counts.
    """
    times = payments.event_time_us
    if payments.void is not None and not payments.void.all():
        times = times[~payments.void]
    if len(times) == 0:
        return now_us
    place = len(times) // 1000 or int(len(times) >= _ENOUGH_TO_STRAY)
    usual = int(np.partition(times, place)[place])
    return int(times[times >= usual - max(0, now_us - usual) // _STRAYS_BY].min())


def in_days(us: int) -> str:
    """A length of time in words.

    >>> in_days(30 * DAY_US), in_days(DAY_US // 2), in_days(0)
    ('30 days', '12 hours', '0 days')
    """
    if 0 < us < 2 * DAY_US:
        return f"{24 * us / DAY_US:.3g} hours"
    return f"{us / DAY_US:.4g} days"
