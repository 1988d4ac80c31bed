"""The workflows are ones that GitHub understands, pin what they use, and call what exists."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from testkit.watching import COMPOSE, ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def jobs(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text())["jobs"]
    return found


def steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in jobs(path).values() for step in job["steps"]]


def test_github_understands_them() -> None:
    assert {path.stem for path in WORKFLOWS} == {"ci", "images", "release"}
    check = str(Path(sys.executable).with_name("check-jsonschema"))
    arguments = ["--builtin-schema", "vendor.github-workflows", *map(str, WORKFLOWS)]
    done = subprocess.run([check, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_to_a_commit_and_rights_are_few(path: Path) -> None:
    for line in path.read_text().splitlines():
        if "uses:" in line:
            assert re.search(r"uses: [\w/.-]+@[0-9a-f]{40} # v?\d+\.\d+\.\d+$", line), line
    assert yaml.safe_load(path.read_text())["permissions"] == {"contents": "read"}
    for job in jobs(path).values():
        assert job["timeout-minutes"] <= 90
        assert job["runs-on"] == "ubuntu-24.04"
    for step in steps(path):
        if "checkout" in step.get("uses", ""):
            assert step["with"]["persist-credentials"] is False


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_target_and_script_that_is_called_exists(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    called = 0
    for step in steps(path):
        words = step.get("run", "")
        for target in re.findall(r"\bmake ([a-z-]+)", re.sub(r"install [^\n]* make ", "", words)):
            if target != "python3":  # a package beside make
                assert target in targets, target
                called += 1
        for script in re.findall(r"(?:^|\s)((?:scripts|deploy)/[\w./-]+\w)(?=\s|$)", words):
            assert (ROOT / script).exists(), script
            if not script.endswith(".py") and (ROOT / script).is_file():
                assert os.access(ROOT / script, os.X_OK), script
            called += 1
    assert called


def test_every_image_is_built_scanned_and_released() -> None:
    images = sorted(path.stem for path in (ROOT / "deploy" / "images").glob("*.Dockerfile"))
    for name, job in (("images", "build"), ("release", "images")):
        declared = jobs(ROOT / ".github" / "workflows" / f"{name}.yml")[job]
        assert sorted(declared["strategy"]["matrix"]["image"]) == images
    audited = jobs(ROOT / ".github" / "workflows" / "images.yml")["dependencies"]
    locks = {path.stem for path in (ROOT / "requirements").glob("*.txt")}
    assert set(audited["strategy"]["matrix"]["lock"]) == locks - {"bootstrap", "debian"}


def test_scans_fail_where_they_find_something() -> None:
    images = jobs(ROOT / ".github" / "workflows" / "images.yml")
    scans = [s for job in images.values() for s in job["steps"] if "trivy" in s.get("uses", "")]
    assert len(scans) == 2
    for scan in scans:
        assert scan["with"]["exit-code"] == "1"
        assert scan["with"]["trivyignores"] == ".trivyignore"
        assert "continue-on-error" not in scan
    for line in (ROOT / ".trivyignore").read_text().splitlines():
        assert not line or line.startswith(("#", "CVE-", "GHSA-")), line
    deployed = yaml.safe_load((COMPOSE / "compose.yaml").read_text())["services"].values()
    others = {s["image"].removeprefix("docker.io/").removeprefix("library/") for s in deployed}
    scanned = images["others"]["strategy"]["matrix"]["image"]
    assert sorted(scanned) == sorted(name for name in others if "SENTINEL" not in name)
    (secrets,) = [s for s in images["secrets"]["steps"] if "gitleaks" in s.get("run", "")]
    assert re.search(r"gitleaks:v[\d.]+@sha256:[0-9a-f]{64} ", secrets["run"])
    assert "--exit-code 1" in secrets["run"]
    tomllib.loads((ROOT / ".gitleaks.toml").read_text())


def test_services_of_ci_are_those_of_compose() -> None:
    services = jobs(ROOT / ".github" / "workflows" / "ci.yml")["services"]["services"]
    deployed = (COMPOSE / "compose.yaml").read_text()
    for service in services.values():
        assert f"docker.io/library/{service['image']}" in deployed


def test_a_release_is_what_the_package_and_the_changelog_say(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    script = tmp_path / "scripts" / "check-release"
    script.write_bytes((ROOT / "scripts" / "check-release").read_bytes())
    script.chmod(0o755)
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.2.3"\n')
    (tmp_path / "CHANGELOG.md").write_text("## [Unreleased]\n")

    def check(version: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([script, version], capture_output=True, text=True)

    assert "says version 1.2.3" in check("1.2.4").stderr
    assert "no section [1.2.3]" in check("1.2.3").stderr
    (tmp_path / "CHANGELOG.md").write_text("## [Unreleased]\n\n## [1.2.3] - 2026-01-31\n")
    assert check("1.2.3").returncode == 0
