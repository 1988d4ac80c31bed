"""A training run as MLflow tracks it: parameters, metrics with intervals, pictures, the model."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from sentinel.domain import SentinelError
from sentinel.models.artifact import MANIFEST, ModelManifest, stamped
from sentinel.models.intervals import Estimate
from sentinel.models.lineage import LINEAGE_TAG, lineage_of
from sentinel.models.registry import (
    CANDIDATE,
    MANIFEST_TAG,
    ModelVersion,
    Registry,
    passing_over_existing,
    translated,
)
from sentinel.models.registry_owner import own_place
from sentinel.models.registry_place import MlflowPlace
from sentinel.models.registry_view import PROVISIONAL_TAG
from sentinel.models.signature import (
    APPROVAL_FILE,
    SIGNATURE_FILE,
    SIGNATURE_TAG,
    Statement,
    hashes_of,
    sign,
)
from sentinel.models.signing_keys import signing_key_of
from sentinel.settings import Settings

_BATCH: Final = 100  # MLflow takes at most so many parameters at once
_TRIES: Final = 3


class TrackedRun:
    """One run on the tracking server. Made by `tracked_run`.

    Attributes:
        run_id: Its id there.
        experiment_id: The experiment that it belongs to.
    """

    def __init__(
        self, client: Any, place: MlflowPlace, shown_at: str, experiment_id: str, run_id: str
    ) -> None:
        self.run_id = run_id
        self.experiment_id = experiment_id
        self._client = client
        self._place = place
        self._uri = place.uri
        self._shown_at = shown_at

    @property
    def url(self) -> str:
        """Where to look at the run, while a server runs."""
        return f"{self._shown_at}/#/experiments/{self.experiment_id}/runs/{self.run_id}"

    @property
    def where(self) -> str:
        """Where the run is, in a sentence."""
        if self._place.files is None:
            return f"Tracked at {self.url}"
        database = self._place.uri.removeprefix("sqlite:///")
        return f"Tracked in {database}; `sentinel mlflow` shows it at {self.url}"

    def parameters(self, values: Mapping[str, object]) -> None:
        """Log what went in."""
        from mlflow.entities import Param

        entries = [Param(name, str(value)) for name, value in values.items()]
        with translated(self._uri, "logging parameters"):
            for start in range(0, len(entries), _BATCH):
                self._client.log_batch(self.run_id, params=entries[start : start + _BATCH])

    def tag(self, name: str, value: str) -> None:
        """Note something of the run."""
        with translated(self._uri, f"tagging with {name}"):
            self._client.set_tag(self.run_id, name, value)

    def metrics(
        self,
        values: Mapping[str, Estimate | float],
        *,
        prefix: str = "",
        model_id: str | None = None,
    ) -> None:
        """Log what came out; an estimate becomes NAME, NAME_low and NAME_high.

        Args:
            values: By name.
            prefix: Before each name.
            model_id: The logged model that they are of, to show them there too.
        """
        from mlflow.entities import Metric

        now_ms = time.time_ns() // 1_000_000
        flat: dict[str, float] = {}
        for name, value in values.items():
            if isinstance(value, Estimate):
                flat[f"{prefix}{name}"] = value.value
                flat[f"{prefix}{name}_low"] = value.low
                flat[f"{prefix}{name}_high"] = value.high
            else:
                flat[f"{prefix}{name}"] = float(value)
        entries = [
            Metric(name, value, now_ms, 0, model_id=model_id)
            for name, value in flat.items()
            if math.isfinite(value)
        ]
        with translated(self._uri, "logging metrics"):
            self._client.log_batch(self.run_id, metrics=entries)

    def series(self, name: str, values: Sequence[float]) -> None:
        """Log a metric at each of its steps; what is not a number is left out."""
        from mlflow.entities import Metric

        now_ms = time.time_ns() // 1_000_000
        entries = [
            Metric(name, value, now_ms, step)
            for step, value in enumerate(values)
            if math.isfinite(value)
        ]
        with translated(self._uri, "logging a series"):
            for start in range(0, len(entries), _BATCH):
                self._client.log_batch(self.run_id, metrics=entries[start : start + _BATCH])

    def data(self, *, name: str, digest: str, source: Mapping[str, object], rows: int) -> None:
        """Log which rows were learnt from."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(
            name=name,
            digest=digest[:36],
            source_type="sentinel-ledger",
            source=json.dumps(dict(source)),
            profile=json.dumps({"num_rows": rows}),
        )
        given = [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])]
        with translated(self._uri, "logging the dataset"):
            for _ in range(_TRIES - 1):
                # Two trainings at once may both note the same rows for the first time. MLflow
                # refuses the later one, which finds them noted when it asks again.
                with _passing_over_a_race():
                    self._client.log_inputs(self.run_id, given)
                    return
            self._client.log_inputs(self.run_id, given)

    def files(self, folder: Path, *, below: str = "") -> None:
        """Log all files of a folder."""
        with translated(self._uri, "logging files"):
            if self._place.files is None:
                self._client.log_artifacts(self.run_id, str(folder), below or None)
            else:
                location = self._client.get_run(self.run_id).info.artifact_uri
                self._copy(folder, self._place.folder(location) / below)

    @staticmethod
    def _copy(folder: Path, target: Path) -> None:
        target.mkdir(parents=True, exist_ok=True)
        shutil.copytree(folder, target, dirs_exist_ok=True)

    def document(self, name: str, value: object) -> None:
        """Log a value as a JSON file."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_bytes(msgspec.json.format(msgspec.json.encode(value), indent=2))
            self.files(Path(folder))

    def model(
        self, folder: Path, manifest: ModelManifest, *, categorical: Sequence[str] = ()
    ) -> Logged:
        """Log a model directory, with the signature that MLflow shows.

        The directory goes up as it is, beside an ``MLmodel`` file of a flavour of our own:
        nothing is pickled, and no MLflow model server pretends that it could serve it.

        Args:
            folder: What `save_artifact` wrote.
            manifest: What it returned.
            categorical: Features that hold category codes, to say so.
        """
        from mlflow.entities import LoggedModelOutput, LoggedModelStatus

        client = self._client
        with translated(self._uri, "logging the model"):
            logged = client.create_logged_model(
                self.experiment_id,
                name=manifest.name,
                source_run_id=self.run_id,
                model_type=manifest.kind,
                tags={"plan_hash": manifest.plan_hash, "data_hash": manifest.data_hash},
                params={
                    "features": str(len(manifest.feature_names)),
                    "categorical": str(len(categorical)),
                },
            )
            for of_another in (SIGNATURE_FILE, APPROVAL_FILE):  # of a model that this one copies
                (folder / of_another).unlink(missing_ok=True)
            self._describe(folder, manifest, logged.model_id)
            try:
                if self._place.files is None:
                    client.log_model_artifacts(logged.model_id, str(folder))
                else:
                    self._copy(folder, self._place.folder(logged.artifact_location))
            except BaseException:
                # So that nobody takes it for one that is still being written.
                with suppress(Exception):
                    client.finalize_logged_model(logged.model_id, LoggedModelStatus.FAILED)
                raise
            logged = client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
            client.log_outputs(self.run_id, [LoggedModelOutput(logged.model_id, 0)])
        return Logged(
            logged.model_id,
            logged.artifact_location,
            manifest=(folder / MANIFEST).read_bytes(),
            files=hashes_of(folder),
        )

    def _describe(self, folder: Path, manifest: ModelManifest, model_id: str) -> None:
        from mlflow.models import Model, ModelSignature
        from mlflow.types import ColSpec, Schema

        signature = ModelSignature(
            inputs=Schema([ColSpec("float", name) for name in manifest.feature_names]),
            outputs=Schema([ColSpec("double", "fraud_probability")]),
        )
        model = Model(run_id=self.run_id, signature=signature, model_id=model_id)
        model.add_flavor("sentinel", data=".", kind=manifest.kind, format=manifest.format)
        model.save(str(folder / "MLmodel"))


class Logged(msgspec.Struct, frozen=True):
    """A model that was logged.

    Attributes:
        model_id: MLflow's id of it.
        source: Where its files are.
        manifest: The file, as it was uploaded.
        files: SHA-256 of each file in hex, by path.
    """

    model_id: str
    source: str
    manifest: bytes
    files: dict[str, str]


@contextmanager
def tracked_run(settings: Settings, name: str, *, tags: Mapping[str, str]) -> Iterator[TrackedRun]:
    """A run that is finished when the block ends, and failed when it does not end well.

    Args:
        settings: Give the server and the experiment.
        name: Of the run, for people.
        tags: To find it by.

    Raises:
        Unavailable: MLflow does not answer.
    """
    place = own_place(settings)
    uri = place.uri
    with translated(uri, "starting a run"):
        client = place.client()
        run_id, experiment_id = _start(client, settings.mlflow.experiment, name, tags)
    try:
        yield TrackedRun(client, place, settings.tracking_uri, experiment_id, run_id)
    except BaseException as error:
        status = "FAILED" if isinstance(error, Exception) else "KILLED"
        with suppress(SentinelError), translated(uri, "ending a run"):
            client.set_terminated(run_id, status)
        raise
    with translated(uri, "ending a run"):
        client.set_terminated(run_id, "FINISHED")


@contextmanager
def _passing_over_a_race() -> Iterator[None]:
    """Pass over MLflow's complaint that another one wrote the same row a moment ago."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if not any(one in str(error) for one in ("IntegrityError", "UniqueViolation")):
            raise


