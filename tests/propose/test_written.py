"""What is proposed can be imported and compiled as it is, and edits of people stay."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from sentinel.cli.main import app
from sentinel.cli.propose import workspace_of
from sentinel.domain import ConfigurationError
from sentinel.feast_plugin.compile import compile_definitions
from sentinel.propose.deciding import decide, step_seconds
from sentinel.propose.definitions_text import definitions_text
from sentinel.propose.proposing import propose
from sentinel.propose.reading import look
from sentinel.propose.roles import Answers
from sentinel.propose.summary import LINES, WIDTH, summary
from sentinel.propose.toml_text import item, line
from sentinel.settings import Settings
from sentinel.sources.mapping_file import load_mapping
from sentinel.sources.registry import open_source
from sentinel.sources.validate import check_transactions
from tests.propose.tables import payments, profile, renamed, transfers, umsaetze, write


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write(tmp_path / "payments.csv", payments(), delimiter=";")


def test_a_mapping_is_written_that_says_why(table: Path, tmp_path: Path) -> None:
    proposal = propose([table], tmp_path / "w")
    text = proposal.mapping.read_text()
    mapping = load_mapping(proposal.mapping)
    assert mapping.files.delimiter == ";"
    assert mapping.entities.keys()["card_id"].tokenize
    assert "case_opened" in mapping.attributes.exclude
    assert "# known too late" in text
    assert "# constant (EUR)" in text


def test_the_definitions_compile_to_windows_and_attributes(table: Path, tmp_path: Path) -> None:
    propose([table], tmp_path / "w")
    plan = compile_definitions(tmp_path / "w" / "feature_store")
    assert {view.name for view in plan.views} == {"card", "merchant", "card_merchant"}
    assert {"card_count_1d", "merchant_fraud_rate_30d", "amount", "mcc", "weight"} <= set(
        plan.feature_names
    )


def test_without_entities_a_model_without_windows_compiles(tmp_path: Path) -> None:
    columns = {
        k: v for k, v in payments().items() if k in ("created", "amount", "weight", "is_fraud")
    }
    propose([write(tmp_path / "x.csv", columns)], tmp_path / "w")
    plan = compile_definitions(tmp_path / "w" / "feature_store")
    assert plan.views == ()
    assert plan.feature_names == ("amount", "hour_of_day", "day_of_week", "weight")


def test_windows_are_shorter_than_the_history_and_not_finer_than_its_times() -> None:
    roles = decide(profile(transfers()), Answers())
    text = definitions_text(roles, step_seconds(roles))
    plan_lines = [row for row in text.splitlines() if "count(" in row]
    assert step_seconds(roles) == 3_600
    assert "HOUR" in plan_lines[0]
    assert "MONTH" not in text, "the history has 21 days"


def test_a_proposed_mapping_is_used_where_its_definitions_are(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SENTINEL_WORKSPACE", raising=False)
    proposal = propose([table], tmp_path / "w")
    assert workspace_of(proposal.mapping) == tmp_path / "w"
    alone = tmp_path / "shop.toml"
    alone.write_text(proposal.mapping.read_text())
    assert workspace_of(alone) == Path(".sentinel-shop")
    monkeypatch.setenv("SENTINEL_WORKSPACE", "elsewhere")
    assert workspace_of(proposal.mapping) is None


def test_running_again_changes_nothing(table: Path, tmp_path: Path) -> None:
    first = propose([table], tmp_path / "w")
    before = {w.path: w.path.read_bytes() for w in first.written}
    again = propose([table], tmp_path / "w")
    assert {w.path: w.path.read_bytes() for w in again.written} == before
    assert all(w.kept is None for w in again.written)


def test_what_a_person_edited_is_kept(table: Path, tmp_path: Path) -> None:
    first = propose([table], tmp_path / "w")
    edited = first.mapping.read_text() + "\n# mine\n"
    first.mapping.write_text(edited)
    again = propose([table], tmp_path / "w", Answers(exclude=("weight",)))
    assert first.mapping.read_text() == edited
    beside = next(w for w in again.written if w.kept == first.mapping)
    assert beside.path.name == "mapping.proposed.toml"
    assert "weight" in load_mapping(beside.path).attributes.exclude


def test_a_file_of_another_kind_beside_the_definitions_is_not_read_by_feast(
    table: Path, tmp_path: Path
) -> None:
    propose([table], tmp_path / "w")
    definitions = tmp_path / "w" / "feature_store" / "definitions.py"
    definitions.write_text(definitions.read_text() + "\n# mine\n")
    propose([table], tmp_path / "w", Answers(exclude=("weight",)))
    compile_definitions(tmp_path / "w" / "feature_store")
    assert definitions.read_text().endswith("# mine\n")


def test_labels_in_a_json_map_are_found_by_the_ids_they_name(tmp_path: Path) -> None:
    columns = dict(payments())
    labels = dict(zip(columns["payment_ref"], columns.pop("is_fraud"), strict=True))
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "orders.csv", columns)
    words = {key: "Yes" if value == "1" else "No" for key, value in labels.items()}
    (tmp_path / "in" / "truth.json").write_text(json.dumps({"target": words}))
    proposal = propose([tmp_path / "in"], tmp_path / "w")
    table = tomllib.loads(proposal.mapping.read_text())["labels"]
    assert (table["format"], table["key"], table["fraud_values"]) == ("json_map", "target", ["Yes"])
    assert {leak.column for leak in proposal.roles.leaks} == {"case_opened"}


def test_labels_in_a_table_of_their_own(tmp_path: Path) -> None:
    columns = dict(payments())
    truth = {"ref": columns["payment_ref"], "fraud": columns.pop("is_fraud")}
    paths = [write(tmp_path / "orders.csv", columns), write(tmp_path / "truth.csv", truth)]
    proposal = propose(paths, tmp_path / "w")
    table = tomllib.loads(proposal.mapping.read_text())["labels"]
    assert (table["transaction_id"], table["column"]) == ("ref", "fraud")
    assert {leak.column for leak in proposal.roles.leaks} == {"case_opened"}


def test_labels_whose_ids_are_written_otherwise_are_named_with_the_difference(
    tmp_path: Path,
) -> None:
    columns = umsaetze()
    write(tmp_path / "umsaetze.csv", columns, ";")
    ids = columns["Transaktions-Nr"][:600:7]
    cases = {
        "Transaktionsnummer": [name.lstrip("0") or "0" for name in ids],
        "Stand": ["verloren", "gewonnen", "offen"] * 28 + ["verloren"] * 2,
    }
    write(tmp_path / "rueckbelastungen.csv", cases, ";")
    proposal = propose([tmp_path], tmp_path / "w")
    assert [
        note
        for note in proposal.roles.notes
        if "rueckbelastungen.csv would be the labels" in note and "leading zeros" in note
    ]
    write(tmp_path / "rueckbelastungen.csv", {**cases, "Transaktionsnummer": ids}, ";")
    label = propose([tmp_path], tmp_path / "w").roles.label
    assert label is not None
    assert (label.joined_by, label.column) == ("Transaktions-Nr", "Stand")
    assert (label.fraud_values, label.undecided_values) == (("verloren",), ("offen",))


def test_the_payments_name_the_table_whichever_file_comes_first(tmp_path: Path) -> None:
    columns = dict(payments())
    truth = {"ref": columns["payment_ref"], "fraud": columns.pop("is_fraud")}
    paths = [write(tmp_path / "cases.csv", truth), write(tmp_path / "orders.csv", columns)]
    proposal = propose(paths, tmp_path / "w")
    assert tomllib.loads(proposal.mapping.read_text())["name"] == "orders"


@pytest.mark.parametrize("wide", [0, 200])
def test_the_summary_fits_one_screen(wide: int) -> None:
    columns = {key: values[:300] for key, values in payments().items()}
    more = {f"V{n}": columns["weight"] for n in range(wide)}
    lines = summary(decide(profile({**columns, **more}), Answers()), ["", ""]).splitlines()
    assert len(lines) <= LINES
    assert max(map(len, lines)) <= WIDTH


def test_a_question_ends_with_code_2_and_the_flags(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", renamed(transfers()))
    result = CliRunner().invoke(app, ["propose", str(path), "--workspace", str(tmp_path / "w")])
    assert result.exit_code == 2
    assert "--time-unit h" in result.output
    assert "--label x9" in result.output
    assert not (tmp_path / "w" / "mapping.toml").exists()
    named = ["propose", str(path), "--workspace", str(tmp_path / "w"), "--time", "x0"]
    result = CliRunner().invoke(app, named)
    assert result.output.splitlines()[-1].count("--time x0") == 1, "what was said stands there once"
    said = ["--time-unit", "h", "--label", "x9", "--json"]
    result = CliRunner().invoke(
        app, ["propose", str(path), "--workspace", str(tmp_path / "w"), *said]
    )
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["proposed"]
    assert found["label"] == "x9"


def test_a_workspace_has_the_money_of_its_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    columns = dict(payments())
    columns["amount"] = [f"{value}5" for value in columns["amount"]]
    propose([write(tmp_path / "x.csv", columns)], tmp_path / "w")
    assert Settings(workspace=tmp_path / "w").money.scale == 3
    assert Settings(workspace=tmp_path / "other").money.scale == 2
    monkeypatch.setenv("SENTINEL_MONEY__SCALE", "4")
    assert Settings(workspace=tmp_path / "w").money.scale == 4


def test_a_workspace_cannot_name_another_one(tmp_path: Path) -> None:
    (tmp_path / "sentinel.toml").write_text('workspace = "elsewhere"\n')
    with pytest.raises(ConfigurationError, match="belongs to the one that it lies in"):
        Settings(workspace=tmp_path)


def test_odd_names_cannot_break_the_toml() -> None:
    name = 'a "b" = [x]\n# c \\ é'
    assert tomllib.loads(line(name, [name, name], "why\nnot = 1")) == {name: [name, name]}
    assert tomllib.loads("\n".join(["x = [", *item(name, "why " * 40), "]"])) == {"x": [name]}


def test_a_parquet_file_keeps_its_types(tmp_path: Path) -> None:
    columns = payments()
    rows = len(columns["amount"])
    table = pa.table(
        {
            "order_id": pa.array(range(10**6, 10**6 + rows)),
            "created_at": pa.array(columns["created"]).cast(pa.timestamp("s")),
            "amount_cents": pa.array([round(float(value) * 100) for value in columns["amount"]]),
            "user_id": pa.array([float(value) for value in columns["mcc"]]),
            "vip": pa.array([n % 3 == 0 for n in range(rows)]),
            "signup": pa.array(["2021-04-01"] * (rows - 1) + ["2022-01-01"]).cast(pa.date32()),
            "tags": pa.array([["a"]] * rows),
            "fraud": pa.array([value == "1" for value in columns["is_fraud"]]),
        }
    )
    pq.write_table(table, tmp_path / "x.parquet")
    proposal = propose([tmp_path / "x.parquet"], tmp_path / "w")
    mapping = load_mapping(proposal.mapping)
    assert (mapping.id, mapping.amount.unit) == ("order_id", "minor")
    assert mapping.attributes.types == {"vip": "boolean"}
    assert set(mapping.attributes.times) == {"signup_age_seconds"}
    assert proposal.roles.left_out["tags"].startswith("nested")
    source = open_source(proposal.mapping)
    accepted = [check_transactions(c, now_us=2**52).accepted for c in source.raw_batches()]
    assert all(rows.all() for rows in accepted)


def test_an_empty_file_is_called_empty(tmp_path: Path) -> None:
    (tmp_path / "pay.csv").touch()
    with pytest.raises(ConfigurationError, match=r"pay\.csv is empty"):
        look([tmp_path / "pay.csv"])
