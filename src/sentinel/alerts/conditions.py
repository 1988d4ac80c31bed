"""Which conditions hold, by what was seen: pure functions, one for each alert.

A function returns what was found, nothing if all is well, and None if it cannot be told just now:
what did not answer is not well, and is not known to be ill.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from sentinel.alerts.scraped import Growth, Scraped
from sentinel.alerts.states import SECOND_US, Found

SLOW_SECONDS: Final = 0.1
ERRORS_PER_SECOND: Final = 0.1
NEARLY_FULL: Final = 0.8
BEHIND_ENTRIES: Final = 50_000
SNAPSHOT_ENTRIES: Final = 3_000_000
"""Entries since the newest snapshot of state in the process; a restart reads all of them."""
REGISTRY_SECONDS: Final = 600.0
JUMP: Final = 3.0
"""The share of stopped payments has jumped if it is so many times the usual."""
FEWEST_USUAL: Final = 500
"""Decisions that the usual share is of, at least."""
FEWEST_NOW: Final = 50
"""Decisions within the window that a jump is told by, at least."""
FEWEST_STOPPED: Final = 5
"""Those among them that stopped a payment, at least; fewer are chance."""

Judged = Sequence[Found] | None


class ScorerSeen(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of a scorer.

    Attributes:
        address: Its URL.
        problem: Why it did not answer; empty if it did.
        starting: It does not answer because it still reads the log, and is at work on that.
        now: Its figures; None if they could not be read.
        growth: How they grew within the window; None if that is not known yet.
    """

    address: str
    problem: str = ""
    starting: bool = False
    now: Scraped | None = None
    growth: Growth | None = None


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """All that was seen in one look. What is None could not be seen, or is not there to be seen.

    Attributes:
        at_us: When, microseconds UTC.
        scorers: One at least.
        redis_problem: Why Redis does not answer; empty if it does; None without Redis.
        disk: The folder that is watched, and which share of its file system is in use.
        disk_full_share: From which share on it is nearly full.
        labels_silent_us, labels_accepted_us: How long no label has come, and how long that may
            last.
        usual: Decisions of the last days before the window, and those among them that stopped a
            payment.
        drift: Open alarms of drift: what moved, as a sentence each, by what it is about.
        label_drift: The same of what labels say.
    """

    at_us: int
    scorers: Sequence[ScorerSeen]
    redis_problem: str | None = None
    disk: tuple[str, float] | None = None
    disk_full_share: float = 0.9
    labels_silent_us: int | None = None
    labels_accepted_us: int | None = None
    usual: tuple[int, int] | None = None
    drift: Mapping[str, str] | None = None
    label_drift: Mapping[str, str] | None = None


def judge(seen: Seen) -> dict[str, Sequence[Found]]:
    """What holds, by the name of the alert; a name that is missing could not be judged."""
    judged = {name: condition(seen) for name, condition in CONDITIONS.items()}
    return {name: found for name, found in judged.items() if found is not None}


def _no_scorer(seen: Seen) -> Judged:
    if any(not one.problem for one in seen.scorers):
        return []
    if any(one.starting for one in seen.scorers):
        return None  # it goes on by itself; what fires already goes on firing
    why = seen.scorers[0].problem
    return [Found("", f"No scorer answers: payments are not scored. {why}")]


def _scorer_down(seen: Seen) -> Judged:
    down = [one for one in seen.scorers if one.problem]
    if len(down) == len(seen.scorers):
        return []  # that is NoScorer
    return [Found(one.address, f"This scorer does not answer. {one.problem}") for one in down]


def _slow_decisions(seen: Seen) -> Judged:
    return _of_growth(
        seen,
        lambda growth: (growth.latency_p99_seconds or 0.0) > SLOW_SECONDS,
        lambda growth: f"One decision in a hundred takes {growth.latency_p99_seconds:.2f} s.",
    )


def _degraded_decisions(seen: Seen) -> Judged:
    return _of_growth(
        seen,
        lambda growth: growth.degraded > 0,
        lambda growth: (
            f"{growth.degraded:,.0f} decisions were made without feature state, or without a part "
            f"of it, in the last {growth.seconds:,.0f} s."
        ),
    )


def _commit_failures(seen: Seen) -> Judged:
    return _of_growth(
        seen,
        lambda growth: growth.commit_failures > 0,
        lambda _: "The ledger could not be written; those requests were answered 503.",
    )


def _error_answers(seen: Seen) -> Judged:
    return _of_growth(
        seen,
        lambda growth: growth.errors / growth.seconds > ERRORS_PER_SECOND,
        lambda growth: (
            f"{growth.errors:,.0f} requests were answered with an error of ours in the last "
            f"{growth.seconds:,.0f} s."
        ),
    )


def _state_full(seen: Seen) -> Judged:
    return _of_state(
        seen, 1.0, lambda _: "Feature state is full: payments from new entities are degraded."
    )


def _state_nearly_full(seen: Seen) -> Judged:
    return _of_state(
        seen, NEARLY_FULL, lambda share: f"Feature state has used {share:.0%} of its budget."
    )


def _index_behind(seen: Seen) -> Judged:
    def behind(now: Scraped) -> str:
        gap = now.total("sentinel_ledger_sequence") - now.total("sentinel_indexed_sequence")
        said = f"The queryable tables are {gap:,.0f} entries behind the log."
        return said if gap > BEHIND_ENTRIES else ""

    return _of_figures(seen, behind)


