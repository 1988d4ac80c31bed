"""A table whose columns are named in another language is understood as an English one is."""

from __future__ import annotations

from pathlib import Path

import pytest

from sentinel.propose.deciding import decide
from sentinel.propose.languages import in_english
from sentinel.propose.names import words_of
from sentinel.propose.proposing import examine, settle
from sentinel.propose.roles import Answers, Roles
from sentinel.propose.time_formats import moments
from tests.propose.tables import START, payments, pedidos, profile, torihiki, transacoes, umsaetze


@pytest.fixture(scope="module")
def shop() -> Roles:
    return decide(profile(pedidos()), Answers())


def test_spanish_names_tell_who_pays_where_and_when(shop: Roles) -> None:
    assert not shop.questions
    assert {e.entity: e.columns for e in shop.entities} == {
        "customer_id": ("Código cliente",),
        "merchant_id": ("Tienda",),
        "device_id": ("Dispositivo",),
    }
    assert shop.id is not None
    assert shop.id.columns == ("Nº pedido",)
    assert shop.amount is not None
    assert shop.amount.column == "Importe"


def test_a_clock_with_dots_beside_a_date_is_the_time_of_day(shop: Roles) -> None:
    assert shop.time is not None
    assert (shop.time.columns, shop.time.format) == (("Fecha", "Hora"), ("%d/%m/%y", "%H.%M.%S"))
    offsets = moments(shop.profile, shop.time) - START.timestamp()
    assert offsets.min() >= 0
    assert offsets.max() < 100 * 86_400
    assert len(set((offsets % 86_400).tolist())) > 1_900


def test_spanish_verdicts_are_the_truth_and_their_date_its_arrival(shop: Roles) -> None:
    assert shop.label is not None
    assert (shop.label.column, shop.label.fraud_values) == ("Fraude", ("SÍ",))
    assert shop.label.arrival is not None
    assert shop.label.arrival.columns == ("Fecha contracargo",)


def test_what_the_system_before_decided_and_why_are_no_features(shop: Roles) -> None:
    assert shop.outcome is not None
    assert (shop.outcome.column, shop.outcome.decline_values) == ("Estado", ("RECHAZADO",))
    assert "known after the decision" in shop.left_out["Motivo rechazo"]
    assert not {"Estado", "Motivo rechazo", "Fraude"} & {a.column for a in shop.attributes}


def test_a_reason_for_declining_is_taken_in_if_the_user_says_so() -> None:
    roles = decide(profile(pedidos()), Answers(use=("Motivo rechazo",)))
    assert "Motivo rechazo" in {a.column for a in roles.attributes}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Händler", ("merchant",)),
        ("KUNDENNUMMER", ("customer", "number")),
        ("kwota_transakcji", ("amount", "transakcji")),
        ("Zamówienie", ("order",)),
        ("Co\u0301digo", ("id",)),
        ("İşlem Tutarı", ("transaction", "amount")),
        ("カード番号", ("card", "number")),
        ("交易时间", ("transaction", "time")),
        ("가맹점ID", ("merchant", "id")),
        ("Сумма операции", ("amount", "transaction")),
    ],
)
def test_names_are_known_with_accents_in_capitals_and_in_compounds(
    name: str, words: tuple[str, ...]
) -> None:
    assert words_of(name) == words


def test_no_english_name_of_a_table_changes_its_meaning() -> None:
    for name in payments():
        assert all(in_english(word) == word for word in words_of(name))


def test_yes_and_no_of_any_language_are_verdicts_only_under_a_name_that_says_so() -> None:
    columns = pedidos()
    columns["Regalo"] = ["SÍ" if n % 3 == 0 else "NO" for n in range(len(columns["Fraude"]))]
    roles = decide(profile(columns), Answers())
    assert roles.label is not None
    assert roles.label.column == "Fraude"
    assert "Regalo" in {a.column for a in roles.attributes}


