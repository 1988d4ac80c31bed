"""The deployment that `stalls` disturbs: a long log, its index, and a state of some gigabytes.

The log is written group by group as its own writer would, not payment by payment over HTTP; the
scorer then makes its state from it as after any restart, and leaves a snapshot behind.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec
import numpy as np
import pyarrow as pa

from benchmarks.serving_bodies import GAP_US, START_US, write_templates
from sentinel.domain import ENTITY_COLUMNS, AttributeValue, Transaction
from sentinel.features.plan.plan import Plan
from sentinel.ledger.index import LedgerIndex
from sentinel.ledger.log import append_import
from sentinel.ledger.sqlite import SqliteLedger
from sentinel.log.entries import (
    FLAG_IS_FRAUD,
    GROUP_FORMAT,
    N_REASONS,
    DecisionGroup,
    GroupKind,
    encode_group,
)
from sentinel.log.schema import KIND_TRANSACTION, LOG_SCHEMA
from sentinel.settings import Settings
from testkit.scratch import (
    REPOSITORY,
    Server,
    default_plan,
    install_champion,
    synthetic_booster,
)

START_SECONDS: Final = 900.0
STOP_SECONDS: Final = 300.0
_GROUP: Final = 250
_IMPORTED_AT_ONCE: Final = 65_536
_REPLAYED_AT_ONCE: Final = 50_000
"""A log of at most so many decisions needs no snapshot: a scorer replays it while it starts."""
_MARK: Final = "stalls.json"


@dataclass(frozen=True)
class Sizes:
    """How large everything is.

    Attributes:
        decisions: Decisions in the log and in the index.
        entities: Customers, each with a card, a merchant, a device and an address of its own; one
            of these sets takes about 14 kB of state.
        history: Imported payments.
        labels: Labels in one request, on imported payments.
        batch: Payments in one batch.
        rows: Rows in one request for features.
        seconds: Of one window of load.
        rate: Single payments per second.
    """

    decisions: int
    entities: int
    history: int
    labels: int
    batch: int
    rows: int
    seconds: float
    rate: float

    @property
    def aftermath_seconds(self) -> float:
        """Between scenarios: a host has taken freed memory back within nine seconds."""
        return 1.5 * self.seconds


FULL: Final = Sizes(1_000_000, 150_000, 200_000, 10_000, 10_000, 10_000, 8.0, 300.0)
QUICK: Final = Sizes(2_000, 200, 600, 60, 100, 100, 0.5, 300.0)


@dataclass(frozen=True)
class World:
    """A deployment in a folder.

    Attributes:
        settings: Its workspace.
        templates: Payments to send; see `serving_bodies`.
        sizes: How large it was made.
        plans: The default plan, and one without its last ratio, whose state is another.
    """

    settings: Settings
    templates: Path
    sizes: Sizes
    plans: tuple[Plan, Plan]

    def crown(self, plan: Plan, version: str) -> None:
        """Put a new version of a plan's model where the scorer looks for its champion."""
        install_champion(self.settings, plan, self._model(plan).read_text(), version)

    def train(self) -> None:
        """Train a model for each plan."""
        for plan in self.plans:
            self._model(plan).write_text(synthetic_booster(plan, trees=20, leaves=15))

    def _model(self, plan: Plan) -> Path:
        return self.templates.with_name(f"model-{plan.hash}.txt")


def history_id(number: int) -> str:
    """Id of an imported payment."""
    return f"history-{number}"


