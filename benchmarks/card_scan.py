"""Card numbers at the door: disguises refused, honest numbers let in, and what the look costs.

A thousand card numbers in disguise, made by rule, are sent as attributes, ids, names of attributes
and labels, and imported; each must be refused. Honest numbers are looked at one by one, as the API
does, and as columns, as imports do. Exit status 1 if a disguise came in or a row was lost.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from sentinel.api.body import parse
from sentinel.api.routes import payment_reading
from sentinel.api.routes.labels import LabelsRequest, labels_of
from sentinel.api.routes.payment_bodies import ReadingRules
from sentinel.api.routes.payment_reading import read_payment
from sentinel.domain import InvalidTransaction
from sentinel.ingest.card_columns import ColumnJudge, shaped_and_right
from sentinel.ingest.guard import Guard
from sentinel.ingest.tokens import TokenRules
from sentinel.sources import log_batches
from sentinel.sources.mapping import MappingSource
from sentinel.sources.mapping_file import parse_mapping
from testkit.disguises import Disguise, disguises

NOW_US = 1_800_000_000_000_000
FIELDS = 25
"""Fields of a payment whose reading is measured: 7 of its own and 18 attributes."""

_CHUNK = 50_000
_LABELS = msgspec.json.Decoder(LabelsRequest)
_EXEMPT = TokenRules(exempt=("transaction_id", "customer_id", "card_id", "merchant_id"))
_COUNTRIES = (("1", 10), ("44", 10), ("33", 9), ("49", 11), ("43", 11), ("62", 11), ("86", 11))


def missed(found: list[Disguise], folder: Path) -> Counter[str]:
    """Disguises that came in, by the place where they did."""
    came_in: Counter[str] = Counter()
    for disguise in found:
        value = disguise.value
        text = str(value)
        came_in["attribute"] += _taken({"attributes": {"note": value}})
        if len(text) <= 128:
            came_in["id"] += _taken({"merchant_id": value})
            came_in["name of an attribute"] += _taken({"attributes": {text: "x"}})
            came_in["label id"] += _label_taken({"label_id": value})
        if len(text) <= 64:
            came_in["origin of a label"] += _label_taken({"origin": text})
    texts = [str(disguise.value) for disguise in found]
    rest = [f"thanks {i}" for i in range(len(texts))]
    lost = _rejected(folder, {"note": [*texts, *rest]})
    came_in["import"] = len(texts) - lost
    return came_in


def _taken(change: dict[str, Any]) -> bool:
    body = {"transaction_id": "t1", "amount_minor": 1, **change}
    try:
        read_payment(json.dumps(body).encode(), NOW_US, ReadingRules())
    except InvalidTransaction:
        return False
    return True


def _label_taken(change: dict[str, Any]) -> bool:
    label = {"transaction_id": "t1", "verdict": "fraud", **change}
    try:
        labels_of(parse(_LABELS, json.dumps({"labels": [label]}).encode()).labels, NOW_US, Guard())
    except InvalidTransaction:
        return False
    return True


def _rejected(folder: Path, columns: dict[str, Any]) -> int:
    """Rows that an import of a table with these attributes rejects."""
    rows = len(next(iter(columns.values())))
    table = pa.table(
        {
            "ref": pa.array(np.arange(rows)),
            "at": pa.array(np.full(rows, NOW_US // 1_000_000 - 86_400)),
            "amount": pa.array(np.ones(rows, np.int64)),
            **columns,
        }
    )
    pq.write_table(table, folder / "payments.parquet")
    mapping = {
        "name": "numbers",
        "files": {"path": "payments.parquet"},
        "id": "ref",
        "time": {"column": "at", "format": "epoch", "unit": "s"},
        "amount": {"column": "amount", "unit": "minor"},
        "attributes": {"types": dict.fromkeys(columns, "category")},
    }
    log = log_batches(MappingSource(parse_mapping(mapping, "benchmark"), folder), now_us=NOW_US)
    for _ in log:
        pass
    return sum(log.report.rejected.values())


def honest(count: int, seed: int = 2) -> Iterator[tuple[str, pa.Array]]:
    """Numbers and ids that are no card numbers, by kind."""
    rng = np.random.default_rng(seed)
    yield "16-digit ids", _texts(rng.integers(10**15, 10**16, count))
    yield "19-digit ids", _texts(rng.integers(10**18, 9 * 10**18, count))
    moments = rng.integers(1_500_000_000, 2_000_000_000, count)
    yield "epochs in s", _texts(moments)
    yield "epochs in ms", _texts(moments * 1_000 + rng.integers(0, 1_000, count))
    yield "epochs in us", _texts(moments * 1_000_000 + rng.integers(0, 1_000_000, count))
    made = random.Random(seed)
    bits = [made.getrandbits(128) for _ in range(count)]
    yield "UUIDs", pa.array([str(uuid.UUID(int=each, version=4)) for each in bits])
    yield "MD5 in hex", pa.array([f"{each:032x}" for each in bits])
    phones = [
        (country, f"{made.randrange(10 ** (digits - 1), 10**digits)}")
        for country, digits in made.choices(_COUNTRIES, k=count)
    ]
    yield "phones with +", pa.array([f"+{country}{rest}" for country, rest in phones])
    yield "phones, grouped", pa.array([f"+{c} {r[:3]} {r[3:]}" for c, r in phones])
    yield "phones without +", pa.array([country + rest for country, rest in phones])
    yield "decimals as text", pa.array([repr(made.random() * 100) for _ in range(count)])


def _texts(numbers: Any) -> pa.Array:
    return pa.array(numbers).cast(pa.string())


def alarms(values: pa.Array) -> tuple[int, int]:
    """Values that are refused one by one, and rows that an import of the column loses."""
    judge = ColumnJudge()
    alone = lost = 0
    for start in range(0, len(values), _CHUNK):
        part = values.slice(start, _CHUNK)
        alone += int(shaped_and_right(part)[1].sum())
        lost += int(judge.judge(part).sum())
    return alone, lost


def bodies(kind: str, count: int, seed: int = 3) -> list[bytes]:
    """Bodies of payments with 25 fields.

    Args:
        kind: "usual", "texts are new" (none comes twice), or "ids of 16 digits".
        count: How many.
        seed: Of the numbers.
    """
    rng = random.Random(seed)

    def key(name: str, number: int) -> str:
        return f"{4 * 10**15 + number * 7}" if kind == "ids of 16 digits" else f"{name}-{number}"

    made = []
    for n in range(count):
        attributes: dict[str, Any] = {}
        for i in range(6):
            attributes[f"n{i}"] = round(rng.random() * 1_000, 2)
            new = f"session-{rng.getrandbits(48):012x}"
            attributes[f"c{i}"] = new if kind == "texts are new" else f"value-{rng.randrange(40)}"
            attributes[f"b{i}"] = rng.random() < 0.5
        body = {
            "transaction_id": key("tx", n),
            "amount_minor": rng.randrange(10**6),
            "customer_id": key("customer", rng.randrange(10**6)),
            "card_id": key("card", rng.randrange(10**6)),
            "merchant_id": key("merchant", rng.randrange(10**3)),
            "device_id": str(uuid.UUID(int=rng.getrandbits(128), version=4)),
            "ip_address": f"10.{rng.randrange(256)}.{rng.randrange(256)}.7",
            "attributes": attributes,
        }
        made.append(json.dumps(body).encode())
    return made


def cost_us(made: list[bytes], rounds: int) -> dict[str, float]:
    """CPU of reading one payment, µs, with the look for card numbers and without; best of rounds.

    Fields of ids that look like card numbers by chance are exempt, so that nothing is refused.
    """
    names = [f"{kind}{i}" for kind in "nc" for i in range(6)]
    rules = ReadingRules(frozenset(names[:6]), frozenset(names[6:]), Guard(_EXEMPT))
    best = {"with": float("inf"), "without": float("inf")}
    for _ in range(rounds):
        for which, least in best.items():
            with _no_look() if which == "without" else nullcontext():
                payment_reading._good_texts.clear()
                began = time.thread_time_ns()
                for body in made:
                    read_payment(body, NOW_US, rules)
                spent = (time.thread_time_ns() - began) / 1_000 / len(made)
            best[which] = min(least, spent)
    return {**best, "added": best["with"] - best["without"]}


@contextmanager
def _no_look() -> Iterator[None]:
    """Reading of payments that looks for no card numbers."""
    names = ("may_hold_card", "holds_card_number", "is_card_value")
    kept: dict[str, Callable[..., bool]] = {name: getattr(payment_reading, name) for name in names}
    try:
        for name in names:
            setattr(payment_reading, name, _says_no)
        yield
    finally:
        for name, function in kept.items():
            setattr(payment_reading, name, function)


def _says_no(_: object) -> bool:
    return False


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure everything."""
    before = os.getloadavg()
    cost = {
        kind: cost_us(bodies(kind, options.payments), options.rounds)
        for kind in ("usual", "texts are new", "ids of 16 digits")
    }
    found = disguises(options.disguises)
    with tempfile.TemporaryDirectory(prefix="sentinel-cards-") as folder:
        came_in = missed(found, Path(folder))
        counted: dict[str, dict[str, int]] = {}
        columns: dict[str, pa.Array] = {}
        for kind, values in honest(options.numbers):
            alone, lost = alarms(values)
            counted[kind] = {"looked_at": len(values), "refused": alone, "lost_in_a_column": lost}
            columns[kind.replace(" ", "_").replace(",", "")] = values.slice(0, options.rows)
        rejected = _rejected(Path(folder), columns)
    return {
        "disguises": len(found),
        "kinds_of_disguise": len({disguise.rule for disguise in found}),
        "missed": came_in.total(),
        "missed_by_place": dict(came_in),
        "false_alarms": counted,
        "import": {"rows": options.rows, "columns": len(columns), "rejected": rejected},
        "cost_us": cost,
        "fields": FIELDS,
        "machine": {"loadavg_before": before, "loadavg_after": os.getloadavg()},
    }


