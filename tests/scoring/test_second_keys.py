"""A scorer whose champion, or whose experiment, awaits a second key takes it when it comes."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from sentinel.experiments.lineup import Experiment
from sentinel.models.approval import Approval, files_sha256, sign_approval, write_approval
from sentinel.models.serving import (
    CHAMPION_ROLE,
    ServedModel,
    Serving,
    model_folder,
    write_serving,
)
from sentinel.models.signature import read_signature, verify
from sentinel.models.signing_keys import SigningKey, trusted_keys_of
from sentinel.scoring.runtime import ScoringRuntime
from sentinel.settings import Settings
from testkit.experiments import install_version, run_experiments
from tests.scoring.one_scorer import PLAN, made, settings, within
from tests.scoring.test_roles import until

__all__ = ["made", "settings"]  # fixtures

BOB = SigningKey(bytes(range(32)))
SEGMENT = Experiment(
    name="online", kind="segment", version="31", condition="attributes.channel == 'pos'"
)


@pytest.fixture(scope="module", autouse=True)
def versions(made: Settings) -> None:
    install_version(made, PLAN, "31")


@pytest.fixture
def asking(made: Settings, settings: Settings) -> Settings:
    """Version 1, which serves, is approved by Bob; version 31 is not yet."""
    models = settings.workspace / "models"
    models.unlink()
    shutil.copytree(made.models_dir, models)
    signing = settings.signing.model_copy(update={"approvers": BOB.public})
    wanted = settings.model_copy(update={"signing": signing})
    for folder in models.iterdir():
        if folder.is_dir() and folder != model_folder(wanted, "31"):
            approve(wanted, folder)
    return wanted


def serving(runtime: ScoringRuntime) -> str:
    model = runtime.writer.scorer.model
    assert model is not None
    return model.version


def approve(settings: Settings, folder: Path) -> None:
    said = verify(read_signature(folder), trusted_keys_of(settings), "The model").statement
    approval = Approval(
        name=said.name,
        version=said.version,
        run_id=said.run_id,
        files_sha256=files_sha256(said),
        by="bob",
        why="a test",
    )
    write_approval(folder, sign_approval(approval, BOB))


def test_a_champion_that_was_refused_serves_as_soon_as_its_approval_is_here(
    asking: Settings,
) -> None:
    folder = model_folder(asking, "31")

    async def claim(runtime: ScoringRuntime) -> None:
        named = {CHAMPION_ROLE: ServedModel(version="31", folder=folder.name)}
        await asyncio.to_thread(write_serving, asking, Serving(roles=named))
        await until(lambda: "awaits approval" in (runtime.problem_with_model() or ""))
        assert serving(runtime) == "1"
        await asyncio.to_thread(approve, asking, folder)
        await until(lambda: serving(runtime) == "31")
        await until(lambda: runtime.problem_with_model() is None)

    within(asking, claim)


def test_a_segment_model_decides_once_it_is_approved(asking: Settings) -> None:
    run_experiments(asking, SEGMENT)

    async def claim(runtime: ScoringRuntime) -> None:
        assert "awaits approval" in (runtime.problem_with_experiment("online") or "")
        assert runtime.writer.scorer.panel.others == ()
        await asyncio.to_thread(approve, asking, model_folder(asking, "31"))
        await until(lambda: len(runtime.writer.scorer.panel.others) == 1)

    within(asking, claim)