def run_of(settings: Settings, run_id: str) -> TrackedRun:
    """A run that was tracked before, to log more to it.

    Raises:
        Unavailable: MLflow does not answer.
        ModelError: It has no such run.
    """
    place = own_place(settings)
    with translated(place.uri, f"looking for run {run_id}"):
        client = place.client()
        found = client.get_run(run_id)
    return TrackedRun(client, place, settings.tracking_uri, found.info.experiment_id, run_id)


def _start(client: Any, experiment: str, name: str, tags: Mapping[str, str]) -> tuple[str, str]:
    found = client.get_experiment_by_name(experiment)
    if found is None:
        with passing_over_existing():
            client.create_experiment(experiment)
        found = client.get_experiment_by_name(experiment)
    run = client.create_run(found.experiment_id, run_name=name, tags=dict(tags))
    return run.info.run_id, found.experiment_id


def register_candidate(
    settings: Settings,
    run: TrackedRun,
    logged: Logged,
    manifest: ModelManifest,
    *,
    newest: bool = True,
) -> ModelVersion:
    """Register a logged model, signed as one that was trained here.

    Args:
        settings: The deployment.
        run: That logged it.
        logged: The model.
        manifest: Its own.
        newest: Whether it is the candidate that is evaluated and promoted next.
    """
    registry, key = Registry.of(settings), signing_key_of(settings)
    figure = manifest.metrics.get("average_precision")
    quality = f"average precision {figure}" if figure else "average precision not measured"
    if manifest.provisional:
        quality = f"provisional: {manifest.provisional}"
    version = registry.register(
        model_id=logged.model_id,
        source=logged.source,
        run_id=run.run_id,
        tags={
            "plan_hash": manifest.plan_hash,
            "data_hash": manifest.data_hash,
            "kind": manifest.kind,
            LINEAGE_TAG: msgspec.json.encode(lineage_of(manifest)).decode(),
            MANIFEST_TAG: logged.files[MANIFEST],
            **({PROVISIONAL_TAG: manifest.provisional} if manifest.provisional else {}),
        },
        words=f"{manifest.kind} on {manifest.training.rows:,} payments; {quality}",
    )
    as_served = stamped(logged.manifest, version=version.version, run_id=run.run_id)
    files = logged.files | {MANIFEST: hashlib.sha256(as_served).hexdigest()}
    statement = Statement(
        name=manifest.name,
        version=version.version,
        run_id=run.run_id,
        verdict="candidate",
        reason=f"trained on {manifest.training.rows:,} payments, and judged by no gate yet",
        files=files,
        signed_at_us=time.time_ns() // 1000,
    )
    registry.note(version.version, SIGNATURE_TAG, sign(statement, key))
    if newest:
        registry.point(CANDIDATE, version.version)
    return version
