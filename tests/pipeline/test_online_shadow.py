"""The refitted trees of a day in the registry and in the line-up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from typer.testing import CliRunner

from sentinel.cli.main import app
from sentinel.features.plan.plan import DAY_US
from sentinel.models.artifact import load_manifest, load_trees
from sentinel.models.families.leaf_refit import tree_scores
from sentinel.models.registry import Registry
from sentinel.models.tree_kernel import Scorer
from sentinel.pipeline.experiments import line_up_of
from sentinel.pipeline.labelled_payments import labelled_payments
from sentinel.pipeline.online_learning import learn
from sentinel.pipeline.online_shadow import SHADOW, publish
from sentinel.pipeline.promotion import promote
from sentinel.pipeline.registry_fetch import fetch_version
from sentinel.pipeline.training import train
from tests.pipeline.decided_log import START_US, decided_log


def test_the_trees_of_a_day_score_as_a_shadow_and_are_no_candidate(tmp_path: Path) -> None:
    settings = decided_log(tmp_path).settings
    now_us = START_US + 60 * DAY_US
    train(settings, now_us=now_us, threads=1, baselines=False)
    promote(settings, now_us=now_us)
    learnt = learn(settings, most_days=45)
    assert learnt.state.base == "1"
    assert learnt.figures.frauds > 50
    assert {"base", "refit", "river"} <= set(learnt.figures.average_precision)

    assert publish(settings, learnt) == "Version 2 scores every payment as shadow online."
    assert publish(settings, learnt).startswith("Version 2 goes on as shadow online: the trees")
    registry = Registry.of(settings)
    assert [one.version for one in registry.versions()] == ["2", "1"], "one version of these trees"
    assert registry.candidate().version == "1", "a promotion without a number does not take it"
    shadow = line_up_of(settings).find(SHADOW)
    assert shadow is not None
    assert (shadow.kind, shadow.version) == ("shadow", "2")
    folder = fetch_version(settings, "2")
    manifest = load_manifest(folder)
    X = labelled_payments(settings).vectors(np.arange(500))
    trees, _ = learnt.place.learners(learnt.state)
    served = Scorer(load_trees(folder, manifest)).raw_many(X)
    assert served.tobytes() == tree_scores(trees, X).tobytes(), "served as it was scored"
    champion = load_manifest(fetch_version(settings, "1")).procedure
    assert manifest.procedure is not None
    assert champion is not None
    assert not manifest.procedure.is_that_of(champion), "it has to prove itself to a gate"

    given = {
        "SENTINEL_WORKSPACE": str(settings.workspace),
        "SENTINEL_MLFLOW__PORT": str(settings.mlflow.port),
        "SENTINEL_MLFLOW__MODEL_NAME": settings.mlflow.model_name,
        "SENTINEL_LABELS__MATURITY_DAYS": "20",
        "SENTINEL_TRAINING__BOOTSTRAP_ROUNDS": "50",
        "COLUMNS": "80",
    }
    ran = CliRunner().invoke(app, ["learn", "--shadow"], env=given)
    assert ran.exit_code == 0, ran.output
    assert "Version 3 scores every payment as shadow online." in ran.output
    assert "refit - base" in ran.output
    assert max(map(len, ran.output.splitlines())) <= 80 or str(settings.workspace) in ran.output
    (running,) = line_up_of(settings).experiments
    assert running.version == "3", "newer trees take the place of those before"
