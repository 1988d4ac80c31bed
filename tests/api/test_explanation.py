"""Every decision explains itself, whichever model made it and however long ago."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from sentinel.cli.main import app
from sentinel.features.plan.plan import Plan
from sentinel.settings import Settings
from testkit.scratch import (
    Server,
    install_champion,
    make_workspace,
    serving,
    synthetic_booster,
    synthetic_forest,
)
from tests.api.conftest import payment


class History:
    """A server that decided by three versions, one after the other.

    Attributes:
        settings: Its workspace.
        client: Asks it.
        answers: Of `POST /predict`, by the version that decided.
    """

    def __init__(self, server: Server, settings: Settings) -> None:
        self.settings = settings
        self.client = httpx.Client(base_url=server.url, timeout=60)
        self.answers: dict[str, list[dict[str, Any]]] = {}

    def decide(self, version: str, payments: int = 12) -> None:
        for _ in range(100):
            if self.client.get("/health").json()["model"]["version"] == version:
                break
            time.sleep(0.1)
        for number in range(payments):
            body = payment(amount_minor=500 + 900 * number, card_id=f"K{number % 3}")
            answer = self.client.post("/predict", json=body).json()
            assert answer["model_version"] == version
            self.answers.setdefault(version, []).append(answer)

    def explain(self, transaction_id: str) -> httpx.Response:
        return self.client.get(f"/decisions/{transaction_id}/explanation")


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    settings = make_workspace(tmp_path_factory.mktemp("explanations"))
    plan = Plan.load(settings.plan_path)
    with serving(settings) as server:
        past = History(server, settings)
        past.decide("1")
        install_champion(settings, plan, synthetic_forest(plan), "2")
        past.decide("2")
        for version in ("8", "9"):  # nobody asks for these before their folders change
            install_champion(settings, plan, synthetic_booster(plan, trees=3, leaves=4), version)
            past.decide(version, 2)
        install_champion(settings, plan, synthetic_booster(plan, trees=9, leaves=7, seed=5), "3")
        past.decide("3")
        yield past
        past.client.close()


@pytest.mark.parametrize(
    ("version", "unit"), [("1", "log-odds"), ("2", "probability"), ("3", "log-odds")]
)
def test_a_past_decision_is_reproduced_bit_for_bit_by_the_version_that_made_it(
    history: History, version: str, unit: str
) -> None:
    for answer in history.answers[version]:
        said = history.explain(answer["transaction_id"]).json()
        assert said["reproduced"]["exact"], said["reproduced"]
        assert (said["model_version"], said["unit"], said["role"]) == (version, unit, "champion")
        assert said["fraud_probability"] == answer["fraud_probability"]
        assert said["decision"] == answer["decision"]
        by_name = {one["feature"]: one for one in said["features"]}
        assert len(by_name) == len(Plan.load(history.settings.plan_path).feature_names)
        for reason in answer["reasons"]:
            again = by_name[reason["feature"]]
            assert np.float32(again["contribution"]) == np.float32(reason["contribution"])
            assert again["value"] == reason["value"]
            assert again["words"].startswith(reason["words"])
        total = said["base_value"] + sum(one["contribution"] for one in said["features"])
        assert total == pytest.approx(said["score"], abs=1e-9)
        sizes = [abs(one["contribution"]) for one in said["features"]]
        assert sizes == sorted(sizes, reverse=True)


def test_it_says_what_the_probability_was_held_against(history: History) -> None:
    said = history.explain(history.answers["1"][0]["transaction_id"]).json()["policy"]
    assert (said["by"], said["review"], said["decline"], said["fraud"]) == ("bands", 0.4, 0.8, 0.5)


def test_the_id_may_have_slashes_and_end_like_the_route(history: History) -> None:
    for name in ("shop/17", "plain/explanation"):
        history.client.post("/predict", json=payment(transaction_id=name))
    assert history.explain("shop/17").json()["transaction_id"] == "shop/17"
    detail = history.client.get("/decisions/plain/explanation").json()
    assert (detail["transaction_id"], "attributes" in detail) == ("plain/explanation", True)
    assert history.explain("plain/explanation").json()["reproduced"]["exact"]


def test_a_void_decision_is_explained_as_it_was_made(history: History) -> None:
    answer = history.answers["1"][3]
    name = answer["transaction_id"]
    body = {"transaction_ids": [name], "reason": "a test"}
    assert history.client.post("/voids", json=body).status_code == 200
    for _ in range(100):
        said = history.explain(name).json()
        if said["void"] is not None:
            break
        time.sleep(0.1)
    assert said["void"]["reason"] == "a test"
    assert said["reproduced"]["exact"]
    assert any("declared void" in note for note in said["notes"])


def test_the_command_line_draws_it_within_80_columns(history: History) -> None:
    answer = history.answers["2"][7]
    name, settings = str(answer["transaction_id"]), history.settings
    command = ["explain", name, "--workspace", str(settings.workspace)]
    environment = {"SENTINEL_API__PORT": str(history.client.base_url.port)}
    done = CliRunner().invoke(app, command, env=environment)
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert max(map(len, lines)) <= 80, done.output
    assert "Decided by scratch version 2." in lines
    assert any("others together" in line for line in lines)
    score = history.explain(name).json()["score"]
    assert f"{score:+.4f}" in lines[-1]
    reason = answer["reasons"][0]["words"]
    assert reason in " ".join(done.output.split())
    unknown = CliRunner().invoke(app, [*command[:1], "nobody", *command[2:]], env=environment)
    assert (unknown.exit_code, "No decision is recorded" in unknown.output) == (1, True)


def test_an_unknown_id_gets_a_clear_answer(history: History) -> None:
    missing = history.explain("nobody-knows-it")
    assert (missing.status_code, missing.json()["code"]) == (404, "unknown_transaction")


def test_another_model_in_the_place_of_the_old_one_is_told_loudly(history: History) -> None:
    settings = history.settings
    plan = Plan.load(settings.plan_path)
    serves = settings.models_dir / "champion.json"
    before = serves.read_bytes()
    shutil.rmtree(settings.models_dir / "scratch-9")
    install_champion(settings, plan, synthetic_booster(plan, trees=4, leaves=5, seed=8), "9")
    serves.write_bytes(before)
    said = history.explain(history.answers["9"][0]["transaction_id"]).json()["reproduced"]
    assert [said[what] for what in ("exact", "score", "reasons")] == [False] * 3
    assert "NOT WHAT WAS RECORDED" in said["problem"]


def test_a_version_that_is_nowhere_any_more_is_gone(history: History) -> None:
    shutil.rmtree(history.settings.models_dir / "scratch-8")
    gone = history.explain(history.answers["8"][0]["transaction_id"])
    assert (gone.status_code, gone.json()["code"]) == (410, "model_gone")
    assert "backup" in gone.json()["detail"]
