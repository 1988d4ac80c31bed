"""The worked example of docs/features.md is what the engines compute."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from sentinel.domain import Label, Transaction, Verdict
from sentinel.features.plan.functions import AMOUNT
from sentinel.features.plan.parts import Ratio
from sentinel.features.plan.plan import HOUR_US, MINUTE_US, Plan
from tests.features.engines import ENGINES, Vectors, oracle
from tests.features.logs import bits_of, bits_of_values
from tests.features.plans import aggregate, view
from tests.features.worlds import START_US, Entry

HOP = 15 * MINUTE_US
DAY = START_US // (24 * HOUR_US) * (24 * HOUR_US)
FEATURES = 5

PLAN = Plan(
    (
        view(
            aggregate("count_1h", "count", HOUR_US, HOP),
            aggregate("sum_1h", "sum", HOUR_US, HOP),
            aggregate("mean_1h", "mean", HOUR_US, HOP),
            aggregate("since_last_1h", "time_since_last", HOUR_US, HOP),
            aggregate(
                "merchants_1h", "distinct_count", HOUR_US, HOP, column="merchant_id", capacity=16
            ),
            aggregate("frauds_1h", "fraud_count", HOUR_US, HOP),
            name="card",
            keys=("card_id",),
        ),
    ),
    (),
    (Ratio("amount_to_mean_1h", AMOUNT, "mean_1h"),),
)


def example(root: Path) -> tuple[list[Entry], list[list[float]]]:
    """The log of the page, and what it says the payments' features are."""
    lines = (root / "docs" / "features.md").read_text().splitlines()
    table = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in lines
        if line.startswith(("| # |", *(f"| {i} |" for i in range(1, 100))))
    ]
    header, *rows = table
    assert tuple(header[FEATURES:]) == PLAN.feature_names
    assert [row[0] for row in rows] == [str(i + 1) for i in range(len(rows))]
    log: list[Entry] = []
    vectors: list[list[float]] = []
    for received_at_us, (_, entry, happened, amount, merchant, *cells) in enumerate(rows, DAY):
        kind, identifier = entry.split()
        if kind != "payment":
            log.append(
                Label(
                    label_id=entry,
                    transaction_id=identifier,
                    verdict=Verdict(kind),
                    received_at_us=received_at_us,
                )
            )
            continue
        hour, minute = map(int, happened.split(":"))
        log.append(
            Transaction(
                transaction_id=identifier,
                event_time_us=DAY + hour * HOUR_US + minute * MINUTE_US,
                received_at_us=received_at_us,
                amount_minor=int(amount),
                card_id="k1",
                merchant_id=merchant,
            )
        )
        vectors.append([float("nan") if cell == "null" else float(cell) for cell in cells])
    return log, vectors


def test_the_example_is_the_definition(root: Path) -> None:
    log, vectors = example(root)
    expected: Vectors = np.array(vectors, dtype=np.float32)
    assert len(expected) > 10
    assert np.array_equal(bits_of_values(oracle(PLAN, log), expected.shape[1]), bits_of(expected))


@pytest.mark.parametrize("engine", ENGINES)
def test_the_example_is_what_engines_compute(root: Path, engine: str) -> None:
    log, vectors = example(root)
    found = ENGINES[engine](PLAN, log, random.Random(1))
    np.testing.assert_array_equal(found, np.array(vectors, dtype=np.float32))
