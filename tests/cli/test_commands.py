"""The command line: what it says when all is well, and when something is not."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from sentinel.cli import services
from sentinel.cli.console import err
from sentinel.domain import WorkspaceError
from sentinel.settings import Settings
from testkit.ports import free_port

MAPPING = """
id = "ref"

[files]
path = "payments.csv"

[time]
column = "created"

[amount]
column = "amount"

[entities]
customer_id = "customer"
merchant_id = "shop"
"""
ROWS = """ref,created,amount,customer,shop
a,2026-01-01T10:00:00Z,12.50,c1,s1
b,2026-01-01T10:05:00Z,0,c1,s2
c,2026-01-01T10:06:00Z,nonsense,c1,s2
,2026-01-01T10:07:00Z,3.00,c2,s2
d,2026-01-01T10:08:00Z,7.00,4111111111111111,s2
"""


def sentinel(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sentinel", *arguments],
        capture_output=True,
        text=True,
        timeout=850,
        check=False,
        env={**os.environ, "COLUMNS": "120", **environment},
    )


@pytest.fixture
def mapping(tmp_path: Path) -> Path:
    (tmp_path / "payments.csv").write_text(ROWS)
    path = tmp_path / "mapping.toml"
    path.write_text(MAPPING)
    return path


ATTRIBUTES_READ = """
from sentinel.feast_plugin.families import (
    DAY, count, distinct, entity, entity_view, payments, request_view, vector
)

