"""Plans for tests that want a fixed one."""

from __future__ import annotations

from typing import Final

from sentinel.features.plan.functions import AMOUNT, FUNCTIONS, Function, Takes
from sentinel.features.plan.parts import Aggregate, Filter, Ratio, RequestFeature, View
from sentinel.features.plan.plan import DAY_US, HOUR_US, MINUTE_US, Plan, default_hop_us

_PLAIN: Final[tuple[Function, ...]] = ("count", "fraud_count", "fraud_rate", "time_since_last")
_OF_AMOUNTS: Final[tuple[Function, ...]] = ("sum", "mean", "std", "min", "max")


def aggregate(
    name: str,
    function: Function = "count",
    window_us: int = DAY_US,
    hop_us: int = 0,
    *,
    column: str = "",
    offset_us: int = 0,
    filters: tuple[Filter, ...] = (),
    capacity: int = 0,
) -> Aggregate:
    """An aggregate with the column and the hop that suit it."""
    if not column and FUNCTIONS[function].takes is Takes.AMOUNTS:
        column = AMOUNT
    hop = hop_us or default_hop_us(window_us)
    return Aggregate(name, function, window_us, hop, column, offset_us, filters, capacity)


def view(
    *aggregates: Aggregate, name: str = "customer", keys: tuple[str, ...] = ("customer_id",)
) -> View:
    """A view of those aggregates."""
    return View(name, keys, aggregates)


def plan_of(*aggregates: Aggregate) -> Plan:
    """A plan of one view of customers."""
    return Plan((view(*aggregates),), ())


def every_function(windows_us: tuple[int, ...] = (10 * MINUTE_US, DAY_US)) -> Plan:
    """Two views with all functions, filters, offsets, request features and ratios."""
    large = (Filter(AMOUNT, ">", 1_000),)
    views = []
    for name, keys in (("customer", ("customer_id",)), ("pair", ("customer_id", "merchant_id"))):
        aggregates = []
        for window in windows_us:
            at = f"{name}_{window // MINUTE_US}min"
            aggregates += [
                aggregate(f"{at}_{function}", function, window)
                for function in (*_PLAIN, *_OF_AMOUNTS)
            ]
            aggregates += [
                aggregate(
                    f"{at}_merchants", "distinct_count", window, column="merchant_id", capacity=4
                ),
                aggregate(f"{at}_large", "sum", window, filters=large),
                aggregate(f"{at}_before", "fraud_rate", window, offset_us=window),
            ]
        views.append(View(name, keys, tuple(aggregates)))
    shortest = windows_us[0] // MINUTE_US
    return Plan(
        tuple(views),
        (
            RequestFeature("amount", "amount"),
            RequestFeature("hour", "hour_of_day"),
            RequestFeature("weekday", "day_of_week"),
            RequestFeature("channel_code", "category", "channel", ("pos", "web")),
            RequestFeature("risk_value", "number", "risk"),
        ),
        (
            Ratio("amount_to_mean", AMOUNT, f"customer_{shortest}min_mean"),
            Ratio("pair_share", f"pair_{shortest}min_count", f"customer_{shortest}min_count"),
        ),
    )


__all__ = ["DAY_US", "HOUR_US", "MINUTE_US", "aggregate", "every_function", "plan_of", "view"]
