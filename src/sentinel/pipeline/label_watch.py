"""Holds the feed of labels against its rhythm: before training, and for `sentinel doctor`."""

from __future__ import annotations

import numpy as np

from sentinel.domain import LabelsStopped
from sentinel.features.plan.plan import DAY_US
from sentinel.models.label_feed import LabelFeed, label_feed
from sentinel.pipeline.history import read_arrivals
from sentinel.pipeline.labelled_payments import LabelledPayments
from sentinel.pipeline.workspace import ledger_reader
from sentinel.settings import Settings


def check_label_feed(
    settings: Settings, known: LabelledPayments, now_us: int | None = None
) -> LabelFeed:
    """Stop where labels stopped arriving.

    Only labels on approved payments count: an analyst who works through reviews says nothing of the
    feed whose silence makes a payment legitimate. Labels on payments that the log does not have
    make none, either.

    Args:
        settings: Give the longest silence that is accepted.
        known: The log.
        now_us: The moment of knowledge, microseconds UTC; default: the end of the log.

    Raises:
        LabelsStopped: No label has arrived for too long.
    """
    now = known.end_us if now_us is None else now_us
    labels, withheld = known.labels, known.payments.withheld
    counts = labels.row >= 0
    if withheld is not None:
        counts &= ~withheld[labels.row]
    feed = label_feed(labels.received_at_us[counts], now, accepted_us=_accepted_us(settings))
    if feed.stopped:
        newer = labels.received_at_us[~counts]
        strangers = int(np.count_nonzero((newer > (feed.newest_us or 0)) & (newer < now)))
        raise LabelsStopped(_stopped(feed, strangers))
    return feed


def watch_labels(settings: Settings) -> str:
    """How the feed of labels does by the end of the log, in a sentence.

    Raises:
        LabelsStopped: No label has arrived for too long.
    """
    with ledger_reader(settings) as ledger:
        now = ledger.last_received_at_us() + 1
        arrivals = read_arrivals(ledger.groups())
    feed = label_feed(arrivals, now, accepted_us=_accepted_us(settings))
    if feed.stopped:
        raise LabelsStopped(_stopped(feed, 0))
    return str(feed)


def _accepted_us(settings: Settings) -> int | None:
    given = settings.labels.max_silence_days
    return None if given == "auto" else round(given * DAY_US)


def _stopped(feed: LabelFeed, strangers: int) -> str:
    others = ""
    if strangers:
        came = "1 label that came since is about a payment"
        if strangers > 1:
            came = f"{strangers:,} labels that came since are about payments"
        others = f" {came} not approved, or not in the log."
    return (
        f"Labels stopped arriving: {feed}.{others} A model that is trained now would learn that "
        "fraud has ended, since unlabelled payments count as legitimate once they are mature. "
        "Bring the labels in (`sentinel import-labels FILE`, or POST /labels) and train again. If "
        "there really were none, say how long silence may last: labels.max_silence_days of the "
        "settings, or SENTINEL_LABELS__MAX_SILENCE_DAYS=14 in front of the command."
    )