def open_world(folder: Path, sizes: Sizes, told: Callable[[str], None]) -> World:
    """The world of a folder, made there if it is not there yet.

    Args:
        folder: Empty or missing, or made before with the same sizes.
        sizes: How large it is to be.
        told: Called with what is being done.

    Raises:
        SystemExit: The folder holds something else.
    """
    mark = folder / _MARK
    settings = Settings(workspace=folder / "workspace", feature_store=REPOSITORY / "feature_store")
    if mark.exists():
        if json.loads(mark.read_text()) != asdict(sizes):
            raise SystemExit(f"{folder} was made with other sizes. Name another folder.")
        return _world(settings, folder, sizes, Plan.load(settings.plan_path))
    if folder.exists() and any(folder.iterdir()):
        raise SystemExit(f"{folder} holds something else. Name an empty folder.")
    folder.mkdir(parents=True, exist_ok=True)
    write_templates(folder, number=2_000)
    plan = default_plan()
    settings.workspace.mkdir()
    plan.save(settings.plan_path)
    world = _world(settings, folder, sizes, plan)
    world.train()
    world.crown(plan, "1")
    told(f"writing {sizes.history:,} imported payments and {sizes.decisions:,} decisions")
    with SqliteLedger.open_writer(settings.ledger_path) as ledger:
        _import(ledger, sizes)
        _decide(ledger, plan, sizes)
        began = time.perf_counter()
        index = LedgerIndex(settings.index_path, ledger)
        index.catch_up()
        index.close()
    if sizes.decisions > _REPLAYED_AT_ONCE:
        told(f"the index took {time.perf_counter() - began:.1f} s; making the state")
        server = Server(settings)
        server.start(START_SECONDS)
        # A scorer that has taken nothing writes no snapshot when it ends.
        payment = {"transaction_id": "last", "amount_minor": 100}
        httpx.post(f"{server.url}/predict", json=payment, timeout=60).raise_for_status()
        server.stop(STOP_SECONDS)
    mark.write_text(json.dumps(asdict(sizes)))
    return world


def _world(settings: Settings, folder: Path, sizes: Sizes, plan: Plan) -> World:
    other = msgspec.structs.replace(plan, ratios=plan.ratios[:-1])
    return World(settings, folder / "nested.txt", sizes, (plan, other))


def _entities(number: int) -> dict[str, str]:
    return {
        "customer_id": f"SC{number}",
        "card_id": f"SK{number}",
        "merchant_id": f"SM{number}",
        "device_id": f"SD{number}",
        "ip_address": f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}",
    }


def _import(ledger: SqliteLedger, sizes: Sizes) -> None:
    for first in range(0, sizes.history, _IMPORTED_AT_ONCE):
        numbers = range(first, min(first + _IMPORTED_AT_ONCE, sizes.history))
        times = [START_US - (sizes.history - number) * GAP_US for number in numbers]
        entities = [_entities(number % sizes.entities) for number in numbers]
        columns: dict[str, list[Any]] = {
            "kind": [KIND_TRANSACTION] * len(numbers),
            "transaction_id": [history_id(number) for number in numbers],
            "received_at_us": times,
            "event_time_us": times,
            "amount_minor": [1_000] * len(numbers),
            **{name: [one[name] for one in entities] for name in ENTITY_COLUMNS},
        }
        empty = [None] * len(numbers)
        arrays = [pa.array(columns.get(field.name, empty), field.type) for field in LOG_SCHEMA]
        append_import(ledger, pa.RecordBatch.from_arrays(arrays, schema=LOG_SCHEMA))


def _decide(ledger: SqliteLedger, plan: Plan, sizes: Sizes) -> None:
    """Decisions with made-up figures on payments of all entities in turn."""
    drawn = random.Random(7)
    numpy_drawn = np.random.default_rng(7)
    attributes: dict[str, AttributeValue] = {"channel": "online", "mcc": 5411.0}
    width = len(plan.feature_names)
    for first in range(0, sizes.decisions, _GROUP):
        numbers = range(first, min(first + _GROUP, sizes.decisions))
        n = len(numbers)
        payments = [
            Transaction(
                transaction_id=f"made-{number}",
                event_time_us=START_US + number * GAP_US,
                received_at_us=START_US + number * GAP_US,
                amount_minor=drawn.randrange(100, 50_000),
                attributes=attributes,
                **_entities(number % sizes.entities),
            )
            for number in numbers
        ]
        probabilities = numpy_drawn.beta(0.2, 20, n)
        group = DecisionGroup(
            format=GROUP_FORMAT,
            plan_hash=plan.hash,
            model_name="scratch",
            model_version="1",
            transactions=payments,
            vectors=np.zeros((n, width), "<f4").tobytes(),
            scores=np.log(probabilities + 1e-9).tobytes(),
            probabilities=probabilities.tobytes(),
            flags=np.where(probabilities > 0.2, 2 | FLAG_IS_FRAUD, 0).astype("<u4").tobytes(),
            reason_features=np.zeros((n, N_REASONS), "<i2").tobytes(),
            reason_contributions=np.zeros((n, N_REASONS), "<f4").tobytes(),
            latencies_us=np.full(n, 500, "<u4").tobytes(),
        )
        received = payments[-1].received_at_us
        ledger.append(GroupKind.DECISIONS, n, received, encode_group(group))
