"""What is graphed and alerted on is what the code exposes, and what it exposes somebody sets."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import build_dashboards
import document_metrics
import yaml
from prometheus_client.core import Metric

from sentinel.drift.missing import MOST_MISSING
from sentinel.monitoring.control_group_metrics import (
    ControlGroupFigures,
    ControlGroupMetrics,
    MonthOfControlGroup,
)
from sentinel.monitoring.counting import OTHER
from sentinel.monitoring.door_metrics import MOST_STATUSES, DoorMetrics
from sentinel.monitoring.drift_metrics import (
    DriftFigures,
    DriftMetrics,
    LabelDriftFigures,
    LabelDriftMetrics,
)
from sentinel.monitoring.follower_metrics import FollowerMetrics
from sentinel.monitoring.metrics import MOST_MODELS, ScoringMetrics
from sentinel.monitoring.surroundings import Surroundings, SurroundingsMetrics
from sentinel.monitoring.table import (
    BY_NAME,
    CONTROL_GROUP,
    DASHBOARD,
    DRIFT,
    FOLLOWER,
    LABEL_DRIFT,
    METRICS,
    SCORER,
    SURROUNDINGS,
    MetricRow,
)

ROOT = Path(__file__).resolve().parent.parent
MONITORING = ROOT / "monitoring"
NAME = re.compile(r"\bsentinel_\w+\b")
SAMPLES = ("_total", "_bucket", "_sum", "_count", "_info", "")
NOT_FIGURES = {"registry", "refresh", "started", "connections"}
"""Attributes that are no figures, or that stay as they were at the start."""
FILLED = {"request_seconds", "payment_answers"}
"""Figures that `answer` fills, and the protocol, which knows the dictionary alone."""


def exposed() -> set[str]:
    """Names of all samples that some process may answer with."""
    return {row.name + suffix for row in METRICS for suffix in SAMPLES}


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
    assert not figures - FILLED - set_in_code()


def test_the_page_of_metrics_is_what_the_table_says() -> None:
    written = document_metrics.PAGE.read_text(encoding="utf-8")
    assert document_metrics.page(written) == written, "run `make docs`"


def test_a_scorer_collects_the_rows_of_the_table_and_nothing_else() -> None:
    collected = {family.name: family for family in ScoringMetrics().collect()}
    assert list(collected) == [row.name for row in SCORER]
    for row in SCORER:
        assert collected[row.name].documentation == row.words
        assert collected[row.name].type == row.kind
        for sample in collected[row.name].samples:
            assert sample.labels.keys() - {"le"} == {*row.labels}, row.name


def test_what_the_monitor_sees_is_collected_as_the_table_says() -> None:
    seen = Surroundings(("/data", 0.5), 0.9, True)
    collected = {one.name: one for one in SurroundingsMetrics(lambda: seen).collect()}
    assert list(collected) == [row.name for row in SURROUNDINGS]
    assert [one.samples[0].value for one in collected.values()] == [0.5, 0.9, 1.0]
    assert list(SurroundingsMetrics(Surroundings).collect()) == []  # nothing was seen yet


def test_drift_is_collected_as_the_table_says_once_it_is_known() -> None:
    known = DriftFigures(
        alarms=3,
        changes=4,
        largest_distance=0.2,
        entries={"decisions": 7},
        decisions={"late": 5},
        missing={"risk": 0.05},
        feature_alarms={"risk": 2},
    )
    collected = {one.name: one for one in DriftMetrics(lambda: known).collect()}
    assert list(collected) == [row.name for row in DRIFT]
    for row in DRIFT:
        assert collected[row.name].type == row.kind
        assert collected[row.name].samples[0].labels.keys() == {*row.labels}, row.name
    (share,) = collected["sentinel_drift_missing_share"].samples
    assert (share.labels, share.value) == ({"feature": "risk"}, 0.05)
    assert list(DriftMetrics(lambda: None).collect()) == []  # the log was not looked at yet
    assert f"the {MOST_MISSING} features" in BY_NAME["sentinel_drift_missing_share"].words


def test_drift_of_labels_is_collected_as_the_table_says_once_it_is_known() -> None:
    known = LabelDriftFigures(alarms={"share": 1, "delay": 0}, tested_days=40)
    collected = {one.name: one for one in LabelDriftMetrics(lambda: known).collect()}
    assert list(collected) == [row.name for row in LABEL_DRIFT]
    alarms = {s.labels["stream"]: s.value for s in collected[LABEL_DRIFT[0].name].samples}
    assert alarms == {"share": 1, "delay": 0}
    assert list(LabelDriftMetrics(lambda: None).collect()) == []


def test_the_control_group_is_collected_as_the_table_says_once_the_log_was_read() -> None:
    month = MonthOfControlGroup(
        expected_cost_minor=70.5, realised_loss_minor=100, payments={"fraud": 1, "unknown": 2}
    )
    known = ControlGroupFigures(budget_minor=500, months={"last": month, "mature": month})
    collected = {one.name: one for one in ControlGroupMetrics(lambda: known).collect()}
    assert_as_declared(collected, CONTROL_GROUP)
    payments = collected["sentinel_control_group_payments"].samples
    assert [sample.value for sample in payments] == [1, 2, 1, 2]
    assert list(ControlGroupMetrics(lambda: None).collect()) == []


def test_the_dashboards_door_and_the_follower_collect_what_the_table_says() -> None:
    door = DoorMetrics()
    for n in range(2 * MOST_STATUSES):
        door.answered(f"/{n}", 200 + n, 0.01)  # paths are no labels, and labels have a bound
    door.answered("/_stcore/stream", 101, None)
    collected = {one.name: one for one in door.collect()}
    assert_as_declared(collected, DASHBOARD)
    asked = collected["sentinel_dashboard_requests"].samples
    assert len(asked) == MOST_STATUSES + 1
    assert {sample.labels["page"] for sample in asked} <= {"login", "other", "streamlit"}
    assert sum(sample.value for sample in asked) == 2 * MOST_STATUSES + 1

    follower = FollowerMetrics()
    follower.looked(0.2, well=True, missing=0)
    figures = {s.name: s.value for one in follower.collect() for s in one.samples}
    assert (
        figures["sentinel_follower_lag_seconds"] == figures["sentinel_follower_lag_versions"] == 0
    )
    follower.looked(0.1, well=False, missing=2)
    follower.looked(0.1, well=False, missing=None)  # it cannot be told: what was known stays
    collected = {one.name: one for one in follower.collect()}
    assert_as_declared(collected, FOLLOWER)
    (behind,) = collected["sentinel_follower_lag_versions"].samples
    (since,) = collected["sentinel_follower_lag_seconds"].samples
    assert behind.value == 2
    assert since.value > 0


def assert_as_declared(collected: Mapping[str, Metric], rows: Iterable[MetricRow]) -> None:
    assert list(collected) == [row.name for row in rows]
    for row in rows:
        assert collected[row.name].type == row.kind
        for sample in collected[row.name].samples:
            assert sample.labels.keys() - {"le"} == {*row.labels}, row.name


def test_a_row_has_units_in_its_name_and_words_that_are_a_sentence() -> None:
    assert len({row.name for row in METRICS}) == len(METRICS)
    for row in METRICS:
        assert row.words.endswith("."), row.name
        if row.unit in ("seconds", "bytes"):
            assert row.name.endswith(f"_{row.unit}"), row.name


def test_models_beyond_the_bound_share_one_label() -> None:
    metrics = ScoringMetrics()
    for version in range(2 * MOST_MODELS):
        counted = metrics.decisions.of((str(version), "champion", ""))
        counted += (1, 0, 0)
    (family,) = (f for f in metrics.collect() if f.name == "sentinel_decisions")
    assert len(family.samples) == 3 * (MOST_MODELS + 1)
    shared = {s.labels["outcome"]: s.value for s in family.samples if s.labels["version"] == OTHER}
    assert shared == {"approve": MOST_MODELS, "review": 0, "decline": 0}


def test_dashboards_are_what_their_code_builds() -> None:
    files = {path.stem: path.read_text() for path in build_dashboards.FOLDER.glob("*.json")}
    built = {name: build_dashboards.built(board) for name, board in build_dashboards.BOARDS.items()}
    assert files == built, "run `make docs`"


def test_panels_of_every_dashboard_lie_side_by_side() -> None:
    for board in build_dashboards.BOARDS.values():
        panels = json.loads(build_dashboards.built(board))["panels"]
        cells = [
            (x, y)
            for place in (panel["gridPos"] for panel in panels)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        ]
        assert len(set(cells)) == len(cells), board.title
        assert max(x for x, _ in cells) < build_dashboards.COLUMNS
        assert all(panel["title"] and panel["description"] for panel in panels)
