"""Writes the tables of docs/metrics.md from `sentinel.monitoring.table`."""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path

from sentinel.monitoring.table import METRICS, MetricRow

PAGE = Path(__file__).resolve().parent.parent / "docs" / "metrics.md"
EXPORTERS = {
    "scorer": "Scorer: `/metrics` of the API",
    "monitor": "Monitor: `/metrics` of `sentinel monitor`",
    "dashboard": "Dashboard: `/metrics` at `dashboard.metrics_port`",
    "follower": "Follower of the registry: `/metrics` of `sentinel follow` at `follower.port`",
}


def tables() -> str:
    """The tables of all metrics, one for each process that exports some."""
    parts = []
    for exporter, rows in groupby(METRICS, lambda row: row.exported_by):
        parts += [
            f"## {EXPORTERS[exporter]}",
            "",
            "| metric | kind | labels | unit | what it says |",
            "|---|---|---|---|---|",
            *map(_line, rows),
            "",
        ]
    return "\n".join(parts)


def page(text: str) -> str:
    """The page with its tables renewed."""
    marked = re.compile(r"(?<=<!-- metrics -->\n).*(?=<!-- end of metrics -->)", re.DOTALL)
    if not marked.search(text):
        raise SystemExit(f"{PAGE} has no marks <!-- metrics --> and <!-- end of metrics -->.")
    return marked.sub(lambda _: tables(), text)


def _line(row: MetricRow) -> str:
    labels = ", ".join(f"`{label}`" for label in row.labels)
    return f"| `{row.sample}` | {row.kind} | {labels} | {row.unit} | {row.words} |"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