def test_a_japanese_table_asks_nothing() -> None:
    roles = decide(profile(torihiki()), Answers())
    assert not roles.questions
    assert {e.entity: e.columns for e in roles.entities} == {
        "customer_id": ("会員ID",),
        "merchant_id": ("加盟店名",),
    }
    assert roles.time is not None
    assert (roles.time.columns, roles.time.format) == (("取引日時",), "%Y年%m月%d日 %H:%M")
    assert roles.amount is not None
    assert (roles.amount.column, roles.amount.currency) == ("金額", "JPY")
    assert roles.label is not None
    assert (roles.label.column, roles.label.fraud_values) == ("不正フラグ", ("不正",))


def test_an_export_from_brazil_asks_nothing() -> None:
    roles = decide(profile(transacoes()), Answers())
    assert not roles.questions
    assert {e.entity: e.columns for e in roles.entities} == {
        "customer_id": ("CPF do Portador",),
        "card_id": ("Cartão",),
        "merchant_id": ("Estabelecimento",),
    }
    assert roles.amount is not None
    assert (roles.amount.column, roles.amount.currency) == ("Valor Transação", "BRL")
    assert (roles.amount.decimal, roles.amount.thousands) == (",", ".")
    assert roles.label is not None
    assert (roles.label.column, roles.label.fraud_values) == ("Contestação", ("Sim",))


def test_words_that_german_writes_as_one_are_told_apart() -> None:
    roles = decide(profile(umsaetze()), Answers())
    assert not roles.questions
    assert {e.entity: e.columns for e in roles.entities} == {
        "customer_id": ("Kundennr.",),
        "merchant_id": ("Händlername",),
        "device_id": ("Gerätekennung",),
    }


def test_a_payments_id_of_which_some_stand_there_twice_is_its_id() -> None:
    roles = decide(profile(umsaetze()), Answers())
    assert roles.id is not None
    assert roles.id.columns == ("Transaktions-Nr",)
    assert [note for note in roles.notes if note.startswith("7 rows have the 'Transaktions-Nr'")]


@pytest.mark.parametrize(
    ("written", "currency"),
    [
        ("R$ {},{}", "BRL"),
        ("-R$ {},{}", "BRL"),
        ("{},{} zł", "PLN"),
        ("{},{} Kč", "CZK"),
        ("CHF {}.{}", "CHF"),
        ("A${}.{}", "AUD"),
        ("kr {},{}", ""),
        ("{},{}₺", "TRY"),
    ],
)
def test_money_is_told_by_the_signs_that_an_import_reads(written: str, currency: str) -> None:
    columns = {
        **transacoes(),
        "Valor Transação": [written.format(n % 700, 10 + n % 90) for n in range(2_000)],
    }
    roles = decide(profile(columns), Answers())
    assert not roles.questions
    assert roles.amount is not None
    assert (roles.amount.column, roles.amount.currency) == ("Valor Transação", currency)


def test_a_turkish_table_is_read_in_the_encoding_of_its_letters_and_says_so_first(
    tmp_path: Path,
) -> None:
    rows = [
        f'TR{n:05};{1 + n // 150:02}.03.2026 {n % 24:02}:15;M{n % 97};"Şişli Büfe {n % 40}";'
        f"{n % 90 + 10},50;{'Evet' if n % 50 == 7 else 'Hayır'}"
        for n in range(3_000)
    ]
    header = "İşlem No;İşlem Tarihi;Müşteri No;Üye İşyeri Adı;Tutar;Sahte mi"
    path = tmp_path / "islemler.csv"
    path.write_bytes("\n".join((header, *rows, "")).encode("cp1254"))
    roles = settle(examine([path]), Answers())
    assert not roles.questions
    assert {e.entity: e.columns for e in roles.entities} == {
        "customer_id": ("Müşteri No",),
        "merchant_id": ("Üye İşyeri Adı",),
    }
    assert roles.label is not None
    assert (roles.label.column, roles.label.fraud_values) == ("Sahte mi", ("Evet",))
    assert roles.notes[0] == "the text is no UTF-8; it is read as cp1254 (Turkish)."
