"""``feast apply`` in the repository, by the real command."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest
from feast import Field, PushSource, StreamFeatureView
from feast.aggregation import Aggregation
from feast.types import Float32

from sentinel.domain import DefinitionError, InvalidQuery
from sentinel.feast_plugin.compile import compile_definitions
from sentinel.feast_plugin.source import TransactionLog
from sentinel.features.plan.describe import describe
from tests.feast_plugin.conftest import Deployment

pytestmark = pytest.mark.filterwarnings("ignore")


def test_feast_apply_registers_the_definitions_in_the_workspace(
    deployment: Deployment, store: Any
) -> None:
    assert "Traceback" not in deployment.apply_output
    assert (deployment.workspace / "registry.db").is_file()
    registered_views = {view.name for view in store.list_stream_feature_views()}
    assert registered_views == {view.name for view in deployment.plan.views}
    service = store.get_feature_service("fraud_detection_v1")
    registered = [f.name for p in service.feature_view_projections for f in p.features]
    assert set(registered) == set(deployment.plan.feature_names)


def test_a_registry_written_by_feast_compiles_to_the_same_features(
    deployment: Deployment, store: Any
) -> None:
    """Tags, windows and hops survive Feast's registry: nothing is defined elsewhere."""
    objects = [
        *store.list_entities(),
        *store.list_stream_feature_views(),
        *store.list_feature_views(),
        *store.list_feature_services(),
    ]
    dictionaries = {f.column: f.categories for f in deployment.plan.request if f.categories}
    # Feast keeps the fields of a view in no order, so lines are compared, not the hash.
    again = describe(compile_definitions(objects, dictionaries)).splitlines()[1:]
    assert sorted(again) == sorted(describe(deployment.plan).splitlines()[1:])


def test_applying_a_misspelt_tag_changes_nothing(store: Any) -> None:
    card = store.get_entity("card")
    aggregation = Aggregation(
        name="x", function="count", column="transaction_id", time_window=timedelta(days=1)
    )
    view = StreamFeatureView(
        name="misspelt",
        entities=[card],
        source=PushSource(name="other", batch_source=TransactionLog("other_log")),
        timestamp_field="event_timestamp",
        aggregations=[aggregation],
        schema=[Field(name="x", dtype=Float32, tags={"ofset": "7d"})],
    )
    with pytest.raises(DefinitionError, match=r"'ofset'.*Did you mean 'offset'"):
        store.apply([card, view])
    store.refresh_registry()
    assert "misspelt" not in {view.name for view in store.list_stream_feature_views()}


def test_materialize_passes_over_views_of_the_log(store: Any) -> None:
    store.materialize(datetime(2023, 1, 1, tzinfo=UTC), datetime(2024, 6, 1, tzinfo=UTC))
    answer = store.get_online_features(
        ["limits:credit_limit", "customer:customer_count_30d"], [{"customer_id": "c1"}]
    ).to_dict()
    assert answer["credit_limit"] == [1000.0]
    assert answer["customer_count_30d"] != [None]


def test_a_view_of_the_log_cannot_be_written(store: Any) -> None:
    frame = pd.DataFrame(
        {"card_id": ["k1"], "event_timestamp": pd.to_datetime(["2024-01-01"], utc=True)}
        | {field.name: [1.0] for field in store.get_stream_feature_view("card").features}
    )
    with pytest.raises(InvalidQuery, match="POST /predict"):
        store.write_to_online_store("card", frame)
