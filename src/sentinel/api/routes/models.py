"""`GET /models`: which versions of the model there are, and which one serves."""

from __future__ import annotations

import msgspec
from fastapi import APIRouter
from pydantic import BaseModel, Field

from sentinel.models.registry_view import PROVISIONAL_TAG, KnownVersion
from sentinel.scoring.runtime import ScoringRuntime


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
    serving: bool = Field(description="Whether it decides now.")
    in_memory: bool = Field(description="Whether it could decide at once.")


class ModelsPage(BaseModel):
    """The model in charge, and the versions of the registry as they were last seen."""

    name: str | None
    serving: str | None = Field(description="The version that decides now.")
    champions: list[str] = Field(description="Who was champion in the registry, oldest first.")
    registry_answered_at_us: int | None = Field(
        description="When the registry last answered; null where nothing follows one."
    )
    problem: str | None = Field(description="Why the registry's champion does not serve.")
    registry_problem: str | None = Field(description="Why the last look at the registry failed.")
    versions: list[KnownModel]


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
    held = runtime.models.versions
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
        versions=[
            KnownModel(
                version=version.version,
                aliases=list(version.aliases),
                run_id=version.run_id,
                description=version.description,
                tags=version.tags,
                created_at_us=version.created_at_us,
                provisional=version.tags.get(PROVISIONAL_TAG) or None,
                signed=version.signed or None,
                signed_by=version.signed_by or None,
                serving=version.version == serving,
                in_memory=version.version in held,
            )
            for version in known
        ],
    )


def _as_held(runtime: ScoringRuntime, version: KnownVersion) -> KnownVersion:
    """A version with the signature that was checked when it was loaded, if it was."""
    signed = runtime.models.signed(version.version)
    if signed is None:
        return version
    verdict = signed.statement.verdict
    return msgspec.structs.replace(version, signed=verdict, signed_by=signed.key_id)


def models_router(runtime: ScoringRuntime) -> APIRouter:
    """The route."""
    router = APIRouter(tags=["service"])

    @router.get("/models", summary="Versions of the model and what serves")
    async def models() -> ModelsPage:
        return models_page(runtime)

    return router
