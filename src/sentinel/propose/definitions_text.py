"""A proposal as feature definitions: one line is a family of windows."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Final

from sentinel.propose.roles import Attribute, Entity, Roles
from sentinel.propose.windows import (
    DAY_SECONDS,
    HOUR_SECONDS,
    Windows,
    choose_windows,
    rate_offset,
)

_NAMES: Final = {
    "customer_id": "customer",
    "card_id": "card",
    "merchant_id": "merchant",
    "device_id": "device",
    "ip_address": "ip",
}
_TITLES: Final = {"ip": "IP address"}
_PAYERS: Final = ("customer_id", "card_id")
_NAMED: Final = {
    HOUR_SECONDS: "HOUR",
    DAY_SECONDS: "DAY",
    7 * DAY_SECONDS: "WEEK",
    30 * DAY_SECONDS: "MONTH",
    90 * DAY_SECONDS: "QUARTER",
}
_CAPACITY: Final = 32


def definitions_text(roles: Roles, resolution_seconds: float) -> str:
    """The text of ``definitions.py``.

    Args:
        roles: What was decided.
        resolution_seconds: Step in which times are told.
    """
    views: list[str] = []
    body: list[str] = []
    windows = {
        entity.entity: chosen
        for entity in roles.entities
        if (chosen := _windows(roles, entity, resolution_seconds)) is not None
    }
    keyed = [entity for entity in roles.entities if entity.entity in windows]
    if keyed:
        names = [_NAMES[entity.entity] for entity in keyed]
        body += [f'{name} = entity("{name}")' for name in names] + [""]
    rates = rate_offset(roles)
    if rates and keyed:
        body += [
            *_comment(
                "Labels take days to arrive, so a fraud rate up to now is too low: rates end this "
                "long ago."
            ),
            f"MATURE = {_duration(rates)}",
            "",
        ]
    for entity in keyed:
        body += _entity_view(roles, entity, windows[entity.entity], keyed, rates)
        views.append(f"{_NAMES[entity.entity]}_features")
    for first, second in _pairs(keyed):
        body += _pair_view(first, second, windows)
        views.append(f"{_NAMES[first.entity]}_{_NAMES[second.entity]}_features")
    body += _request_view(roles, resolution_seconds)
    views.append("request_features")
    body += [
        "fraud_detection_v1 = vector(",
        '    "fraud_detection_v1",',
        *(f"    {view}," for view in views),
        ")",
        "",
        *_comment(
            "Every transaction with its vector, for look-ups of what other machines imported."
        ),
        'transaction_history = history_view(entity("transaction"))',
    ]
    text = "\n".join(body)
    head = [
        f'"""The features of {roles.profile.name}, as `sentinel propose` wrote them.',
        "",
        "To change a feature: edit here, look at `sentinel features plan`, then run `sentinel",
        "features apply`. A line is a family, one feature for each of its windows. Once you have",
        "edited this file it is not overwritten.",
        '"""',
        "",
        *_imports(text),
        "",
        "transactions = payments()",
    ]
    return "\n".join([*head, *body]) + "\n"


def _windows(roles: Roles, entity: Entity, resolution_seconds: float) -> Windows | None:
    if hardly_recurs(roles, entity) or roles.days <= 0:
        return None
    return choose_windows(roles.days, resolution_seconds, entity.typical_count)


def hardly_recurs(roles: Roles, entity: Entity) -> bool:
    """Whether nearly every payment has an entity of its own."""
    return entity.distinct > 0.95 * roles.profile.rows and entity.typical_count < 2


def without_windows(roles: Roles, resolution_seconds: float) -> list[Entity]:
    """Entities that get no windows, since they hardly recur or the history is too short."""
    return [e for e in roles.entities if _windows(roles, e, resolution_seconds) is None]


def _entity_view(
    roles: Roles, entity: Entity, windows: Windows, keyed: Sequence[Entity], rates: float
) -> list[str]:
    name = _NAMES[entity.entity]
    families = [f"count({_durations(windows.counts)})"]
    ratios: list[str] = []
    usual = windows.usual
    longest = usual[-1]
    if roles.amount is not None and roles.amount.column:
        families += [
            f'amount("sum", {_durations(windows.sums)})',
            f'amount("mean", {_durations(usual)})',
            f'amount("std", {_durations(usual[-1:])})',
            f'amount("max", {_durations(usual)})',
        ]
        means = [f'"amount_mean_{_label(w)}"' for w in usual]
        ratios.append(f'ratio("amount", to=[{", ".join(means)}, "amount_max_{_label(longest)}"])')
        if windows.before:
            families.append(
                f"*(amount(f, {_duration(longest)}, offset={_duration(windows.before)}, "
                'span="usual") '
                'for f in ("mean", "max"))'
            )
            ratios.append('ratio("amount", to=["amount_mean_usual", "amount_max_usual"])')
    families.append(f"since_last({_duration(windows.longest)})")
    others = [e for e in keyed if e.entity != entity.entity and not _within(e, entity)]
    for other in others:
        spans = tuple(dict.fromkeys([w for w in (DAY_SECONDS, longest) if w <= windows.longest]))
        families.append(
            f'distinct("{other.entity}", {_durations(spans or windows.counts[-1:])}, '
            f"capacity={_CAPACITY})"
        )
    if roles.label is not None:
        families.append(f"fraud_count({_durations(usual)})")
        fitting = [w for w in usual if w + rates < 0.95 * roles.days * DAY_SECONDS]
        if fitting:
            offset = ", offset=MATURE" if rates else ""
            families.append(f"fraud_rate({_durations(fitting)}{offset})")
    if len(windows.counts) > 1 and windows.counts[0] != windows.counts[-1]:
        burst = next((w for w in windows.counts if w >= DAY_SECONDS), windows.counts[0])
        if burst != windows.counts[-1]:
            ratios.append(
                f'ratio("count_{_label(burst)}", to="count_{_label(windows.counts[-1])}")'
            )
    return [
        *_comment(
            f"{_TITLES.get(name, name.capitalize())} ({', '.join(entity.columns)}): "
            f"{entity.distinct:,} of them, each {windows.reason}."
        ),
        f"{name}_features = entity_view(",
        f'    "{name}",',
        f"    {name},",
        *(f"    {family}," for family in (*families, *ratios)),
        "    source=transactions,",
        ")",
        "",
    ]


