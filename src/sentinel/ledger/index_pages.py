"""The statements behind a page of decisions: each begins at what narrows it down the most.

SQLite keeps no statistics here, and a wrong plan reads the whole log for an empty page. So the
statement itself says where to begin: at an entity's runs, at the verdicts, or at one of the small
indexes over suspicious decisions. All other conditions are tested row by row from there.
"""

from __future__ import annotations

from typing import Any, Final

from sentinel.domain import Outcome
from sentinel.ledger.index_schema import ENTITIES, LIKELY, OUTCOME_CODE
from sentinel.ledger.index_values import DecisionFilter
from sentinel.log.entries import FLAG_IS_FRAUD, OUTCOMES

CORE: Final = """sequence, transaction_id, event_time_us, received_at_us, amount_minor,
    customer_id, card_id, merchant_id, device_id, ip_address"""
_COLUMNS: Final = f"""
SELECT {CORE.replace("sequence,", "d.sequence,", 1)}, probability, score, flags,
    name, version, plan_hash, latency_us, top_reason,
    (SELECT verdict FROM labels WHERE transaction_id = d.transaction_id
        ORDER BY sequence DESC LIMIT 1) AS verdict"""
_MODEL: Final = "CROSS JOIN models AS m ON m.model_id = d.model_id"
ONE_DECISION: Final = f"{_COLUMNS} FROM decisions AS d {_MODEL} WHERE transaction_id = ?"

Query = tuple[str, list[Any]]


def page_queries(where: DecisionFilter, since: int, until: int, beyond_runs: int) -> list[Query]:
    """Statements whose rows, one after the other, are the decisions of a page, latest first.

    Args:
        where: Which decisions; its times are in `since` and `until`.
        since, until: Sequences from (included) and to (excluded).
        beyond_runs: The first sequence that no run of the index covers.

    Returns:
        Statements with their values, without the last one: how many rows at most.
    """
    tests, values = _tests(where)
    entity = next((n for n, column in enumerate(ENTITIES) if getattr(where, column)), None)
    verdict = where.label if where.label != "none" else None
    if entity is not None:
        if verdict is not None:
            tests.append(
                "EXISTS (SELECT 1 FROM judged WHERE verdict = ? AND sequence = d.sequence)"
            )
            values.append(verdict.value)
        key = getattr(where, ENTITIES[entity])
        young = _query(
            "decisions AS d", [_BETWEEN, *tests], "d.sequence", [max(since, beyond_runs), until]
        )
        runs = _query(
            "runs AS r CROSS JOIN entity_runs AS e ON e.run = r.run "
            "CROSS JOIN decisions AS d ON d.sequence = e.sequence",
            ["e.entity = ? AND e.key = ?", "e.sequence >= ? AND e.sequence < ?", *tests],
            "r.run DESC, e.sequence",
            [entity, key, since, min(until, beyond_runs)],
        )
        return [(query, [*first, *values]) for query, first in (young, runs)]
    if verdict is not None:
        source = "judged AS j CROSS JOIN decisions AS d ON d.sequence = j.sequence"
        tests.insert(0, "j.verdict = ? AND j.sequence >= ? AND j.sequence < ?")
        query, first = _query(source, tests, "j.sequence", [verdict.value, since, until])
    else:
        query, first = _query("decisions AS d", [_BETWEEN, *tests], "d.sequence", [since, until])
    return [(query, [*first, *values])]


_LAST_CHARACTER: Final = "\U0010ffff"
_BETWEEN: Final = "d.sequence >= ? AND d.sequence < ?"


def _query(source: str, tests: list[str], order: str, values: list[Any]) -> Query:
    where = " AND ".join(tests)
    return f"{_COLUMNS} FROM {source} {_MODEL} WHERE {where} ORDER BY {order} DESC LIMIT ?", values


def _tests(where: DecisionFilter) -> tuple[list[str], list[Any]]:
    """Conditions on a decision, and their values.

    Literal numbers rather than values are what SQLite compares with the conditions of an index.
    """
    tests: list[str] = []
    values: list[Any] = []
    if where.outcomes:
        codes = sorted({OUTCOMES.index(outcome) for outcome in where.outcomes})
        if len(codes) == 1:
            tests.append(f"{OUTCOME_CODE} = {codes[0]}")
        elif len(codes) < len(OUTCOMES):
            if Outcome.APPROVE not in where.outcomes:
                tests.append(f"{OUTCOME_CODE} > 0")
            tests.append(f"{OUTCOME_CODE} IN ({', '.join(map(str, codes))})")
    if where.is_fraud is not None:
        tests.append(f"flags & {FLAG_IS_FRAUD} {'>' if where.is_fraud else '='} 0")
    if where.min_probability is not None:
        likely = next((at for at in LIKELY if where.min_probability >= at), None)
        if likely is not None:
            tests.append(f"probability >= {likely}")
        tests.append("probability >= ?")
        values.append(where.min_probability)
    for column in ENTITIES:
        value = getattr(where, column)
        if value is not None:
            tests.append(f"{column} = ?")
            values.append(value)
    if where.id_prefix:
        # The plus keeps SQLite from the index over ids, whose order is not that of a page.
        tests.append("+d.transaction_id >= ? AND +d.transaction_id < ?")
        values += [where.id_prefix, where.id_prefix + _LAST_CHARACTER]
    if where.label == "none":
        tests.append(
            "NOT EXISTS (SELECT 1 FROM judged WHERE verdict IN ('fraud', 'legitimate') "
            "AND sequence = d.sequence)"
        )
    return tests, values
