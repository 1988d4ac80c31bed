"""The files that the readers of pages have."""

from __future__ import annotations

import csv
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from sentinel.domain import Transaction, Verdict
from sentinel.sources.simulator import SimulatorConfig, SimulatorSource
from testkit.shapes import SHAPES

ROWS = 4_000
END_US = 1_772_323_200_000_000  # 2026-03-01
COLUMNS = ("payment_ref", "created", "amount", "customer", "card_token", "terminal", "channel")


def nothing(folder: Path) -> None:
    """For pages whose commands need no file."""


def files_of(name: str) -> Callable[[Path], None]:
    """What makes the files of a public set, in its shape, in the folder that its page names."""
    shape = SHAPES[name]

    def write(folder: Path) -> None:
        shape.write(shape.draw(ROWS, 5), folder / "FOLDER", shape.stem)

    return write


def payments_of_the_readme(folder: Path) -> None:
    """payments.csv, with the columns that the README's mapping names."""
    world = SimulatorConfig.ending(
        END_US, days=120, customers=250, merchants=120, fraud_rate=0.02, seed=3
    )
    payments: list[Transaction] = []
    frauds: dict[str, int] = {}
    for event in SimulatorSource(world).stream_from(world.start_us):
        if event.due_us >= END_US:
            break
        if isinstance(event.entry, Transaction):
            payments.append(event.entry)
        elif event.entry.verdict == Verdict.FRAUD:
            frauds[event.entry.transaction_id] = event.due_us
    with (folder / "payments.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow([*COLUMNS, "chargeback", "chargeback_date"])
        for payment in payments:
            arrived = frauds.get(payment.transaction_id)
            rows.writerow(
                [
                    payment.transaction_id,
                    _date(payment.event_time_us),
                    f"{payment.amount_minor / 100:.2f}",
                    payment.customer_id,
                    payment.card_id,
                    payment.merchant_id,
                    payment.attributes["channel"],
                    *(("no", "") if arrived is None else ("yes", _date(arrived))),
                ]
            )


def _date(time_us: int) -> str:
    return datetime.fromtimestamp(time_us / 1_000_000, UTC).isoformat(sep=" ")
