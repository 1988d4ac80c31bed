"""`GET /models` and `/models/{version}`: which versions there are, and which ones score."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import APIRouter
from pydantic import BaseModel, Field

from sentinel.api.problems import problem_responses
from sentinel.domain import NotFound
from sentinel.models.artifact import ModelManifest
from sentinel.models.lineage import lineage_of, noted_lineage
from sentinel.models.registry_view import PROVISIONAL_TAG, KnownVersion, retirement_of
from sentinel.scoring.runtime import ScoringRuntime


class MeasuredOnStatus(BaseModel):
    """Payments that a model was measured on."""

    payments: int
    frauds: int = Field(description="Known frauds among them.")


class KnownModel(BaseModel):
    """A version of the model."""

    version: str
    aliases: list[str] = Field(description="What the registry says it is for.")
    run_id: str = Field(description="The training run that it came from.")
    description: str
    tags: dict[str, str] = Field(description="What the registry has noted of it.")
    created_at_us: int
    provisional: str | None = Field(
        description="Why no gate could judge it, for want of known truth; null: one can."
    )
    signed: str | None = Field(
        description="What its signature says: `passed` or `provisional` by the gate, `adopted` by "
        "an operator, or a `candidate` that no gate has judged; null: no trusted key signed it."
    )
    signed_by: str | None = Field(description="Id of the trusted key that signed it; null: none.")
    approved: str | None = Field(
        description="Who approved it as champion and why, if an approver's key says so; null: not."
    )
    retired: str | None = Field(description="Who retired it and why; null: it is not retired.")
    serving: bool = Field(description="Whether it is the champion here.")
    experiments: list[str] = Field(description="Experiments in which it scores here.")
    in_memory: bool = Field(description="Whether it could decide at once.")


class ModelsPage(BaseModel):
    """The model in charge, and the versions of the registry as they were last seen."""

    name: str | None
    serving: str | None = Field(description="The champion: it decides unless an experiment does.")
    champions: list[str] = Field(description="Who was champion in the registry, oldest first.")
    registry_answered_at_us: int | None = Field(
        description="When the registry last answered; null where nothing follows one."
    )
    problem: str | None = Field(description="Why the registry's champion does not serve.")
    registry_problem: str | None = Field(description="Why the last look at the registry failed.")
    versions: list[KnownModel]


class Code(BaseModel):
    """The code that a model was trained with."""

    version: str = Field(description="Of Sentinel.")
    source_sha256: str = Field(description="Of all its Python files, in hex.")
    commit: str = Field(description="What a checkout stood at; empty: installed without one.")


class Origin(BaseModel):
    """Where a version comes from."""

    data_hash: str = Field(description="Names the rows and labels that it learnt from.")
    start_us: int = Field(description="Event time of the first of those rows, microseconds UTC.")
    end_us: int = Field(description="Event time after the last of them.")
    cutoff_us: int = Field(description="Labels that arrived from here on were not used.")
    rows: int
    frauds: int
    plan_hash: str = Field(description="The features.")
    parent: str = Field(description="Champion when it was trained; empty: none, or not noted.")
    code: Code | None = Field(description="What trained it; null: of before that was noted.")


class ModelDetail(KnownModel):
    """A version of the model, and what its files say of it where they are at hand."""

    kind: str | None = Field(description="Its family; null where it is not in memory.")
    plan_hash: str | None = Field(description="The plan of its vectors.")
    features: list[str] = Field(description="What it looks at, in order.")
    metrics: dict[str, Any] = Field(description="Figures on its held-out payments.")
    not_measured: dict[str, str] = Field(description="Figures that there are not, and why.")
    measured_on: MeasuredOnStatus | None = Field(
        description="The held-out payments; null: its training did not note it, or it is not in "
        "memory."
    )
    lines: dict[str, float] = Field(description="Probabilities of its own bands.")
    lineage: Origin | None = Field(
        description="Data, plan, code and parent: by its signed manifest where it is in memory, "
        "else as the registry notes them; null: not noted."
    )


def provisional_of(runtime: ScoringRuntime) -> str | None:
    """Why no gate could judge the model in charge: as its manifest or the registry says."""
    model = runtime.writer.scorer.model
    if model is None:
        return None
    view = runtime.registry.look()
    known = None if view is None or model.version is None else view.find(model.version)
    noted = model.manifest.provisional
    if known is not None:  # a gate may have judged it since
        noted = known.tags.get(PROVISIONAL_TAG, noted)
    return noted or None


def models_page(runtime: ScoringRuntime) -> ModelsPage:
    """What this process serves, beside what its follower saw in the registry."""
    model = runtime.writer.scorer.model
    view = runtime.registry.look()
    serving = None if model is None else model.version
    known = [_as_held(runtime, version) for version in (view.versions if view else ())]
    if model is not None and all(version.version != serving for version in known):
        here = KnownVersion(
            version=model.version,
            run_id=model.manifest.run_id,
            created_at_us=model.manifest.created_at_us,
            tags={PROVISIONAL_TAG: model.manifest.provisional}
            if model.manifest.provisional
            else {},
        )
        known.insert(0, _as_held(runtime, here))
    name = None if model is None else model.name
    return ModelsPage(
        name=name if view is None else view.name,
        serving=serving,
        champions=[] if view is None else list(view.champions),
        registry_answered_at_us=None if view is None else view.answered_at_us,
        problem=runtime.problem_with_model(),
        registry_problem=(view.problem or None) if view is not None else None,
        versions=[_known_model(runtime, version) for version in known],
    )


def model_detail(runtime: ScoringRuntime, version: str) -> ModelDetail:
    """One version.

    Raises:
        NotFound: There is none, as far as this process knows.
    """
    found = next((one for one in models_page(runtime).versions if one.version == version), None)
    held = next((one for one in runtime.writer.scorer.panel.models if one.version == version), None)
    if found is None and held is not None:
        here = KnownVersion(
            version=version,
            run_id=held.manifest.run_id,
            created_at_us=held.manifest.created_at_us,
        )
        found = _known_model(runtime, _as_held(runtime, here))
    if found is None:
        raise NotFound(
            f"There is no version {version[:64]!r}, as far as this scorer knows; `GET /models` "
            "lists those that there are."
        )
    manifest = None if held is None else held.manifest
    lineage = noted_lineage(found.tags) if manifest is None else lineage_of(manifest)
    return ModelDetail(
        **found.model_dump(),
        kind=None if manifest is None else manifest.kind,
        plan_hash=None if manifest is None else manifest.plan_hash,
        features=[] if manifest is None else list(manifest.feature_names),
        metrics={} if manifest is None else msgspec.to_builtins(manifest.metrics),
        not_measured={} if manifest is None else manifest.not_measured,
        measured_on=None if manifest is None else measured_on(manifest),
        lines={} if manifest is None else msgspec.to_builtins(manifest.thresholds),
        lineage=None if lineage is None else Origin(**msgspec.to_builtins(lineage)),
    )


def measured_on(manifest: ModelManifest) -> MeasuredOnStatus | None:
    """The payments that a model's figures rest on; None if its training did not note it."""
    noted = manifest.measured_on
    return None if noted is None else MeasuredOnStatus(payments=noted.rows, frauds=noted.frauds)


