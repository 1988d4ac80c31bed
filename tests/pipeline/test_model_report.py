"""The report of a version: one page that needs nothing else, and says what it rests on."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest

from sentinel.domain import NotFound
from sentinel.models.artifact import load_manifest
from sentinel.models.registry import Registry
from sentinel.models.report_facts import Segment
from sentinel.models.report_page import html_page
from sentinel.pipeline.model_report import BASELINE, Written, report
from sentinel.pipeline.promotion import promote
from sentinel.pipeline.training import train
from sentinel.settings import MlflowSettings, Settings
from testkit.ports import free_port
from tests.pipeline.test_without_a_server import imported


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A champion, and a candidate of another family."""
    folder = tmp_path_factory.mktemp("report")
    settings = imported(folder, rows=800, frauds=80, mlflow=MlflowSettings(port=free_port()))
    train(settings, threads=1, baselines=False)
    promote(settings)
    training = settings.training.model_copy(update={"trainer": "xgboost"})
    other = settings.model_copy(update={"training": training})
    train(other, threads=1, baselines=False, parameters={"rounds": 40})
    return settings


@pytest.fixture(scope="module")
def compared(deployment: Settings) -> Written:
    return report(deployment, "2")


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.outside: list[str] = []
        self.pictures = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.pictures += tag == "svg"
        self.outside += [
            f"{tag} {name}={value}"
            for name, value in attrs
            if name in ("src", "href", "xlink:href") and not (value or "").startswith("#")
        ]
        assert tag != "script"


def test_a_candidate_stands_beside_the_champion_and_a_baseline(compared: Written) -> None:
    facts = compared.facts
    assert list(facts.metrics) == ["version 2", "version 1", BASELINE]
    difference = facts.better_by["version 1"]["average_precision"]
    both = [facts.metrics[name]["average_precision"].value for name in ("version 2", "version 1")]
    assert difference.value == pytest.approx(both[0] - both[1])
    assert difference.low <= difference.value <= difference.high
    assert set(facts.better_by) == {"version 1", BASELINE}
    assert facts.payments > 0
    assert facts.frauds >= 10


def test_the_page_needs_nothing_else(compared: Written) -> None:
    text = compared.page.read_text()
    page = _Links()
    page.feed(text)
    assert page.outside == []
    assert page.pictures >= 6
    assert "version 1" in text
    assert "What nobody knows" in text
    identifiers = re.findall(r' id="([^"]+)"', text)
    assert len(identifiers) == len(set(identifiers)), "pictures do not take each other's shapes"


def test_what_the_model_uses_is_followed_over_versions(
    deployment: Settings, compared: Written
) -> None:
    facts = report(deployment, "1", baseline=False, tracked=False).facts
    assert list(facts.history) == ["1", "2"]
    assert facts.history["2"] == compared.facts.shap
    assert facts.against == ""
    assert set(facts.permutation) == set(facts.shap)


def test_segments_add_up(compared: Written) -> None:
    facts = compared.facts
    for what in {one.what for one in facts.segments}:
        parts = [one for one in facts.segments if one.what == what]
        assert sum(one.payments for one in parts) <= facts.payments
    amounts = [one for one in facts.segments if one.what == "amount"]
    assert sum(one.payments for one in amounts) == facts.payments
    assert sum(one.frauds for one in amounts) == facts.frauds


def test_the_model_card_writes_itself(compared: Written) -> None:
    card = compared.card.read_text()
    for heading in ("What it is", "What it learnt from", "How good it is", "Limits"):
        assert f"## {heading}" in card
    assert "xgboost" in card
    figure = compared.facts.metrics["version 2"]["average_precision"]
    assert f"| Average precision | {figure.value:.4g} |" in card


def test_the_report_is_where_the_training_is_tracked(
    deployment: Settings, compared: Written
) -> None:
    registry = Registry.of(deployment)
    run = registry.place.client().get_run(registry.version("2").run_id)
    files = registry.place.folder(run.info.artifact_uri) / "report"
    assert (files / compared.page.name).read_bytes() == compared.page.read_bytes()
    assert (files / "2.md").read_bytes() == compared.card.read_bytes()


def test_where_nothing_was_promoted_a_version_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="sentinel report VERSION"):
        report(Settings(workspace=tmp_path))


def test_names_from_the_data_cannot_become_part_of_the_page(compared: Written) -> None:
    manifest = load_manifest(compared.page.parent.parent / "models" / "sentinel-fraud-1")
    named = Segment("channel", "<script>alert(1)</script>", 5, 0)
    facts = msgspec.structs.replace(compared.facts, segments=(named,))
    page = html_page(facts, manifest, {"<script>": "<svg></svg>"})
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