def show(result: dict[str, Any], console: Console) -> None:
    """The result for people, in 80 columns."""
    console.print(
        f"{result['disguises']:,} disguises of {result['kinds_of_disguise']} kinds: "
        f"{result['missed']} came in."
    )
    table = Table(title="honest numbers", title_justify="left")
    for name in ("kind", "looked at", "refused alone", "share", "lost in a column"):
        table.add_column(name, justify="left" if name == "kind" else "right")
    for kind, counts in result["false_alarms"].items():
        share = counts["refused"] / max(counts["looked_at"], 1)
        table.add_row(
            kind,
            f"{counts['looked_at']:,}",
            f"{counts['refused']:,}",
            f"{share:.3%}",
            f"{counts['lost_in_a_column']:,}",
        )
    console.print(table)
    read = result["import"]
    console.print(
        f"An import of {read['rows']:,} rows with {read['columns']} such columns rejected "
        f"{read['rejected']:,}."
    )
    table = Table(title="CPU µs of reading a payment of 25 fields", title_justify="left")
    for name in ("payments", "with", "without", "added"):
        table.add_column(name, justify="left" if name == "payments" else "right")
    for kind, spent in result["cost_us"].items():
        table.add_row(kind, *(f"{spent[name]:.2f}" for name in ("with", "without", "added")))
    console.print(table)


def main(argv: list[str]) -> int:
    """Run the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(prog="benchmarks card_scan", description=__doc__)
    parser.add_argument("--disguises", type=int, default=1_000)
    parser.add_argument("--numbers", type=int, default=1_000_000, help="of each honest kind")
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the import")
    parser.add_argument("--payments", type=int, default=4_000, help="whose reading is measured")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    options = parser.parse_args(argv)
    result = run(options)
    show(result, Console())
    if options.json:
        print(json.dumps(result))
    lost = sum(counts["lost_in_a_column"] for counts in result["false_alarms"].values())
    return int(bool(result["missed"] or lost or result["import"]["rejected"]))
