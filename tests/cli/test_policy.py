"""`sentinel policy`: what it shows, changes and refuses."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import sqlite3
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sentinel.cli.main import app
from sentinel.domain import ConfigurationError
from sentinel.models.thresholds import Thresholds
from sentinel.policy.ruling import Policy
from sentinel.policy.terms_file import read_terms
from sentinel.settings import Settings
from testkit.decided_worlds import decided_world

FILE = """
reviews_per_day = 3

[costs]
lost_share = 0.9
fee_minor = 1500
false_decline_minor = 2500
review_minor = 300
missed_share = 0.1
stopped_share = 0.02

[[segments]]
name = "app"
field = "attributes.channel"
values = ["app"]
costs = { false_decline_minor = 9000 }

[exploring]
budget_minor = 500_000
most_amount_minor = 100_000
"""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = Settings(workspace=tmp_path_factory.mktemp("w"))
    lines = Thresholds(fraud=0.5, review=0.45, decline=0.6)
    decided_world(settings, Policy(lines), payments=8_000)
    (settings.workspace / "costs.toml").write_text(FILE)
    return settings.workspace


def run(workspace: Path, *words: str, code: int = 0) -> Result:
    command = ["policy", *words, "--workspace", str(workspace)]
    done = CliRunner().invoke(app, command, env={"COLUMNS": "80"})
    assert done.exit_code == code, done.output
    return done


def test_from_nothing_to_a_policy_and_back(workspace: Path) -> None:
    costs = str(workspace / "costs.toml")
    assert "Nobody has set a policy" in run(workspace, "show").stdout
    looked = run(workspace, "refresh").stdout
    assert "whether they are fraud cannot be known" in looked
    assert "a month would let" in looked
    seen = run(workspace, "preview", costs).stdout
    assert "Lines by amount" in seen
    assert "Unknown (" in seen
    assert "precision of declines" in seen
    tables = [line for line in seen.splitlines() if line[:1] in "│┃┏┡└"]
    assert max(map(len, tables)) <= 80
    assert "Nobody has set a policy" in run(workspace, "show").stdout  # a preview changes nothing
    applied = run(workspace, "apply", costs, "--why", "costs of finance", "--by", "ann").stdout
    assert "Version 1 of the policy holds" in applied
    assert "The control group lets" in applied
    shown = run(workspace, "show").stdout
    assert "by ann" in shown
    assert "costs of finance" in shown
    assert "segment app" in shown
    run(workspace, "apply", "--version", "1", "--why", "again", "--by", "bob")
    listed = json.loads(run(workspace, "history", "--json").stdout)
    assert [(one["version"], one["by"], one["restores"]) for one in listed] == [
        (2, "bob", 1),
        (1, "ann", None),
    ]
    assert "(as version 1)" in run(workspace, "history").stdout.replace("\n", " ")
    assert "Version 2 of the policy stays" in run(workspace, "refresh").stdout
    assert json.loads(run(workspace, "preview", "--json").stdout)["workings"]["share"] > 0


def test_what_cannot_be_is_refused_with_what_can(workspace: Path) -> None:
    costs = str(workspace / "costs.toml")
    assert "Name a file" in run(workspace, "apply", "--why", "x", code=1).output
    both = run(workspace, "preview", costs, "--version", "1", code=1)
    assert "two policies" in both.output
    assert "no version 99" in run(workspace, "preview", "--version", "99", code=1).output
    missing = run(workspace, "preview", str(workspace / "none.toml"), code=1)
    assert "cannot be read" in missing.output


def test_a_file_of_a_windows_editor_is_read(workspace: Path, tmp_path: Path) -> None:
    file = tmp_path / "costs.toml"
    file.write_text(FILE, encoding="utf-8-sig")
    assert "Lines by amount" in run(workspace, "preview", str(file)).stdout


def test_a_policy_that_cannot_be_read_again_is_refused_and_the_one_before_holds(
    workspace: Path, tmp_path: Path
) -> None:
    run(workspace, "apply", str(workspace / "costs.toml"), "--why", "costs")
    before = run(workspace, "show", "--json").stdout
    file = tmp_path / "endless.toml"
    file.write_text("[exploring]\nbudget_minor = inf\n")
    done = run(workspace, "apply", str(file), "--why", "no bound", code=1)
    assert "the budget is inf" in " ".join(done.output.split())
    assert run(workspace, "show", "--json").stdout == before


def test_an_older_version_can_hold_again_where_the_newest_cannot_be_read(workspace: Path) -> None:
    run(workspace, "apply", str(workspace / "costs.toml"), "--why", "costs")
    with contextlib.closing(sqlite3.connect(workspace / "policy.db")) as file, file:
        newest = file.execute("SELECT max(version) FROM versions").fetchone()[0]
        file.execute("INSERT INTO versions VALUES (?, '{}')", (newest + 1,))
    said = " ".join(run(workspace, "show", code=1).output.split())
    assert "apply --version N" in said
    run(workspace, "apply", "--version", str(newest), "--why", "the newest is damaged")
    shown = json.loads(run(workspace, "show", "--json").stdout)
    assert (shown["version"], shown["restores"]) == (newest + 2, newest)


def test_a_user_whom_the_system_has_no_name_of_is_written_down_by_number(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(number: int) -> object:
        raise KeyError(f"getpwuid(): uid not found: {number}")

    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    run(workspace, "apply", str(workspace / "costs.toml"), "--why", "costs")
    assert json.loads(run(workspace, "show", "--json").stdout)["by"] == f"user {os.getuid()}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("costs = [", "is no TOML"),
        ("review_per_day = 3", "review_per_day is not a field"),
        ("[costs]\nfee = 3", "costs has 'fee'; it takes lost_share, fee_minor"),
        ("[exploring]\nshare = 0.1", r"exploring\.budget_minor is required"),
        ("[exploring]\nbudget_minor = 1\nshare = 0.1", "exploring has 'share'"),
        ("[costs]\nfee_minor = 'much'", r"costs\.fee_minor must be a number, not text"),
        ("reviews_per_day = 3", "need costs"),
        ("[bands]\nfraud = 0.5\nreview = 0.3\ndecline = 0.9\nalert = 1", "bands has 'alert'"),
        ("deep = " + "[" * 5_000 + "]" * 5_000, "is no TOML"),
        ("reviews_per_day = " + "9" * 5_000, "is no TOML"),
    ],
)
def test_a_file_that_says_something_else_is_refused_by_name(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        read_terms(text, "costs.toml")


def test_a_segment_has_the_costs_of_all_where_it_says_nothing() -> None:
    terms = read_terms(FILE, "costs.toml")
    assert terms.costs is not None
    (segment,) = terms.segments
    assert segment.costs.false_decline_minor == 9_000
    assert segment.costs.fee_minor == terms.costs.fee_minor == 1_500
