"""Feast objects of a feature repository, read from its Python files."""

from __future__ import annotations

import importlib
import sys
import traceback
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from feast import Entity, FeatureService, FeatureView
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.repo_operations import get_repo_files

from sentinel.domain import DefinitionError


@dataclass(frozen=True)
class Definitions:
    """What a repository defines, by name.

    Attributes:
        entities, views, services: Feast's objects. Views are of all kinds.
    """

    entities: dict[str, Entity]
    views: dict[str, Any]
    services: dict[str, FeatureService]


def collect(objects: Iterable[object]) -> Definitions:
    """Sort Feast objects by what they are; others are passed over.

    Raises:
        DefinitionError: Two different objects of a kind share a name.
    """
    entities: dict[str, Entity] = {}
    views: dict[str, Any] = {}
    services: dict[str, FeatureService] = {}
    for item in objects:
        if isinstance(item, Entity):
            _put(entities, item.name, item, "entities")
        elif isinstance(item, FeatureView | OnDemandFeatureView):
            _put(views, item.name, item, "feature views")
        elif isinstance(item, FeatureService):
            _put(services, item.name, item, "feature services")
    return Definitions(entities, views, services)


def _put(known: dict[str, Any], name: str, item: object, kind: str) -> None:
    if known.setdefault(name, item) is not item:
        raise DefinitionError(f"Two {kind} are named {name!r}. Rename one.")


def load_repo(repo: Path) -> Definitions:
    """What a feature repository defines, see `repo_objects`."""
    return collect(repo_objects(repo))


def repo_objects(repo: Path) -> list[object]:
    """Import the Python files of a feature repository, as ``feast apply`` does; everything in them.

    Files that Feast would ignore (``.feastignore``) are ignored. The files are read anew each
    time, so that an edit shows without a new process.

    Raises:
        DefinitionError: There is no repository, or a file of it cannot be imported.
    """
    root = repo.resolve()
    files = get_repo_files(root) if root.is_dir() else []
    if not files:
        raise DefinitionError(
            f"There are no feature definitions in {repo}. "
            "Name the folder of a Feast repository (the one with feature_store.yaml)."
        )
    objects: dict[int, object] = {}
    with _importing_from(root):
        for file in files:
            module = _import(root, file)
            objects.update((id(item), item) for item in vars(module).values())
    return list(objects.values())


def _import(root: Path, file: Path) -> Any:
    name = ".".join(file.relative_to(root).with_suffix("").parts)
    try:
        return importlib.import_module(name)
    except DefinitionError:
        raise
    except Exception as error:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == str(file)]
        line = frames[-1].lineno if frames else getattr(error, "lineno", None)
        at = f", line {line}" if line else ""
        raise DefinitionError(
            f"{file.name}{at} cannot be read: {type(error).__name__}: {error}"
        ) from error


@contextmanager
def _importing_from(root: Path) -> Iterator[None]:
    """Make the repository's modules importable, and forget them afterwards."""
    before = set(sys.modules)
    without_bytecode = sys.dont_write_bytecode
    hidden = {name: module for name, module in sys.modules.items() if _lies_in(module, root)}
    for name in hidden:
        del sys.modules[name]
    sys.path.insert(0, str(root))
    # Bytecode is matched by time in whole seconds, which a quick edit does not change.
    sys.dont_write_bytecode = True
    importlib.invalidate_caches()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Stream feature views are experimental")
            yield
    finally:
        sys.dont_write_bytecode = without_bytecode
        sys.path.remove(str(root))
        for name in set(sys.modules) - before:
            if _lies_in(sys.modules[name], root):
                del sys.modules[name]
        sys.modules.update(hidden)


def _lies_in(module: object, root: Path) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).is_relative_to(root)
