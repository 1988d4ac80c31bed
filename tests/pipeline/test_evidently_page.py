"""Evidently's page is drawn by Evidently, of the payments that the report of drift rests on."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from sentinel.cli.main import app
from sentinel.domain import InvalidQuery
from sentinel.drift.bins import SCORE, ColumnBins
from sentinel.pipeline.evidently_page import with_score, write_evidently_page

COLUMNS = (
    ColumnBins("amount", "number", (1.0, 2.0)),
    ColumnBins("hour", "number", (6.0, 12.0)),
    ColumnBins("channel", "category", (1.0, 2.0)),
    ColumnBins("device_age", "number", (1.0,)),
    ColumnBins(SCORE, "number", (0.1, 0.5)),
)


def payments(seed: int, moved: float = 0.0) -> np.ndarray:
    random = np.random.default_rng(seed)
    vectors = np.column_stack(
        (
            random.normal(moved, 1.0, 2_000),
            random.uniform(0, 24, 2_000),
            random.integers(1, 3, 2_000),
            np.full(2_000, np.nan),
        )
    ).astype(np.float32)
    vectors[:50, :3] = np.nan
    return with_score(vectors, random.beta(1, 20, 2_000))


def test_the_page_names_what_moved_and_needs_nothing_else(tmp_path: Path) -> None:
    page = tmp_path / "reports" / "evidently.html"
    left_out = write_evidently_page(page, COLUMNS, payments(1), payments(2, moved=1.0))
    assert left_out == ("device_age",)
    text = page.read_text()
    assert {name for name in ("amount", "hour", "channel", SCORE) if name not in text} == set()
    assert not re.search(r"<(script|link)[^>]+(src|href)=.https?:", text)


def test_a_side_without_payments_is_said(tmp_path: Path) -> None:
    nothing = payments(1)[:0]
    with pytest.raises(InvalidQuery, match="has none of the time of the model's reference"):
        write_evidently_page(tmp_path / "page.html", COLUMNS, nothing, payments(1))
    with pytest.raises(InvalidQuery, match="has none recent"):
        write_evidently_page(tmp_path / "page.html", COLUMNS, payments(1), nothing)


def test_who_has_no_evidently_hears_it_before_the_log_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "evidently", None)
    where = ["--workspace", str(tmp_path), "--evidently", str(tmp_path / "page.html")]
    done = CliRunner().invoke(app, ["drift", "report", *where])
    assert done.exit_code == 1
    assert "sentinel-fraud[evidently]" in done.output
    assert not (tmp_path / "reports").exists()


def test_without_a_model_the_report_is_there_and_the_other_page_is_not(tmp_path: Path) -> None:
    where = ["--workspace", str(tmp_path), "--evidently", str(tmp_path / "page.html")]
    done = CliRunner().invoke(app, ["drift", "report", *where])
    assert done.exit_code == 1
    assert "Evidently's page was not" in done.output
    assert (tmp_path / "reports" / "drift.html").exists()
