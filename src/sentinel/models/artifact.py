"""What a model is: a directory that serving reads without any training library.

    manifest.json   `ModelManifest`: what the model is, what it was trained on, how good it is
    plan.json       the feature plan of its vectors
    model.txt       LightGBM's own text format, or
    model.npz       the trees of any other family as flat arrays
    drift_reference.npz  what its payments looked like, see `sentinel.drift.reference`; models of
                    before there was one have none
    judged/         the same files of its twin, where the model is a refit: what was measured

Nothing is pickled, and every file is checked against the hash in the manifest.
"""

from __future__ import annotations

import hashlib
import platform
import re
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from sentinel.domain import ConfigurationError, ModelFormatError, PlanMismatch
from sentinel.features.plan.plan import Plan
from sentinel.models import booster
from sentinel.models.booster import TreeEnsemble
from sentinel.models.calibration import Calibration
from sentinel.models.code_version import CodeVersion
from sentinel.models.intervals import Estimate
from sentinel.models.procedure import Procedure
from sentinel.models.thresholds import Thresholds

ARTIFACT_FORMAT: Final = 1

MANIFEST: Final = "manifest.json"
PLAN: Final = "plan.json"
JUDGED: Final = "judged"
"""Folder in that of a refit: its twin, which saw less, and which every figure is of."""

LIGHTGBM: Final = "lightgbm"
_MODEL_TEXT: Final = "model.txt"
_MODEL_ARRAYS: Final = "model.npz"
_LIBRARIES: Final = ("sentinel-fraud", "lightgbm", "scikit-learn", "numpy")


class CalibrationPoints(msgspec.Struct, frozen=True):
    """A `Calibration` as the manifest holds it; floats survive JSON exactly."""

    x: tuple[float, ...]
    y: tuple[float, ...]


class TrainingWindow(msgspec.Struct, frozen=True, kw_only=True):
    """What a model learnt from.

    Attributes:
        start_us, end_us: Event times of its training rows, microseconds; the end is exclusive.
        cutoff_us: Labels that arrived from here on were not used.
        rows, frauds: How many training rows there were, and frauds among them.
        gap_us: How long after a payment its silence counted; None if as it was set.
    """

    start_us: int
    end_us: int
    cutoff_us: int
    rows: int
    frauds: int
    gap_us: int | None = None


class MeasuredOn(msgspec.Struct, frozen=True, kw_only=True):
    """The held-out rows that a model's figures rest on.

    Attributes:
        rows, frauds: How many, and known frauds among them.
    """

    rows: int
    frauds: int


class RefitNote(msgspec.Struct, frozen=True, kw_only=True):
    """How a refit on all mature payments compares with the model that was measured, its twin.

    Attributes:
        recent: Payments younger than known truth that both were compared on.
        alert_rate, twin_alert_rate: Share of them that the refit and its twin would stop.
        refused: Why the twin serves instead; empty if the refit does.
    """

    recent: int
    alert_rate: float
    twin_alert_rate: float
    refused: str = ""

    @property
    def words(self) -> str:
        """What serves, and which of the two the figures are of, in a few sentences."""
        if self.refused:
            return f"The model that was measured serves, and no refit: {self.refused}."
        return (
            "What serves is a refit on all mature payments, the test included; the figures are of "
            f"its twin, which has not seen the test. Of {self.recent:,} recent payments the "
            f"refit would stop {self.alert_rate:.2%}, the twin {self.twin_alert_rate:.2%}."
        )


class ModelManifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a model directory says of itself.

    Attributes:
        name, version: Under which the registry knows it; the version is empty until registered.
        run_id: The tracked training run.
        kind: Which file holds the trees, and in which format.
        plan_hash: The plan that its vectors must come from.
        feature_names: In vector order.
        calibration: From raw score to probability.
        thresholds: Probabilities.
        metrics: On held-out rows, by name; of a refit, those of its twin.
        measured_on: Those rows; None for models of before that was noted.
        training: What it learnt from.
        data_hash: Names the rows and labels it learnt from; of a refit, those of its twin.
        created_at_us: When it was made, microseconds UTC.
        libraries: Versions it was trained with.
        files: SHA-256 of each other file of the directory, in hex.
        provisional: Why no gate could judge it, for want of known truth; empty if one can.
        not_measured: Figures that its held-out rows are too few for, and why, by name.
        notes: A line for each length of the settings that gave way to what history there was.
        procedure: How it was made; None for models of before that was noted.
        refit: How the refit that was made of it compares with it, or it with its twin if it is that
            refit; None where none was made.
        code: What trained it; None for models of before that was noted.
        parent: The version that was champion then; empty if there was none.
        format: Version of this layout.
    """

    name: str
    version: str
    run_id: str
    kind: str
    plan_hash: str
    feature_names: tuple[str, ...]
    calibration: CalibrationPoints
    thresholds: Thresholds
    metrics: dict[str, Estimate]
    training: TrainingWindow
    data_hash: str
    created_at_us: int
    libraries: dict[str, str]
    files: dict[str, str]
    provisional: str = ""
    not_measured: dict[str, str] = {}
    notes: tuple[str, ...] = ()
    procedure: Procedure | None = None
    refit: RefitNote | None = None
    code: CodeVersion | None = None
    parent: str = ""
    measured_on: MeasuredOn | None = None
    format: int = ARTIFACT_FORMAT

    def calibrator(self) -> Calibration:
        """The calibration, ready to apply."""
        return Calibration(x=np.array(self.calibration.x), y=np.array(self.calibration.y))

    @property
    def figures_of(self) -> str:
        """Which model its figures are of: ``model``, or ``twin`` where it is a refit."""
        return "model" if self.refit is None or self.refit.refused else "twin"


def save_artifact(
    directory: Path,
    *,
    name: str,
    plan: Plan,
    model: str | TreeEnsemble,
    kind: str | None = None,
    calibration: Calibration,
    thresholds: Thresholds,
    metrics: Mapping[str, Estimate],
    training: TrainingWindow,
    data_hash: str,
    created_at_us: int,
    run_id: str = "",
    version: str = "",
    provisional: str = "",
    not_measured: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
    procedure: Procedure | None = None,
    refit: RefitNote | None = None,
    code: CodeVersion | None = None,
    parent: str = "",
    measured_on: MeasuredOn | None = None,
    beside: Sequence[str] = (),
) -> ModelManifest:
    """Write a model directory; the manifest comes last, so a directory with one is complete.

    Args:
        directory: Made if missing.
        name: Name in the registry.
        plan: The plan the model was trained with.
        model: LightGBM's model text, or any other family's trees.
        kind: The family; default: LightGBM for a text, else a random forest.
        calibration: From raw score to probability.
        thresholds: Probabilities.
        metrics: On held-out rows.
        training: What it learnt from.
        data_hash: Names the training data.
        created_at_us: Now, microseconds UTC.
        run_id, version: As far as they are known; see `stamp`.
        provisional, not_measured, notes, procedure, refit, code, parent, measured_on: See
            `ModelManifest`.
        beside: Names of further files, which the directory holds already and which belong to the
            model: the manifest has their hashes, too.

    Raises:
        PlanMismatch: If the model's features are not the plan's, in the plan's order.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if isinstance(model, str):
        kind = LIGHTGBM
    elif kind is None or kind == LIGHTGBM:
        kind = "random_forest"
    ensemble = booster.parse_lightgbm(model) if isinstance(model, str) else model
    _check_features(ensemble.feature_names, plan, "The model")
    target = directory / _model_file(kind)
    if isinstance(model, str):
        target.write_text(model, encoding="utf-8")
    else:
        booster.save_npz(model, target)
    plan.save(directory / PLAN)
    manifest = ModelManifest(
        name=name,
        version=version,
        run_id=run_id,
        kind=kind,
        plan_hash=plan.hash,
        feature_names=plan.feature_names,
        calibration=CalibrationPoints(
            x=tuple(calibration.x.tolist()), y=tuple(calibration.y.tolist())
        ),
        thresholds=thresholds,
        metrics=dict(metrics),
        training=training,
        data_hash=data_hash,
        created_at_us=created_at_us,
        libraries=_versions(),
        files={
            path.name: _sha256(path)
            for path in (directory / PLAN, target, *(directory / name for name in beside))
        },
        provisional=provisional,
        not_measured=dict(not_measured or {}),
        notes=tuple(notes),
        procedure=procedure,
        refit=refit,
        code=code,
        parent=parent,
        measured_on=measured_on,
    )
    _write(directory, manifest)
    return manifest


