"""From Feast objects to the plan that every engine runs.

A feature service is compiled: its views in its order, and of each view the features that the
service takes. Every mistake is a `DefinitionError` that says what is allowed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from feast import Entity, Field
from feast.feature_view import DUMMY_ENTITY_NAME
from feast.types import Float32
from feast.value_type import ValueType

from sentinel.domain import ENTITY_COLUMNS, DefinitionError
from sentinel.feast_plugin.aggregations import compile_aggregation
from sentinel.feast_plugin.repo import Definitions, collect, load_repo
from sentinel.feast_plugin.source import reads_the_log
from sentinel.feast_plugin.tags import FieldTags, did_you_mean, read_tags
from sentinel.features.plan.functions import AMOUNT
from sentinel.features.plan.parts import Aggregate, Ratio, RequestFeature, View
from sentinel.features.plan.plan import Plan
from sentinel.features.plan.templates import (
    OF_RATIOS,
    OF_REQUESTS,
    OF_WINDOWS,
    check_template,
)

DEFAULT_SERVICE: Final = "fraud_detection_v1"

_PLACEHOLDERS: Final[Mapping[type, dict[str, str]]] = {
    Aggregate: OF_WINDOWS,
    RequestFeature: OF_REQUESTS,
    Ratio: OF_RATIOS,
}


def compile_definitions(
    source: Path | Iterable[object],
    dictionaries: Mapping[str, Sequence[str]] | None = None,
    *,
    service: str = DEFAULT_SERVICE,
) -> Plan:
    """Compile a feature service to a plan.

    Args:
        source: Folder of a Feast repository, or Feast objects.
        dictionaries: Known values of each categorical column, see `learn_dictionaries`. A
            column without a dictionary has only unknown values.
        service: Name of the feature service.

    Raises:
        DefinitionError: Something in the definitions is not understood or not possible.
    """
    definitions = load_repo(source) if isinstance(source, Path) else collect(source)
    return _Compiler(definitions, dictionaries or {}, service).plan()


def category_columns(
    source: Path | Iterable[object], *, service: str = DEFAULT_SERVICE
) -> tuple[str, ...]:
    """The columns for which a service needs dictionaries, in order of first use."""
    plan = compile_definitions(source, service=service)
    return tuple(dict.fromkeys(f.column for f in plan.request if f.kind == "category"))


def check_view(view: Any) -> None:
    """Check one view over the log by itself, as ``feast apply`` does before it registers it.

    Raises:
        DefinitionError: A feature of it is not understood.
    """
    entities = {
        name: Entity(name=name, join_keys=[column.name], value_type=ValueType.STRING)
        for name, column in zip(view.entities, view.entity_columns, strict=False)
        if name != DUMMY_ENTITY_NAME
    }
    compiler = _Compiler(Definitions(entities, {view.name: view}, {}), {}, "")
    compiler.view(view, {field.name for field in view.features})


class _Compiler:
    """Compiles one service; holds what has been compiled so far."""

    def __init__(
        self, definitions: Definitions, dictionaries: Mapping[str, Sequence[str]], service: str
    ) -> None:
        self.definitions = definitions
        self.dictionaries = dictionaries
        self.service = service
        self.views: list[View] = []
        self.request: list[RequestFeature] = []
        self.ratios: list[tuple[Ratio, frozenset[str], str]] = []

    def plan(self) -> Plan:
        services = self.definitions.services
        if self.service not in services:
            raise DefinitionError(
                f"There is no feature service {self.service!r}. "
                + (
                    did_you_mean(self.service, services)
                    if services
                    else "Define one: it lists the feature views whose features make up the vector."
                )
            )
        for projection in services[self.service].feature_view_projections:
            self._projection(projection)
        self._check_ratios()
        return Plan(
            views=tuple(self.views),
            request=tuple(self.request),
            ratios=tuple(ratio for ratio, _, _ in self.ratios),
        )

    def _projection(self, projection: Any) -> None:
        name: str = projection.name
        view = self.definitions.views.get(name)
        if view is None:
            raise DefinitionError(
                f"Service {self.service!r} takes view {name!r}, which is not in the definitions. "
                + did_you_mean(name, self.definitions.views)
            )
        if not reads_the_log(view):
            raise DefinitionError(
                f"Service {self.service!r} takes view {name!r}, which does not read the "
                "transaction log. Scoring computes features from the log alone: give the view a "
                "TransactionLog source, or take it out of this service and read it through Feast."
            )
        if projection.name_alias or projection.join_key_map:
            raise DefinitionError(
                f"Service {self.service!r} renames view {name!r} or its keys. "
                "Features keep their names here; take the view as it is."
            )
        self.view(view, {field.name for field in projection.features})

    def view(self, view: Any, taken: set[str]) -> None:
        """Compile those fields of a view over the log that are taken; check all of them."""
        name: str = view.name
        if view.ttl:
            raise DefinitionError(
                f"View {name!r} has a ttl. What it remembers ends with its windows; remove the ttl."
            )
        if getattr(view, "feature_transformation", None) or getattr(view, "udf", None):
            raise DefinitionError(
                f"View {name!r} has a transformation, which the window engine cannot run. "
                "Use aggregations, filters and ratios, or send the value as an attribute."
            )
        self._fields(name, view, self._keys(view), taken)

    def _keys(self, view: Any) -> tuple[str, ...]:
        keys = []
        for name in view.entities:
            if name == DUMMY_ENTITY_NAME:
                continue
            entity = self.definitions.entities.get(name)
            if entity is None:
                raise DefinitionError(
                    f"View {view.name!r} has the entity {name!r}, which is not in the "
                    f"definitions. {did_you_mean(name, self.definitions.entities)}"
                )
            if entity.join_key not in ENTITY_COLUMNS:
                raise DefinitionError(
                    f"Entity {name!r} of view {view.name!r} is joined by {entity.join_key!r}, "
                    "which is no identifier of a transaction. "
                    + did_you_mean(entity.join_key, ENTITY_COLUMNS)
                )
            keys.append(entity.join_key)
        return tuple(keys)

    def _fields(self, name: str, view: Any, keys: tuple[str, ...], taken: set[str]) -> None:
        aggregations: dict[str, Any] = {}
        for aggregation in getattr(view, "aggregations", []):
            if not aggregation.name:
                raise DefinitionError(
                    f"View {name!r} has an aggregation without a name "
                    f"({aggregation.resolved_name(aggregation.time_window)}?). Give it one."
                )
            if aggregation.name in aggregations:
                raise DefinitionError(
                    f"View {name!r} has two aggregations named {aggregation.name!r}. Rename one."
                )
            aggregations[aggregation.name] = aggregation
        # A view read from the registry lists its entity columns among its features.
        fields: dict[str, Field] = {
            field.name: field for field in view.features if field.name not in keys
        }
        for missing in aggregations.keys() - fields.keys():
            raise DefinitionError(
                f"View {name!r} has the aggregation {missing!r} but no field of that name. "
                "Write schema=fields(aggregations)."
            )
        aggregates = []
        for field in fields.values():
            where = f"Feature {field.name!r} of view {name!r}"
            tags = read_tags(field.tags, where)
            if field.dtype != Float32:
                raise DefinitionError(
                    f"{where} is of type {field.dtype}; features are Float32, as models see them."
                )
            compiled = self._field(field, aggregations.get(field.name), tags, name, keys)
            check_template(compiled.words, _PLACEHOLDERS[type(compiled)], where)
            if field.name not in taken:
                continue
            if isinstance(compiled, Aggregate):
                aggregates.append(compiled)
            elif isinstance(compiled, Ratio):
                self.ratios.append((compiled, frozenset(keys), where))
            else:
                self.request.append(compiled)
        if aggregates:
            self.views.append(View(name=name, keys=keys, aggregates=tuple(aggregates)))

    def _field(
        self, field: Field, aggregation: Any, tags: FieldTags, view: str, keys: tuple[str, ...]
    ) -> Aggregate | Ratio | RequestFeature:
        where = f"Feature {field.name!r} of view {view!r}"
        if aggregation is not None:
            if tags.ratio or tags.request:
                raise DefinitionError(
                    f"{where} is an aggregation and cannot be a ratio or request feature as well."
                )
            if not keys:
                raise DefinitionError(f"{where} is a window, but the view has no entity.")
            return compile_aggregation(aggregation, tags, where)
        if tags.ratio:
            return Ratio(
                name=field.name,
                numerator=tags.ratio[0],
                denominator=tags.ratio[1],
                words=tags.words,
            )
        if tags.request:
            if keys:
                raise DefinitionError(
                    f"{where} is a request feature, which belongs to no entity. "
                    "Put it into a FeatureView with entities=[]."
                )
            return RequestFeature(
                name=field.name,
                kind=tags.request,
                column=tags.column,
                categories=tuple(self.dictionaries.get(tags.column, ()))
                if tags.request == "category"
                else (),
                words=tags.words,
            )
        raise DefinitionError(
            f"{where} has neither an aggregation of its name nor tags that say what it is. Add "
            "an Aggregation (to a StreamFeatureView), or tags=ratio(...) or tags=request(...)."
        )

    def _check_ratios(self) -> None:
        keys_of = {a.name: set(view.keys) for view in self.views for a in view.aggregates}
        for ratio, keys, where in self.ratios:
            for name in (ratio.numerator, ratio.denominator):
                if name == AMOUNT and name == ratio.numerator:
                    continue
                if name not in keys_of:
                    raise DefinitionError(
                        f"{where} divides by or from {name!r}, which is no windowed feature of "
                        f"service {self.service!r}. {did_you_mean(name, keys_of)}"
                    )
                if not keys_of[name] <= keys:
                    raise DefinitionError(
                        f"{where} uses {name!r}, which is kept by "
                        f"{', '.join(sorted(keys_of[name]))}. Give the view those entities."
                    )
