"""Scores of the history change all at once, or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sentinel.domain import WorkspaceError
from sentinel.ledger.history_scores import HistoricScore, HistoryScores, Scored


def _portion(ids: list[str], probability: float) -> Scored:
    return ids, np.full(len(ids), probability), np.full(len(ids), probability > 0.5)


def test_without_scores_nothing_is_found(tmp_path: Path) -> None:
    scores = HistoryScores(tmp_path / "scores.db")
    assert scores.find("tx-1") is None
    assert scores.version() is None


def test_a_historic_transaction_has_an_answer(tmp_path: Path) -> None:
    scores = HistoryScores(tmp_path / "scores.db")
    assert scores.replace("3", [_portion(["tx-1", "tx-2"], 0.9), _portion(["7"], 0.25)]) == 3
    assert scores.find("tx-2") == HistoricScore(
        transaction_id="tx-2", fraud_probability=0.9, is_fraud=True, model_version="3"
    )
    assert scores.find("7") == HistoricScore(
        transaction_id="7", fraud_probability=0.25, is_fraud=False, model_version="3"
    )
    assert scores.find("tx-3") is None
    scores.close()


def test_an_open_reader_turns_to_the_new_scores(tmp_path: Path) -> None:
    path = tmp_path / "scores.db"
    writer, reader = HistoryScores(path), HistoryScores(path)
    writer.replace("1", [_portion(["a", "b"], 0.1)])
    found = reader.find("a")
    assert found is not None
    assert found.model_version == "1"
    writer.replace("2", [_portion(["a"], 0.8)])
    found = reader.find("a")
    assert found is not None
    assert (found.model_version, found.fraud_probability) == ("2", 0.8)
    assert reader.find("b") is None
    assert reader.version() == "2"
    reader.close()
    writer.close()


def test_scores_that_are_cut_short_change_nothing(tmp_path: Path) -> None:
    path = tmp_path / "scores.db"
    scores = HistoryScores(path)
    scores.replace("1", [_portion(["a"], 0.1)])

    def cut_short() -> Iterator[Scored]:
        yield _portion(["a"], 0.9)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scores.replace("2", cut_short())
    assert scores.version() == "1"
    assert [file.name for file in tmp_path.iterdir()] == ["scores.db"]
    scores.close()


def test_another_file_is_no_scores(tmp_path: Path) -> None:
    path = tmp_path / "scores.db"
    path.write_text("hello " * 1_000)
    with pytest.raises(WorkspaceError, match="not a SQLite database"):
        HistoryScores(path).find("a")
    path.write_bytes(b"")
    with pytest.raises(WorkspaceError, match="does not hold scores"):
        HistoryScores(path).find("a")
