"""Experiments judged from the log, and what follows: a promotion, or the end of one."""

from __future__ import annotations

import logging
import time
from bisect import bisect_right
from collections.abc import Callable, Collection
from functools import partial
from typing import Final

import msgspec

from sentinel.domain import (
    ConfigurationError,
    GateWaits,
    LedgerUnavailable,
    NotFound,
    WorkspaceError,
)
from sentinel.experiments.assignment import unit_of
from sentinel.experiments.growth import told_steps
from sentinel.experiments.judgement import ExperimentState, Judgement, judge
from sentinel.experiments.judging import Rules
from sentinel.experiments.lineup import Experiment, LineUp, require, stopped
from sentinel.experiments.observed import Observed, Observing
from sentinel.experiments.store import change_line_up, open_line_ups
from sentinel.features.plan.plan import DAY_US
from sentinel.ledger.base import Ledger
from sentinel.ledger.log import sequence_before
from sentinel.log.entries import GroupKind, decode_decisions, decode_labels
from sentinel.models.champion import champion_of
from sentinel.pipeline.labelled_payments import maturity_us
from sentinel.pipeline.promotion import Promoted, promote_challenger
from sentinel.pipeline.role_aliases import tell_roles
from sentinel.pipeline.workspace import ledger_reader
from sentinel.settings import Settings

log = logging.getLogger(__name__)

MOST_VERSIONS: Final = 2_000
"""Versions of the line-up that are looked back for shares of an experiment."""
SETTLED_BY: Final = "sentinel experiment settle"
LATEST_SECONDS: Final = 600
"""A model that scored none of the payments of so many seconds, the last of the log, is not
served."""
TAKEN_SECONDS: Final = 60
"""What a scorer may take to follow the start of an experiment."""
SILENT_DAYS: Final = 7
"""Days of the log in which payments were decided and a challenger's model scored none of them,
after which it is taken not to run."""


