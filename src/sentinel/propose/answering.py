"""The flags by which a user answers, and what they mean."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from sentinel.domain import ConfigurationError
from sentinel.propose.roles import Answers

ENTITY_FLAGS: Final[dict[str, str]] = {
    "--customer": "customer_id",
    "--card": "card_id",
    "--merchant": "merchant_id",
    "--device": "device_id",
    "--ip": "ip_address",
}
_LISTS: Final = {
    "--id": "id",
    "--time": "time",
    "--label-values": "fraud_values",
    "--use": "use",
    "--exclude": "exclude",
}
_TEXTS: Final = {
    "--time-format": "time_format",
    "--time-unit": "time_unit",
    "--start": "start",
    "--timezone": "timezone",
    "--amount": "amount",
    "--amount-unit": "amount_unit",
    "--currency": "currency",
    "--label": "label",
    "--encoding": "encoding",
}


def with_flags(answers: Answers, words: str) -> Answers:
    """Answers and the flags of a question.

    >>> with_flags(Answers(), "--time step --time-unit h").time_unit
    'h'
    """
    parts = shlex.split(words)
    given: dict[str, Any] = {}
    for flag, value in zip(parts[::2], parts[1::2], strict=True):
        given[flag] = value
    return answers_of(given, answers)


def flags_of(answers: Answers) -> str:
    """The flags that say what was answered, as words of a shell command.

    >>> flags_of(answers_of({"--time": ["day", "clock"], "--card": "none", "--currency": "TRY"}))
    '--time day --time clock --currency TRY --card none'
    """
    words: list[str] = []
    for flag, name in _LISTS.items():
        for value in getattr(answers, name):
            words += [flag, value]
    for flag, name in _TEXTS.items():
        if getattr(answers, name):
            words += [flag, getattr(answers, name)]
    if answers.delay_days is not None:
        words += ["--label-delay", f"{answers.delay_days:g}"]
    for flag, entity in ENTITY_FLAGS.items():
        if entity in answers.entities:
            for value in answers.entities[entity] or ("none",):
                words += [flag, value]
    return shlex.join(words)


def answers_of(given: Mapping[str, Any], before: Answers | None = None) -> Answers:
    """Answers from flags and their values.

    Args:
        given: A flag such as ``--id`` to a text, or to several for those that take columns.
        before: What was said earlier; flags that are not given stay as they are.

    Raises:
        ConfigurationError: A value is not allowed.
    """
    before = before or Answers()
    changes: dict[str, Any] = {}
    entities = dict(before.entities)
    for flag, value in given.items():
        if value is None or value == []:
            continue
        if flag in ENTITY_FLAGS:
            columns = _columns(value)
            entities[ENTITY_FLAGS[flag]] = () if columns == ("none",) else columns
        elif flag in _LISTS:
            changes[_LISTS[flag]] = _columns(value)
        elif flag in _TEXTS:
            changes[_TEXTS[flag]] = str(value)
        elif flag == "--label-delay":
            changes["delay_days"] = float(value)
    answers = replace(before, entities=entities, **changes)
    for flag, value, allowed in (
        ("--time-unit", answers.time_unit, ("s", "ms", "us", "ns", "min", "h", "d")),
        ("--amount-unit", answers.amount_unit, ("major", "minor")),
    ):
        if value and value not in allowed:
            raise ConfigurationError(f"{flag} {value!r} is unknown; allowed: {', '.join(allowed)}.")
    return answers


def _columns(value: str | Sequence[str]) -> tuple[str, ...]:
    """One column, or several given one by one."""
    return (value,) if isinstance(value, str) else tuple(value)
