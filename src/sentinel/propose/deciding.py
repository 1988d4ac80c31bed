"""From a table's profile to all roles: the order in which they are decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sentinel.domain import ConfigurationError
from sentinel.ingest.names import secret_of
from sentinel.propose import names
from sentinel.propose.amounts import ask_about_currencies, choose_amount
from sentinel.propose.attributes import choose_attributes
from sentinel.propose.entities import choose_entities
from sentinel.propose.ids import choose_id
from sentinel.propose.known import Known, recognise, with_known
from sentinel.propose.labels import choose_label, choose_outcome
from sentinel.propose.leaks import find_leaks, mostly_in_frauds
from sentinel.propose.profile import TableProfile
from sentinel.propose.roles import Answers, Label, Leak, Roles, Time
from sentinel.propose.time_formats import (
    ambiguous,
    history_days,
    moments,
    names_no_zone,
    resolution_seconds,
    time_of,
)
from sentinel.propose.times import choose_time
from sentinel.propose.windows import label_delay_days
from sentinel.sources.columns import mask_of
from sentinel.sources.mapping_file import suggestion

_ARRIVAL_SHARE = 0.9
_MOSTLY_FRAUD = 0.5
_ALL_TOLD = 0.5
"""A file of labels that is about so many of the payments means each one."""
_DECLINED = {"decline", "declined", "refusal", "refused", "rejection", "rejected"}
_WHY = {"reason", "code", "message"}
_UNDONE = {"reversal", "reversed", "refund", "refunded", "chargeback", "dispute", "disputed"}
_TRUTH_WORDS = {"chargeback", "dispute", "fraud", "reported", "report", "confirmed", "label"}


def decide(
    profile: TableProfile,
    answers: Answers,
    *,
    label: Label | None = None,
    verdicts: Mapping[str, str] | None = None,
    cases: TableProfile | None = None,
) -> Roles:
    """Decide what every column of a table is for.

    Args:
        profile: Of the table.
        answers: What the user said.
        label: Where the truth is, if it has a file of its own.
        verdicts: Ids to verdicts of that file, for the sampled payments.
        cases: The first rows of that file, if it is a table.

    Raises:
        ConfigurationError: An answer names a column that is not there.
    """
    secret = {name: holds for name in profile.columns if (holds := secret_of(name)) is not None}
    _check(answers, profile, secret)
    known = recognise(profile.columns)
    shown = {name: column for name, column in profile.columns.items() if name not in secret}
    profile = replace(profile, columns=shown)
    told = with_known(answers, known, profile.columns)
    roles = Roles(profile, known=known.name if known else "", label=label)
    for name, holds in secret.items():
        roles.left_out[name] = f"holds {holds} by its name, which must not be stored"
    if known:
        roles.notes += known.notes
    choose_time(roles, told)
    choose_label(roles, told)
    if roles.label is not None and not roles.label.path and roles.label.share > _MOSTLY_FRAUD:
        roles.notes.append(
            f"{roles.label.share:.0%} of the payments would be frauds: check what "
            f"{roles.label.column!r} means."
        )
    choose_id(roles, told, label.joined_by if label else "")
    choose_amount(roles, told)
    ask_about_currencies(roles)
    if roles.time is not None:
        roles.days = history_days(profile, roles.time)
    choose_outcome(roles)
    choose_entities(roles, told)
    _credit(roles, answers, told, known)
    _arrival(roles)
    _arrival_of_cases(roles, cases)
    choose_attributes(roles, told)
    _leave_out_late(roles, answers, known, verdicts)
    _delay(roles, answers)
    _broken_cells(roles)
    if roles.time is not None and names_no_zone(roles.profile, roles.time):
        roles.notes.append(
            "The times name no zone and are read as UTC. If they are local, say so with "
            "--timezone Area/City: the hour of the day, and what comes in live, go by it."
        )
    return roles


def _broken_cells(roles: Roles) -> None:
    """Say which cells of columns of numbers hold none."""
    attributes = {one.column for one in roles.attributes}
    for name, column in roles.profile.columns.items():
        if not column.odd or name in roles.left_out:
            continue
        amount = roles.amount is not None and roles.amount.column == name
        if not amount and name not in attributes:
            continue
        rejected = amount or column.odd_words_left_out
        becomes = (
            "the import lists their rows among the rejects" if rejected else "they are unknown"
        )
        roles.notes.append(
            f"Broken values of {name!r}: {column.odd:,} of {column.given:,}, such as "
            f"{column.odd_words[0]!r}; {becomes}."
        )


def truth(
    roles: Roles, verdicts: Mapping[str, str] | None = None
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]] | None:
    """Which payments of the sample were fraud, and for which that is known; None without labels."""
    label, profile = roles.label, roles.profile
    if label is None:
        return None
    if label.path:
        if not verdicts or roles.id is None or len(roles.id.columns) != 1:
            return None
        ids = profile.texts(roles.id.columns[0])
        said = pa.array([verdicts.get(item) for item in ids.to_pylist()], pa.string())
    else:
        said = profile.texts(label.column)
    fraud = pc.is_in(said, pa.array(list(label.fraud_values), pa.string()))
    undecided = pc.is_in(said, pa.array(list(label.undecided_values), pa.string()))
    known = pc.invert(undecided)
    told = pc.is_valid(said)
    if label.path and mask_of(told).mean() >= _ALL_TOLD:
        known = pc.and_(known, told)  # else it is a list of cases, and the others are good
    return (
        np.asarray(fraud.to_numpy(zero_copy_only=False), np.bool_),
        np.asarray(known.to_numpy(zero_copy_only=False), np.bool_),
    )


def step_seconds(roles: Roles) -> float:
    """The step in which the payments' times are told."""
    return resolution_seconds(roles.profile, roles.time) if roles.time else 1.0


