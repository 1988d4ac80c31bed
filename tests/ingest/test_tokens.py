"""Ids become tokens at every door by one secret, and card numbers are never kept."""

from __future__ import annotations

import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Thread
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given

from sentinel.api.body import parse
from sentinel.api.routes.features import FeaturesRequest, keys_of
from sentinel.api.routes.labels import LabelsRequest, labels_of
from sentinel.api.routes.payment_bodies import ReadingRules
from sentinel.api.routes.payment_reading import read_payment, read_payments
from sentinel.domain import ConfigurationError, InvalidTransaction
from sentinel.ingest.guard import Guard
from sentinel.ingest.tokens import (
    TokenField,
    TokenRules,
    Tokens,
    card_part_columns,
    card_parts,
    is_token,
    remember_rules,
    token_rules,
    tokens_of,
)
from sentinel.settings import Settings
from tests.ingest.nasty import text

NOW_US = 1_780_000_000_000_000
CARD = "4111111111111111"


def settings_in(folder: Path, **tokens: Any) -> Settings:
    return Settings(workspace=folder / ".sentinel", tokens=tokens)


@pytest.fixture
def guard(tmp_path: Path) -> Guard:
    """Of a workspace whose import tokenised cards, e-mail addresses and transaction ids."""
    settings = settings_in(tmp_path)
    fields = {
        "transaction_id": TokenField(),
        "card_id": TokenField(bin="card_bin", last_four="card_last_four"),
        "attributes.email": TokenField(),
    }
    remember_rules(settings, fields, ("attributes.ref_no",))
    return Guard.of(settings)


def read(guard: Guard, **changes: Any) -> Any:
    body = {"transaction_id": "t1", "amount_minor": 100, **changes}
    return read_payment(json.dumps(body).encode(), NOW_US, ReadingRules(guard=guard))


def test_the_secret_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        made = set(pool.map(lambda _: tokens_of(settings).of("x"), range(16)))
    assert len(made) == 1
    (file,) = settings.workspace.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert tokens_of(settings_in(tmp_path / "other")).of("x") not in made


def test_a_secret_in_the_settings_goes_before_the_file(tmp_path: Path) -> None:
    one, other = (settings_in(tmp_path / n, secret="a secret of many scorers") for n in "ab")
    assert tokens_of(one).of(CARD) == tokens_of(other).of(CARD)
    assert not one.workspace.exists()
    with pytest.raises(ConfigurationError, match="16 or more"):
        tokens_of(settings_in(tmp_path, secret="short"))


def test_another_secret_is_noticed(tmp_path: Path) -> None:
    remember_rules(settings_in(tmp_path), {"card_id": TokenField()})
    with pytest.raises(ConfigurationError, match="another secret"):
        Guard.of(settings_in(tmp_path, secret="not the one of the import"))
    (tmp_path / ".sentinel" / "tokens.secret").unlink()
    with pytest.raises(ConfigurationError, match="another secret"):
        Guard.of(settings_in(tmp_path))


def test_two_imports_at_once_keep_the_fields_of_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_in(tmp_path)
    other = Thread(target=remember_rules, args=(settings, {"customer_id": TokenField()}))

    def slowly(asked: Settings) -> TokenRules:
        found = token_rules(asked)
        if other.ident is None:
            other.start()
            other.join(0.5)
        return found

    monkeypatch.setattr("sentinel.ingest.tokens.token_rules", slowly)
    remember_rules(settings, {"card_id": TokenField()})
    other.join()
    assert set(token_rules(settings).fields) == {"card_id", "customer_id"}


def test_settings_name_further_fields(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, fields="customer_id, attributes.email", exempt="device_id")
    remember_rules(settings, {"card_id": TokenField()})
    rules = token_rules(settings)
    assert set(rules.fields) == {"customer_id", "attributes.email", "card_id"}
    assert rules.exempt == ("device_id",)
    with pytest.raises(ConfigurationError, match=r"TOKENS__FIELDS names 'card'.*card_id"):
        token_rules(settings_in(tmp_path, fields="card"))


def test_a_deployment_without_tokens_makes_no_secret(tmp_path: Path) -> None:
    Guard.of(settings_in(tmp_path))
    assert not (tmp_path / ".sentinel").exists()


@given(text)
def test_a_token_stays_what_it_is(value: str) -> None:
    tokens = Tokens(b"sixteen bytes are enough")
    token = tokens.of(value)
    assert is_token(token)
    assert tokens.of(token) == token
    column = pa.array([value, token, None], pa.string())
    assert tokens.column(column).to_pylist() == [token, token, None]
    first, last = card_part_columns(column)
    assert [first[0].as_py(), last[0].as_py()] == list(card_parts(value) or (None, None))


@pytest.mark.parametrize(
    "spelling",
    [
        "4111 1111 1111 1111",
        "4111-1111-1111-1111",
        "4111.1111.1111.1111",
        " 4111\u00a01111 11111111",
    ],
)
def test_separators_of_a_card_do_not_matter(guard: Guard, spelling: str) -> None:
    assert read(guard, card_id=spelling).card_id == read(guard, card_id=CARD).card_id


def test_a_payment_is_tokenised_at_the_door(guard: Guard) -> None:
    transaction = read(
        guard,
        card_id=int(CARD),
        customer_id="c1",
        attributes={"email": " a@b.example", "ref_no": CARD, "channel": "online"},
    )
    assert is_token(transaction.transaction_id)
    assert is_token(transaction.card_id)
    assert transaction.customer_id == "c1"
    assert transaction.attributes == {
        "email": guard.attribute("email", "a@b.example", None),
        "ref_no": CARD,
        "channel": "online",
        "card_bin": "411111",
        "card_last_four": "1111",
    }
    assert "a@b" not in str(transaction)
    again = read(guard, card_id=transaction.card_id, transaction_id=transaction.transaction_id)
    assert again.card_id == transaction.card_id
    assert again.transaction_id == transaction.transaction_id
    maestro = read(guard, card_id="6767 7000 0018")
    assert maestro.attributes == {"card_bin": "676770", "card_last_four": "0018"}


def test_batches_labels_and_questions_are_tokenised_alike(guard: Guard) -> None:
    body = {"transactions": [{"transaction_id": "t1", "amount_minor": 1, "card_id": CARD}]}
    (sent,) = read_payments(json.dumps(body).encode(), NOW_US, ReadingRules(guard=guard), 9)
    body = {"labels": [{"transaction_id": " t1 ", "verdict": "fraud"}]}
    decoder = msgspec.json.Decoder(LabelsRequest)
    (label,) = labels_of(parse(decoder, json.dumps(body).encode()).labels, NOW_US, guard)
    assert label.transaction_id == sent.transaction_id == guard.id("transaction_id", "t1")
    question = FeaturesRequest(rows=[{"card_id": "4111 1111 1111 1111", "customer_id": "c1"}])
    assert keys_of(question, guard) == [{"card_id": sent.card_id, "customer_id": "c1"}]


def test_other_fields_still_refuse_card_numbers(guard: Guard) -> None:
    with pytest.raises(InvalidTransaction) as error:
        read(guard, customer_id=CARD, attributes={"note": f"card {CARD}"})
    assert set(error.value.fields) == {"customer_id", "attributes.note"}
    assert CARD not in str(error.value)
