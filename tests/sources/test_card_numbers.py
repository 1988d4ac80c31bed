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
from sentinel.ingest.tokens import is_token
from sentinel.ledger.log import read_log
from sentinel.ledger.open import open_reader
from sentinel.log.schema import KIND_LABEL
from sentinel.pipeline.importing import import_history, import_labels
from sentinel.settings import Settings
from sentinel.sources import log_batches, preview
from sentinel.sources.mapping import MappingSource
from sentinel.sources.mapping_file import parse_mapping

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
    screen.print(preview(source_in(shop), now_us=NOW_US).render())
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
