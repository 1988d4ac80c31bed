"""A quick set of window features over a simulated world, to measure how hard it is."""

from __future__ import annotations

import duckdb
import numpy as np
import pandas as pd

from sentinel.sources.simulator.events import concat
from sentinel.sources.simulator.world import World

_HOUR = 3_600_000_000
_DAY = 24 * _HOUR
_SPANS = {"1h": _HOUR, "1d": _DAY, "30d": 30 * _DAY}

RAW = [
    "amount_minor", "hour", "weekday", "channel", "entry", "authentication", "system", "category",
    "merchant_country", "customer_country", "abroad", "card_type", "brand", "account_age",
]  # fmt: skip


def raw_frame(world: World) -> pd.DataFrame:
    """Every payment of the history with the fields that stand on the request, and the truth."""
    days = range(int(np.ceil(world.config.days)))
    events = concat([world.day(day) for day in days])
    people, shops = world.population.customers, world.population.merchants
    frame = pd.DataFrame({name: getattr(events, name) for name in events.__dataclass_fields__})
    frame["row"] = np.arange(len(frame))
    for name in ("device", "address"):  # nobody is not one big device
        frame[name] = frame[name].where(frame[name] >= 0, -1 - frame.row)
    frame["hour"] = frame.time_us // _HOUR % 24
    frame["weekday"] = frame.time_us // _DAY % 7
    frame["category"] = shops.category[events.merchant]
    frame["merchant_country"] = shops.country[events.merchant]
    frame["customer_country"] = people.country[events.customer]
    frame["abroad"] = (frame.merchant_country != frame.customer_country).astype(int)
    frame["card_type"] = people.card_type[events.customer, events.card % 2]
    frame["brand"] = people.brand[events.customer, events.card % 2]
    frame["account_age"] = (
        frame.time_us // _DAY - world.config.first_day - people.joined[events.customer]
    )
    frame["fraud"] = (frame.scenario > 0).astype(int)
    return frame


def with_windows(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The frame with windows of what stood before each payment, and their names."""
    parts, names = [], []
    for key in ("customer", "merchant", "device", "address"):
        for span_name, span in _SPANS.items():
            window = (
                f"(PARTITION BY {key} ORDER BY time_us RANGE BETWEEN {span} PRECEDING "
                "AND 1 PRECEDING)"
            )
            base = f"{key}_{span_name}"
            wanted = {"count": "count(*)", "mean": "avg(abs(amount_minor))"}
            if key in ("device", "address") and span_name == "1d":
                wanted["customers"] = "count(DISTINCT customer)"
            for what, expression in wanted.items():
                parts.append(f"{expression} OVER {window} AS {base}_{what}")
                names.append(f"{base}_{what}")
        parts.append(f"time_us - lag(time_us) OVER (PARTITION BY {key} ORDER BY row) AS {key}_gap")
        names.append(f"{key}_gap")
    for pair in ("customer, merchant", "customer, device", "customer, address", "merchant, entry"):
        name = pair.replace(", ", "_") + "_seen"
        parts.append(
            f"count(*) OVER (PARTITION BY {pair} ORDER BY time_us RANGE BETWEEN "
            f"{60 * _DAY} PRECEDING AND 1 PRECEDING) AS {name}"
        )
        names.append(name)
    parts.append(
        "count(DISTINCT customer) OVER (PARTITION BY device ORDER BY time_us RANGE BETWEEN "
        f"{7 * _DAY} PRECEDING AND 1 PRECEDING) AS device_7d_customers"
    )
    names.append("device_7d_customers")
    connection = duckdb.connect()
    connection.register("frame", frame)
    found = (
        connection.execute(f"SELECT *, {', '.join(parts)} FROM frame ORDER BY row")
        .to_arrow_table()
        .to_pandas()
    )
    for key in ("merchant", "device"):
        name = f"{key}_known_frauds"
        known = connection.execute(
            f"SELECT row, n FROM (SELECT row, count(*) FILTER (claim) OVER (PARTITION BY {key} "
            f"ORDER BY moment RANGE BETWEEN {30 * _DAY} PRECEDING AND 1 PRECEDING) AS n FROM ("
            f"SELECT row, {key}, time_us AS moment, FALSE AS claim FROM frame UNION ALL "
            f"SELECT -1, {key}, claimed_us, TRUE FROM frame WHERE claimed_us > 0)) "
            "WHERE row >= 0 ORDER BY row"
        ).fetchnumpy()["n"]
        found[name] = known
        names.append(name)
    for key in ("device", "address"):
        own = [name for name in names if name.startswith(key)]
        found.loc[found[key] < 0, own] = np.nan
    for key in ("customer", "merchant"):
        name = f"{key}_ratio"
        found[name] = found.amount_minor / found[f"{key}_30d_mean"].clip(lower=1)
        names.append(name)
    return found, names
