"""Writes the tables of aggregates in the docs from `sentinel.features.plan.functions`."""

from __future__ import annotations

import re
from pathlib import Path

from sentinel.feast_plugin import families
from sentinel.features.plan.functions import FUNCTIONS, AggregateFunction

DOCS = Path(__file__).resolve().parent.parent / "docs"
_RATIO = (
    '| `ratio("count_1d", to="count_7d")` | `card_count_1d_to_7d` '
    "| one feature divided by another, or the payment's `amount` by one | null |"
)


def tables() -> dict[Path, str]:
    """The text between the marks ``<!-- aggregates -->`` of each page that has one."""
    return {DOCS / "feature-store.md": _families(), DOCS / "features.md": _nulls()}


def page(path: Path, table: str) -> str:
    """A page with its table renewed."""
    text = path.read_text(encoding="utf-8")
    marked = re.compile(r"(?<=<!-- aggregates -->\n).*(?=<!-- end of aggregates -->)", re.DOTALL)
    if not marked.search(text):
        raise SystemExit(f"{path} has no marks <!-- aggregates --> and <!-- end of aggregates -->.")
    return marked.sub(lambda _: table, text)


def _families() -> str:
    lines = ["| family | features | value | without history |", "|---|---|---|---|"]
    for row in FUNCTIONS.values():
        name = feature_name(row)
        lines.append(f"| `{row.example}` | `{name}` | {row.meaning} | {_without_history(row)} |")
    return "\n".join([*lines, _RATIO]) + "\n"


def feature_name(row: AggregateFunction) -> str:
    """What the row's example makes in the view "card"."""
    family: families.Family = eval(row.example, vars(families))  # noqa: S307
    ((aggregation, _),) = family.features("card")
    return str(aggregation.name)


def _without_history(row: AggregateFunction) -> str:
    if row.least > 1:
        return f"null below {row.least} payments"
    return "null" if row.least else "0"


def _nulls() -> str:
    lines = [
        "| | without history | entity unknown | asked *now*, without a payment |",
        "|---|---|---|---|",
    ]
    for least in sorted({row.least for row in FUNCTIONS.values()}):
        rows = [row for row in FUNCTIONS.values() if row.least == least]
        names = ", ".join(f"`{row.name}`" for row in rows)
        lines.append(f"| {names} | {_without_history(rows[0])} | null | as of now |")
    lines.append("| features of the payment | null where the field is missing | | null |")
    lines.append(
        "| ratios | null where either side is null or the lower one is 0 | null "
        "| null if of the amount |"
    )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    for path, table in tables().items():
        path.write_text(page(path, table), encoding="utf-8")
