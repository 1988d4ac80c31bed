"""What changes something for good is not done without a reason that can be read later."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from sentinel.cli.main import app


@pytest.mark.parametrize(
    "command",
    [
        "policy apply costs.toml",
        "experiment start ab --version 1 --shadow",
        "experiment stop ab",
        "experiment share ab 0.1",
        "models retire 1",
        "models approve 1",
        "drift silence",
        "alerts acknowledge ServiceDown",
    ],
)
@pytest.mark.parametrize(
    ("why", "words"), [("", "it is blank"), (" ", "it is blank"), ("caf\udce9", "no text in UTF-8")]
)
def test_a_reason_that_says_nothing_is_none(
    tmp_path: Path, command: str, why: str, words: str
) -> None:
    asked = [*command.split(), "--why", why, "--workspace", str(tmp_path / "none")]
    done = CliRunner().invoke(app, asked, env={"COLUMNS": "120"})
    assert done.exit_code == 2, done.output
    assert words in done.output
    assert list(tmp_path.iterdir()) == []
