"""Whether a retraining is due: by schedule, by new labels, for a wait at the gate, or for drift.

Any reason is enough. Days and maturity go by the clock of the log. So a log that has stopped asks
for nothing, since there is nothing new to learn, unless the schedule is every run.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Final

from sentinel.domain import WorkspaceError
from sentinel.features.plan.plan import DAY_US
from sentinel.models.champion import champion_of
from sentinel.models.dataset import sample
from sentinel.models.label_delays import maturity_of
from sentinel.pipeline.gate import report_path
from sentinel.pipeline.gate_report import GateReport
from sentinel.pipeline.labelled_payments import (
    KnownPayments,
    labelled_payments,
    maturity_is_default,
    maturity_us,
)
from sentinel.pipeline.last_training import (
    Due,
    LastTraining,
    Reason,
    RetrainingRequest,
    keep_answer,
    last_training,
    requests_of,
)
from sentinel.settings import RetrainingSettings, Settings
from sentinel.sources.progress import ProgressCallback, no_progress

PACE_DAYS: Final = 28
"""Days by whose matured frauds the next ones are foretold."""
_FORETOLD_DAYS: Final = 3_650


def retraining_due(
    settings: Settings,
    *,
    now_us: int | None = None,
    progress: ProgressCallback = no_progress,
) -> Due:
    """Whether a model should be trained now. The answer is kept for `sentinel status`.

    Args:
        settings: ``retraining`` is the policy.
        now_us: The moment of knowledge, microseconds UTC; default: the end of the log.
        progress: Told of the stages "labels" and "backfill".

    Raises:
        DefinitionError, WorkspaceError: See `backfill`.
    """
    policy, last, asked = settings.retraining, last_training(settings), requests_of(settings)
    known = labelled_payments(settings, progress=progress)
    now = known.end_us if now_us is None else now_us
    counted = since = 0
    if policy.matured_frauds and last is not None:
        counted = matured_frauds(settings, known, now)
        since = counted - matured_frauds(settings, known, last.known_until_us)
    pace = 0.0
    if policy.matured_frauds and not 0 < policy.matured_frauds <= since:
        before = matured_frauds(settings, known, now - PACE_DAYS * DAY_US)
        pace = (counted - before) / PACE_DAYS
    waits = last is not None and waits_at_the_gate(settings, last.version)
    answer = decide(policy, last, asked, now_us=now, frauds=since, frauds_a_day=pace, waits=waits)
    keep_answer(settings, answer)
    return answer


def decide(
    policy: RetrainingSettings,
    last: LastTraining | None,
    asked: list[RetrainingRequest],
    *,
    now_us: int,
    frauds: int = 0,
    frauds_a_day: float = 0.0,
    waits: bool = False,
) -> Due:
    """The decision itself.

    Args:
        policy: The settings.
        last: The last training; None if there was none.
        asked: Requests that wait.
        now_us: The moment of knowledge, microseconds UTC.
        frauds: Frauds that have matured since the last training.
        frauds_a_day: How many matured a day lately.
        waits: Whether the last candidate waits at the gate.
    """
    if last is None:
        first = Reason(kind="first", words="no training is known of")
        return _answer([first], now_us)
    reasons = []
    days = now_us // DAY_US - last.known_until_us // DAY_US
    if policy.every_days == 1:
        reasons.append(Reason(kind="schedule", words="trained at every run"))
    elif 0 < policy.every_days <= days:
        reasons.append(
            Reason(
                kind="schedule",
                words=f"{days} days since version {last.version}, every {policy.every_days} is set",
            )
        )
    if 0 < policy.matured_frauds <= frauds:
        reasons.append(
            Reason(
                kind="labels",
                words=f"{frauds:,} frauds have matured since version {last.version}, "
                f"{policy.matured_frauds:,} are enough",
            )
        )
    if waits:
        reasons.append(
            Reason(
                kind="gate",
                words=f"version {last.version} waits at the gate, which looks again at a fresh one",
            )
        )
    if policy.on_drift:
        reasons += [Reason(kind=one.kind, words=one.why) for one in asked]
    if reasons:
        return _answer(reasons, now_us)
    return Due(
        reasons=(),
        words=_when(policy, last, now_us, frauds, frauds_a_day),
        asked_at_us=now_us,
    )


def waits_at_the_gate(settings: Settings, version: str) -> bool:
    """Whether the gate's last word on a version was to wait, and it did not become champion.

    A wait is counted in nights, each with a candidate of the night, so that it would not go on
    without a training.
    """
    serving = champion_of(settings)
    if serving is not None and serving.version == version:
        return False
    try:
        return GateReport.load(report_path(settings, version)).verdict == "waits"
    except WorkspaceError:
        return False


def matured_frauds(settings: Settings, known: KnownPayments, at_us: int) -> int:
    """Frauds of the log that a training at a moment could have learnt from, censoring included."""
    payments, labels = known.payments, known.labels
    if not len(payments):
        return 0
    gap_us = maturity_us(settings)
    if maturity_is_default(settings):
        gap_us, _ = maturity_of(payments, labels, now_us=known.end_us, maturity_us=gap_us)
    start_us = int(payments.event_time_us.min())
    return sample(
        payments,
        labels,
        start_us=start_us,
        end_us=max(start_us, at_us),
        cutoff_us=at_us,
        maturity_us=gap_us,
    ).frauds


def _answer(reasons: list[Reason], now_us: int) -> Due:
    words = "A retraining is due: " + "; ".join(one.words for one in reasons) + "."
    return Due(reasons=tuple(reasons), words=words, asked_at_us=now_us)


def _when(
    policy: RetrainingSettings, last: LastTraining, now_us: int, frauds: int, frauds_a_day: float
) -> str:
    """One line that says when a retraining will be due."""
    coming = []
    if policy.every_days:
        day = (last.known_until_us // DAY_US + policy.every_days) * DAY_US
        coming.append(f"by schedule on {_day(day)}")
    if policy.matured_frauds:
        missing = policy.matured_frauds - frauds
        pace = "none has matured lately, so nobody can say when"
        if frauds_a_day > 0:
            days = math.ceil(missing / frauds_a_day)
            when = "in more than ten years"
            if days <= _FORETOLD_DAYS:
                when = f"about {_day(now_us + days * DAY_US)}"
            pace = f"at the pace of {PACE_DAYS} days {when}"
        coming.append(f"by labels once {missing:,} more frauds have matured, {pace}")
    if policy.on_drift:
        coming.append("as soon as drift is reported")
    if not coming:
        coming.append("never by itself: retraining.every_days and matured_frauds are 0")
    return f"No retraining is due. It will be {', or '.join(coming)}."


def _day(time_us: int) -> str:
    return f"{datetime.fromtimestamp(time_us / 1e6, UTC):%Y-%m-%d}"
