"""Feature definitions into the plan that every engine runs, and into Feast's registry."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Final

import msgspec
import pyarrow as pa

from sentinel.domain import DefinitionError
from sentinel.feature_sets import Installed, ensure
from sentinel.features.plan.plan import Plan
from sentinel.features.plan.program import compile_program
from sentinel.ledger.log import read_log
from sentinel.ledger.open import ledger_exists
from sentinel.pipeline.workspace import ledger_reader
from sentinel.settings import Settings
from sentinel.sources.progress import ProgressCallback, no_progress

_DEFINING: Final = frozenset({".py", ".yaml", ".yml", ".feastignore"})


@dataclass(frozen=True)
class Applied:
    """The plan after an apply.

    Attributes:
        plan: What engines run from now on.
        changed: Whether it is another plan than before; then features must be backfilled and a
            model trained with it.
        learned: Columns whose dictionaries were learned from the log just now.
        unknown: Categorical columns without a dictionary: the log had no value of them.
        warnings: One line for each view whose records are large.
        registry: Feast's registry that the definitions were written to; empty where it held them.
        installed: The set of definitions that was copied to the workspace, since there was none.
    """

    plan: Plan
    changed: bool
    learned: tuple[str, ...]
    unknown: tuple[str, ...]
    warnings: tuple[str, ...]
    registry: str = ""
    installed: Installed | None = None


class _Origin(msgspec.Struct, frozen=True):
    """What a plan file was compiled from: definitions, and dictionaries of a log so long."""

    definitions: str
    plan_hash: str
    learned_through: int = 0
    registered: bool = False


def apply_definitions(
    settings: Settings,
    *,
    relearn: bool = False,
    progress: ProgressCallback = no_progress,
) -> Applied:
    """Compile the definitions in ``settings.definitions_dir``, and do what ``feast apply`` does.

    The plan goes to ``settings.plan_path``, the definitions to Feast's registry. Where there are no
    definitions yet, the default set is copied to the workspace.

    A category keeps its code for as long as its column is in the plan, since models have learnt
    what the codes mean; columns that are new get a dictionary from the log. Where nothing has
    changed since the last time, nothing is compiled, and Feast is not even imported; only a
    registry that is a database is looked at each time.

    Args:
        settings: The deployment.
        relearn: Learn all dictionaries anew. The plan changes wherever the log's most frequent
            values have.
        progress: Told of the stages "dictionaries", "compile" and "register".

    Raises:
        DefinitionError: The definitions cannot be compiled.
        ConfigurationError: Feast's settings file is missing or incomplete.
        Unavailable: Feast's registry does not answer; the plan is written all the same.
    """
    installed = ensure(settings)
    fingerprint = _fingerprint(settings.definitions_dir)
    before = _present_plan(settings)
    origin_path = settings.plan_path.with_name("plan.origin.json")
    origin = _read_origin(origin_path)
    if before is not None and not relearn:
        same = (origin.definitions, origin.plan_hash) == (fingerprint, before.hash)
        if same and (origin.learned_through or not _log_length(settings)):
            if _is_registered(settings, origin):
                return _applied(before, changed=False)
            registry = _register(settings, origin_path, origin, progress)
            return _applied(before, changed=False, registry=registry)
    # Feast takes seconds to import; whoever gets this far needs it.
    from sentinel.feast_plugin.compile import category_columns, compile_definitions

    progress("compile", 0, 1)
    columns = category_columns(settings.definitions_dir)
    known = {} if before is None or relearn else _dictionaries(before)
    missing = tuple(column for column in columns if not known.get(column))
    length = _log_length(settings)
    learned = _learn(settings, missing, length, progress)
    plan = compile_definitions(settings.definitions_dir, {**known, **learned})
    plan.save(settings.plan_path)
    origin = _Origin(fingerprint, plan.hash, length)
    _write_origin(origin_path, origin)
    progress("compile", 1, 1)
    changed = before is None or before.hash != plan.hash
    registry = _register(settings, origin_path, origin, progress)
    found = tuple(column for column in missing if learned.get(column))
    applied = _applied(plan, changed=changed, learned=found, registry=registry)
    return replace(applied, installed=installed)


@dataclass(frozen=True)
class Planned:
    """What an apply would make of the definitions as they are now.

    Attributes:
        plan: With the dictionaries that the workspace has.
        added, removed, changed: Names of the features that the workspace's own plan does not have,
            has, or has otherwise (in words, too); all empty where that plan is the same or there
            is none.
    """

    plan: Plan
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()


def plan_definitions(settings: Settings) -> Planned:
    """Compile the definitions without writing anything.

    Where there are none any more, it is the workspace's plan.

    Raises:
        DefinitionError: The definitions cannot be compiled, or there is nothing at all.
    """
    before = _present_plan(settings)
    if not any(settings.definitions_dir.rglob("*.py")):
        return Planned(before or Plan.load(settings.plan_path))
    from sentinel.feast_plugin.compile import compile_definitions

    known = {} if before is None else _dictionaries(before)
    plan = compile_definitions(settings.definitions_dir, known)
    if before is None or before == plan:
        return Planned(plan)
    old, new = _features(before), _features(plan)
    return Planned(
        plan,
        added=tuple(name for name in new if name not in old),
        removed=tuple(name for name in old if name not in new),
        changed=tuple(name for name, is_now in new.items() if old.get(name, is_now) != is_now),
    )


def _features(plan: Plan) -> dict[str, object]:
    """What makes each feature of a plan, by name."""
    features: dict[str, object] = {f.name: f for f in plan.request}
    features |= {ratio.name: ratio for ratio in plan.ratios}
    features |= {a.name: (view.keys, a) for view in plan.views for a in view.aggregates}
    return features


def _applied(
    plan: Plan, *, changed: bool, learned: tuple[str, ...] = (), registry: str = ""
) -> Applied:
    unknown = tuple(column for column, values in _dictionaries(plan).items() if not values)
    warnings = tuple(compile_program(plan).warnings())
    return Applied(plan, changed, learned, unknown, warnings, registry)


def _is_registered(settings: Settings, origin: _Origin) -> bool:
    """Whether the registry is a file of the workspace that holds the definitions already."""
    elsewhere = settings.feast.registry_url or os.environ.get("FEAST_FS_YAML_FILE_PATH")
    return origin.registered and not elsewhere and (settings.workspace / "registry.db").exists()


def _register(
    settings: Settings, origin_path: Path, origin: _Origin, progress: ProgressCallback
) -> str:
    from sentinel.feast_plugin.registry import register

    progress("register", 0, 1)
    registry = register(settings)
    _write_origin(origin_path, msgspec.structs.replace(origin, registered=True))
    progress("register", 1, 1)
    return registry


def _present_plan(settings: Settings) -> Plan | None:
    return Plan.load(settings.plan_path) if settings.plan_path.exists() else None


def _dictionaries(plan: Plan) -> dict[str, tuple[str, ...]]:
    return {f.column: f.categories for f in plan.request if f.kind == "category"}


def _log_length(settings: Settings) -> int:
    if not ledger_exists(settings):
        return 0
    with ledger_reader(settings) as ledger:
        return ledger.last_sequence()


def _learn(
    settings: Settings, columns: tuple[str, ...], length: int, progress: ProgressCallback
) -> Mapping[str, tuple[str, ...]]:
    """The dictionaries of columns from so many entries of the log."""
    if not columns or not length:
        return {}
    from sentinel.features.plan.dictionaries import learn_dictionaries

    with ledger_reader(settings) as ledger:

        def batches() -> Iterator[pa.RecordBatch]:
            for first, batch in read_log(ledger, until=length):
                yield batch
                progress("dictionaries", first + batch.num_rows - 1, length)

        return learn_dictionaries(batches(), columns)


def _fingerprint(repo: Path) -> str:
    """Names the definitions: SHA-256 of their files and of the code that compiles them."""
    files = sorted(
        path
        for path in repo.rglob("*")
        if (path.suffix in _DEFINING or path.name in _DEFINING) and path.is_file()
    )
    if not files:
        raise DefinitionError(
            f"There are no feature definitions in {repo}. Name the folder that has them with "
            "SENTINEL_FEATURE_STORE, or let `sentinel features init` make it."
        )
    digest = hashlib.sha256(metadata.version("sentinel-fraud").encode())
    for path in files:
        content = path.read_bytes()
        digest.update(f"{path.relative_to(repo).as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def _read_origin(path: Path) -> _Origin:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Origin)
    except (FileNotFoundError, msgspec.DecodeError):
        return _Origin("", "")


def _write_origin(path: Path, origin: _Origin) -> None:
    partial = path.with_suffix(".partial")
    partial.write_bytes(msgspec.json.encode(origin))
    partial.replace(path)
