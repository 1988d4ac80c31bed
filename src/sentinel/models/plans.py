"""The plans of vectors that were served while models of different plans scored together.

    <models>/plans/71f8348ec35965d8.json    the union of the plans of a line-up, by its hash

Vectors in the log are of the plan that served. A champion's plan is in its model's folder; a union
is in no model's, and is kept here for as long as the folder of models is: explanations, datasets
and proofs find the columns of a model in it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sentinel.domain import DefinitionError
from sentinel.features.plan.plan import Plan
from sentinel.models.serving import write_durably
from sentinel.settings import Settings

PLANS: Final = "plans"


def union_path(settings: Settings, plan_hash: str) -> Path:
    """Where the union of a hash is, or would be."""
    return settings.models_dir / PLANS / f"{plan_hash}.json"


def keep_union(settings: Settings, plan: Plan) -> None:
    """Keep a union on disk, unless it is kept already. A file that cannot be read is made anew.

    Raises:
        OSError: It cannot be written.
    """
    path = union_path(settings, plan.hash)
    try:
        if Plan.load(path).hash == plan.hash:
            return
    except DefinitionError:
        pass  # it is not there, or cannot be read
    path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(path, plan)


def kept_unions(settings: Settings, most: int) -> list[Plan]:
    """The latest unions that are kept and can be read."""
    paths = list((settings.models_dir / PLANS).glob("*.json"))
    found = []
    for path in sorted(paths, key=lambda one: one.stat().st_mtime, reverse=True)[:most]:
        try:
            found.append(Plan.load(path))
        except DefinitionError:
            continue  # of a newer Sentinel, or damaged: whoever needs it says so
    return found


def find_plan(settings: Settings, plan_hash: str) -> Plan | None:
    """The plan of a hash, wherever it is kept here; None if it is nowhere.

    Args:
        settings: The deployment.
        plan_hash: Of a group of decisions.
    """
    models = settings.models_dir
    for path in (
        union_path(settings, plan_hash),
        settings.plan_path,
        *models.glob("*/plan.json"),
    ):
        try:
            plan = Plan.load(path)
        except DefinitionError:
            continue
        if plan.hash == plan_hash:
            return plan
    return None
