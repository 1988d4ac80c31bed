"""A deployment whose payments drift: one field of them becomes a constant, and later is as before.

A first model, which has no reference, decides sixteen days of payments. Their vectors, as the log
has them, become the reference of a second model, as a training would freeze it. Then the monitor
starts, and payments go on, an hour of them at a time. All of it is decided by a real scorer; its
clock is set on by an hour for each batch, so that the monitor's hourly tests are due.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec
import numpy as np

from benchmarks.alerts_clock import VARIABLE, ClockedServer, SetClock
from benchmarks.alerts_world import Faults, Watched, watched
from sentinel.drift.bins import SCORE, freeze_bins
from sentinel.drift.counting import count_cells
from sentinel.drift.notices import HOUR_US
from sentinel.drift.reference import DriftReference, freeze_reference
from sentinel.drift.segments import default_segments, members
from sentinel.features.plan.parts import RequestFeature
from sentinel.features.plan.plan import Plan
from sentinel.ledger.open import open_reader
from sentinel.log.entries import GroupKind, decode_decisions
from sentinel.models.champion import Champion
from sentinel.models.serving import model_folder
from sentinel.settings import Settings
from testkit.experiments import install_version
from testkit.ports import free_port
from testkit.servers import wait_until
from testkit.signed_models import sign_folder

PLAN: Final = Plan(
    views=(),
    request=(
        RequestFeature(name="amount", kind="amount"),
        RequestFeature(name="items", kind="number", column="items"),
        RequestFeature(
            name="channel", kind="category", column="channel", categories=("pos", "online")
        ),
    ),
)
REFERENCE_DAYS: Final = 16
PER_HOUR: Final = 60
HOUR_SECONDS: Final = 0.25
"""How long an hour of payments takes once the monitor watches."""
_LATEST_US: Final = 20 * 60_000_000
"""After the hour before is over: `drift.late_minutes` is 15."""


class HourlyTraffic:
    """Payments of one hour after the other.

    Args:
        server: Decides them.
        clock: Of the server; it is set on by an hour for each batch.

    Attributes:
        constant: Whether the field `items` is sent as a constant.
        hours: How many were decided.
    """

    def __init__(self, server: ClockedServer, clock: SetClock) -> None:
        self.constant = False
        self.hours = 0
        self._server, self._clock = server, clock
        self._random = np.random.default_rng(3)
        self._client = httpx.Client(timeout=30)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._go_on)

    def decide(self) -> None:
        """Set the clock on by an hour, and have so many payments decided.

        Raises:
            HTTPError: They were not.
        """
        self._clock.set(self._clock() + HOUR_US)
        body = {"transactions": [self._payment(number) for number in range(PER_HOUR)]}
        self._client.post(f"{self._server.url}/predict/batch", json=body).raise_for_status()
        self.hours += 1

    def _payment(self, number: int) -> dict[str, Any]:
        random = self._random
        return {
            "transaction_id": f"h{self.hours}-{number}",
            "amount_minor": int(random.exponential(6_000.0)) + 1,
            "card_id": f"K{random.integers(500)}",
            "attributes": {
                "items": 1.0 if self.constant else float(random.poisson(4.0)),
                "channel": "pos" if random.random() < 0.6 else "online",
            },
        }

    def __enter__(self) -> HourlyTraffic:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._client.close()

    def _go_on(self) -> None:
        while not self._stop.wait(HOUR_SECONDS):
            self.decide()


@contextlib.contextmanager
def drifting_world(
    folder: Path, *, production: bool, faster: float
) -> Iterator[tuple[Watched, Faults]]:
    """The deployment, and how its payments drift and come back."""
    settings = Settings(workspace=folder / "workspace")
    settings.workspace.mkdir(parents=True)
    PLAN.save(settings.plan_path)
    install_version(settings, PLAN, "1")
    _crown(settings, "1")
    clock = SetClock(folder / "clock")
    now_hour = time.time_ns() // 1000 // HOUR_US
    clock.set((now_hour - 60 * 24) * HOUR_US + _LATEST_US)
    environment = {VARIABLE: str(folder / "clock")}
    server = ClockedServer(settings, environment=environment, port=free_port())
    with contextlib.ExitStack() as stack:
        server.start()
        stack.callback(server.kill)
        traffic = HourlyTraffic(server, clock)
        for _ in range(REFERENCE_DAYS * 24):
            traffic.decide()
        install_version(settings, PLAN, "2", verdict=None)
        reference_of_log(settings).save(model_folder(settings, "2"))
        sign_folder(settings, model_folder(settings, "2"))
        _crown(settings, "2")
        wait_until(lambda: _version(server) == "2", 60, "the second model")
        stack.enter_context(traffic)
        here = stack.enter_context(
            watched(folder, server, {}, production=production, faster=faster)
        )
        begun = traffic.hours
        wait_until(lambda: traffic.hours >= begun + 24, 60, "a day of payments")
        yield (
            here,
            {
                "drift_injected": (
                    "DriftFound",
                    lambda: setattr(traffic, "constant", True),
                    lambda: setattr(traffic, "constant", False),
                )
            },
        )


def reference_of_log(settings: Settings) -> DriftReference:
    """The reference of all payments that were decided so far, by the hour they were received in."""
    vectors, scores, hours = [], [], []
    with open_reader(settings) as ledger:
        for group in ledger.groups():
            if group.kind != GroupKind.DECISIONS:
                continue
            decided = decode_decisions(group.payload)
            vectors.append(decided.vector_array())
            scores.append(np.frombuffer(decided.probabilities, "<f8"))
            hours.append([one.received_at_us // HOUR_US for one in decided.transactions])
    X = np.column_stack((np.concatenate(vectors), np.concatenate(scores))).astype(np.float32)
    hour = np.concatenate(hours)
    names = (*PLAN.feature_names, SCORE)
    bins = freeze_bins(X, names, categorical=PLAN.categorical)
    segments = default_segments(X, names, amount="amount", categories=PLAN.categorical)
    belongs = members(segments, X, names)
    present = np.unique(hour)
    counts = np.zeros((len(present), len(segments), bins.cells), np.uint32)
    for at, one in enumerate(present.tolist()):
        rows = hour == one
        count_cells(bins, X[rows], belongs[rows], counts[at])
    return freeze_reference(bins, segments, present, counts)


def _version(server: ClockedServer) -> str:
    return str(httpx.get(f"{server.url}/health", timeout=10).json()["model"]["version"])


def _crown(settings: Settings, version: str) -> None:
    target = settings.models_dir / "champion.json"
    partial = target.with_suffix(".partial")
    folder = model_folder(settings, version).name
    partial.write_bytes(msgspec.json.encode(Champion(version=version, folder=folder)))
    partial.replace(target)
