"""Past decisions of several models explained again, bit for bit, from the log and over HTTP.

A server decides on payments by a LightGBM model, a random forest and an XGBoost model, one after
the other, and then by a champion with a challenger beside it. Afterwards every decision is
attributed again by the model that made it: all of the log in this process, and all over real HTTP,
where the answer is compared with what `POST /predict/batch` said when it was decided.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np

from sentinel.experiments.lineup import Experiment
from sentinel.features.plan.plan import Plan
from sentinel.ledger.open import open_reader
from sentinel.log.entries import GroupKind, decode_decisions
from sentinel.scoring.attribution import deciders_of, reproduce
from sentinel.scoring.past_models import PastModels
from sentinel.settings import Settings
from testkit.experiments import run_experiments
from testkit.payments import payments
from testkit.scratch import (
    install_champion,
    install_model,
    make_workspace,
    serving,
    synthetic_booster,
    synthetic_forest,
    synthetic_xgboost,
)

CLIENTS: Final = 4
_BATCH: Final = 500
_SHARE: Final = 0.3


def mismatches_in_log(settings: Settings) -> dict[str, Any]:
    """Attribute every decision of a log again.

    Args:
        settings: The workspace that holds the log and the folders of all models.

    Returns:
        ``decisions``, ``mismatches``, ``by_version`` (decisions), and ``worst_sum_error``.
    """
    models = PastModels(settings, lambda: ())
    by_version: Counter[str] = Counter()
    wrong, worst = 0, 0.0
    ledger = open_reader(settings)
    try:
        for group in ledger.groups(0):
            if group.kind != GroupKind.DECISIONS:
                continue
            decided = decode_decisions(group.payload)
            for who, rows in deciders_of(decided):
                model = models.find(who.name, who.version).model
                by_version[who.version] += len(rows)
                if model is None or model.plan.hash != decided.plan_hash:
                    wrong += len(rows)
                    continue
                again = reproduce(model, decided, rows)
                wrong += int(np.count_nonzero(~again.exact))
                worst = max(worst, float(np.abs(again.sum_error).max()))
    finally:
        ledger.close()
    return {
        "decisions": by_version.total(),
        "mismatches": wrong,
        "by_version": dict(by_version),
        "worst_sum_error": worst,
    }


def mismatches_over_http(
    url: str, answers: Iterable[Mapping[str, Any]], *, headers: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Ask for the explanation of every decision, and hold it against what was answered then.

    Args:
        url: Of the scoring API.
        answers: Of `POST /predict`, each with its ``transaction_id``.
        headers: With a key of the scope ``decisions``, where one is needed.

    Returns:
        ``decisions``, ``mismatches``, ``examples`` of them, and ``seconds`` it took.
    """
    given = list(answers)
    started = time.perf_counter()

    def ask(part: Sequence[Mapping[str, Any]]) -> list[str]:
        with httpx.Client(base_url=url, headers=headers, timeout=120) as client:
            return [wrong for answer in part if (wrong := _difference(client, answer))]

    with ThreadPoolExecutor(CLIENTS) as pool:
        parts = [given[start::CLIENTS] for start in range(CLIENTS)]
        wrong = [one for found in pool.map(ask, parts) for one in found]
    return {
        "decisions": len(given),
        "mismatches": len(wrong),
        "examples": wrong[:5],
        "seconds": round(time.perf_counter() - started, 1),
    }


def _difference(client: httpx.Client, answer: Mapping[str, Any]) -> str:
    """How an explanation differs from the answer of its decision; empty if it does not."""
    name = answer["transaction_id"]
    asked = client.get(f"/decisions/{name}/explanation")
    while asked.status_code == 429:
        time.sleep(0.05)
        asked = client.get(f"/decisions/{name}/explanation")
    if asked.status_code != 200:
        return f"{name}: {asked.status_code} {asked.text[:200]}"
    said = asked.json()
    by_name = {one["feature"]: one for one in said["features"]}
    reasons = [
        (reason["feature"], np.float32(reason["contribution"]), reason["value"])
        for reason in answer["reasons"]
    ]
    again = [
        (
            reason["feature"],
            np.float32(by_name[reason["feature"]]["contribution"]),
            by_name[reason["feature"]]["value"],
        )
        for reason in answer["reasons"]
    ]
    same = (
        said["reproduced"]["exact"]
        and reasons == again
        and said["model_version"] == answer["model_version"]
        and said["fraud_probability"] == answer["fraud_probability"]
        and said["decision"] == answer["decision"]
    )
    return "" if same else f"{name}: {said['reproduced']} {said['model_version']}"