def load_manifest(directory: Path, *, plan_hash: str | None = None) -> ModelManifest:
    """Read and check a model directory.

    Args:
        directory: What `save_artifact` wrote.
        plan_hash: The running plan; None skips that check.

    Raises:
        ModelFormatError: If a file is missing, damaged or of another version.
        PlanMismatch: If the model was trained with another plan than the running one.
    """
    path = directory / MANIFEST
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=ModelManifest)
    except FileNotFoundError:
        raise ModelFormatError(
            f"{directory} holds no model: there is no {MANIFEST}. Train one with `sentinel train`."
        ) from None
    except msgspec.DecodeError as error:
        raise ModelFormatError(
            f"{path} cannot be read ({error}). Fetch the model from the registry again."
        ) from None
    if manifest.format != ARTIFACT_FORMAT:
        raise ModelFormatError(
            f"The model in {directory} has format {manifest.format}, this version reads "
            f"{ARTIFACT_FORMAT}. Train it anew with `sentinel train`."
        )
    for file in dict.fromkeys((PLAN, _model_file(manifest.kind), *manifest.files)):
        if file not in manifest.files or not (directory / file).is_file():
            raise ModelFormatError(
                f"The model in {directory} lacks {file}. Fetch it from the registry again."
            )
        if _sha256(directory / file) != manifest.files[file]:
            raise ModelFormatError(
                f"{directory / file} was changed after training: its SHA-256 is not the "
                "manifest's. Fetch the model from the registry again."
            )
    if plan_hash is not None and plan_hash != manifest.plan_hash:
        raise PlanMismatch(
            f"Model {manifest.name} {manifest.version or '(unregistered)'} was trained with "
            f"feature plan {manifest.plan_hash}, the running plan is {plan_hash}. Train a model "
            "with the running plan, or go back to the model's plan."
        )
    return manifest


def judged_folder(directory: Path) -> Path:
    """The folder of the model that was measured: of a refit that of its twin, else itself."""
    twin = directory / JUDGED
    return twin if twin.is_dir() else directory


def load_plan(directory: Path, manifest: ModelManifest) -> Plan:
    """The plan of a model directory.

    Raises:
        PlanMismatch: If plan and manifest do not belong together.
    """
    plan = Plan.load(directory / PLAN)
    if plan.hash != manifest.plan_hash:
        raise PlanMismatch(
            f"{directory / PLAN} has hash {plan.hash}, the model was trained with "
            f"{manifest.plan_hash}. Fetch the model from the registry again."
        )
    _check_features(manifest.feature_names, plan, f"The manifest in {directory}")
    return plan


def load_trees(directory: Path, manifest: ModelManifest) -> TreeEnsemble:
    """The trees of a model directory.

    Raises:
        ModelFormatError: If the file cannot be read as trees over the manifest's features.
    """
    path = directory / _model_file(manifest.kind)
    read = booster.load_lightgbm if manifest.kind == LIGHTGBM else booster.load_npz
    try:
        trees = read(path)
    except (booster.ModelFormatError, FileNotFoundError) as error:
        raise ModelFormatError(str(error)) from error
    if trees.feature_names != manifest.feature_names:
        raise ModelFormatError(
            f"{path} was trained on other features than its manifest names. "
            "Fetch the model from the registry again."
        )
    return trees


def stamp(directory: Path, *, version: str, run_id: str | None = None) -> ModelManifest:
    """Write into a directory's manifest what only the registry knows; returns the new one.

    Raises:
        ModelFormatError, PlanMismatch: See `load_manifest`.
    """
    load_manifest(directory)
    path = directory / MANIFEST
    _replace(path, stamped(path.read_bytes(), version=version, run_id=run_id))
    return load_manifest(directory)


def stamped(manifest: bytes, *, version: str, run_id: str | None = None) -> bytes:
    """A manifest with the version that the registry gave it, and no other byte changed.

    So everyone who stamps a manifest gets the same bytes, and they can be signed beforehand.

    Args:
        manifest: As `save_artifact` wrote it: a line for each field.
        version: In the registry.
        run_id: The training run; None keeps what is there.

    Raises:
        ModelFormatError: It has no such line, or several.
    """
    for field, value in (("version", version), ("run_id", run_id)):
        if value is None:
            continue
        line = re.compile(rb'^  "%s": "(?:[^"\\]|\\.)*"' % field.encode(), re.MULTILINE)
        new = b'  "%s": %s' % (field.encode(), msgspec.json.encode(value))
        manifest, found = line.subn(lambda _, new=new: new, manifest)  # type: ignore[misc]
        if found != 1:
            raise ModelFormatError(
                f"{MANIFEST} has {found} lines with the {field} of the model, where it should have "
                "one. Train the model anew with `sentinel train`."
            )
    return manifest


def _model_file(kind: str) -> str:
    return _MODEL_TEXT if kind == LIGHTGBM else _MODEL_ARRAYS


def _check_features(names: tuple[str, ...], plan: Plan, whose: str) -> None:
    if names != plan.feature_names:
        differing = sorted(set(names) ^ set(plan.feature_names))[:5]
        raise PlanMismatch(
            f"{whose} knows {len(names)} features, the plan {len(plan.feature_names)}; "
            f"{'they differ in ' + ', '.join(differing) if differing else 'their order differs'}."
        )


def _write(directory: Path, manifest: ModelManifest) -> None:
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    _replace(directory / MANIFEST, text + b"\n")


def _replace(path: Path, content: bytes) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    partial.replace(path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for library in _LIBRARIES:
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            raise ConfigurationError(f"{library} is not installed. Run `make install`.") from None
    return found
