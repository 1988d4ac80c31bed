"""Families of models: found by entry point, XGBoost served bit for bit, others as plug-ins."""

from __future__ import annotations

import sys
import tomllib
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import xgboost
from numpy.typing import NDArray

from sentinel.domain import ConfigurationError
from sentinel.models import trainers
from sentinel.models.booster import load_npz, save_npz
from sentinel.models.ensemble import ModelFormatError, TreeEnsemble
from sentinel.models.evaluation import average_precision
from sentinel.models.families import installed
from sentinel.models.families.installed import families, trainer_of
from sentinel.models.families.lightgbm_forest import LightGBMForestModel
from sentinel.models.families.xgboost import XGBoostModel, _matrix
from sentinel.models.fitted import FittedModel
from sentinel.models.shap_kernel import Explainer
from sentinel.models.trainers import Validation
from sentinel.models.tree_kernel import Scorer
from sentinel.models.xgboost_format import parse_xgboost

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("amount", "count_1h", "rate", "noise", "channel", "country")
CATEGORICAL = ("channel", "country")
train = partial(trainers.train, "xgboost", feature_names=NAMES, categorical=CATEGORICAL, threads=1)


def world(n_rows: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Payments with missing values and two categories, one of few values and one of many."""
    random = np.random.default_rng(seed)
    X = random.normal(size=(n_rows, 6)).astype(np.float32)
    X[:, 4], X[:, 5] = random.integers(0, 4, n_rows), random.integers(0, 30, n_rows)
    risk = np.random.default_rng(1).normal(size=30)
    margin = -5 + 1.2 * X[:, 0] + X[:, 1] + 1.5 * (X[:, 4] == 2) + risk[X[:, 5].astype(int)]
    X[random.random((n_rows, 6)) < 0.1] = np.nan
    return X, random.random(n_rows) < 1.0 / (1.0 + np.exp(-margin))


def odd_rows(n_rows: int) -> NDArray[np.float32]:
    """What serving may meet: unknown values, unknown and unseen categories, infinities."""
    random = np.random.default_rng(5)
    X = 3 * random.normal(size=(n_rows, 6)).astype(np.float32)
    X[:, 4], X[:, 5] = random.integers(-2, 7, n_rows), random.integers(-2, 3000, n_rows)
    half = random.random(n_rows) < 0.5
    X[half, 5] = random.integers(0, 40, half.sum())
    X[:, 0] = np.where(random.random(n_rows) < 0.1, np.inf, X[:, 0])
    X[:, 1] = np.where(random.random(n_rows) < 0.1, -np.inf, X[:, 1])
    X[random.random(X.shape) < 0.2] = np.nan
    return X


@pytest.fixture(scope="module")
def fitted() -> XGBoostModel:
    model = train(*world(12_000, 1))
    assert isinstance(model, XGBoostModel)
    return model


def test_xgboost_scores_here_as_in_its_own_library(fitted: XGBoostModel) -> None:
    X = odd_rows(5_003)
    theirs = fitted.booster.predict(_matrix(X, [4, 5]), output_margin=True)
    scorer = Scorer(fitted.native())
    assert scorer.raw_many(X).astype(np.float32).tobytes() == theirs.tobytes()
    one = np.array([scorer.raw_one(x) for x in X[:50]])
    assert one.tobytes() == scorer.raw_many(X)[:50].tobytes()


def test_xgboost_has_both_kinds_of_splits_on_categories(fitted: XGBoostModel) -> None:
    """A set of many categories and of one; the claim of equal scores rests on both being there."""
    trees = fitted.native()
    split_on_sets = trees.category_set >= 0
    assert {4, 5} <= set(trees.feature[split_on_sets].tolist())
    bits = trees.category_bits.reshape(-1, 32)[trees.category_set[split_on_sets]]
    members = np.unpackbits(bits.view(np.uint8), axis=1).sum(axis=1)
    assert (members == 1).any()
    assert ((members > 1) & (members < 30)).any()
    assert (members > 900).any(), "a missing category that goes right"


@pytest.mark.parametrize("base_score", [0.5, 0.003, 0.0725, 0.91])
def test_a_base_score_counts_as_xgboost_counts_it(base_score: float) -> None:
    X, y = world(3_000, 2)
    model = train(X, y, parameters={"base_score": base_score, "rounds": 30})
    assert isinstance(model, XGBoostModel)
    theirs = model.booster.predict(_matrix(X, [4, 5]), output_margin=True)
    assert model.raw_score(X).astype(np.float32).tobytes() == theirs.tobytes()


def test_reasons_are_those_of_xgboost(fitted: XGBoostModel) -> None:
    X = odd_rows(400)
    ours = Explainer(fitted.native()).contributions(X)
    theirs = fitted.booster.predict(_matrix(X, [4, 5]), pred_contribs=True)
    assert np.abs(ours - theirs).max() < 1e-5  # theirs are float32
    assert np.abs(ours.sum(axis=1) - fitted.raw_score(X)).max() < 1e-4


def test_xgboost_stops_when_later_rows_stop_getting_better() -> None:
    later_X, later_y = world(4_000, 4)
    model = train(*world(4_000, 3), validation=Validation(X=later_X, y=later_y))
    assert isinstance(model, XGBoostModel)
    assert 5 < float(model.parameters["rounds"]) < 600
    assert model.native().n_trees == float(model.parameters["rounds"]) + 1


def test_xgboost_learns_from_five_frauds() -> None:
    X, y = world(4_000, 6)
    few = y & (np.cumsum(y) <= 5)
    model = train(X, few)
    assert isinstance(model, XGBoostModel)
    assert len(model.native().feature) > 0, "there is a split"


def test_trees_that_add_up_in_float32_are_kept_as_such(
    fitted: XGBoostModel, tmp_path: Path
) -> None:
    save_npz(fitted.native(), tmp_path / "model.npz")
    read = load_npz(tmp_path / "model.npz")
    assert read.float32_sums
    X = odd_rows(100)
    assert Scorer(read).raw_many(X).tobytes() == fitted.raw_score(X).tobytes()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"objective": "reg:squarederror", "eval_metric": "rmse"}, "objective=binary:logistic"),
        ({"booster": "dart"}, "booster=gbtree"),
    ],
)
def test_other_models_of_xgboost_are_refused_by_name(changes: dict, said: str) -> None:
    X, y = world(500, 8)
    settings = {"objective": "binary:logistic", "verbosity": 0, **changes}
    booster = xgboost.train(settings, xgboost.DMatrix(X[:, :4], y), 2)
    with pytest.raises(ModelFormatError, match=said):
        parse_xgboost(bytes(booster.save_raw("json")), NAMES[:4])


def test_a_damaged_file_of_xgboost_is_refused() -> None:
    with pytest.raises(ModelFormatError, match="not a JSON model"):
        parse_xgboost(b'{"learner": {}}', NAMES)


def test_sentinels_own_families_are_entry_points_too() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    assert declared[installed.GROUP] == installed._OWN


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("lightgbm", "lightgbm"),
        ("random-forest", "random_forest"),
        ("random_forest", "random_forest"),
        ("logistic", "logistic_regression"),
        ("xgboost", "xgboost"),
    ],
)
def test_names_may_be_spelled_as_on_the_command_line(given: str, name: str) -> None:
    assert trainer_of(given).name == name


@pytest.mark.parametrize("name", list(installed._OWN))
def test_what_a_search_may_try_can_be_fitted_at_both_ends(name: str) -> None:
    X, y = world(1_500, 9)
    trainer = trainer_of(name)
    assert trainer.space
    for end in ("low", "high"):
        changes = {key: getattr(values, end) for key, values in trainer.space.items()}
        model = trainers.train(
            name, X, y, feature_names=NAMES, parameters={**trainer.quick, **changes}, threads=1
        )
        assert np.isfinite(model.raw_score(X)).all()


def test_a_forest_by_lightgbm_is_its_trees_mean_and_told_by_reasons_that_add_up() -> None:
    X, y = world(6_000, 11)
    forest = partial(
        trainers.train,
        "lightgbm_forest",
        feature_names=NAMES,
        categorical=CATEGORICAL,
        threads=1,
        parameters={"rounds": 40, "num_leaves": 127},
    )
    model = forest(X, y)
    assert isinstance(model, LightGBMForestModel)
    odd = odd_rows(1_003)
    theirs = np.asarray(model.booster.predict(odd, raw_score=True)) / 40
    np.testing.assert_allclose(model.raw_score(odd), theirs, rtol=1e-12, atol=1e-12)
    trees = model.native()
    assert trees.n_trees == 40
    scorer = Scorer(trees)
    assert scorer.raw_many(odd).tobytes() == model.raw_score(odd).tobytes()
    explainer = Explainer(trees)
    told = explainer.contributions(odd[:50]).sum(axis=1)
    np.testing.assert_allclose(told, scorer.raw_many(odd[:50]), atol=1e-9)
    again = forest(X, y)
    assert again.raw_score(odd).tobytes() == model.raw_score(odd).tobytes()
    later, truth = world(6_000, 12)
    assert average_precision(truth, model.raw_score(later)) > 3 * truth.mean()


PLUGIN = '''
import numpy as np
from sentinel.models.booster import join_trees
from sentinel.models.families.trainer import Between, Trainer
from sentinel.models.fitted import FittedModel, shares
from sentinel.models.tree_kernel import Scorer


class OneSplit(FittedModel):
    name = "stump"

    def __init__(self, trees, feature_names, parameters):
        self.feature_names, self.parameters, self._trees = feature_names, parameters, trees

    def raw_score(self, X):
        return Scorer(self._trees).raw_many(X)

    def importance(self):
        return shares(np.bincount(self._trees.feature, minlength=len(self.feature_names)))

    def native(self):
        return self._trees


class Stump(Trainer):
    """The best single split at a quantile."""

    name, title = "stump", "Stump"
    space = {"quantile": Between(0.5, 0.99, 0.9)}

    def fit(self, task):
        at = np.nanquantile(task.X[:, :3], task.parameters.get("quantile", 0.9), axis=0)
        above = np.nan_to_num(task.X[:, :3], nan=-np.inf) > at
        rates = [(task.y[a].mean(), task.y[~a].mean(), a.sum()) for a in above.T]
        best = int(np.argmax([high - low for high, low, _ in rates]))
        high, low, n = rates[best]
        tree = dict(
            feature=np.array([best], np.int32), threshold=np.array([at[best]], np.float64),
            left=np.array([-1], np.int32), right=np.array([-2], np.int32),
            decision=np.array([10], np.uint8), node_cover=np.array([float(len(task.y))]),
            leaf_cover=np.array([float(len(task.y) - n), float(n)]),
            leaf_value=np.log(np.array([low, high]) + 1e-9),
            category_set=np.array([-1], np.int32), category_offset=np.zeros(1, np.int32),
            category_bits=np.zeros(0, np.uint32),
        )
        trees = join_trees(
            [tree], feature_names=task.feature_names, objective="binary sigmoid:1",
            average_output=False, feature_infos=(),
        )
        return OneSplit(trees, task.feature_names, dict(task.parameters))
'''


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of somebody's, installed in a folder on the path."""
    (tmp_path / "stump_family.py").write_text(PLUGIN)
    about = tmp_path / "stump_family-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: stump-family\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(
        "[sentinel.trainers]\nstump = stump_family:Stump\nbroken = no_such_module:Nothing\n"
        "wrong = pathlib:Path\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "stump_family", raising=False)


@pytest.mark.usefixtures("plugin")
def test_another_package_adds_a_family() -> None:
    X, y = world(4_000, 10)
    assert "stump" in families()
    model: FittedModel = trainers.train("stump", X, y, feature_names=NAMES)
    assert model.importance()[0] == 1.0, "the amount says most"
    trees = model.native()
    assert isinstance(trees, TreeEnsemble)
    assert average_precision(y, Scorer(trees).raw_many(X)) > 2 * y.mean()


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(
    ("name", "said"), [("broken", "does not load.*no_such_module"), ("wrong", "not a subclass")]
)
def test_a_family_that_does_not_load_says_so(name: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        trainer_of(name)
