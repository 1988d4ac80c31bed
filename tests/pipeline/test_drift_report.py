"""The report of drift of a deployment is one page, whatever there is to say."""

from __future__ import annotations

from pathlib import Path

from sentinel.drift.store import open_drift
from sentinel.models.serving import model_folder
from sentinel.pipeline.drift_report import write_drift_report
from sentinel.settings import Settings
from tests.drift.test_overview import REFERENCE, filled


def test_without_a_monitor_the_page_says_how_to_start_one(tmp_path: Path) -> None:
    done = write_drift_report(Settings(workspace=tmp_path / "workspace"))
    assert done.page == tmp_path / "workspace" / "reports" / "drift.html"
    assert "Start one with `sentinel monitor`" in done.page.read_text()
    assert (done.estimate, done.without) == (None, "")


def test_a_model_that_cannot_be_read_leaves_the_monitors_part_and_says_why(tmp_path: Path) -> None:
    settings = Settings(workspace=tmp_path / "workspace")
    store = open_drift(settings)
    filled(store)
    store.close()
    folder = model_folder(settings, "7")
    folder.mkdir(parents=True)
    REFERENCE.save(folder)  # and no model beside it
    done = write_drift_report(settings, tmp_path / "page.html")
    assert "holds no model" in done.without
    page = (tmp_path / "page.html").read_text()
    assert "<h3>risk" in page
    assert "holds no model" in page
