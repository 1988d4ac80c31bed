"""Card numbers in files: tokens where the mapping says so, never stored, never shown."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from sentinel.api.routes.payment_bodies import ReadingRules
from sentinel.api.routes.payment_reading import read_payment
from sentinel.domain import ConfigurationError, InvalidTransaction
from sentinel.ingest.guard import Guard
from sentinel.ingest.issuers import is_card
from sentinel.ingest.tokens import is_token
from sentinel.ledger.log import read_log
from sentinel.ledger.open import open_reader
from sentinel.log.schema import KIND_LABEL
from sentinel.pipeline.importing import import_history, import_labels
from sentinel.settings import Settings
from sentinel.sources import log_batches, preview
from sentinel.sources.mapping import MappingSource
from sentinel.sources.mapping_file import parse_mapping
from sentinel.sources.preview_text import render_preview
from testkit.disguises import disguises

NOW_US = 1_800_000_000_000_000
MASTERCARD = "5555555555554444"
SPELLINGS = ["4111111111111111", "4111 1111 1111 1111", "4111-1111-1111-1111", "676770000018"]
MAPPING: dict[str, Any] = {
    "name": "shop",
    "files": {"path": "payments.csv"},
    "id": "ref",
    "time": {"column": "at"},
    "amount": {"column": "amount"},
    "entities": {
        "card_id": {"column": "cc", "tokenize": True, "bin": "card_bin", "last_four": "last_four"}
    },
    "attributes": {"tokenize": ["email"]},
}


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """Four payments and one that is rejected, with card numbers and addresses in plain text."""
    lines = ["ref,at,amount,cc,email"]
    lines += [
        f"p{i},2024-03-01 10:0{i}:00,1.50,{card}, a{i % 2}@b.example"
        for i, card in enumerate(SPELLINGS)
    ]
    lines.append(f"p9,2024-03-01 10:09:00,much,{MASTERCARD},lost@b.example")
    (tmp_path / "payments.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def source_in(folder: Path, **changes: Any) -> MappingSource:
    return MappingSource(parse_mapping(MAPPING | changes, "shop.toml"), folder)


def log_of(settings: Settings) -> list[dict[str, Any]]:
    with open_reader(settings) as ledger:
        return [row for _, batch in read_log(ledger) for row in batch.to_pylist()]


def test_tokens_are_made_on_the_way_in_and_live(shop: Path) -> None:
    settings = Settings(workspace=shop / ".sentinel")
    result = import_history(settings, source_in(shop), now_us=NOW_US)
    assert (result.report.accepted, result.report.rejected) == (4, {"invalid_amount": 1})
    rows = log_of(settings)
    assert all(is_token(row["card_id"]) for row in rows)
    assert len({row["card_id"] for row in rows[:3]}) == 1
    assert {row["attributes.card_bin"] for row in rows} == {"411111", "676770"}
    assert {row["attributes.last_four"] for row in rows} == {"1111", "0018"}
    assert all(is_token(row["attributes.email"]) for row in rows)

    kept = [path for path in settings.workspace.rglob("*") if path.is_file()]
    assert any("rejects" in path.name for path in kept)
    for path in kept:
        content = path.read_bytes()
        for secret in (*SPELLINGS, MASTERCARD, "b.example"):
            assert secret.encode() not in content, (path, secret)
    (rejects,) = settings.workspace.rglob("*-rejects.parquet")
    (raw,) = pq.read_table(rejects).column("raw").to_pylist()
    assert "555555******4444" in raw

    body = {"transaction_id": "live", "amount_minor": 1, "card_id": SPELLINGS[1]}
    body["attributes"] = {"email": "a0@b.example"}
    live = read_payment(json.dumps(body).encode(), NOW_US, ReadingRules(guard=Guard.of(settings)))
    assert live.card_id == rows[0]["card_id"]
    assert live.attributes["email"] == rows[0]["attributes.email"]
    assert live.attributes["card_bin"] == "411111"

    again = import_history(settings, source_in(shop), now_us=NOW_US)
    assert (again.report.accepted, again.report.known) == (0, 4)


def test_labels_find_tokenised_payments(shop: Path) -> None:
    settings = Settings(workspace=shop / ".sentinel")
    source = source_in(shop, id={"column": "ref", "tokenize": True})
    import_history(settings, source, now_us=NOW_US)
    (shop / "labels.csv").write_text("transaction_id,verdict,received_at\n p1,fraud,2024-04-01\n")
    import_labels(settings, shop / "labels.csv", now_us=NOW_US)
    rows = log_of(settings)
    (label,) = [row for row in rows if row["kind"] == KIND_LABEL]
    assert label["transaction_id"] in {r["transaction_id"] for r in rows if r["amount_minor"]}
    assert is_token(label["transaction_id"])


def test_a_preview_shows_masks(shop: Path) -> None:
    screen = Console(file=io.StringIO(), width=300)
    screen.print(render_preview(preview(source_in(shop), now_us=NOW_US)))
    shown = screen.file.getvalue()  # type: ignore[attr-defined]
    assert "411111******1111" in shown
    assert "card_number" not in shown
    for secret in (*SPELLINGS, "b.example"):
        assert secret not in shown


def test_without_a_workspace_there_are_no_tokens(shop: Path) -> None:
    with pytest.raises(ConfigurationError, match="no secret"):
        log_batches(source_in(shop), now_us=NOW_US)
    with pytest.raises(ConfigurationError, match="without tokenize"):
        source_in(shop, entities={"card_id": {"column": "cc", "bin": "card_bin"}})


def test_raw_card_numbers_without_tokens_are_rejected_and_told_what_to_do(shop: Path) -> None:
    plain = source_in(shop, entities={"card_id": "cc"}, attributes={})
    log = log_batches(plain, now_us=NOW_US)
    kept = [row for batch in log for row in batch.to_pylist()]
    assert log.report.rejected == {"card_number": 3, "invalid_amount": 1}
    assert [row["card_id"] for row in kept] == ["676770000018"]


@pytest.mark.parametrize("name", ["cc_num", "note", "pan", "whole"])
def test_an_attribute_of_card_numbers_is_left_out(tmp_path: Path, name: str) -> None:
    columns = {
        "cc_num": ["4111111111111111", MASTERCARD],
        "note": ["paid with 4111111111111111", "card 5555 5555 5555 4444"],
        "pan": [4111111111111111, 5555555555554444],
        "whole": [4111111111111111.0, 5555555555554444.0],
    }
    table = pa.table(
        {"ref": ["p1", "p2"], "at": ["2024-03-01"] * 2, "amount": [1, 2], name: columns[name]}
    )
    pq.write_table(table, tmp_path / "payments.parquet")
    change = {"files": {"path": "payments.parquet"}, "entities": {}, "attributes": {}}
    source = source_in(tmp_path, **change)
    assert any(name in warning and "left out" in warning for warning in source.describe().warnings)
    log = log_batches(source, now_us=NOW_US)
    assert sum(batch.num_rows for batch in log) == log.report.accepted == 2
    exempt = source_in(tmp_path, **change | {"attributes": {"exempt": [name]}})
    (batch,) = log_batches(exempt, now_us=NOW_US)
    assert batch.column(f"attributes.{name}").null_count == 0


def test_a_card_number_in_one_note_of_many_is_one_rejected_row(tmp_path: Path) -> None:
    notes = [f"thanks {i}" for i in range(30)]
    notes[7] = "my card is 4111 1111 1111 1111"
    table = pa.table(
        {
            "ref": [str(4000000000000000 + 37 * i) for i in range(30)],  # three look like cards
            "at": ["2024-03-01"] * 30,
            "amount": [1] * 30,
            "note": notes,
        }
    )
    pq.write_table(table, tmp_path / "payments.parquet")
    change = {"files": {"path": "payments.parquet"}, "entities": {}, "attributes": {}}
    log = log_batches(source_in(tmp_path, **change), now_us=NOW_US)
    assert sum(batch.num_rows for batch in log) == 29
    assert log.report.rejected == {"card_number": 1}
    assert log.report.look_alikes == ("transaction_id",)


def test_references_that_look_like_cards_are_taken_live_once_history_shows_them(
    tmp_path: Path,
) -> None:
    ids = [4000000000000002 + 37 * i for i in range(40)]
    table = pa.table({"ref": ids, "at": ["2024-03-01"] * 40, "amount": [1] * 40})
    pq.write_table(table, tmp_path / "payments.parquet")
    settings = Settings(workspace=tmp_path / ".sentinel")
    change = {"files": {"path": "payments.parquet"}, "entities": {}, "attributes": {}}
    result = import_history(settings, source_in(tmp_path, **change), now_us=NOW_US)
    assert result.report.accepted == 40
    body = json.dumps({"transaction_id": ids[0], "amount_minor": 1}).encode()
    with pytest.raises(InvalidTransaction, match="card number"):
        read_payment(body, NOW_US, ReadingRules())
    live = read_payment(body, NOW_US, ReadingRules(guard=Guard.of(settings)))
    assert live.transaction_id == str(ids[0])


def test_columns_of_secrets_have_to_be_left_out_by_name(shop: Path) -> None:
    path = shop / "payments.csv"
    lines = path.read_text().splitlines()
    extra = ["cardCvv,track2,cvv_match", *["123,;x=1,Y"] * (len(lines) - 1)]
    path.write_text("\n".join(f"{a},{b}" for a, b in zip(lines, extra, strict=True)) + "\n")
    settings = Settings(workspace=shop / ".sentinel")
    with pytest.raises(ConfigurationError) as refused:
        source_in(shop)
    assert 'attributes.exclude = ["cardCvv", "track2"]' in str(refused.value)
    assert "123" not in str(refused.value)
    without = {"tokenize": ["email"], "exclude": ["cardCvv", "track2"]}
    import_history(settings, source_in(shop, attributes=without), now_us=NOW_US)
    (names,) = {tuple(sorted(row)) for row in log_of(settings)}
    assert "attributes.cvv_match" in names
    assert not [name for name in names if name.endswith(("cardCvv", "track2"))]
    with pytest.raises(ConfigurationError, match="security codes"):
        source_in(shop, attributes=without, entities={"card_id": "cardCvv"})
    with pytest.raises(ConfigurationError, match="security code"):
        source_in(shop, attributes=without | {"rename": {"email": "cvv"}})
    screen = Console(file=io.StringIO(), width=300)
    screen.print(render_preview(preview(source_in(shop, attributes=without), now_us=NOW_US)))
    assert "123" not in screen.file.getvalue()  # type: ignore[attr-defined]


def test_a_number_with_more_digits_than_a_double_is_judged_by_all_of_them(tmp_path: Path) -> None:
    cards = [6212345678901234564, 6212345678901234572, 6212345678901234580]
    for values in ([next(n for n in range(c, c + 10) if is_card(str(n))) for c in cards], cards):
        table = pa.table({"ref": ["p1", "p2", "p3"], "at": ["2024-03-01"] * 3, "amount": [1, 2, 3]})
        table = table.append_column("n", pa.array([1, 2, 3]))
        pq.write_table(table, tmp_path / "a.parquet")
        pq.write_table(table.set_column(3, "n", pa.array(values)), tmp_path / "b.parquet")
        change: dict[str, Any] = {"entities": {}, "attributes": {}, "id": ["ref", "n"]}
        change["files"] = {"path": ["a.parquet", "b.parquet"], "overlap": True}
        log = log_batches(source_in(tmp_path, **change), now_us=NOW_US)
        rows = sum(batch.num_rows for batch in log)
        right = sum(is_card(str(value)) for value in values)
        assert (rows, log.report.rejected) == (6 - right, {"card_number": right} if right else {})


def test_rows_with_control_characters_are_rejected_by_name(tmp_path: Path) -> None:
    notes = ["plain", "two\nlines", "turned \u202e round", "👩\u200d👧", "\u200fمتجر"]
    refs = ["p1", "p2", "p3", "p\x1b4", "p5"]
    table = pa.table({"ref": refs, "at": ["2024-03-01"] * 5, "amount": [1] * 5, "note": notes})
    pq.write_table(table, tmp_path / "payments.parquet")
    settings = Settings(workspace=tmp_path / ".sentinel")
    change = {"files": {"path": "payments.parquet"}, "entities": {}, "attributes": {}}
    result = import_history(settings, source_in(tmp_path, **change), now_us=NOW_US)
    assert result.report.rejected == {"control_character": 3}
    assert [row["transaction_id"] for row in log_of(settings)] == ["p1", "p5"]


@pytest.mark.parametrize("origin", ["4111 1111 1111 1111", "bank\n2026 ERROR"])
def test_an_origin_of_labels_is_held_to_the_same(tmp_path: Path, origin: str) -> None:
    labels = {"column": "fraud", "delay_days": 3, "origin": origin}
    with pytest.raises(ConfigurationError, match=r"labels\.origin holds"):
        parse_mapping(MAPPING | {"labels": labels}, "shop.toml")


@pytest.mark.parametrize("name", ["pan 4111111111111111", "two\nlines"])
def test_names_of_attributes_are_held_to_the_same(tmp_path: Path, name: str) -> None:
    table = pa.table({"ref": ["p1"], "at": ["2024-03-01"], "amount": [1], name: ["x"]})
    pq.write_table(table, tmp_path / "payments.parquet")
    change = {"files": {"path": "payments.parquet"}, "entities": {}}
    with pytest.raises(ConfigurationError, match="a name holds") as refused:
        source_in(tmp_path, **change, attributes={})
    assert "4111111111111111" not in str(refused.value)
    if "\n" in name:
        assert 'rename = { "two\\nlines" = "two lines" }.' in str(refused.value)
    source_in(tmp_path, **change, attributes={"rename": {name: "other"}})


def test_one_card_number_among_many_disguises_is_a_row_each(tmp_path: Path) -> None:
    found = disguises(200, seed=5)
    notes = [f"thanks {i}" for i in range(800)] + [str(each.value) for each in found]
    table = pa.table({"ref": range(1000), "at": ["2024-03-01"] * 1000, "amount": [1] * 1000})
    pq.write_table(table.append_column("note", pa.array(notes)), tmp_path / "payments.parquet")
    settings = Settings(workspace=tmp_path / ".sentinel")
    change = {"files": {"path": "payments.parquet"}, "entities": {}, "attributes": {}}
    result = import_history(settings, source_in(tmp_path, **change), now_us=NOW_US)
    assert result.report.rejected == {"card_number": 200}
    for path in settings.workspace.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        for each in found:
            assert each.number.encode() not in content, path