def _known_model(runtime: ScoringRuntime, version: KnownVersion) -> KnownModel:
    scorer = runtime.writer.scorer
    retired = retirement_of(version.tags)
    return KnownModel(
        version=version.version,
        aliases=list(version.aliases),
        run_id=version.run_id,
        description=version.description,
        tags=version.tags,
        created_at_us=version.created_at_us,
        provisional=version.tags.get(PROVISIONAL_TAG) or None,
        signed=version.signed or None,
        signed_by=version.signed_by or None,
        approved=version.approved or None,
        retired=None if retired is None else f"{retired.by}: {retired.why}",
        serving=scorer.model is not None and scorer.model.version == version.version,
        experiments=[
            other.name
            for other in scorer.panel.others
            if other.model.version == version.version and other.name not in scorer.panel.failed
        ],
        in_memory=version.version in runtime.models.versions,
    )


def _as_held(runtime: ScoringRuntime, version: KnownVersion) -> KnownVersion:
    """A version with the signature that was checked when it was loaded, if it was."""
    signed = runtime.models.signed(version.version)
    if signed is None:
        return version
    verdict = signed.statement.verdict
    return msgspec.structs.replace(version, signed=verdict, signed_by=signed.key_id)


def models_router(runtime: ScoringRuntime) -> APIRouter:
    """The routes."""
    router = APIRouter(tags=["service"])

    @router.get("/models", summary="Versions of the model and what serves")
    async def models() -> ModelsPage:
        return models_page(runtime)

    @router.get(
        "/models/{version}",
        summary="One version of the model",
        responses=problem_responses(404),
    )
    async def model(version: str) -> ModelDetail:
        return model_detail(runtime, version)

    return router
