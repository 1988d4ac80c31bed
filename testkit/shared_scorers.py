"""Several scorers over one Redis and one PostgreSQL: started, loaded and proved."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from sentinel.features.plan.plan import Plan
from sentinel.ledger.open import open_shared
from sentinel.log.entries import GroupKind, decode_decisions
from sentinel.models.signing_keys import TRUSTED_FILE
from sentinel.pipeline.served_replay import ServedReplay
from sentinel.pipeline.verify_shared import verify_shared
from sentinel.settings import Settings
from testkit.scratch import Server

_ATTEMPT_SECONDS = 60.0


@dataclass
class Answers:
    """What clients saw.

    Attributes:
        bodies: The answer to each payment, by its id.
        refused: Answers that were not 200, by status; each was tried again.
        latencies: Seconds from the first try to the answer, by the order of the answers.
    """

    bodies: dict[str, dict[str, Any]] = field(default_factory=dict)
    refused: dict[int, int] = field(default_factory=dict)
    latencies: list[float] = field(default_factory=list)


def send(
    urls: Sequence[str],
    payments: Iterable[dict[str, Any]],
    *,
    clients: int = 8,
    answers: Answers | None = None,
) -> Answers:
    """Send payments to scorers in turn until each is answered, as careful clients do.

    Args:
        urls: Of the scorers.
        payments: Bodies.
        clients: How many send at once, one request at a time each.
        answers: To fill while they come in.

    Raises:
        RuntimeError: A payment was refused as wrong, or never answered.
    """
    answers = Answers() if answers is None else answers
    lock = threading.Lock()
    todo = iter(payments)
    turn = itertools.cycle(urls)
    problems: list[str] = []

    def work() -> None:
        with httpx.Client(timeout=httpx.Timeout(45.0)) as client:
            while not problems:
                with lock:
                    payment, url = next(todo, None), next(turn)
                if payment is None:
                    return
                try:
                    _send_one(client, url, payment, urls, answers, lock)
                except Exception as error:  # noqa: BLE001 -- the caller is told
                    problems.append(repr(error))

    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise RuntimeError(problems[0])
    return answers


def _send_one(
    client: httpx.Client,
    url: str,
    payment: dict[str, Any],
    urls: Sequence[str],
    answers: Answers,
    lock: threading.Lock,
) -> None:
    started = time.monotonic()
    for attempt in itertools.count():
        target = urls[(urls.index(url) + attempt) % len(urls)]
        status = 0
        with contextlib.suppress(httpx.HTTPError):
            answer = client.post(f"{target}/predict", json=payment)
            status = answer.status_code
            if status == 200:
                with lock:
                    answers.bodies[payment["transaction_id"]] = answer.json()
                    answers.latencies.append(time.monotonic() - started)
                return
            if status < 500:
                raise RuntimeError(f"{target} answered {status}: {answer.text}")
        with lock:
            answers.refused[status] = answers.refused.get(status, 0) + 1
        if time.monotonic() - started > _ATTEMPT_SECONDS:
            raise RuntimeError(f"{payment['transaction_id']} was never answered")
        time.sleep(0.05)


@contextlib.contextmanager
def scorers(settings: Sequence[Settings], environment: Mapping[str, str]) -> Iterator[list[Server]]:
    """Scorers with a workspace each, that share what the environment names."""
    with contextlib.ExitStack() as stack:
        servers = []
        for own in settings:
            server = Server(own, environment=environment)
            stack.callback(server.kill)
            server.start()
            servers.append(server)
        yield servers


@dataclass(frozen=True)
class Books:
    """Answers held against the log.

    Attributes:
        recorded: Decisions in the log.
        lost: Answered payments that the log does not hold.
        twice: Ids that it holds more than once.
        differing: Answers that are not what was recorded.
    """

    recorded: int
    lost: int
    twice: int
    differing: int


def books(settings: Settings, answers: Answers) -> Books:
    """Compare what clients were told with what is on record."""
    recorded: dict[str, float] = {}
    twice = 0
    with open_shared(settings) as ledger:
        for group in ledger.groups():
            if group.kind != GroupKind.DECISIONS:
                continue
            decided = decode_decisions(group.payload)
            values = decided.deciding_probabilities().tolist()
            for transaction, probability in zip(decided.transactions, values, strict=True):
                twice += transaction.transaction_id in recorded
                recorded[transaction.transaction_id] = probability
    lost = [identifier for identifier in answers.bodies if identifier not in recorded]
    differing = sum(
        body["fraud_probability"] != recorded[identifier]
        for identifier, body in answers.bodies.items()
        if identifier in recorded
    )
    return Books(len(recorded), len(lost), twice, differing)


def replayed(settings: Settings, plan: Plan) -> ServedReplay:
    """Hold everything that was served with a plan against a replay by position."""
    found = verify_shared(settings, plan)
    assert found is not None, "no state was shared"
    return found


def repairs_done(servers: Sequence[Server], seconds: float = 120.0) -> None:
    """Wait until no scorer knows of a record that is to be rebuilt.

    Raises:
        TimeoutError: That did not happen in time.
    """
    deadline = time.monotonic() + seconds
    calm = 0
    while calm < 3:
        text = "".join(httpx.get(f"{server.url}/metrics").text for server in servers)
        pending = [
            float(line.split()[1])
            for line in text.splitlines()
            if line.startswith("sentinel_repairs_pending ")
        ]
        calm = calm + 1 if not any(pending) else 0
        if time.monotonic() > deadline:
            raise TimeoutError(f"Records are still to be rebuilt: {pending}")
        time.sleep(0.6)


def workspaces(folder: Path, first: Settings, number: int) -> list[Settings]:
    """Workspaces of so many scorers with the plan, the champion and the trust of the first."""
    import shutil

    found = [first]
    for place in range(1, number):
        copy = folder / f"scorer-{place + 1}"
        copy.mkdir(parents=True)
        shutil.copy(first.plan_path, copy / "plan.json")
        shutil.copytree(first.models_dir, copy / "models")
        shutil.copy(first.workspace / TRUSTED_FILE, copy / TRUSTED_FILE)
        found.append(first.model_copy(update={"workspace": copy}))
    return found
