"""Where to draw the lines: from an alert budget, from a precision, or from costs.

A threshold is a probability; a payment is above it when its probability is at least the
threshold. Lines drawn on held-out rows hold for the traffic those rows stand for.
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

NEVER: Final = 1.0
"""A threshold that no probability reaches: calibrated probabilities stay below 1."""

Floats = npt.NDArray[np.float64]

MIN_DECLINES: Final = 20
"""A precision is believed from so many held-out payments on."""

_Z95: Final = 1.96


class Thresholds(msgspec.Struct, frozen=True, kw_only=True):
    """The lines of a model, as probabilities.

    Attributes:
        fraud: From here on an answer says ``is_fraud``.
        review: From here on an analyst looks at the payment.
        decline: From here on the payment is declined; not below ``review``.
    """

    fraud: float
    review: float
    decline: float


def threshold_for_budget(
    probability: npt.ArrayLike,
    alerts_per_1000: float,
    *,
    below: float = np.inf,
    weight: npt.ArrayLike | None = None,
) -> float:
    """The lowest threshold that raises at most so many alerts per 1,000 payments.

    Payments with equal probabilities are alerted together or not at all.

    Args:
        probability: (n_rows,), of held-out payments.
        alerts_per_1000: The budget, 0 to 1,000.
        below: Payments from this probability on raise no alert and cost nothing: they are
            declined.
        weight: (n_rows,), how many payments each stands for; None if each is one.

    >>> threshold_for_budget([0.1, 0.2, 0.3, 0.4], 500)
    0.3
    >>> threshold_for_budget([0.1, 0.2, 0.3, 0.4], 500, below=0.4)
    0.2
    """
    every = np.asarray(probability, dtype=np.float64)
    if len(every) == 0 or not 0.0 <= alerts_per_1000 <= 1000.0:
        raise ValueError("A budget needs payments, and 0 to 1,000 alerts per 1,000 of them.")
    if weight is not None:
        return _weighted_budget(every, np.asarray(weight, np.float64), alerts_per_1000, below)
    ranked = np.sort(every[every < below])[::-1]
    allowed = int(np.floor(len(every) * alerts_per_1000 / 1000.0 + 1e-9))
    if len(ranked) == 0:
        return below
    if allowed >= len(ranked):
        return float(ranked[-1])
    above = ranked[:allowed][ranked[:allowed] > ranked[allowed]]
    return float(above[-1]) if len(above) else float(np.nextafter(ranked[0], np.inf))


def _weighted_budget(every: Floats, mass: Floats, alerts_per_1000: float, below: float) -> float:
    """`threshold_for_budget` where each payment stands for several."""
    order = np.argsort(-every, kind="stable")
    order = order[every[order] < below]
    if len(order) == 0:
        return below
    ranked, alerts = every[order], np.cumsum(mass[order])
    last_of_tie = np.append(ranked[1:] != ranked[:-1], True)
    kept = last_of_tie & (alerts <= mass.sum() * alerts_per_1000 / 1000.0 + 1e-9)
    places = np.flatnonzero(kept)
    return float(ranked[places[-1]]) if len(places) else float(np.nextafter(ranked[0], np.inf))


def threshold_for_costs(
    false_alarm: float, missed_fraud: float, *, caught_fraud: float = 0.0
) -> float:
    """The probability from which an alert is the cheaper choice (Elkan, 2001, eq. 2).

    Args:
        false_alarm: Cost of an alert on a legitimate payment.
        missed_fraud: Cost of letting a fraud pass.
        caught_fraud: Cost of an alert on a fraud; letting a legitimate payment pass is free.

    >>> threshold_for_costs(5.0, 95.0)
    0.05
    """
    if false_alarm < 0 or missed_fraud <= caught_fraud:
        raise ValueError(
            "Costs need a false alarm of 0 or more, and a missed fraud dearer than a caught one."
        )
    return false_alarm / (false_alarm + missed_fraud - caught_fraud)


def decline_line(
    probability: npt.ArrayLike,
    fraud: npt.ArrayLike,
    precision: float,
    *,
    weight: npt.ArrayLike | None = None,
) -> float:
    """The probability from which each single payment is fraud with at least that precision.

    A calibrated probability is the share of fraud among payments of that same probability, so
    the line is the wanted precision itself. (The lowest threshold at which all payments above it
    *together* reach the precision lies far lower: sure frauds pay for doubtful ones.)

    Args:
        probability: (n_rows,), calibrated, of held-out payments.
        fraud: (n_rows,), 0 or 1.
        precision: Wanted, 0 to 1.
        weight: (n_rows,), how many payments each stands for; None if each is one. What counts as
            a number of held-out payments is then their effective number.

    Returns:
        The line; `NEVER` where fewer than `MIN_DECLINES` held-out payments lie above it. It is
        higher than the wanted precision where the payments above that contradict it: where the
        upper 95 % bound of their share of fraud (Wilson, 1927) is lower.

    >>> p = np.repeat([0.1, 0.5, 0.9], 100)
    >>> decline_line(p, np.tile([1] + 9 * [0], 30) | (p > 0.8), 0.8)
    0.8
    """
    score = np.asarray(probability, dtype=np.float64)
    order = np.argsort(score, kind="stable")[np.count_nonzero(score < precision) :]
    ranked = score[order]
    truth = np.asarray(fraud, dtype=np.float64)[order]
    rows: Floats = np.arange(len(ranked), 0, -1).astype(np.float64)
    frauds = _above(truth)
    if weight is not None:
        mass = np.asarray(weight, dtype=np.float64)[order]
        rows = _above(mass) ** 2 / _above(mass * mass)
        frauds = rows * _above(mass * truth) / _above(mass)
    first_of_tie = np.diff(ranked, prepend=-np.inf) > 0
    kept = first_of_tie & (rows >= MIN_DECLINES) & (_upper_share(frauds, rows) >= precision)
    places = np.flatnonzero(kept)
    if len(places) == 0:
        return NEVER
    return precision if places[0] == 0 else float(ranked[places[0]])


def _above(values: Floats) -> Floats:
    """Totals from each place to the end."""
    return np.asarray(np.cumsum(values[::-1])[::-1])


def _upper_share(hits: Floats, rows: Floats) -> Floats:
    """Upper 95 % bound of a share by Wilson's score interval: float64 (n,)."""
    share, z2 = hits / rows, _Z95 * _Z95
    spread = _Z95 * np.sqrt(share * (1.0 - share) / rows + z2 / (4.0 * rows * rows))
    return np.asarray((share + z2 / (2.0 * rows) + spread) / (1.0 + z2 / rows))


def choose_thresholds(
    probability: npt.ArrayLike,
    fraud: npt.ArrayLike,
    *,
    alerts_per_1000: float,
    decline_precision: float,
    fraud_threshold: float | None = None,
    weight: npt.ArrayLike | None = None,
) -> Thresholds:
    """The lines of a model from held-out payments.

    Args:
        probability: (n_rows,), calibrated.
        fraud: (n_rows,), 0 or 1.
        alerts_per_1000: Payments that analysts can review per 1,000; declines cost them nothing.
        decline_precision: Decline only where a payment is fraud with at least this probability.
        fraud_threshold: For ``is_fraud``, say from `threshold_for_costs`; default: whatever is
            not approved counts as fraud.
        weight: (n_rows,), how many payments each stands for; None if each is one.
    """
    decline = decline_line(probability, fraud, decline_precision, weight=weight)
    review = threshold_for_budget(probability, alerts_per_1000, below=decline, weight=weight)
    return Thresholds(
        fraud=review if fraud_threshold is None else fraud_threshold,
        review=review,
        decline=max(review, decline),
    )
