"""What a workspace holds is for its owner alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sentinel.domain import ConfigurationError
from sentinel.pipeline.health import checks
from sentinel.pipeline.workspace import close_to_others, open_to_others
from sentinel.settings import Settings
from tests.cli.test_commands import MAPPING, ROWS


def run(workspace: Path, *arguments: str) -> None:
    """A verb as a user with the usual mask runs it."""
    done = subprocess.run(
        [sys.executable, "-m", "sentinel", *arguments],
        env={**os.environ, "SENTINEL_WORKSPACE": str(workspace)},
        umask=0o022,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_verbs_make_files_for_their_owner_alone(tmp_path: Path) -> None:
    (tmp_path / "payments.csv").write_text(ROWS)
    (tmp_path / "mapping.toml").write_text(MAPPING)
    workspace = tmp_path / "workspace"
    run(workspace, "import", str(tmp_path / "mapping.toml"), "--allow-rejects", "0.6")
    run(workspace, "models", "signing-key")
    assert {"ledger.db", "signing.key"} <= {path.name for path in workspace.iterdir()}
    assert open_to_others(workspace) == []


@pytest.fixture
def older(tmp_path: Path) -> Settings:
    """A workspace of before, with a file that is more private than most."""
    workspace = tmp_path / "workspace"
    (workspace / "models").mkdir(parents=True)
    for name, mode in (("ledger.db", 0o644), ("models/model.txt", 0o664), ("read.only", 0o400)):
        (workspace / name).write_text("x")
        (workspace / name).chmod(mode)
    (tmp_path / "outside").write_text("x")
    (tmp_path / "outside").chmod(0o644)
    (workspace / "link").symlink_to(tmp_path / "outside")
    for folder in (workspace, workspace / "models"):
        folder.chmod(0o755)
    return Settings(workspace=workspace)


def test_an_older_workspace_is_named_and_closed(older: Settings) -> None:
    check = dict(checks(older))["files of the workspace"]
    with pytest.raises(ConfigurationError, match=r"4 can be read by other users.*chmod -R go-rwx"):
        check()
    assert close_to_others(older.workspace) == 4
    modes = {path.name: path.stat().st_mode & 0o777 for path in older.workspace.rglob("*")}
    assert modes.pop("link") == 0o644, "what it points to is not ours"
    assert modes == {"models": 0o700, "ledger.db": 0o600, "model.txt": 0o600, "read.only": 0o400}
    assert check() == "for their owner alone"
