"""Small tables in the shapes that people bring, drawn once."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa

from sentinel.propose.profile import TableProfile, TableProfiler

Columns = dict[str, list[str]]
START = datetime(2024, 1, 1, tzinfo=UTC)


def profile(columns: Mapping[str, Sequence[str | None]], name: str = "t") -> TableProfile:
    """The profile of columns of text, in several batches."""
    table = pa.table({key: pa.array(list(values), pa.string()) for key, values in columns.items()})
    profiler = TableProfiler(name)
    for batch in table.to_batches(max_chunksize=700):
        profiler.add(batch)
    return profiler.finish()


def write(path: Path, columns: Mapping[str, Sequence[str | None]], delimiter: str = ",") -> Path:
    """Columns as a CSV file."""
    with path.open("w", newline="", encoding="utf8") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(columns)
        rows = zip(*columns.values(), strict=True)
        writer.writerows([["" if cell is None else cell for cell in row] for row in rows])
    return path


def renamed(columns: Mapping[str, Sequence[str | None]]) -> dict[str, Sequence[str | None]]:
    """The same columns under names that say nothing."""
    return {f"x{place}": values for place, values in enumerate(columns.values())}


@cache
def payments(rows: int = 3_000) -> Columns:
    """A shop's payments over 120 days: raw card numbers, merchants, a leak and frauds of 4 %."""
    rng = np.random.default_rng(3)
    cards = [_card(n) for n in range(60)]
    seconds = np.sort(rng.integers(0, 120 * 86_400, rows))
    card, shop = rng.integers(0, 60, rows), rng.integers(0, 70, rows)
    fraud = rng.random(rows) < 0.04
    amount = np.round(rng.lognormal(3, 1, rows), 2)
    return {
        "payment_ref": [f"p-{n:06d}" for n in range(rows)],
        "created": [_time(s) for s in seconds.tolist()],
        "card_number": [cards[n] for n in card.tolist()],
        "holder": [f"Holder {n}" for n in card.tolist()],
        "merchant": [f"shop-{n}" for n in shop.tolist()],
        "mcc": [str(5000 + n % 9) for n in shop.tolist()],
        "amount": [f"{a:.2f}" for a in amount.tolist()],
        "currency": ["EUR"] * rows,
        "weight": [f"{w:.6f}" for w in rng.normal(5, 1, rows).tolist()],
        "reference_text": [rng.bytes(8).hex() for _ in range(rows)],
        "case_opened": [
            _time(s + 864_000) if f else "" for s, f in zip(seconds, fraud, strict=True)
        ],
        "is_fraud": [str(int(f)) for f in fraud.tolist()],
    }


@cache
def transfers(rows: int = 4_000) -> Columns:
    """In the shape of PaySim: steps of an hour, balances before and after, no id."""
    rng = np.random.default_rng(4)
    step = np.sort(rng.integers(1, 500, rows))
    amount = np.round(rng.lognormal(6, 1, rows), 2)
    before = np.round(amount * rng.uniform(1, 5, rows), 2)
    before[rng.random(rows) < 0.3] = 0.0
    there = np.round(rng.lognormal(8, 1, rows), 2)
    fraud = rng.random(rows) < 0.05
    return {
        "step": [str(s) for s in step.tolist()],
        "type": rng.choice(["TRANSFER", "CASH_OUT", "PAYMENT"], rows).tolist(),
        "amount": [f"{a:.2f}" for a in amount.tolist()],
        "nameOrig": [f"C{10**9 + n}" for n in range(rows)],
        "oldbalanceOrg": [f"{b:.2f}" for b in before.tolist()],
        "newbalanceOrig": [f"{max(b - a, 0):.2f}" for a, b in zip(amount, before, strict=True)],
        "nameDest": [f"M{n}" for n in rng.integers(10**6, 10**6 + 150, rows).tolist()],
        "oldbalanceDest": [f"{t:.2f}" for t in there.tolist()],
        "newbalanceDest": [f"{t + a:.2f}" for a, t in zip(amount, there, strict=True)],
        "isFraud": [str(int(f)) for f in fraud.tolist()],
        "isFlaggedFraud": [str(int(f and n % 9 == 0)) for n, f in enumerate(fraud.tolist())],
    }