def measure(folder: Path, decisions: int) -> dict[str, Any]:
    """Decide by each model on a part of the payments, then explain all of it."""
    base = make_workspace(folder / "workspace")
    mlflow = base.mlflow.model_copy(update={"model_name": "scratch"})
    settings = base.model_copy(update={"mlflow": mlflow})
    plan = Plan.load(settings.plan_path)
    bodies = payments(seed=11, prefix="e")
    answers: list[dict[str, Any]] = []
    part = -(-decisions // 4)
    environment = {"SENTINEL_MLFLOW__MODEL_NAME": "scratch"}
    with serving(settings, environment=environment) as server:
        with httpx.Client(base_url=server.url, timeout=300) as client:

            def decide(versions: set[str]) -> None:
                _wait_for(client, versions)
                for start in range(0, part, _BATCH):
                    batch = [next(bodies) for _ in range(min(_BATCH, part - start))]
                    answer = client.post("/predict/batch", json={"transactions": batch})
                    results = answer.raise_for_status().json()["results"]
                    answers.extend(one["answer"] for one in results)

            decide({"1"})
            install_champion(settings, plan, synthetic_forest(plan), "2")
            decide({"2"})
            install_champion(settings, plan, synthetic_xgboost(plan), "3", "xgboost")
            decide({"3"})
            booster = synthetic_booster(plan, trees=25, leaves=15, seed=9)
            install_model(settings, plan, booster, "4")
            challenger = Experiment(name="ab", kind="challenger", version="4", share=_SHARE)
            run_experiments(settings, challenger)
            decide({"3", "4"})
            wait_until_indexed(client)
        over_http = mismatches_over_http(server.url, answers)
        server.stop()
    in_log = mismatches_in_log(settings)
    return {
        "explanation_mismatches": in_log["mismatches"] + over_http["mismatches"],
        "decisions": len(answers),
        "log": in_log,
        "http": over_http,
        "ms_each_over_http": round(1e3 * CLIENTS * over_http["seconds"] / len(answers), 2),
    }


def _wait_for(client: httpx.Client, versions: set[str]) -> None:
    """Until payments are decided by these versions and no other."""
    deadline, probes = time.monotonic() + 120, 0
    seen: set[str] = set()
    while time.monotonic() < deadline:
        probes += 1
        batch = [
            {"transaction_id": f"probe-{probes}-{i}", "amount_minor": 100, "card_id": f"P{i}"}
            for i in range(40)
        ]
        answer = client.post(
            "/predict/batch", params={"dry_run": "true"}, json={"transactions": batch}
        )
        results = answer.json()["results"]
        seen = {one["answer"]["model_version"] for one in results}
        if seen == versions:
            return
        time.sleep(0.1)
    raise TimeoutError(f"Versions {sorted(versions)} should decide, and {sorted(seen)} do.")


def wait_until_indexed(client: httpx.Client) -> None:
    """Until the queryable tables of a server hold what its log holds."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        ledger = client.get("/health").json()["ledger"]
        if ledger["indexed_through"] >= ledger["sequence"]:
            return
        time.sleep(0.1)
    raise TimeoutError("The index does not catch up with the log.")


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks explanations", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--decisions", type=int, default=12_000, help="decisions in all")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="sentinel-explanations-") as folder:
        found = measure(Path(folder), options.decisions)
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        print(f"{found['decisions']:,} decisions by versions {found['log']['by_version']}")
        print(f"explanations that are not what was recorded: {found['explanation_mismatches']}")
        print(f"{found['ms_each_over_http']} ms each over HTTP, {CLIENTS} clients at once")
    return 1 if found["explanation_mismatches"] else 0
