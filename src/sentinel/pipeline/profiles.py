"""Rows of slow-changing views: what is known of each entity from all of its transactions."""

from __future__ import annotations

import duckdb
import pyarrow as pa

from sentinel.domain import ENTITY_COLUMNS
from sentinel.feast_plugin.profiles import Profile, Statistic
from sentinel.ledger.export import open_table
from sentinel.log.schema import ATTRIBUTE_PREFIX
from sentinel.settings import Settings

_TIME = pa.timestamp("us", tz="UTC")


def profile_rows(
    settings: Settings, profile: Profile, *, after: int, until: int, as_of_us: int
) -> pa.Table:
    """The profiles of the entities that had a transaction in a stretch of the log.

    Args:
        settings: The deployment; its transactions have been exported up to ``until``.
        profile: What to compute.
        after, until: The stretch: sequences above ``after``, up to ``until``.
        as_of_us: The moment that the profiles are of.

    Returns:
        The entity columns, the statistics, and ``event_timestamp``, ordered by the entity.
    """
    log = open_table(settings.offline_dir, "transactions")
    keys = ", ".join(f'"{key}"' for key in profile.keys)
    known = " AND ".join(f'"{key}" IS NOT NULL' for key in profile.keys)
    usual = [s for s in profile.statistics if s.kind == "usual"]
    usual = [s for s in usual if _column(s) in log.schema.names]
    joins = "".join(f" LEFT JOIN usual_{i} USING ({keys})" for i in range(len(usual)))
    places = {statistic.name: f"usual_{i}.value" for i, statistic in enumerate(usual)}
    query = f"""
        WITH touched AS (
            SELECT DISTINCT {keys} FROM log WHERE sequence > $after AND sequence <= $until AND {
        known
    }
        ), known AS (
            SELECT log.* FROM log SEMI JOIN touched USING ({keys}) WHERE sequence <= $until
        ), totals AS (
            SELECT {keys}, {
        ", ".join(_total(s) for s in profile.statistics if s.kind != "usual") or "count(*)"
    }
            FROM known GROUP BY {keys}
        ){"".join(_usual(i, statistic, keys) for i, statistic in enumerate(usual))}
        SELECT {keys}, {", ".join(_selected(s, places) for s in profile.statistics)}
        FROM totals{joins} ORDER BY {keys}
    """
    with duckdb.connect() as database:
        database.execute("SET TimeZone = 'UTC'")
        database.register("log", log)
        rows = database.execute(query, {"after": after, "until": until}).to_arrow_table()
    moments = pa.array([as_of_us] * rows.num_rows, _TIME)
    return rows.append_column("event_timestamp", moments)


def _total(statistic: Statistic) -> str:
    # Times are of whole seconds, since Feast's are.
    what = {
        "first_seen": "make_timestamp(min(event_time_us) // 1000000 * 1000000)",
        "last_seen": "make_timestamp(max(event_time_us) // 1000000 * 1000000)",
        "transactions": "count(*)",
        "amount_quantile": f"quantile_disc(amount_minor, {statistic.level!r})",
    }[statistic.kind]
    if statistic.kind.endswith("seen"):
        what = f"CAST({what} AS TIMESTAMPTZ)"
    return f'{what} AS "{statistic.name}"'


def _usual(number: int, statistic: Statistic, keys: str) -> str:
    column = f'"{_column(statistic)}"'
    return f""", usual_{number} AS (
            SELECT {keys}, first(value ORDER BY times DESC, value) AS value FROM (
                SELECT {keys}, {_text(column)} AS value, count(*) AS times
                FROM known WHERE {column} IS NOT NULL GROUP BY ALL
            ) GROUP BY {keys}
        )"""


def _column(statistic: Statistic) -> str:
    name = statistic.column
    return name if name in ENTITY_COLUMNS else ATTRIBUTE_PREFIX + name


def _text(column: str) -> str:
    """A value as text; whole numbers without a decimal point, as everywhere."""
    return f"regexp_replace(CAST({column} AS VARCHAR), '\\.0$', '')"


def _selected(statistic: Statistic, places: dict[str, str]) -> str:
    if statistic.kind != "usual":
        return f'totals."{statistic.name}"'
    return f'{places.get(statistic.name, "CAST(NULL AS VARCHAR)")} AS "{statistic.name}"'
