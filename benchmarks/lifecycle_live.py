"""Experiments that are started, changed and stopped while clients send payments over HTTP.

Each answer names the model that decided. It must be the one that the line-up of that moment draws
for the card, where a change may take a second to reach the scorer; a card must keep its model
while nothing changes; and no payment may go unanswered. Then a canary that declines everything is
started, and its guardrail is timed. Last, decisions are explained again by the models that made
them (`benchmarks.explanations`): a part of them over HTTP, and all from the log.
"""

from __future__ import annotations

import random
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec

from benchmarks.explanations import mismatches_in_log, mismatches_over_http, wait_until_indexed
from sentinel.experiments.assignment import draw
from sentinel.experiments.lineup import Canary, Experiment, LineUp
from sentinel.experiments.store import change_line_up, open_line_ups
from sentinel.models.thresholds import Thresholds
from sentinel.settings import Settings
from testkit.experiments import install_version
from testkit.scratch import default_plan, make_workspace, serving

CLIENTS: Final = 4
CARDS: Final = 2_000
PHASE_SECONDS: Final = 6.0
SWITCH_SECONDS: Final = 1.5
"""How long a change may take: a scorer looks five times a second, and loads the model."""
GUARDRAIL_AT_MOST: Final = 60.0
EXPLAINED: Final = 12_000
"""Decisions that are explained again over HTTP, about; all of them are from the log."""

_BATCH: Final = 500
_NOTHING_PASSES: Final = Thresholds(fraud=0.0, review=0.0, decline=0.0)
_AB: Final = Experiment(name="ab", kind="challenger", version="11", share=0.5)
_MORE: Final = Experiment(name="ab", kind="challenger", version="11", share=0.8)
_CANARY: Final = Experiment(
    name="canary", kind="challenger", version="21", share=0.5, canary=Canary()
)


@dataclass
class Answer:
    card: str
    version: str
    sent: float
    answered: float
    said: dict[str, Any] = field(default_factory=dict)


@dataclass
class _Traffic:
    url: str
    answers: list[Answer] = field(default_factory=list)
    dropped: int = 0
    over: bool = False

    def send(self, number: int) -> None:
        """Send payments until it is over."""
        choose, sent_here = random.Random(number), 0
        with httpx.Client(base_url=self.url, timeout=30.0, trust_env=False) as client:
            while not self.over:
                card = f"C{choose.randrange(CARDS)}"
                sent_here += 1
                body = {
                    "transaction_id": f"{number}-{sent_here}",
                    "amount_minor": 1_250,
                    "card_id": card,
                    "customer_id": card,
                    "merchant_id": f"M{choose.randrange(50)}",
                }
                sent = time.monotonic()
                try:
                    response = client.post("/predict", json=body)
                    response.raise_for_status()
                    said = response.json()
                    version = said["model_version"]
                except (httpx.HTTPError, KeyError):
                    self.dropped += 1
                    continue
                self.answers.append(Answer(card, version, sent, time.monotonic(), said))


@dataclass
class Phase:
    """A line-up, and when it began to hold: between before and after its change was stored."""

    experiments: tuple[Experiment, ...]
    before: float
    after: float = 0.0


def versions_of(experiments: tuple[Experiment, ...], card: str) -> str:
    """The version that decides on a card."""
    for one in experiments:
        if draw(one.name, f"card/{card}") < one.share:
            return one.version
    return "1"


def checked(answers: list[Answer], phases: list[Phase]) -> dict[str, int]:
    """Answers of a model that held at no time between sending and answering, and cards that
    changed their model while the line-up did not.
    """
    wrong, kept = 0, dict[tuple[int, str], set[str]]()
    for answer in answers:
        allowed = set()
        for place, phase in enumerate(phases):
            ends = phases[place + 1].after + SWITCH_SECONDS if place + 1 < len(phases) else 1e18
            if phase.before <= answer.answered and answer.sent <= ends:
                allowed.add(versions_of(phase.experiments, answer.card))
            settled = phase.after + SWITCH_SECONDS
            next_before = phases[place + 1].before if place + 1 < len(phases) else 1e18
            if settled <= answer.sent and answer.answered <= next_before:
                kept.setdefault((place, answer.card), set()).add(answer.version)
        wrong += answer.version not in allowed
    return {"wrong_version": wrong, "unsticky": sum(len(found) > 1 for found in kept.values())}