def _check(answers: Answers, profile: TableProfile, secret: Mapping[str, str]) -> None:
    """Refuse answers that name columns which are not there, or must not be stored."""
    flags = {
        "--id": answers.id if answers.id != ("row",) else (),
        "--time": answers.time,
        "--amount": (answers.amount,) if answers.amount not in ("", "none") else (),
        "--label": (answers.label,) if answers.label not in ("", "none") else (),
        "--use": answers.use,
        "--exclude": answers.exclude,
        **{
            f"--{entity.partition('_')[0]}": columns for entity, columns in answers.entities.items()
        },
    }
    for flag, columns in flags.items():
        for column in columns:
            if column in secret and flag != "--exclude":
                raise ConfigurationError(
                    f"{flag} names the column {column!r}, which holds {secret[column]} by its name "
                    "and must not be stored. If it holds something else, rename it in the data."
                )
            if column not in profile.columns:
                hint = suggestion(column, profile.columns)
                there = ", ".join(list(profile.columns)[:12])
                raise ConfigurationError(
                    f"{flag} names the column {column!r}, which {profile.name} does not have"
                    + (hint or f"; its columns: {there}.")
                )


def _credit(roles: Roles, answers: Answers, told: Answers, known: Known | None) -> None:
    """Say of what is known of a public data set that it is, not that the user said it."""
    if known is None:
        return
    why = "known of this data set"
    if roles.id and not answers.id and told.id:
        roles.id = replace(roles.id, reason=why)
    if roles.time and not answers.time and told.time:
        roles.time = replace(roles.time, reason=why)
    if roles.amount and not answers.amount and told.amount:
        roles.amount = replace(roles.amount, reason=why)
    if roles.label and not answers.label and told.label:
        reason = roles.label.reason.replace("as you said", why)
        roles.label = replace(roles.label, reason=reason)
    roles.entities = tuple(
        entity
        if entity.entity in answers.entities
        else replace(entity, reason=entity.reason.replace("as you said", why))
        for entity in roles.entities
    )


def _arrival(roles: Roles) -> None:
    """The column that says when a fraud became known, if there is one."""
    if roles.label is None or roles.label.path or roles.time is None:
        return
    found = truth(roles)
    if found is None:
        return
    fraud, _ = found
    paid = moments(roles.profile, roles.time)
    for name in roles.profile.columns:
        if name in roles.used() or not names.has(name, _TRUTH_WORDS):
            continue
        time = time_of(roles.profile, name)
        if time is None:
            continue
        pattern = time.format if isinstance(time.format, str) else time.format[0]
        time = Time(time.columns, pattern, time.unit)
        arrived = moments(roles.profile, time)
        given = np.isfinite(arrived)
        if not fraud.any() or given[fraud].mean() < _ARRIVAL_SHARE:
            continue
        delay = (arrived - paid)[given & fraud]
        if np.nanmedian(delay) <= 0:
            continue
        days = float(np.nanquantile(delay, 0.75) / 86_400)
        missing = bool((fraud & ~given).any())
        roles.label_days = days
        roles.label = replace(
            roles.label,
            arrival=time,
            delay_days=round(days, 1) if missing else roles.label.delay_days,
        )
        return