def _snapshots_old(seen: Seen) -> Judged:
    def old(now: Scraped) -> str:
        newest = now.total("sentinel_snapshot_sequence")
        gap = now.total("sentinel_ledger_sequence") - newest
        if newest == 0 or gap <= SNAPSHOT_ENTRIES:  # state in Redis has none
            return ""
        return f"The newest snapshot of feature state is {gap:,.0f} entries old."

    return _of_figures(seen, old)


def _registry_away(seen: Seen) -> Judged:
    def away(now: Scraped) -> str:
        answered = now.total("sentinel_registry_answered_time_seconds")
        silent = seen.at_us / SECOND_US - answered
        if answered == 0 or silent <= REGISTRY_SECONDS:
            return ""
        return f"The model registry has not answered for {silent / 60:,.0f} minutes."

    return _of_figures(seen, away)


def _champion_refused(seen: Seen) -> Judged:
    said = "The registry's champion cannot serve; the model that serves stays."
    return _of_figures(seen, lambda now: said if now.total("sentinel_model_problem") > 0 else "")


def _alert_share_jumped(seen: Seen) -> Judged:
    """All scorers together, against the days before."""
    grown = [one.growth for one in seen.scorers if one.growth is not None]
    if not grown or seen.usual is None:
        return None
    decisions = sum(one.decisions for one in grown)
    stopped = sum(one.stopped for one in grown)
    before, before_stopped = seen.usual
    if before < FEWEST_USUAL or decisions < FEWEST_NOW or stopped < FEWEST_STOPPED:
        return []
    # One more than there were: none stopped in a few hundred is no share of zero.
    usual, now = (before_stopped + 1) / (before + 1), stopped / decisions
    if now <= JUMP * usual:
        return []
    return [
        Found(
            "", f"{now:.1%} of decisions stop the payment, {now / usual:.1f} times the usual share."
        )
    ]


def _redis_down(seen: Seen) -> Judged:
    if seen.redis_problem is None:
        return []
    return [Found("", seen.redis_problem)] if seen.redis_problem else []


def _disk_nearly_full(seen: Seen) -> Judged:
    if seen.disk is None:
        return None
    folder, share = seen.disk
    if share < seen.disk_full_share:
        return []
    return [Found(folder, f"The disk of {folder} is {share:.0%} full.")]


def _labels_stopped(seen: Seen) -> Judged:
    if seen.labels_silent_us is None:
        return None
    if seen.labels_accepted_us is None:
        return []
    if seen.labels_silent_us <= seen.labels_accepted_us:
        return []
    silent, accepted = (_lasting(us) for us in (seen.labels_silent_us, seen.labels_accepted_us))
    return [Found("", f"No label has come for {silent}; {accepted} are accepted.")]


def _drift_found(seen: Seen) -> Judged:
    if seen.drift is None:
        return None
    return [Found(about, said) for about, said in seen.drift.items()]


def _label_drift_found(seen: Seen) -> Judged:
    if seen.label_drift is None:
        return None
    return [Found(about, said) for about, said in seen.label_drift.items()]


CONDITIONS: Final[Mapping[str, Callable[[Seen], Judged]]] = {
    "NoScorer": _no_scorer,
    "ScorerDown": _scorer_down,
    "SlowDecisions": _slow_decisions,
    "DegradedDecisions": _degraded_decisions,
    "RedisDown": _redis_down,
    "CommitFailures": _commit_failures,
    "ErrorAnswers": _error_answers,
    "StateFull": _state_full,
    "DiskNearlyFull": _disk_nearly_full,
    "StateNearlyFull": _state_nearly_full,
    "IndexBehind": _index_behind,
    "SnapshotsOld": _snapshots_old,
    "RegistryAway": _registry_away,
    "ChampionRefused": _champion_refused,
    "AlertShareJumped": _alert_share_jumped,
    "LabelsStopped": _labels_stopped,
    "DriftFound": _drift_found,
    "LabelDriftFound": _label_drift_found,
}
"""A condition for each alert of `sentinel.alerts.catalogue`."""


def _of_growth(seen: Seen, ill: Callable[[Growth], bool], words: Callable[[Growth], str]) -> Judged:
    """What holds of single scorers, by how their figures grew."""
    known = [(one.address, one.growth) for one in seen.scorers if one.growth is not None]
    if not known:
        return None
    return [Found(address, words(growth)) for address, growth in known if ill(growth)]


def _of_figures(seen: Seen, words: Callable[[Scraped], str]) -> Judged:
    """What holds of single scorers, by their figures: a sentence, or empty if all is well."""
    known = [(one.address, one.now) for one in seen.scorers if one.now is not None]
    if not known:
        return None
    return [Found(address, said) for address, now in known if (said := words(now))]


def _of_state(seen: Seen, share: float, words: Callable[[float], str]) -> Judged:
    def used(now: Scraped) -> str:
        budget = now.total("sentinel_state_budget_bytes")
        held = now.total("sentinel_state_held_bytes")
        return words(held / budget) if budget and held >= share * budget else ""

    return _of_figures(seen, used)


def _lasting(us: int) -> str:
    hours = us / (3_600 * SECOND_US)
    if hours >= 48:
        return f"{hours / 24:.1f} days"
    return f"{hours:.1f} hours" if hours >= 1 else f"{hours * 3600:.0f} seconds"