transactions = payments()
card = entity("card")
card_features = entity_view(
    "card",
    [card],
    count(DAY),
    count(DAY, name="strong", where=[("chanel", "==", "online")]),
    distinct("wallet_kimd", DAY),
    source=transactions,
)
request_features = request_view(
    "request",
    "amount",
    categories=["wallet_kind", "mcc"],
    numbers=["basket_sise"],
    source=transactions,
)
fraud_detection_v1 = vector("fraud_detection_v1", card_features, request_features)
"""


def test_attributes_that_nobody_has_had_are_named_with_the_nearest(tmp_path: Path) -> None:
    workspace = tmp_path / "w"
    names = {
        "SENTINEL_WORKSPACE": str(workspace),
        "SENTINEL_FEATURE_STORE": str(tmp_path / "own" / "feature_store"),
    }
    definitions = tmp_path / "own" / "feature_store" / "definitions.py"
    made = sentinel("features", "init", "--into", str(definitions.parent), **names)
    assert made.returncode == 0, made.stderr
    # What came with Sentinel is spelt as it is meant.
    (tmp_path / "payments.csv").write_text(
        "ref,created,amount,customer,shop,channel,wallet_kind,basket_size\n"
        "a,2026-01-01T10:00:00Z,12.50,c1,s1,online,apple,3\n"
    )
    mapping = MAPPING.replace("payments.csv", str(tmp_path / "payments.csv"))
    mapping += '\n[attributes]\ninclude = ["*"]\n'
    (tmp_path / "mapping.toml").write_text(mapping)
    assert sentinel("import", str(tmp_path / "mapping.toml"), **names).returncode == 0
    assert "attributes that" not in sentinel("features", "plan", **names).stderr

    definitions.write_text(ATTRIBUTES_READ)
    said = (
        "'basket_sise' (did you mean 'basket_size'?), 'chanel' (did you mean 'channel'?), "
        "'wallet_kimd' (did you mean 'wallet_kind'?)"
    )
    for verb in ("plan", "apply"):
        told = sentinel("features", verb, **names)
        assert (told.returncode, f"no payment so far has had: {said}." in told.stderr) == (0, True)

    # Before anything was imported, the mapping beside the definitions tells.
    names["SENTINEL_WORKSPACE"] = str(tmp_path / "fresh")
    assert "attributes that" not in sentinel("features", "plan", **names).stderr
    (tmp_path / "own" / "mapping.toml").write_text(mapping)
    told = sentinel("features", "plan", **names)
    assert f"the mapping does not have: {said}." in told.stderr


def test_help_names_every_verb() -> None:
    text = sentinel("--help").stdout
    verbs = (
        "up status doctor import import-labels simulate features train evaluate report compare "
        "promote rollback serve dashboard mlflow follow export void reset"
    )
    for verb in verbs.split():
        assert f" {verb} " in text
    features = sentinel("features", "--help").stdout
    for verb in ("plan", "apply", "backfill", "materialize", "verify"):
        assert f" {verb} " in features


def test_preview_shows_what_is_understood_and_imports_nothing(
    mapping: Path, tmp_path: Path
) -> None:
    workspace = tmp_path / "w"
    done = sentinel("import", str(mapping), "--preview", "--workspace", str(workspace))
    assert done.returncode == 0, done.stderr
    assert "customer_id" in done.stdout
    assert not (workspace / "ledger.db").exists()


def test_a_simulated_history_ends_now_so_that_a_model_can_be_trained_on_it(tmp_path: Path) -> None:
    """In an older one the last labels come long after the last payments, and none is tested on."""
    done = sentinel("import", "simulator", "--preview", "--workspace", str(tmp_path))
    assert done.returncode == 0, done.stderr
    found = re.search(r"([\d.]+) days from (\S+),", done.stdout)
    assert found is not None, done.stdout
    end = dt.datetime.fromisoformat(f"{found[2]}T00:00+00:00") + dt.timedelta(days=float(found[1]))
    assert abs(end - dt.datetime.now(dt.UTC)) < dt.timedelta(minutes=10)


def test_an_import_accounts_for_every_row(mapping: Path, tmp_path: Path) -> None:
    workspace = tmp_path / "w"
    refused = sentinel("import", str(mapping), "--workspace", str(workspace))
    assert refused.returncode == 1
    assert "3 of 5 rows were rejected" in refused.stderr
    assert "Nothing was imported" in refused.stderr
    table = [" ".join(line.replace("│", " ").split()) for line in refused.stdout.splitlines()]
    assert "refused: nothing of it is in the log" in " ".join(refused.stdout.split())
    assert "would have been accepted 2" in table
    assert "rejected share 60.0% (at most 50.0%)" in table
    assert not [line for line in table if line.startswith("accepted")]
    allowed = ("import", str(mapping), "--allow-rejects", "0.6", "--workspace", str(workspace))
    done = sentinel(*allowed)
    assert done.returncode == 0, done.stderr
    lines = [" ".join(line.replace("│", " ").split()) for line in done.stdout.splitlines()]
    assert {"transactions read 5", "accepted 2", "rejected 3"} <= set(lines)
    status = sentinel("status", "--workspace", str(workspace))
    assert "2" in status.stdout
    addresses = re.findall(r"http://\S+", status.stdout)
    assert [a.count("/") for a in addresses] == [2, 2, 2]  # nothing after the port
    again = sentinel(*allowed)
    assert again.returncode == 0, again.stderr
    assert "accepted 0" in " ".join(again.stdout.replace("│", " ").split())
    assert "known to be fraud" not in again.stdout, "there is nothing that a share would be of"


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("serve",), "sentinel features apply"),
        (("import", "simulater"), "did you mean 'simulator'"),
        (("import", "nowhere.toml"), "nowhere.toml"),
        (("simulate",), "sentinel up"),
    ],
)
def test_a_mistake_is_one_clear_line_with_a_way_out(
    tmp_path: Path, arguments: tuple[str, ...], hint: str
) -> None:
    done = sentinel(*arguments, "--workspace", str(tmp_path / "w"))
    assert done.returncode == 1
    assert hint in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_a_busy_port_is_named_with_the_setting_that_changes_it(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = sentinel("up", "--workspace", str(tmp_path / "w"), SENTINEL_API__PORT=port)
    assert done.returncode == 1
    assert f"Port {port} is in use" in done.stderr
    assert "SENTINEL_API__PORT" in done.stderr


def test_a_busy_port_is_named_before_a_table_is_read(mapping: Path, tmp_path: Path) -> None:
    table = mapping.with_name("payments.csv")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        workspace = tmp_path / "w"
        arguments = ("up", "--data", str(table), "--workspace", str(workspace))
        done = sentinel(*arguments, SENTINEL_MLFLOW__PORT=port)
    assert done.returncode == 1
    assert f"Port {port} is in use" in done.stderr
    assert "Looking at every row" not in done.stderr
    assert not (workspace / "mapping.toml").exists()


@pytest.mark.parametrize("name", ["nothing.csv", "nothing.toml"])
def test_data_that_is_not_there_is_named_before_a_busy_port(name: str, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        arguments = ("up", "--data", str(tmp_path / name), "--workspace", str(tmp_path / "w"))
        done = sentinel(*arguments, SENTINEL_MLFLOW__PORT=port)
    assert done.returncode == 1
    assert name in done.stderr
    assert "in use" not in done.stderr


def test_labels_in_an_older_encoding_are_read_and_it_is_said_which(
    mapping: Path, tmp_path: Path
) -> None:
    workspace = ("--workspace", str(tmp_path / "w"))
    rows = ROWS.replace("\na,", "\nbestellung-köln,")
    (tmp_path / "payments.csv").write_text(rows)
    done = sentinel("import", str(mapping), "--allow-rejects", "1", *workspace)
    assert done.returncode == 0, done.stderr
    table = tmp_path / "labels.csv"
    plain = "".join(f"b{n},fraud,2026-02-01T00:00:00Z\n" for n in range(20_000))
    text = f"transaction_id,verdict,received_at\n{plain}bestellung-köln,fraud,2026-02-01\n"
    table.write_bytes(text.encode("cp1252"))
    done = sentinel("import-labels", str(table), "--allow-rejects", "1", *workspace)
    assert done.returncode == 0, done.stderr
    assert "is no UTF-8; it is read as cp1252" in done.stdout
    # The name with a letter beyond ASCII is that of a payment.
    assert "20,000 of 20,001 labels are about payments that neither" in " ".join(
        done.stdout.split()
    )
    done = sentinel("import-labels", str(table), "--encoding", "utf-8", *workspace)
    assert done.returncode == 1
    assert "line 20002 is no UTF-8 text" in " ".join(done.stderr.split())
    assert "--encoding" in done.stderr
    done = sentinel("import-labels", str(mapping), "--encoding", "cp1252", *workspace)
    assert done.returncode == 1
    assert "set labels.encoding in" in " ".join(done.stderr.split())


UNKNOWN = {
    ("promote", "9"): "sentinel.pipeline.gate",
    ("evaluate", "9"): "sentinel.pipeline.gate",
    ("report", "9"): "sentinel.pipeline.model_report",
    ("compare", "9", "8"): "sentinel.pipeline.model_report",
    ("learn", "--base", "9"): "sentinel.pipeline.online_learning",
    ("models", "approve", "9", "--why", "x"): "sentinel.pipeline.approvals",
    ("models", "retire", "9", "--why", "x"): "sentinel.pipeline.retirement",
    ("models", "sign", "9"): "sentinel.pipeline.signing",
    (
        *("experiment", "start", "new", "--version", "9"),
        *("--shadow", "--why", "x"),
    ): "sentinel.pipeline.experiments",
}
"""Verbs with a version that does not exist, and what none of them may load before it says so."""

ASKED = """
import json, sys
from sentinel.cli.console import err
from sentinel.cli.main import app
for number, arguments in enumerate(json.loads(sys.argv[1])):
    try:
        app([*arguments, "--workspace", sys.argv[2]])
    except SystemExit as ended:
        code = ended.code
    else:
        code = 0
    err.print(f"end of {number}")
    print(json.dumps([code, sorted(sys.modules)]))