def live(phase_seconds: float = PHASE_SECONDS) -> dict[str, Any]:
    """Run it all: dropped, wrong_version, unsticky, guardrail_seconds, explanation_mismatches."""
    with tempfile.TemporaryDirectory() as folder:
        plan = default_plan()
        settings = make_workspace(Path(folder) / "workspace", plan=plan)
        named = settings.mlflow.model_copy(update={"model_name": "scratch"})
        settings = settings.model_copy(update={"mlflow": named})
        install_version(settings, plan, "11")
        install_version(settings, plan, "21", lines=_NOTHING_PASSES)
        phases: list[Phase] = []

        def put(*experiments: Experiment) -> None:
            phase = Phase(experiments, time.monotonic())
            at_us = time.time_ns() // 1_000
            started = tuple(_at(one, at_us) for one in experiments)
            change_line_up(
                settings,
                lambda _: LineUp(experiments=started),
                by="benchmark",
                why="a switch",
                at_us=at_us,
            )
            phase.after = time.monotonic()
            phases.append(phase)

        environment = {"SENTINEL_MLFLOW__MODEL_NAME": "scratch"}
        with serving(settings, environment=environment) as server:
            traffic = _Traffic(server.url)
            clients = [
                threading.Thread(target=traffic.send, args=(number,)) for number in range(CLIENTS)
            ]
            put()
            for client in clients:
                client.start()
            try:
                for experiments in ((_AB,), (_MORE,), (), (_AB,), ()):
                    time.sleep(phase_seconds)
                    put(*experiments)
                time.sleep(phase_seconds)
                judged = len(traffic.answers)
                put(_CANARY)
                began = time.monotonic()
                why = _wait_until_stopped(settings)
                seconds = time.monotonic() - began
            finally:
                traffic.over = True
                for client in clients:
                    client.join()
            over_http = _explained(server.url, [answer.said for answer in traffic.answers])
            server.stop()
        in_log = mismatches_in_log(settings)
    # Cards of the canary depend on its clock; what is checked ends before it begins.
    return {
        "payments": len(traffic.answers),
        "switches": len(phases) - 1,
        "dropped": traffic.dropped,
        **checked(traffic.answers[:judged], phases[:-1]),
        "guardrail_seconds": None if why is None else round(seconds, 1),
        "guardrail_why": why,
        "explanation_mismatches": over_http["mismatches"] + in_log["mismatches"],
        "explanations": {
            "over_http": over_http["decisions"],
            "in_log": in_log["decisions"],
            "by_version": in_log["by_version"],
            "examples": over_http["examples"],
        },
    }


def _explained(url: str, answers: list[dict[str, Any]]) -> dict[str, Any]:
    """Explain about `EXPLAINED` of the answers again, drawn evenly from all.

    A slow machine has decided on fewer by now: batches bring the rest.
    """
    with httpx.Client(base_url=url, timeout=300.0, trust_env=False) as client:
        for start in range(len(answers), EXPLAINED, _BATCH):
            batch = [
                {"transaction_id": f"more-{n}", "amount_minor": 900 + n, "card_id": f"C{n % CARDS}"}
                for n in range(start, start + _BATCH)
            ]
            said = client.post("/predict/batch", json={"transactions": batch})
            results = said.raise_for_status().json()["results"]
            answers = [*answers, *(one["answer"] for one in results)]
        wait_until_indexed(client)
    every = max(1, len(answers) // EXPLAINED)
    return mismatches_over_http(url, answers[::every])


def _at(experiment: Experiment, at_us: int) -> Experiment:
    return msgspec.structs.replace(experiment, started_at_us=at_us)


def _wait_until_stopped(settings: Settings) -> str | None:
    """Why the canary was stopped; None if it was not in time."""
    store = open_line_ups(settings)
    try:
        ends = time.monotonic() + GUARDRAIL_AT_MOST
        while time.monotonic() < ends:
            found = store.read()
            if found is not None and not found.experiments:
                return found.why
            time.sleep(0.1)
        return None
    finally:
        store.close()