def _arrival_of_cases(roles: Roles, cases: TableProfile | None) -> None:
    """The column of a file of labels that says when each became known, if there is one.

    Of several it is the latest: what a row says may have been written then.
    """
    label, paid_at = roles.label, roles.time
    if cases is None or label is None or paid_at is None or not label.transaction_id:
        return
    paid = moments(roles.profile, paid_at)
    paid_of = dict(
        zip(roles.profile.texts(label.joined_by).to_pylist(), paid.tolist(), strict=True)
    )
    about = [paid_of.get(name, np.nan) for name in cases.texts(label.transaction_id).to_pylist()]
    said = cases.texts(label.column) if label.column else None
    open_cases = (
        pc.is_in(said, pa.array(list(label.undecided_values), pa.string())) if said else None
    )
    counted = np.isfinite(about)
    if open_cases is not None:
        counted &= ~np.asarray(open_cases.to_numpy(zero_copy_only=False), np.bool_)
    best: tuple[float, float, Time] | None = None
    for name, column in cases.columns.items():
        found = None if name == label.transaction_id else time_of(cases, name)
        if found is None or column.constant:
            continue
        patterns = ambiguous(found) or (found.format,)
        for pattern in patterns:
            time = replace(found, format=pattern, timezone=paid_at.timezone, reason="")
            delay = (moments(cases, time) - np.array(about))[counted]
            given = np.isfinite(delay)
            if not given.any() or given.mean() < _ARRIVAL_SHARE:
                continue
            # Days may be told without their hour.
            after = float((delay[given] > -86_400).mean())
            typical = float(np.median(delay[given]))
            if after >= _ARRIVAL_SHARE and typical > 0 and (best is None or typical > best[0]):
                best = (typical, float(np.quantile(delay[given], 0.75)), time)
    if best is not None:
        days, time = best[1] / 86_400, best[2]
        missing = any(cases.columns[name].given < cases.rows for name in time.columns)
        roles.label_days = days
        delay = round(days, 1) if missing else label.delay_days
        roles.label = replace(label, arrival=time, delay_days=delay)


def _leave_out_late(
    roles: Roles, answers: Answers, known: Known | None, verdicts: Mapping[str, str] | None
) -> None:
    """Find the suspects and take them out, unless the user takes them in."""
    suspects = {leak.column: leak for leak in roles.leaks}
    for column, why in roles.left_out.items():
        if why.startswith("known too late"):
            suspects.setdefault(column, Leak(column, why.removeprefix("known too late: ")))
    if known is not None:
        for column, why in known.late.items():
            if column in roles.profile.columns:
                suspects.setdefault(column, Leak(column, why))
    for attribute in roles.attributes:
        words = set(names.words_of(attribute.column))
        if words & _DECLINED and words & _WHY:
            why = "why the system before declined, known after the decision"
            suspects.setdefault(attribute.column, Leak(attribute.column, why))
        if words & _UNDONE and words & _WHY:
            why = "by its name of what became of the payment later"
            suspects.setdefault(attribute.column, Leak(attribute.column, why))
    found = truth(roles, verdicts)
    core = roles.used() - set(roles.left_out)
    if roles.outcome is not None:
        core.discard(roles.outcome.column)
    looked_at = [
        name
        for name, column in roles.profile.columns.items()
        if name not in core and column.given and not column.constant and not column.steady
    ]
    if found is not None and found[0].any():
        for leak in find_leaks(roles, looked_at, *found):
            suspects.setdefault(leak.column, leak)
    roles.leaks = tuple(suspects.values())
    out = {name: leak for name, leak in suspects.items() if name not in answers.use}
    for name, leak in out.items():
        if not roles.left_out.get(name, "").startswith("known too late"):
            roles.left_out[name] = f"known too late: {leak.reason}"
    roles.attributes = tuple(a for a in roles.attributes if a.column not in out)
    if found is not None:
        taken = [a.column for a in roles.attributes if a.column not in answers.use]
        doubt = mostly_in_frauds(roles.profile, taken, *found)
        roles.notes[:0] = [doubt] if doubt else []
    said = [a.column for a in roles.attributes if names.has(a.column, names.PREDICTED)]
    said = [name for name in said if name not in answers.use]
    if said:
        roles.notes.append(
            f"By name {', '.join(map(repr, said))} hold{'s' if len(said) == 1 else ''} what a "
            "model said of the payment: leave it out with --exclude unless it is known before the "
            "decision."
        )
    if roles.outcome is not None and roles.outcome.column in out:
        roles.outcome = None


def _delay(roles: Roles, answers: Answers) -> None:
    """Where the data does not tell when labels arrive, a delay is assumed and said."""
    label = roles.label
    if label is None or label.arrival is not None or roles.time is None:
        return
    told = answers.delay_days
    days = label_delay_days(roles.days) if told is None else told
    roles.label = replace(label, delay_days=days, delay_told=told is not None)
    roles.label_days = days
