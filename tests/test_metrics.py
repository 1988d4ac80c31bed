"""What is graphed and alerted on is what the code exposes, and what it exposes somebody sets."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from sentinel.monitoring.metrics import ScoringMetrics

ROOT = Path(__file__).resolve().parent.parent
MONITORING = ROOT / "monitoring"
NAME = re.compile(r"\bsentinel_\w+\b")
SAMPLES = ("_total", "_bucket", "_sum", "_count", "_info", "")
NOT_FIGURES = {"registry", "refresh", "started"}
"""Attributes that are no figures, or that stay as they were at the start."""


def exposed() -> set[str]:
    """Names of all samples that a scorer may answer with."""
    return {family.name + suffix for family in ScoringMetrics().collect() for suffix in SAMPLES}


def asked_for() -> Iterator[tuple[str, str]]:
    """Who asks, and for which expression."""
    for board in (MONITORING / "grafana" / "dashboards").glob("*.json"):
        for panel in json.loads(board.read_text())["panels"]:
            for target in panel["targets"]:
                yield f"{board.name}: {panel['title']}", target["expr"]
    folder = MONITORING / "prometheus"
    for name in yaml.safe_load((folder / "prometheus.yml").read_text())["rule_files"]:
        for group in yaml.safe_load((folder / name).read_text())["groups"]:
            for rule in group["rules"]:
                yield f"{name}: {rule.get('alert', rule.get('record'))}", rule["expr"]


def set_in_code() -> set[str]:
    """Attributes of ``metrics`` that some module other than its own sets, adds to or fills."""
    found: set[str] = set()
    package = ROOT / "src" / "sentinel"
    for path in package.rglob("*.py"):
        if path.parent.name == "monitoring":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            places: list[ast.expr] = []
            if isinstance(node, ast.Assign):
                places = list(node.targets)
            elif isinstance(node, ast.AugAssign):
                places = [node.target]
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                places = [node.func.value]  # metrics.latency.observe(...)
                if ast.unparse(node.func.value).endswith("metrics"):
                    found.add(f"{node.func.attr}s")  # metrics.problem(...) fills `problems`
            for place in places:
                named = re.search(r"metrics\.(\w+)", ast.unparse(place))
                if named:
                    found.add(named[1])
    return found


def test_every_panel_and_alert_asks_for_what_is_exposed() -> None:
    names = exposed()
    asked = list(asked_for())
    assert len(asked) > 20
    unknown = [
        f"{who} asks for {name}"
        for who, expression in asked
        for name in NAME.findall(expression)
        if name not in names
    ]
    assert not unknown, "\n".join(unknown)


def test_every_figure_is_set_by_somebody() -> None:
    figures = {name for name in vars(ScoringMetrics()) if not name.startswith("_")} - NOT_FIGURES
    assert len(figures) > 20
    assert not figures - set_in_code()