class Settled(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an experiment.

    Attributes:
        name: Of it.
        verdict, why: See `Judgement`.
        action: "promoted", "waits" (for approval, or since the champion changed meanwhile),
            "stopped" or "none".
    """

    name: str
    verdict: str
    why: str
    action: str


def status(settings: Settings, name: str, *, now_us: int | None = None) -> ExperimentState:
    """What is known of an experiment, running or not.

    Args:
        settings: The deployment.
        name: Of it.
        now_us: The clock for the maturity of labels, microseconds UTC; default: the end of the
            log.

    Raises:
        NotFound: There never was one of that name.
        WorkspaceError, LedgerUnavailable: The log or the line-up cannot be read.
    """
    history = _history(settings)
    found, running = _latest(history, name)
    ended = None if running else _end(history, found)
    judgement = None
    if found.kind == "challenger" and running:
        judgement = _judged(settings, history, found, now_us)
    elif found.kind == "challenger":
        until_us = None if ended is None else ended.at_us
        observed = observe(settings, history, found, now_us, until_us=until_us)
        judgement = judge(observed, rules_of(settings))
    return ExperimentState(
        experiment=found,
        running=running,
        share=found.share_at(time.time_ns() // 1_000) if running else 0.0,
        ended_by="" if ended is None else ended.by,
        ended_why="" if ended is None else ended.why,
        judgement=judgement,
        not_served=_not_served(settings, found, now_us) if running else "",
    )


def rules_of(settings: Settings) -> Rules:
    """When experiments of a deployment are decided."""
    return Rules(most_days=settings.experiments.most_days)


def _judged(
    settings: Settings, history: list[LineUp], experiment: Experiment, now_us: int | None
) -> Judgement:
    """A challenger that is in the line-up, judged; one whose model does not run is to be ended."""
    said = judge(observe(settings, history, experiment, now_us), rules_of(settings))
    if said.verdict != "wait" or not _scores_nothing(settings, experiment, now_us):
        return said
    why = (
        f"Version {experiment.version} has scored no payment in the last {SILENT_DAYS} days of the "
        "log, so that nothing more will be known of it. `GET /experiments` says why it does not "
        "run."
    )
    return msgspec.structs.replace(said, verdict="stop", why=why, days_missing=None)


def _scores_nothing(settings: Settings, experiment: Experiment, now_us: int | None) -> bool:
    """Whether payments were decided for days, and an experiment's model scored none of them."""
    with ledger_reader(settings) as ledger:
        end_us = ledger.last_received_at_us() + 1 if now_us is None else now_us
        start_us = end_us - SILENT_DAYS * DAY_US
        return experiment.started_at_us <= start_us and _none_scored(ledger, experiment, start_us)


def _not_served(settings: Settings, experiment: Experiment, now_us: int | None) -> str:
    """That a model does not run which would score all of the latest payments; empty if it does."""
    if experiment.kind == "segment" or experiment.sample < 1.0:
        return ""  # some payments are not for it
    try:
        with ledger_reader(settings) as ledger:
            end_us = ledger.last_received_at_us() + 1 if now_us is None else now_us
            taken_us = experiment.started_at_us + TAKEN_SECONDS * 1_000_000
            start_us = max(end_us - LATEST_SECONDS * 1_000_000, taken_us)
            if start_us >= end_us or not _none_scored(ledger, experiment, start_us):
                return ""
    except WorkspaceError:
        return ""  # there is no log yet
    grows = " Its share does not grow meanwhile." if experiment.canary is not None else ""
    return (
        f"Version {experiment.version} is not served: it has scored none of the latest payments."
        f"{grows} `GET /experiments` says why."
    )


def _none_scored(ledger: Ledger, experiment: Experiment, start_us: int) -> bool:
    """Whether payments were decided from a moment on, and an experiment scored none of them."""
    decided = False
    for group in ledger.groups(sequence_before(ledger, start_us, ledger.last_sequence())):
        if group.kind != GroupKind.DECISIONS or group.received_at_us < start_us:
            continue
        roles = decode_decisions(group.payload).columns.roles
        if any(role.role == experiment.name for role in roles):
            return False
        decided = True
    return decided


def observe(
    settings: Settings,
    history: list[LineUp],
    experiment: Experiment,
    now_us: int | None = None,
    *,
    until_us: int | None = None,
) -> Observed:
    """Read the log for an experiment, from its start, or from that of the champion, on.

    Args:
        settings: The deployment.
        history: Versions of the line-up, newest first.
        experiment: A challenger.
        now_us: See `status`.
        until_us: When it ended; None if it runs. It is compared with the champion of that time.
    """
    with ledger_reader(settings) as ledger:
        last = ledger.last_sequence()
        end_us = ledger.last_received_at_us() + 1 if now_us is None else now_us
        after = sequence_before(ledger, experiment.started_at_us, last)
        begin = partial(
            Observing,
            experiment.name,
            shares(history, experiment),
            _labels(ledger, after).get,
            maturity_us=maturity_us(settings),
            now_us=end_us,
            unit_of=unit_of,
        )
        reading, champion = begin(), ""
        for group in ledger.groups(after):
            if group.first_sequence > last:
                break
            if group.kind != GroupKind.DECISIONS or group.received_at_us < experiment.started_at_us:
                continue
            if until_us is not None and group.received_at_us > until_us:
                break
            decided = decode_decisions(group.payload)
            if decided.model_version == experiment.version:
                continue  # it has become the champion
            if decided.model_version != champion:
                reading, champion = begin(), decided.model_version
            reading.add(decided, group.floor_us)
    serving = champion_of(settings) if until_us is None else None
    if serving is not None and champion and serving.version != champion:
        return begin().result()  # it was promoted after the last payment: nothing is known of it
    return reading.result()


def shares(
    history: list[LineUp], experiment: Experiment
) -> Callable[[int, Collection[str]], float]:
    """The challenger's chance to decide at a time, among payments that it or the champion decides.

    Challengers that were asked before it take their payments first, and do not change that
    chance; those after it take a part of what would be the champion's.

    Args:
        history: Versions of the line-up, newest first.
        experiment: A challenger.

    Returns:
        A function of microseconds UTC and of the experiments that scored then: one of the line-up
        that does not run takes nothing.
    """
    versions = [
        one
        for one in reversed(history)
        if any(_is_same(other, experiment) for other in one.experiments)
    ]
    starts = [one.at_us for one in versions]
    steps = told_steps(history)

    def share_of(one: Experiment, at_us: int) -> float:
        told = steps.get((one.name, one.started_at_us))
        if one.canary is not None and told is not None:
            canary = msgspec.structs.replace(one.canary, grew_at_us=told)
            one = msgspec.structs.replace(one, canary=canary)
        return one.share_at(at_us)

    def share_at(at_us: int, ran: Collection[str]) -> float:
        line_up = versions[max(bisect_right(starts, at_us) - 1, 0)]
        rest, own = 1.0, None
        for other in line_up.experiments:
            if _is_same(other, experiment):
                own = share_of(other, at_us)
            elif own is not None and other.kind == "challenger" and other.name in ran:
                rest *= 1.0 - share_of(other, at_us)
        assert own is not None
        return own / (own + (1.0 - own) * rest)

    return share_at


def promote_experiment(
    settings: Settings, name: str, *, by: str, why: str, instead_of: str | None = None
) -> Promoted:
    """Make a challenger the champion, and end its experiment.

    Args:
        settings: The deployment.
        name: Of the experiment.
        by, why: Who does it, and why.
        instead_of: The champion that it was judged against; None for whichever serves.

    Raises:
        NotFound: It does not run.
        GateWaits: Another champion serves by now, the version awaits approval, or the experiment
            was stopped before it became champion.
        ConfigurationError: Its model never decided on a payment, so nothing was judged.
        LedgerUnavailable: The line-up cannot be changed from here; nothing was promoted.
        ModelNotSigned, NoModel, Unavailable: See `sentinel.pipeline.promotion`.
    """
    history = _history(settings)
    experiment = require(history[0] if history else LineUp(), name)
    if experiment.kind != "challenger":
        raise ConfigurationError(
            f"Experiment {name!r} is a {experiment.kind}: it shares no payments with the champion "
            f"by chance, so nothing says which one is better. Start version {experiment.version} "
            "as a challenger, or put it through the gate: `sentinel promote "
            f"{experiment.version}`."
        )
    _require_right_to_change(settings, name)
    promoted = promote_challenger(
        settings,
        experiment.version,
        instead_of=instead_of,
        by=by,
        why=why,
        experiment=name,
        require_wanted=partial(_require_running, settings, experiment),
    )
    end_experiment(settings, experiment, by=by, why=why)
    return promoted


def _require_running(settings: Settings, experiment: Experiment) -> None:
    """See that nobody has stopped an experiment since its promotion began.

    Raises:
        GateWaits: It runs no more, or another one has its name.
    """
    history = _history(settings)
    found = history[0].find(experiment.name) if history else None
    if found is not None and _is_same(found, experiment):
        return
    ended = _end(history, experiment)
    who = "somebody" if ended is None else ended.by or "somebody"
    why = "no reason" if ended is None else ended.why or "no reason"
    raise GateWaits(
        f"Experiment {experiment.name!r} was stopped by {who} while version {experiment.version} "
        f"was being promoted: {why}. The champion stays. If version {experiment.version} is to be "
        "champion all the same, put it through the gate: `sentinel promote "
        f"{experiment.version}`."
    )


def _require_right_to_change(settings: Settings, name: str) -> None:
    """See that the line-up can be written, before a champion is made that is still in it."""
    store = open_line_ups(settings)
    try:
        store.add(lambda _: None)
    except LedgerUnavailable as error:
        raise LedgerUnavailable(
            f"{error} A promotion ends the experiment, so nothing was promoted. Where scorers may "
            f"only read the line-up, use `sentinel experiment promote {name}` as the role that "
            "owns the ledger."
        ) from None
    finally:
        store.close()


def promote_judged(
    settings: Settings, name: str, *, by: str, why: str = "", force: bool = False
) -> Promoted:
    """Make a challenger the champion because somebody says so, if it was shown to be better.

    Args:
        settings: The deployment.
        name: Of the experiment.
        by, why: Who does it, and why; without a reason, that of the judgement is kept.
        force: Whether to promote although it was not shown to be better.

    Raises:
        GateWaits: It was not shown to be better.
        SentinelError: See `promote_experiment`.
    """
    champion = champion_of(settings)
    said = status(settings, name).judgement
    if said is not None and said.verdict != "promote" and not force:
        raise GateWaits(
            f"Experiment {name!r} says {said.verdict}: {said.why} `--force` (over HTTP: force=true)"
            " promotes its version all the same."
        )
    reason = why or ("by hand" if said is None else said.why)
    judged_against = None if champion is None else champion.version
    return promote_experiment(settings, name, by=by, why=reason, instead_of=judged_against)


def end_experiment(settings: Settings, experiment: Experiment, *, by: str, why: str) -> None:
    """Take an experiment out of the line-up; nothing if it is there no more."""

    def without(line_up: LineUp) -> LineUp:
        found = require(line_up, experiment.name)
        if not _is_same(found, experiment):
            raise NotFound(f"Another experiment {experiment.name!r} runs.")
        return stopped(line_up, experiment.name)

    try:
        change_line_up(settings, without, by=by, why=why, at_us=time.time_ns() // 1_000)
    except NotFound:
        return
    tell_roles(settings)


def settle(
    settings: Settings, *, now_us: int | None = None, dry_run: bool = False
) -> list[Settled]:
    """Judge all challengers, promote those that are better, and end what will never be.

    The first that is better is promoted; others are judged against the new champion from then on,
    so that they start anew. Run it daily.

    Args:
        settings: `experiments.promote` and `experiments.stop` say what it may do by itself.
        now_us: See `status`.
        dry_run: Only say what would be done.
    """
    history, found = _history(settings), []
    line_up = history[0] if history else LineUp()
    promoted = False
    for experiment in line_up.experiments:
        if experiment.kind != "challenger":
            continue
        serving = champion_of(settings)
        if serving is not None and serving.version == experiment.version:
            found.append(_is_champion(settings, experiment, dry_run=dry_run))
            continue
        said = _judged(settings, history, experiment, now_us)
        action = "none"
        if said.verdict == "promote" and settings.experiments.promote and not promoted:
            action, promoted = "promoted", True
            if not dry_run:
                instead_of = None if serving is None else serving.version
                try:
                    promote_experiment(
                        settings,
                        experiment.name,
                        by=SETTLED_BY,
                        why=said.why,
                        instead_of=instead_of,
                    )
                except GateWaits as error:
                    log.warning("%s", error)
                    action, promoted = "waits", False
        elif said.verdict in ("keep", "stop") and settings.experiments.stop:
            action = "stopped"
            if not dry_run:
                end_experiment(settings, experiment, by=SETTLED_BY, why=said.why)
        found.append(
            Settled(name=experiment.name, verdict=said.verdict, why=said.why, action=action)
        )
    return found


def _is_champion(settings: Settings, experiment: Experiment, *, dry_run: bool) -> Settled:
    """End the experiment of a version that has become champion by another way."""
    why = f"Version {experiment.version} is the champion."
    if not dry_run:
        end_experiment(settings, experiment, by=SETTLED_BY, why=why)
    return Settled(name=experiment.name, verdict="stop", why=why, action="stopped")


def _history(settings: Settings) -> list[LineUp]:
    store = open_line_ups(settings)
    try:
        return store.history(MOST_VERSIONS)
    finally:
        store.close()


def _is_same(one: Experiment, other: Experiment) -> bool:
    return one.name == other.name and one.started_at_us == other.started_at_us


def _latest(history: list[LineUp], name: str) -> tuple[Experiment, bool]:
    """The last experiment of a name, and whether it runs."""
    for place, line_up in enumerate(history):
        found = line_up.find(name)
        if found is not None:
            return found, place == 0
    names = ", ".join(dict.fromkeys(e.name for one in history for e in one.experiments)) or "none"
    raise NotFound(f"There never was an experiment {name!r}. There were: {names}.")


def _end(history: list[LineUp], experiment: Experiment) -> LineUp | None:
    """The version that took an experiment out."""
    last = None
    for line_up in history:
        if any(_is_same(one, experiment) for one in line_up.experiments):
            return last
        last = line_up
    return last


def _labels(ledger: Ledger, after: int) -> dict[str, tuple[bool, int]]:
    """What labels say of payments, and when each was first called what it is."""
    said: dict[str, tuple[bool, int]] = {}
    for group in ledger.groups(after):
        if group.kind != GroupKind.LABELS:
            continue
        for label in decode_labels(group.payload).labels:
            fraud = label.verdict == "fraud"
            before = said.get(label.transaction_id)
            if before is None or before[0] != fraud:
                said[label.transaction_id] = fraud, label.received_at_us
    return said