def _within(one: Entity, other: Entity) -> bool:
    """Whether one entity's columns are part of the other's: there is only one of it for each."""
    return set(one.columns) < set(other.columns)


def _pairs(keyed: Sequence[Entity]) -> list[tuple[Entity, Entity]]:
    """Who pays with where: have they met before?"""
    payer = next((e for e in keyed if e.entity in _PAYERS), None)
    if payer is None:
        return []
    return [(payer, e) for e in keyed if e.entity in ("merchant_id", "device_id")]


def _pair_view(first: Entity, second: Entity, windows: dict[str, Windows]) -> list[str]:
    one, two = _NAMES[first.entity], _NAMES[second.entity]
    window = max(windows[first.entity].longest, windows[second.entity].longest)
    hop = f", hop={_duration(7 * DAY_SECONDS)}" if window >= 60 * DAY_SECONDS else ""
    return [
        *_comment(f"A {one} at a {two}: have they met before?"),
        f"{one}_{two}_features = entity_view(",
        f'    "{one}_{two}",',
        f"    [{one}, {two}],",
        f"    count({_duration(window)}{hop}),",
        f"    since_last({_duration(window)}),",
        "    source=transactions,",
        ")",
        "",
    ]


def _request_view(roles: Roles, resolution_seconds: float) -> list[str]:
    own = []
    if roles.amount is not None and roles.amount.column:
        own.append('"amount"')
    if resolution_seconds < DAY_SECONDS:
        own.append('"hour_of_day"')
    if roles.days >= 7:
        own.append('"day_of_week"')
    lines = [
        *_comment("The payment itself. An attribute that a payment does not have is null."),
        "request_features = request_view(",
        '    "request",',
        *(f"    {kind}," for kind in own),
    ]
    numbers = [*_named(roles.attributes, "number"), *roles.time_attributes]
    for key, listed in (
        ("categories", _named(roles.attributes, "category")),
        ("numbers", numbers),
        ("booleans", _named(roles.attributes, "boolean")),
    ):
        if listed:
            lines += _listed(key, listed)
    return [*lines, "    source=transactions,", ")", ""]


def _named(attributes: Sequence[Attribute], kind: str) -> list[str]:
    return [attribute.name for attribute in attributes if attribute.kind == kind]


def _listed(key: str, names: Sequence[str]) -> list[str]:
    """A list as Python, as many names in a line as fit."""
    quoted = [_quoted(name) for name in names]
    one = f"    {key}=[{', '.join(quoted)}],"
    if len(one) <= 96:
        return [one]
    rows, row = [], ""
    for name in quoted:
        if row and len(row) + len(name) + 2 > 84:
            rows.append(row)
            row = ""
        row += f"{' ' if row else ''}{name},"
    return [f"    {key}=[", *(f"        {r}" for r in [*rows, row]), "    ],"]


def _quoted(name: str) -> str:
    text = repr(name)
    return f'"{name}"' if text == f"'{name}'" and '"' not in name else text


def _durations(seconds: Sequence[float]) -> str:
    return ", ".join(_duration(item) for item in seconds)


def _duration(seconds: float) -> str:
    """A length of time as the file writes it."""
    if seconds in _NAMED:
        return _NAMED[seconds]
    for size, name in ((7 * DAY_SECONDS, "WEEK"), (DAY_SECONDS, "DAY"), (HOUR_SECONDS, "HOUR")):
        if seconds > size and seconds % size == 0:
            return f"{seconds / size:.0f} * {name}"
    return f"HOUR / {HOUR_SECONDS / seconds:.0f}"


def _label(seconds: float) -> str:
    """A length of time as a feature's name has it."""
    for size, letter in ((DAY_SECONDS, "d"), (HOUR_SECONDS, "h"), (60.0, "m")):
        if seconds % size == 0:
            return f"{seconds / size:.0f}{letter}"
    return f"{seconds:.0f}s"


def _imports(text: str) -> list[str]:
    known = (
        *("DAY", "HOUR", "MONTH", "QUARTER", "WEEK", "amount", "count", "distinct", "entity"),
        *("entity_view", "fraud_count", "fraud_rate", "history_view", "payments", "ratio"),
        *("request_view", "since_last", "vector"),
    )
    used = [name for name in known if name == "payments" or _uses(text, name)]
    return [
        "from sentinel.feast_plugin.families import (",
        *(f"    {name}," for name in used),
        ")",
    ]


def _uses(text: str, name: str) -> bool:
    code = "\n".join(row for row in text.splitlines() if not row.startswith("#"))
    if name.isupper():
        words = code.replace("(", " ").replace(")", " ").replace(",", " ").replace("=", " ")
        return name in words.split()
    return any(f"{mark}{name}(" in f" {code}" for mark in (" ", "(", "[", "\n"))


def _comment(text: str) -> list[str]:
    return [f"# {row}" for row in textwrap.wrap(text, 96)]