"""


@pytest.fixture(scope="module")
def unknown_versions(
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[tuple[str, ...], tuple[int, str, set[str]]]:
    """Exit status, what was said and the modules that are loaded then, of verbs in one process.

    Nothing is unloaded in between, so a module that one verb loads is loaded for all after it.
    """
    workspace = str(tmp_path_factory.mktemp("unknown"))
    done = subprocess.run(
        [sys.executable, "-c", ASKED, json.dumps(list(UNKNOWN)), workspace],
        capture_output=True,
        text=True,
        timeout=850,
        check=True,
        env={**os.environ, "COLUMNS": "120", "SENTINEL_MLFLOW__PORT": str(free_port())},
    )
    said = re.split(r"end of \d+\n", done.stderr)
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    return {
        arguments: (code, text, set(modules))
        for arguments, text, (code, modules) in zip(UNKNOWN, said, found, strict=False)
    }


@pytest.mark.parametrize(("arguments", "module"), UNKNOWN.items())
def test_a_version_that_does_not_exist_is_said_before_anything_is_loaded(
    arguments: tuple[str, ...],
    module: str,
    unknown_versions: dict[tuple[str, ...], tuple[int, str, set[str]]],
) -> None:
    code, said, loaded = unknown_versions[arguments]
    assert code == 1, said
    assert "has no version '9'" in said
    assert not {module, "numba"} & loaded


def test_a_proposal_that_is_used_again_is_named(tmp_path: Path) -> None:
    """An interrupted or second `sentinel up` proposes nothing anew."""
    rows = "".join(
        f"p{n},2026-01-{1 + n // 20:02d}T10:{n % 20:02d}:00Z,{n % 7}.50,c{n % 9},s{n % 5}\n"
        for n in range(400)
    )
    table = tmp_path / "payments.csv"
    table.write_text(ROWS.splitlines()[0] + "\n" + rows)
    workspace = ("--workspace", str(tmp_path / "w"))
    flags = ("--label", "none", "--currency", "EUR")
    done = sentinel("propose", str(table), *workspace, *flags)
    assert done.returncode == 0, done.stdout + done.stderr
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = sentinel("up", "--data", str(table), *workspace, SENTINEL_API__PORT=port)
    assert f"{tmp_path / 'w' / 'mapping.toml'} was proposed for" in done.stdout
    assert f"`sentinel propose {table} --workspace" in done.stdout
    assert f"Port {port} is in use" in done.stderr


def test_settings_that_make_no_sense_are_named(tmp_path: Path) -> None:
    done = sentinel("status", "--workspace", str(tmp_path), SENTINEL_API__PORT="0")
    assert done.returncode == 1
    assert "api.port" in done.stderr


def test_the_status_of_a_folder_that_is_not_there_owns_nothing(tmp_path: Path) -> None:
    done = sentinel("status", "--workspace", str(tmp_path / "misspelled"))
    assert done.returncode == 0, done.stderr
    assert "there is no such folder; what runs belongs to another workspace" in done.stdout
    assert not (tmp_path / "misspelled").exists()
    there = sentinel("status", "--workspace", str(tmp_path))
    assert "no such folder" not in there.stdout


def test_the_doctor_finds_what_is_missing_and_so_does_its_old_name(tmp_path: Path) -> None:
    said = {}
    for verb in ("doctor", "verify"):
        done = sentinel(verb, "--json", "--workspace", str(tmp_path / "w"))
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        said[verb] = done.stderr
        found = json.loads(done.stdout)
        assert not found["well"]
        assert {check["name"] for check in found["checks"] if not check["well"]} >= {"ledger"}
    assert said == {
        "doctor": "",
        "verify": "`sentinel verify` is `sentinel doctor` now; the old name will go.\n",
    }
    printed = sentinel("doctor", "--workspace", str(tmp_path / "w")).stdout
    assert printed.startswith("failed")


def test_reset_deletes_a_workspace_and_nothing_else(mapping: Path, tmp_path: Path) -> None:
    workspace = tmp_path / "w"
    sentinel("import", str(mapping), "--workspace", str(workspace))
    other = tmp_path / "other"
    other.mkdir()
    (other / "precious.txt").write_text("x")
    assert sentinel("reset", "--yes", "--workspace", str(other)).returncode == 1
    assert (other / "precious.txt").exists()
    assert sentinel("reset", "--yes", "--workspace", str(workspace)).returncode == 0
    assert not workspace.exists()


@pytest.mark.parametrize(
    ("lock", "what"),
    [
        ("up.lock", "`sentinel up` runs"),
        ("ledger.db.lock", "writing its ledger"),
        ("promotion.lock", "a promotion"),
    ],
)
def test_reset_leaves_a_workspace_that_is_taken_up_while_it_asks(
    tmp_path: Path, lock: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(workspace=tmp_path / "w")
    (settings.workspace / "logs").mkdir(parents=True)
    taken = FileLock(settings.workspace / lock, is_singleton=False)

    def answer(_question: str) -> str:
        taken.acquire()
        return "yes"

    monkeypatch.setattr(err, "input", answer)
    with pytest.raises(WorkspaceError, match=rf"in use: .*{what}"):
        services.reset_workspace(settings, yes=False, ledger=False)
    assert settings.workspace.is_dir()
    taken.release()
    services.reset_workspace(settings, yes=True, ledger=False)
    assert not settings.workspace.exists()
