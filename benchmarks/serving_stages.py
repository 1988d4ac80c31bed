"""Where the time of a decision goes: CPU of each stage by payment, for groups of some sizes.

The stages of `POST /predict` are run one by one, in one process without a server, on the payments
that `serving` sends. What a request costs beyond their sum is HTTP and the event loop.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

from rich.console import Console
from rich.table import Table

from benchmarks.serving_bodies import read_templates, write_templates
from sentinel.api.routes.decision_json import render
from sentinel.api.routes.payment_bodies import ReadingRules
from sentinel.api.routes.payment_reading import read_payment
from sentinel.domain import Transaction
from sentinel.features.plan.program import compile_program
from sentinel.ledger.index import LedgerIndex
from sentinel.ledger.sqlite import SqliteLedger
from sentinel.log.entries import GroupKind
from sentinel.models.champion import champion_of
from sentinel.monitoring.metrics import ScoringMetrics
from sentinel.scoring.group import payload_of
from sentinel.scoring.panel import Panel
from sentinel.scoring.pending import Pending
from sentinel.scoring.scorer import Scored, Scorer
from sentinel.scoring.serving_model import ServingModel
from sentinel.scoring.tally import Tally
from sentinel.settings import Settings
from sentinel.state.embedded import EmbeddedState
from sentinel.telemetry.request_ids import NO_IDS
from testkit.scratch import make_workspace

GROUPS = (1, 8, 64, 200)
_P = ParamSpec("_P")
_T = TypeVar("_T")


_EMPTY_RUNS: Final = 5_000


def _nothing(*_: object) -> None:
    """Nothing."""


class Stopwatch:
    """CPU time of this thread by stage, in nanoseconds."""

    def __init__(self) -> None:
        self.spent: dict[str, int] = {}
        self.runs: dict[str, int] = {}

    def run(self, stage: str, call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run a stage and count it."""
        began = time.thread_time_ns()
        result = call(*args, **kwargs)
        self.spent[stage] = self.spent.get(stage, 0) + time.thread_time_ns() - began
        self.runs[stage] = self.runs.get(stage, 0) + 1
        return result

    def net(self) -> dict[str, int]:
        """What stages took without what it takes to watch one that does nothing."""
        empty = Stopwatch()
        for _ in range(_EMPTY_RUNS):
            empty.run("nothing", _nothing, None, None)
        own = empty.spent["nothing"] / _EMPTY_RUNS
        return {
            stage: max(ns - round(own * self.runs[stage]), 0) for stage, ns in self.spent.items()
        }


def _read(bodies: Sequence[bytes], now_us: int, reading: ReadingRules) -> list[Transaction]:
    return [read_payment(body, now_us, reading) for body in bodies]


def _answer(transactions: list[Transaction], scored: Scored) -> list[bytes]:
    return render(transactions, scored, [0] * len(transactions))


def _pack(transactions: list[Transaction], scored: Scored) -> bytes:
    return payload_of(transactions, scored, [0] * len(transactions))


class _Nobody:
    """Waits for no answer."""

    ids = NO_IDS

    def answered(self, body: bytes) -> None:
        """Take it."""

    def failed(self, error: Exception) -> None:
        """Take it."""


def measure(
    folder: Path, settings: Settings, bodies: Sequence[bytes], size: int
) -> dict[str, float]:
    """µs of CPU by stage and payment, in groups of ``size``."""
    champion = champion_of(settings)
    assert champion is not None
    model = ServingModel.load(settings.models_dir / champion.folder, settings.money)
    state = EmbeddedState.empty(compile_program(model.plan))
    scorer = Scorer(state, Panel(model))
    scorer.warm()
    reading = ReadingRules(model.plan.number_columns, model.plan.category_columns)
    tally, nobody = Tally(ScoringMetrics()), _Nobody()
    watch = Stopwatch()
    with contextlib.ExitStack() as opened:
        writer = opened.enter_context(SqliteLedger.open_writer(folder / f"ledger-{size}.db"))
        for start in range(0, len(bodies), size):
            group = bodies[start : start + size]
            now = time.time_ns() // 1000
            transactions = watch.run("read", _read, group, now, reading)
            watch.run("ids", state.known.add, [t.transaction_id for t in transactions])
            scored = watch.run("decide", scorer.decide, transactions)
            watch.run("score", model.score, scored.vectors)
            watch.run("reasons", model.explain, scored.vectors)
            payload = watch.run("pack", _pack, transactions, scored)
            watch.run("commit", writer.append, GroupKind.DECISIONS, len(group), now, payload)
            watch.run("answer", _answer, transactions, scored)
            waiting = [Pending(one, nobody, time.perf_counter_ns(), False) for one in transactions]
            watch.run("metrics", tally.add, waiting, scored)
        watch.run("metrics", tally.count)
        index = LedgerIndex(folder / f"index-{size}.db", writer)
        opened.callback(index.close)
        watch.run("index", index.catch_up)
    spent = {stage: ns / 1000 / len(bodies) for stage, ns in watch.net().items()}
    # `decide` is features, score and reasons; the latter two were run once more by themselves.
    features = spent.pop("decide") - spent["score"] - spent["reasons"]
    return {"read": spent.pop("read"), "ids": spent.pop("ids"), "features": features} | spent


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure all groups."""
    before = os.getloadavg()
    folder = Path(tempfile.mkdtemp(prefix="sentinel-stages-", dir=options.folder))
    try:
        write_templates(folder)
        templates = read_templates(folder / "nested.txt")
        settings = make_workspace(folder / "made", trees=options.trees, leaves=options.leaves)
        count = options.payments
        bodies = [templates[n % len(templates)].body(n, "stage") for n in range(count)]
        groups = {size: measure(folder, settings, bodies, size) for size in GROUPS}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {
        "raw": {f"groups of {size}": spent for size, spent in groups.items()},
        "model": f"{options.trees}x{options.leaves}",
        "machine": {"loadavg_before": before, "loadavg_after": os.getloadavg()},
    }


def main(argv: list[str]) -> int:
    """Run the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(prog="benchmarks serving_stages", description=__doc__)
    parser.add_argument("--payments", type=int, default=9_600, help="for each size of group")
    parser.add_argument("--trees", type=int, default=200)
    parser.add_argument("--leaves", type=int, default=31)
    parser.add_argument("--folder", type=Path, help="on the disk to measure (a temporary folder)")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    options = parser.parse_args(argv)
    result = run(options)
    table = Table(title="CPU µs by payment", title_justify="left")
    table.add_column("")
    for name in result["raw"]:
        table.add_column(name, justify="right")
    for stage in next(iter(result["raw"].values())):
        table.add_row(stage, *(f"{spent[stage]:.1f}" for spent in result["raw"].values()))
    table.add_row("sum", *(f"{sum(spent.values()):.1f}" for spent in result["raw"].values()))
    Console().print(table)
    if options.json:
        print(json.dumps(result))
    return 0
