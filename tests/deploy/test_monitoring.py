"""Rules, alerts and the dashboard ask for what a scorer really exports, and mail really arrives."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from sentinel.alerts.catalogue import ALERTS
from sentinel.monitoring.drift_metrics import (
    DriftFigures,
    DriftMetrics,
    LabelDriftFigures,
    LabelDriftMetrics,
)
from sentinel.monitoring.figures import Figures
from sentinel.monitoring.surroundings import Surroundings, SurroundingsMetrics
from sentinel.monitoring.watch_metrics import WatchMetrics, WatchState
from sentinel.pipeline.health import Finding, check_services
from sentinel.pipeline.label_feed_watch import LABEL_ROWS
from sentinel.pipeline.raised_alerts import acknowledge, raised
from sentinel.settings import ServicesSettings, Settings
from testkit.scratch import Server
from testkit.servers import Mail, needed, wait_until
from testkit.watching import MONITORING, Alertmanager, Prometheus, adapted
from tests.deploy.conftest import prepare

PROMETHEUS: dict[str, Any] = yaml.safe_load(
    (MONITORING / "prometheus" / "prometheus.yml").read_text()
)
DASHBOARD: dict[str, Any] = json.loads(
    (MONITORING / "grafana" / "dashboards" / "overview.json").read_text()
)
RUNBOOKS = MONITORING.parent / "docs" / "runbooks"
CASES = sorted((MONITORING / "prometheus").glob("tests*.yml"))
NAME = re.compile(r"\b(?:sentinel_\w+|process_\w+|sentinel:[\w:]+)\b")


def rules() -> list[dict[str, Any]]:
    """Those of all files that Prometheus reads."""
    files = [MONITORING / "prometheus" / name for name in PROMETHEUS["rule_files"]]
    groups = [group for path in files for group in yaml.safe_load(path.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"]]


def panel_queries() -> list[tuple[str, str]]:
    return [
        (panel["title"], target["expr"])
        for panel in DASHBOARD["panels"]
        for target in panel["targets"]
    ]


@pytest.fixture(scope="module")
def mail(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mail]:
    with Mail(tmp_path_factory.mktemp("mail") / "box") as server:
        yield server


@pytest.fixture(scope="module")
def alertmanager(
    prepared: Path, mail: Mail, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Alertmanager]:
    """Alertmanager with what setup.sh writes from a .env that names our mail server."""
    env = prepared / ".env"
    text = env.read_text()
    changes = {
        r"SMTP_HOST=.*": "SMTP_HOST=127.0.0.1",
        r"SMTP_PORT=.*": f"SMTP_PORT={mail.port}",
        r"SMTP_TLS=.*": "SMTP_TLS=false",
        r"ALERTS_TO=.*": "ALERTS_TO=night@example.com",
    }
    for pattern, line in changes.items():
        text = re.sub(f"^{pattern}$", line, text, flags=re.MULTILINE)
    env.write_text(text)
    prepare(prepared)
    config = (prepared / "generated" / "alertmanager.yml").read_text()
    password = str(prepared / "secrets" / "smtp_password")
    config = config.replace("/run/secrets/smtp_password", password)
    config = config.replace("group_wait: 10s", "group_wait: 1s")
    with Alertmanager(tmp_path_factory.mktemp("alertmanager"), config) as server:
        yield server


@pytest.fixture(scope="module")
def prometheus(
    scorer: Server, alertmanager: Alertmanager, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    address = scorer.url.removeprefix("http://")
    folder = tmp_path_factory.mktemp("prometheus")
    with Prometheus(folder, scorers=[address], alertmanager=alertmanager.address) as server:
        yield server


def test_rules_pass_the_tools_that_prometheus_ships(tmp_path: Path) -> None:
    promtool = needed("promtool", "apt-get install prometheus")
    cases = [path.name for path in CASES]
    folder = tmp_path / "prometheus"
    shutil.copytree(MONITORING / "prometheus", folder)
    changes = {"/run/secrets/prometheus_key": str(folder / "key")}
    (folder / "key").write_text("prometheus.snt_")
    (folder / "prometheus.yml").write_text(adapted(folder / "prometheus.yml", changes))
    for arguments in (["check", "config", "prometheus.yml"], ["test", "rules", *cases]):
        done = subprocess.run(
            [promtool, *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case_that_fires_and_one_that_does_not() -> None:
    cases = [case for path in CASES for case in yaml.safe_load(path.read_text())["tests"]]
    asked = [case for test in cases for case in test.get("alert_rule_test", [])]
    alerts = {rule["alert"] for rule in rules() if "alert" in rule}
    assert {case["alertname"] for case in asked if case.get("exp_alerts")} == alerts
    quiet = {case["alertname"] for case in asked if not case.get("exp_alerts")}
    assert alerts - quiet == {"FewLabels"}  # a week long; its other half is the counter's


def test_every_recorded_figure_has_a_case() -> None:
    cases = [case for path in CASES for case in yaml.safe_load(path.read_text())["tests"]]
    asked = {case["expr"] for test in cases for case in test.get("promql_expr_test", [])}
    assert {rule["record"] for rule in rules() if "record" in rule} <= asked


def test_every_alert_says_what_happened_and_what_to_do() -> None:
    for rule in rules():
        if "alert" in rule:
            assert rule["labels"]["severity"] in {"page", "ticket"}
            assert rule["annotations"].keys() == {"summary", "action", "runbook"}


def test_alertmanagers_file_passes_its_tool(prepared: Path) -> None:
    amtool = needed("amtool", "apt-get install prometheus-alertmanager")
    for path in (
        MONITORING / "alertmanager" / "alertmanager.yml",
        prepared / "generated" / "alertmanager.yml",
    ):
        done = subprocess.run([amtool, "check-config", path], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def shown_by_the_monitor() -> str:
    """What collectors of the monitor show once all of it is known."""
    registry = CollectorRegistry()
    state = WatchState(
        name="alerts",
        every_seconds=1.0,
        runs=1,
        failures=0,
        running_seconds=0.0,
        last_seconds=0.1,
        last_success_us=1,
        problem="",
    )
    registry.register(WatchMetrics(lambda: [state]))
    seen = Surroundings(("/data", 0.5), 0.9, True)
    registry.register(SurroundingsMetrics(lambda: seen))
    registry.register(DriftMetrics(lambda: DriftFigures(feature_alarms={"amount": 1})))
    registry.register(LabelDriftMetrics(lambda: LabelDriftFigures(alarms={"share of fraud": 1})))
    Figures(LABEL_ROWS, registry)
    return generate_latest(registry).decode()


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    """Those that Prometheus raises, and those of a deployment without it."""
    named = {
        rule["alert"]: rule["annotations"]["runbook"] for rule in rules() if "alert" in rule
    } | {alert.name: alert.runbook for alert in ALERTS.values()}
    assert named == {name: f"docs/runbooks/{name}.md" for name in named}
    pages = {path.stem: path.read_text() for path in RUNBOOKS.glob("*.md") if path.stem != "README"}
    assert pages.keys() == named.keys()
    parts = ["What it means", "What to look at", "What to do", "When to stop worrying"]
    for name, text in pages.items():
        assert text.startswith(f"# {name}\n")
        assert re.findall(r"^## (.+)$", text, re.MULTILINE) == parts
        assert min(len(part.split()) for part in text.split("\n## ")[1:]) >= 8, name


def test_everything_asked_for_is_exported_by_a_scorer_or_the_monitor(scorer: Server) -> None:
    httpx.post(
        f"{scorer.url}/predict", json={}, timeout=60
    )  # error answers are counted from the first on
    # State is counted by view, of views that have records.
    payment = {"transaction_id": "counted", "amount_minor": 100, "card_id": "K2"}
    httpx.post(f"{scorer.url}/predict", json=payment, timeout=60).raise_for_status()
    scraped = ""

    def counted() -> bool:  # twice a second
        nonlocal scraped
        scraped = httpx.get(f"{scorer.url}/metrics", timeout=60).text
        return "sentinel_state_entities{" in scraped

    wait_until(counted, 60, "records that are counted")
    scraped += shown_by_the_monitor()
    exported = set(re.findall(r"^(\w+)(?:\{| )", scraped, re.MULTILINE))
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    asked = [(rule.get("alert", rule.get("record")), rule["expr"]) for rule in rules()]
    for title, expression in asked + panel_queries():
        for name in NAME.findall(expression):
            assert name in exported | recorded, f"{title} asks for {name}"


def test_the_dashboard_is_one_that_grafana_provisions() -> None:
    sources = yaml.safe_load(
        (MONITORING / "grafana" / "provisioning" / "datasources" / "prometheus.yml").read_text()
    )
    uids = {source["uid"] for source in sources["datasources"]}
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(numbers)) == len(numbers)
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        assert panel["title"]
        assert {
            panel["datasource"]["uid"],
            *(t["datasource"]["uid"] for t in panel["targets"]),
        } <= uids
    cells = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(cells)) == len(cells), "panels overlap"


def test_prometheus_answers_every_panel(prometheus: Prometheus, scorer: Server) -> None:
    def ask(path: str, **parameters: str) -> Any:
        answer = httpx.get(f"{prometheus.url}/api/v1/{path}", params=parameters, timeout=60)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    payment = {"transaction_id": "seen", "amount_minor": 100, "card_id": "K1"}
    httpx.post(f"{scorer.url}/predict", json=payment, timeout=60).raise_for_status()
    wait_until(
        lambda: bool(ask("query", query="sentinel_decisions_total > 0")["result"]), 30, "a scrape"
    )
    for title, expression in panel_queries():
        expression = expression.replace("$__rate_interval", "30s")
        assert ask("query", query=expression)["resultType"] == "vector", title
    states = {rule["health"] for group in ask("rules")["groups"] for rule in group["rules"]}
    assert states <= {"ok", "unknown"}


def test_an_alert_becomes_a_mail_and_is_acknowledged_by_a_silence(
    alertmanager: Alertmanager, mail: Mail
) -> None:
    alert = {
        "labels": {"alertname": "NoScorer", "severity": "page"},
        "annotations": {"summary": "No scorer answers.", "action": "docker compose ps"},
    }
    httpx.post(f"{alertmanager.url}/api/v2/alerts", json=[alert], timeout=60).raise_for_status()
    wait_until(lambda: bool(mail.messages()), 300, "the mail")
    (message,) = mail.messages()
    settings = Settings(services=ServicesSettings(alertmanager_url=alertmanager.url))
    acknowledge(settings, "NoScorer", by="ann", why="restarting it", hours=1)
    (listed,) = raised(settings).alerts
    assert listed.acknowledged is not None
    assert (listed.acknowledged.by, listed.acknowledged.why) == ("ann", "restarting it")
    (silence,) = httpx.get(f"{alertmanager.url}/api/v2/silences", timeout=60).json()
    assert (silence["createdBy"], silence["status"]["state"]) == ("ann", "active")
    assert "night@example.com" in message
    assert "[Sentinel page] NoScorer (firing)" in message
    assert "docker compose ps" in message


def test_an_acknowledgement_silences_what_fires_and_not_what_comes_later(
    alertmanager: Alertmanager,
) -> None:
    settings = Settings(services=ServicesSettings(alertmanager_url=alertmanager.url))

    def fire(feature: str) -> None:
        labels = {"alertname": "DriftFound", "severity": "ticket", "feature": feature}
        alert = {"labels": labels, "annotations": {"summary": "moved", "action": "look"}}
        httpx.post(f"{alertmanager.url}/api/v2/alerts", json=[alert], timeout=60).raise_for_status()

    fire("amount")
    acknowledge(settings, "DriftFound", by="ann", why="a release", hours=1)
    fire("country")
    on_it = {one.subject: one.acknowledged for one in raised(settings).alerts if one.subject}
    assert on_it["amount"] is not None
    assert on_it["country"] is None


def test_the_doctor_asks_the_services_that_watch(
    prometheus: Prometheus, alertmanager: Alertmanager, scorer: Server
) -> None:
    settings = Settings(
        workspace=scorer.settings.workspace,
        services=ServicesSettings(
            prometheus_url=prometheus.url,
            alertmanager_url=alertmanager.url,
            grafana_url="http://127.0.0.1:9",
        ),
        api=scorer.settings.api.model_copy(update={"port": scorer.port}),
    )
    deadline = time.monotonic() + 300
    found: dict[str, Finding] = {}
    while time.monotonic() < deadline:
        found = {finding.name: finding for finding in check_services(settings)}
        if found["Prometheus"].well:
            break
    assert found["Prometheus"].well, found["Prometheus"].detail
    for name in ("ledger", "feature plan", "model", "scoring API", "Alertmanager"):
        assert found[name].well, found[name].detail
    assert not found["Grafana"].well
    assert "does not answer at http://127.0.0.1:9" in found["Grafana"].detail
    assert "Airflow" not in found
