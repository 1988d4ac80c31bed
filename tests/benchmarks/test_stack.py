"""The `stack` benchmark says in one list what it needs, before it starts anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import stack
from benchmarks.stack_needs import missing


def test_all_that_is_missing_is_said_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    nowhere = tmp_path / "nowhere"
    assert stack.main(["--only", "shared", "--folder", str(nowhere)]) == 2
    said = capsys.readouterr().err
    assert "redis-server is not installed: apt-get install redis-server" in said
    assert f"{nowhere} is no folder that can be written to" in said
    assert not list(tmp_path.iterdir()), "nothing was started"


def test_an_old_redis_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "redis-server"
    fake.write_text("#!/bin/sh\necho 'Redis server v=6.2.7 sha=00000000:0'\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    found = missing(tmp_path, shared_only=True)
    assert any("too old" in line and "7.0 or newer" in line for line in found)
