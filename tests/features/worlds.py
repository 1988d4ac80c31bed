"""Random plans and random logs, drawn so that borders, ties and late events are common.

Everything is drawn as small numbers and interpreted afterwards, so that Hypothesis shrinks a
failure to a few short entries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgspec
from hypothesis import strategies as st

from sentinel.domain import (
    MAX_AMOUNT_MINOR,
    AttributeValue,
    Label,
    PartlyTracked,
    Transaction,
    Verdict,
    Void,
)
from sentinel.features.plan.functions import AMOUNT, FUNCTIONS, Function, Takes
from sentinel.features.plan.parts import Aggregate, Filter, Ratio, RequestFeature, View
from sentinel.features.plan.plan import Plan

Entry = Transaction | Label

START_US: Final = 1_520_000_000_000_000
KEYS: Final = (
    ("customer_id",),
    ("card_id",),
    ("merchant_id",),
    ("customer_id", "merchant_id"),
    ("ip_address", "card_id"),
    ("device_id",),
)
FILTERS: Final = (
    (),
    (Filter(AMOUNT, ">", 0),),
    (Filter(AMOUNT, "<=", -1), Filter("channel", "!=", "web")),
    (Filter("channel", "==", "pos"),),
    (Filter("risk", ">=", 0.5),),
    (Filter("risk", "!=", 0.0),),
    (Filter("mcc", "==", "5411"),),
    (Filter("merchant_id", "==", "m1"), Filter("risk", "<", 1e300)),
    (Filter("absent", "!=", "x"),),
    (Filter("absent_number", "<", 3.0),),
)
VALUES: Final = ("merchant_id", "channel", "mcc", "absent", AMOUNT)
REQUEST: Final = (
    RequestFeature("amount", "amount"),
    RequestFeature("hour", "hour_of_day"),
    RequestFeature("weekday", "day_of_week"),
    RequestFeature("channel_code", "category", "channel", ("pos", "web", "")),
    RequestFeature("mcc_code", "category", "mcc", ("5411", "0.5")),
    RequestFeature("merchant_code", "category", "merchant_id", ("m1",)),
    RequestFeature("risk_value", "number", "risk"),
    RequestFeature("amount_number", "number", AMOUNT),
    RequestFeature("absent_value", "number", "absent_number"),
)
AMOUNTS: Final = (
    0,
    1,
    -1,
    2,
    MAX_AMOUNT_MINOR,
    -MAX_AMOUNT_MINOR,
    MAX_AMOUNT_MINOR - 1,
    1 - MAX_AMOUNT_MINOR,
    (1 << 20) - 1,
    1 << 20,
    -((1 << 39) + (1 << 20) - 1),
    16_777_217,
)
CHANNELS: Final = ("pos", "web", "", "pós", None)
NUMBERS: Final = (0.0, -0.0, 0.5, 1.0, 0.1, -3.25, 1e300, -1e300, 3.4e38, float("nan"), None)
CODES: Final = (5411.0, 0.5, -0.0, 0.0, 2.0**53, 1e22, float("nan"), None)


@dataclass(frozen=True)
class World:
    """A plan, and a log in log order (``received_at_us`` rises by one an entry)."""

    plan: Plan
    log: tuple[Entry, ...]


@dataclass(frozen=True)
class WorldWithVoids:
    """The same with voids between the other entries, each about a transaction before it."""

    plan: Plan
    log: tuple[Entry | Void, ...]


@st.composite
def plans(draw: st.DrawFn, functions: tuple[Function, ...] = tuple(FUNCTIONS)) -> Plan:
    """Plans of up to three views over a handful of hops, so that features share rings."""
    hops = draw(st.lists(st.sampled_from([10, 7, 60, 1, 2, 1000]), min_size=1, max_size=2))
    views = []
    names: list[str] = []
    for v, keys in enumerate(draw(st.lists(st.sampled_from(KEYS), min_size=1, max_size=3))):
        aggregates = []
        for a in range(draw(st.integers(1, 6))):
            function = draw(st.sampled_from(functions))
            hop = draw(st.sampled_from(hops))
            window = hop * draw(st.integers(1, 6)) + draw(st.integers(0, hop - 1))
            row = FUNCTIONS[function]
            column, offset, capacity = "", 0, 0
            filters: tuple[Filter, ...] = ()
            if row.takes is Takes.VALUES:
                column = draw(st.sampled_from(VALUES))
            elif row.takes is Takes.AMOUNTS:
                column = AMOUNT
            if row.capacity:
                capacity = draw(st.integers(1, 3))
            if row.filters:
                filters = draw(st.one_of(st.just(()), st.sampled_from(FILTERS)))
            if row.offset:
                offset = draw(st.sampled_from([0, 0, 0, 0, 1, hop, window, 3 * hop + 1]))
            name = f"v{v}_a{a}"
            names.append(name)
            aggregates.append(
                Aggregate(name, function, window, hop, column, offset, filters, capacity)
            )
        views.append(View(f"v{v}", keys, tuple(aggregates)))
    numerators = st.one_of(st.just(AMOUNT), st.sampled_from(names))
    pairs = st.tuples(numerators, st.sampled_from(names))
    ratios = [Ratio(f"r{i}", *pair) for i, pair in enumerate(draw(st.lists(pairs, max_size=3)))]
    request = draw(st.lists(st.sampled_from(REQUEST), unique=True, max_size=4))
    return Plan(tuple(views), tuple(request), tuple(ratios))


def _steps(plan: Plan) -> list[int]:
    """Times between events that matter to a plan: its borders, to the microsecond."""
    steps = {0, 1, 2}
    for view in plan.views:
        for a in view.aggregates:
            reach = a.window_us + a.offset_us
            tiles = -(-reach // a.hop_us) * a.hop_us
            for border in (a.hop_us, a.window_us, a.offset_us, reach, tiles, tiles + a.hop_us):
                steps |= {border - 1, border, border + 1}
            steps |= {3 * (a.window_us + a.offset_us), a.window_us // 2}
    return sorted(step for step in steps if step >= 0)


def _transactions() -> st.SearchStrategy[tuple[int, ...]]:
    small = st.integers(0, 255)
    return st.tuples(st.just(0), small, small, small, small, small, small)


def _labels() -> st.SearchStrategy[tuple[int, ...]]:
    return st.tuples(st.just(1), st.integers(0, 40), st.integers(0, 3).map(bool))


@st.composite
def worlds(
    draw: st.DrawFn, *, max_entries: int = 60, labels: bool = True, plan: Plan | None = None
) -> World:
    """Plans with logs: ties, late and far-late events, gaps, borders, unknown fields, labels."""
    plan = draw(plans()) if plan is None else plan
    entry = st.one_of(_transactions(), _transactions(), _labels()) if labels else _transactions()
    # A length drawn first: lists of random length are mostly short, and short logs say little.
    lengths = [1, 3, *[max_entries // 2] * 2, *[max_entries * 3 // 4] * 3, *[max_entries] * 3]
    n = draw(st.sampled_from(lengths))
    drawn: list[Any] = draw(st.lists(entry, min_size=n, max_size=n))
    return World(plan, log_of(plan, drawn))


@st.composite
def worlds_with_voids(draw: st.DrawFn, *, max_entries: int = 40) -> WorldWithVoids:
    """Worlds in which some entries are voids; several may be about one transaction."""
    world = draw(worlds(max_entries=max_entries))
    places = st.tuples(st.integers(0, max_entries), st.integers(0, max_entries))
    voids = draw(st.lists(places, min_size=1, max_size=5))
    log: list[Entry | Void] = []
    ids: list[str] = []
    for place, entry in enumerate(world.log):
        log.append(entry)
        if isinstance(entry, Transaction):
            ids.append(entry.transaction_id)
        for wanted, which in voids:
            if ids and wanted % len(world.log) == place:
                about = ids[-1 - which % len(ids)]
                log.append(Void(transaction_id=about, received_at_us=0, reason="a test"))
    timed = [
        msgspec.structs.replace(entry, received_at_us=at) for at, entry in enumerate(log, START_US)
    ]
    return WorldWithVoids(world.plan, tuple(timed))


def log_of(plan: Plan, drawn: list[Any]) -> tuple[Entry, ...]:
    steps = _steps(plan)
    longest = steps[-1]
    log: list[Entry] = []
    newest = START_US
    n = 0
    for received, item in enumerate(drawn, START_US):
        if item[0] == 1:
            verdict = Verdict.FRAUD if item[2] else Verdict.LEGITIMATE
            log.append(
                Label(
                    label_id=f"l{received}",
                    transaction_id=f"t{item[1] % (n + 3)}",  # known, to come, or never to come
                    verdict=verdict,
                    received_at_us=received,
                )
            )
            continue
        _, step, way, who, amount, text, number = item
        size = steps[step % len(steps)]
        match way % 16:
            case 0 | 1 | 2:
                time = newest - size  # late
            case 3:
                time = newest - size - 2 * longest  # far too late
            case 4 | 5:
                time = newest // (size or 1) * (size or 1)  # on a border
            case 6 | 7:
                time = newest + size
            case 8:
                time = newest + size % (longest // 4 + 1)
            case _:
                time = newest + size % 3  # ties and near ties
        newest = max(newest, time)
        attributes: dict[str, AttributeValue] = {}
        for name, value in (
            ("channel", CHANNELS[text % 5]),
            ("risk", NUMBERS[number % len(NUMBERS)]),
            ("mcc", CODES[(text // 5) % len(CODES)]),
        ):
            if value is not None:
                attributes[name] = value
        left_out = [view for v, view in enumerate(plan.views) if (way // 32 + v) % 3 == 0]
        # Older logs have names of views.
        untracked = [view.entity if way // 16 == 13 else view.name for view in left_out]
        log.append(
            PartlyTracked(
                untracked=tuple(untracked) if way // 16 in (13, 14) else (),
                transaction_id=f"t{n}",
                event_time_us=time,
                received_at_us=received,
                amount_minor=AMOUNTS[amount % len(AMOUNTS)] if amount < 100 else amount * 7_919,
                customer_id=(None, *["c1"] * 5, *["c2"] * 2)[who % 8],
                merchant_id=(None, *["m1"] * 4, "m2", "m3", "m4")[who // 8 % 8],
                device_id=("d1", None)[who // 64 % 2],
                ip_address=("10.0.0.1", "10.0.0.1", "10.0.0.2", None)[who // 32 % 4],
                card_id="k1",
                attributes=attributes,
            )
        )
        n += 1
    return tuple(log)