def _card(number: int) -> str:
    """A card number with a correct check digit."""
    body = f"4{number:014d}"
    total = 0
    for place, digit in enumerate(reversed(body)):
        value = int(digit) * (2 if place % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    return body + str(-total % 10)


def _time(seconds: int) -> str:
    return (START + timedelta(seconds=int(seconds))).strftime("%Y-%m-%d %H:%M:%S")


def torihiki(rows: int = 2_000) -> Columns:
    """A Japanese export: dates of the year's form, yen with their sign, verdicts in words."""
    rng = np.random.default_rng(12)
    seconds = np.sort(rng.integers(0, 100 * 86_400, rows))
    times = [START + timedelta(seconds=s) for s in seconds.tolist()]
    member, shop = rng.integers(0, 150, rows).tolist(), rng.integers(0, 40, rows).tolist()
    return {
        "取引番号": [f"JP{n:08d}" for n in range(rows)],
        "取引日時": [f"{t.year}年{t.month}月{t.day}日 {t:%H:%M}" for t in times],
        "金額": [f"￥{yen:,}" for yen in rng.integers(100, 200_000, rows).tolist()],
        "会員ID": [str(10_000 + m) for m in member],
        "加盟店名": [f"店舗{s}" for s in shop],
        "支払方法": rng.choice(["一括", "分割", "リボ"], rows).tolist(),
        "不正フラグ": np.where(rng.random(rows) < 0.03, "不正", "正常").tolist(),
    }


def pedidos(rows: int = 2_000) -> Columns:
    """A Spanish shop's export: date and dotted clock apart, an IBAN, frauds marked SÍ."""
    rng = np.random.default_rng(11)
    seconds = np.sort(rng.integers(0, 100 * 86_400, rows))
    times = [START + timedelta(seconds=s) for s in seconds.tolist()]
    customer, shop = rng.integers(0, 150, rows).tolist(), rng.integers(0, 40, rows).tolist()
    fraud = (rng.random(rows) < 0.03).tolist()
    status = rng.choice(["COBRADO", "RECHAZADO"], rows, p=[0.9, 0.1]).tolist()
    why = rng.choice(["51", "05", "fondos insuficientes"], rows).tolist()
    cents = rng.integers(100, 200_000, rows).tolist()
    return {
        "Nº pedido": [f"P{2024000000 + n}" for n in range(rows)],
        "Fecha": [f"{t:%d/%m/%y}" for t in times],
        "Hora": [f"{t:%H.%M.%S}" for t in times],
        "Importe": [f"{c // 100},{c % 100:02d}" for c in cents],
        "Código cliente": [f"CL-{c:05d}" for c in customer],
        "IBAN": [f"ES{c * 7919 % 97:02d}{c:020d}" for c in customer],
        "Tienda": [f"TDA{s:02d}" for s in shop],
        "Dispositivo": [f"dsp{d}" for d in rng.integers(0, 300, rows).tolist()],
        "Estado": status,
        "Motivo rechazo": [w if s == "RECHAZADO" else "" for s, w in zip(status, why, strict=True)],
        "Fraude": ["SÍ" if f else "NO" for f in fraud],
        "Fecha contracargo": [
            f"{t + timedelta(days=20):%d/%m/%y}" if f else ""
            for t, f in zip(times, fraud, strict=True)
        ],
    }


def transacoes(rows: int = 2_000) -> Columns:
    """A Brazilian export: milliseconds, reais with their sign, refunds below 0, disputes."""
    rng = np.random.default_rng(13)
    ms = np.sort(rng.integers(0, 100 * 86_400_000, rows)) + int(START.timestamp()) * 1_000
    person, shop = rng.integers(0, 150, rows).tolist(), rng.integers(0, 70, rows).tolist()
    cents = rng.integers(100, 200_000, rows).tolist()
    refund = (rng.random(rows) < 0.02).tolist()
    return {
        "NSU": [str(700_000_000 + 7 * n) for n in range(rows)],
        "Data/Hora (ms)": [str(m) for m in ms.tolist()],
        "Valor Transação": [
            f"{'-' if r else ''}R$ {f'{c // 100:,}'.replace(',', '.')},{c % 100:02d}"
            for c, r in zip(cents, refund, strict=True)
        ],
        "CPF do Portador": [f"000.000.{p:03d}-{p % 97:02d}" for p in person],
        "Cartão": [f"tok_{p + 1_000:08x}" for p in person],
        "Estabelecimento": [f"{s:06d} - Padaria {s}" for s in shop],
        "Contestação": np.where(rng.random(rows) < 0.03, "Sim", "Não").tolist(),
    }


def umsaetze(rows: int = 2_000) -> Columns:
    """A German export: compounds as names, an id of which seven stand there twice."""
    rng = np.random.default_rng(14)
    seconds = np.sort(rng.integers(0, 100 * 86_400, rows))
    times = [START + timedelta(seconds=s) for s in seconds.tolist()]
    customer, shop = rng.integers(0, 150, rows).tolist(), rng.integers(0, 70, rows).tolist()
    cents = rng.integers(100, 200_000, rows).tolist()
    return {
        "Transaktions-Nr": [f"{n - (n % 250 == 1 and n > 250):012d}" for n in range(rows)],
        "Buchungsdatum": [f"{t:%d.%m.%Y}" for t in times],
        "Uhrzeit": [f"{t:%H:%M:%S}" for t in times],
        "Betrag (EUR)": [f"{c // 100},{c % 100:02d}" for c in cents],
        "Kundennr.": [f"K{c:06d}" for c in customer],
        "Händlername": [f"Händler {s}" for s in shop],
        "Gerätekennung": [f"G-{d:x}" for d in rng.integers(0, 300, rows).tolist()],
        "Status": rng.choice(["genehmigt", "abgelehnt"], rows, p=[0.9, 0.1]).tolist(),
    }
