"""Definitions become a plan, and every mistake in them is explained."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from feast import Entity, FeatureService, FeatureView, Field, FileSource, PushSource
from feast import StreamFeatureView as StreamView
from feast.aggregation import Aggregation
from feast.types import Float32, Int64
from feast.value_type import ValueType

from sentinel.domain import DefinitionError
from sentinel.feast_plugin.compile import category_columns, compile_definitions
from sentinel.feast_plugin.source import TransactionLog
from sentinel.feast_plugin.tags import fields, ratio, request, windowed
from sentinel.features.plan.describe import describe
from sentinel.features.plan.parts import Filter
from sentinel.features.plan.plan import DAY_US, HOUR_US, Plan
from sentinel.features.plan.program import RECORD_WARNING_BYTES, compile_program

pytestmark = pytest.mark.filterwarnings("ignore")

DAY = timedelta(days=1)
LOG = TransactionLog()
CARD = Entity(name="card", join_keys=["card_id"], value_type=ValueType.STRING)
CUSTOMER = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.STRING)


def aggregation(name: str = "n", function: str = "count", **changes: Any) -> Aggregation:
    given: dict[str, Any] = {"column": "transaction_id", "time_window": DAY} | changes
    return Aggregation(name=name, function=function, **given)


def view(
    aggregations: Sequence[Aggregation],
    schema: Sequence[Field] | None = None,
    *,
    name: str = "card",
    entity: Entity = CARD,
    tags: Mapping[str, Mapping[str, str]] | None = None,
    **changes: Any,
) -> StreamView:
    return StreamView(
        name=name,
        entities=[entity],
        source=PushSource(name="transactions", batch_source=LOG),
        timestamp_field="event_timestamp",
        aggregations=list(aggregations),
        schema=fields(aggregations, tags) if schema is None else list(schema),
        **changes,
    )


def request_view(*schema: Field, **changes: Any) -> FeatureView:
    given: dict[str, Any] = {"name": "request", "entities": [], "source": LOG} | changes
    return FeatureView(schema=list(schema), **given)


def compiled(*views: Any, dictionaries: Mapping[str, Sequence[str]] | None = None) -> Plan:
    service = FeatureService(name="fraud_detection_v1", features=list(views))
    return compile_definitions([CARD, CUSTOMER, *views, service], dictionaries)


def test_feasts_words_become_the_plans() -> None:
    plan = compiled(
        view(
            [
                aggregation("plain"),
                aggregation("hop", slide_interval=timedelta(hours=1)),
                aggregation("total", "sum", column="amount_minor"),
                aggregation("shops", "count_distinct", column="merchant_id"),
                aggregation("frauds", "sum", column="is_fraud"),
                aggregation("rate", "mean", column="is_fraud"),
                aggregation("since", "time_since_last", column="event_timestamp"),
            ],
            tags={
                "plain": windowed(where=[("channel", "==", "web"), ("amount_minor", ">=", 100)]),
                "shops": windowed(capacity=5),
                "rate": windowed(offset=7 * DAY),
            },
        )
    )
    found = {a.name: a for a in plan.views[0].aggregates}
    assert plan.views[0].keys == ("card_id",)
    assert found["plain"].filters == (
        Filter("channel", "==", "web"),
        Filter("amount_minor", ">=", 100.0),
    )
    assert found["plain"].hop_us == 2 * HOUR_US, "equal to the window is Feast's word for default"
    assert found["hop"].hop_us == HOUR_US
    assert (found["total"].function, found["total"].column) == ("sum", "amount_minor")
    assert (found["shops"].function, found["shops"].capacity) == ("distinct_count", 5)
    assert found["frauds"].function == "fraud_count"
    assert (found["rate"].function, found["rate"].offset_us) == ("fraud_rate", 7 * DAY_US)
    assert found["since"].function == "time_since_last"


def test_dictionaries_are_part_of_the_plan() -> None:
    views = request_view(
        Field(name="channel", dtype=Float32, tags=request("category", column="channel")),
        Field(name="amount", dtype=Float32, tags=request("amount")),
    )
    first = compiled(views, dictionaries={"channel": ["web", "pos"]})
    assert first.request[0].categories == ("web", "pos")
    assert compiled(views).request[0].categories == ()
    assert compiled(views, dictionaries={"channel": ["pos", "web"]}).hash != first.hash


def test_a_service_takes_some_features_of_a_view() -> None:
    both = view([aggregation("a"), aggregation("b")])
    service = FeatureService(name="fraud_detection_v1", features=[both[["b"]]])
    assert compile_definitions([CARD, both, service]).feature_names == ("b",)


def _amount(name: str = "x", **tags: str) -> Field:
    return Field(name=name, dtype=Float32, tags=tags)


MISTAKES: list[tuple[str, Callable[[], Any], str]] = [
    ("function", lambda: compiled(view([aggregation(function="conut")])), "Did you mean 'count'"),
    (
        "column",
        lambda: compiled(view([aggregation(function="sum", column="amount")])),
        "Did you mean 'amount_minor'",
    ),
    (
        "count of something",
        lambda: compiled(view([aggregation(column="merchant_id")])),
        "where=",
    ),
    (
        "label function",
        lambda: compiled(view([aggregation(function="max", column="is_fraud")])),
        "sum .known frauds. and a mean",
    ),
    (
        "distinct of nothing",
        lambda: compiled(view([aggregation(function="count_distinct", column="")])),
        "identifier",
    ),
    (
        "no window",
        lambda: compiled(view([aggregation(time_window=None)])),
        "no time_window",
    ),
    (
        "hop longer than window",
        lambda: compiled(view([aggregation(slide_interval=2 * DAY)])),
        "hop longer",
    ),
    ("no name", lambda: compiled(view([aggregation(name="")], [])), "without a name"),
    (
        "two of a name",
        lambda: compiled(view([aggregation(), aggregation(time_window=2 * DAY)], [_amount("n")])),
        "two aggregations",
    ),
    ("no field", lambda: compiled(view([aggregation()], [_amount("other")])), "schema=fields"),
    (
        "field of nothing",
        lambda: compiled(view([], [_amount("x")])),
        "neither an aggregation",
    ),
    (
        "type",
        lambda: compiled(view([aggregation()], [Field(name="n", dtype=Int64)])),
        "Float32",
    ),
    (
        "tag of nothing",
        lambda: view([aggregation()], tags={"m": windowed(capacity=1)}),
        "no aggregation",
    ),
    (
        "unknown tag",
        lambda: compiled(view([aggregation()], [_amount("n", capcity="1")])),
        "Did you mean 'capacity'",
    ),
    (
        "capacity of a count",
        lambda: compiled(view([aggregation()], [_amount("n", capacity="3")])),
        "only count_distinct",
    ),
    (
        "capacity of no number",
        lambda: compiled(
            view([aggregation("n", "count_distinct", column="mcc")], [_amount("n", capacity="x")])
        ),
        "whole number",
    ),
    (
        "offset",
        lambda: compiled(view([aggregation()], [_amount("n", offset="a week")])),
        "such as 7d",
    ),
    (
        "conditions",
        lambda: compiled(view([aggregation()], [_amount("n", where="channel == web")])),
        "windowed",
    ),
    (
        "comparison",
        lambda: compiled(view([aggregation()], [_amount("n", where='[["a", "=", "b"]]')])),
        "comparisons are",
    ),
    (
        "condition",
        lambda: compiled(view([aggregation()], [_amount("n", where='[["a", "=="]]')])),
        "a condition is",
    ),
    (
        "half a ratio",
        lambda: compiled(view([aggregation()], [_amount("n"), _amount(numerator="n")])),
        "numerator and denominator",
    ),
    (
        "ratio of nothing",
        lambda: compiled(
            view([aggregation()], [_amount("n"), _amount(**ratio("amount_minor", "m"))])
        ),
        "Did you mean|There is: n",
    ),
    (
        "ratio across entities",
        lambda: compiled(
            view([aggregation("a")]),
            view(
                [aggregation("b")],
                [_amount("b"), _amount(**ratio("b", "a"))],
                name="customer",
                entity=CUSTOMER,
            ),
        ),
        "Give the view those entities",
    ),
    (
        "aggregation and ratio",
        lambda: compiled(view([aggregation()], [_amount("n", **ratio("a", "b"))])),
        "cannot be a ratio",
    ),
    (
        "request kind",
        lambda: compiled(request_view(_amount(request="hour"))),
        "Did you mean 'hour_of_day'",
    ),
    (
        "request without column",
        lambda: compiled(request_view(_amount(request="number"))),
        "needs the column",
    ),
    (
        "request with column",
        lambda: compiled(request_view(_amount(request="amount", column="x"))),
        "reads no column",
    ),
    (
        "request and window",
        lambda: compiled(request_view(_amount(request="amount", offset="7d"))),
        "no others",
    ),
    (
        "request of an entity",
        lambda: compiled(request_view(_amount(**request("amount")), entities=[CARD])),
        "belongs to no entity",
    ),
    (
        "key",
        lambda: compiled_with(Entity(name="card", join_keys=["card"], value_type=ValueType.STRING)),
        "Did you mean 'card_id'",
    ),
    ("ttl", lambda: compiled(view([aggregation()], ttl=DAY)), "remove the ttl"),
    (
        "not the log",
        lambda: compiled(
            FeatureView(
                name="limits",
                entities=[CARD],
                schema=[_amount("limit")],
                source=FileSource(path="x.parquet", timestamp_field="event_timestamp"),
            )
        ),
        "does not read the transaction log",
    ),
    (
        "renamed",
        lambda: compiled_as(view([aggregation()]), lambda v: v.with_name("other")),
        "keep their names",
    ),
    (
        "two features of a name",
        lambda: compiled(
            view([aggregation()]), view([aggregation()], name="customer", entity=CUSTOMER)
        ),
        "Two features are named 'n'",
    ),
    (
        "two views of a name",
        lambda: compiled(view([aggregation("a")]), view([aggregation("b")])),
        "Two feature views",
    ),
    ("no service", lambda: compile_definitions([CARD]), "no feature service 'fraud_detection_v1'"),
    (
        "misspelt service",
        lambda: compile_definitions(
            [FeatureService(name="fraud_detection_v1", features=[])], service="fraud_v1"
        ),
        "Did you mean",
    ),
]


def compiled_with(entity: Entity) -> Plan:
    given = view([aggregation()], entity=entity)
    service = FeatureService(name="fraud_detection_v1", features=[given])
    return compile_definitions([entity, given, service])


def compiled_as(given: StreamView, shown: Callable[[StreamView], Any]) -> Plan:
    service = FeatureService(name="fraud_detection_v1", features=[shown(given)])
    return compile_definitions([CARD, given, service])


@pytest.mark.parametrize(
    ("mistake", "message"),
    [pytest.param(mistake, message, id=name) for name, mistake, message in MISTAKES],
)
def test_a_mistake_is_explained(mistake: Callable[[], Any], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        mistake()


# The folder.


def test_an_edited_file_is_read_anew_and_leaves_no_module_behind(tmp_path: Path) -> None:
    for window in (1, 2):
        _write_repo(tmp_path, f"shared.DAY * {window}")
        assert compile_definitions(tmp_path).views[0].aggregates[0].window_us == window * DAY_US
    assert not {"shared", "more.views"} & set(sys.modules)


def test_an_error_in_a_file_names_file_and_line(tmp_path: Path) -> None:
    _write_repo(tmp_path, "shared.DAYS")
    with pytest.raises(DefinitionError, match=r"views\.py, line 7 .*AttributeError"):
        compile_definitions(tmp_path)
    with pytest.raises(DefinitionError, match="Name the folder"):
        compile_definitions(tmp_path / "nowhere")


def _write_repo(folder: Path, window: str) -> None:
    (folder / "more").mkdir(exist_ok=True)
    (folder / "shared.py").write_text("from datetime import timedelta\nDAY = timedelta(days=1)\n")
    (folder / "more" / "views.py").write_text(
        f"""
import shared
from feast import Entity, FeatureService, Field, PushSource, StreamFeatureView, ValueType
from feast.aggregation import Aggregation
from sentinel.feast_plugin.source import TransactionLog
from sentinel.feast_plugin.tags import fields
windows = [Aggregation(name="n", function="count", time_window={window})]
card = Entity(name="card", join_keys=["card_id"], value_type=ValueType.STRING)
view = StreamFeatureView(name="card", entities=[card], aggregations=windows,
    source=PushSource(name="transactions", batch_source=TransactionLog()),
    timestamp_field="event_timestamp", schema=fields(windows))
service = FeatureService(name="fraud_detection_v1", features=[view])
"""
    )


# The default definitions.


@pytest.fixture(scope="module")
def default_plan(root: Path) -> Plan:
    return compile_definitions(root / "feature_store")


def test_the_default_definitions_cover_all_entities_within_bounds(default_plan: Plan) -> None:
    windowed_features = [a for v in default_plan.views for a in v.aggregates]
    assert len(windowed_features) >= 40
    assert len(default_plan.feature_names) <= 120
    assert {key for v in default_plan.views for key in v.keys} == {
        "customer_id",
        "card_id",
        "merchant_id",
        "device_id",
        "ip_address",
    }
    program = compile_program(default_plan)
    assert max(program.record_words) * 8 < RECORD_WARNING_BYTES
    assert {a.function for a in windowed_features} >= {
        "count",
        "sum",
        "mean",
        "std",
        "max",
        "time_since_last",
        "distinct_count",
        "fraud_count",
        "fraud_rate",
    }


def test_rates_leave_out_the_days_whose_truth_has_not_arrived(default_plan: Plan) -> None:
    rates = [a for v in default_plan.views for a in v.aggregates if a.function == "fraud_rate"]
    assert rates
    assert all(a.offset_us >= 7 * DAY_US for a in rates)


def test_the_compiled_form_names_every_feature_on_one_line(default_plan: Plan, root: Path) -> None:
    text = describe(default_plan)
    lines = text.splitlines()
    for name in default_plan.feature_names:
        assert sum(line.startswith(f"  {name} ") for line in lines) == 1
    assert "  card_fraud_rate_30d" in text
    assert "fraud_rate over 30d up to 7d ago, hop 1d" in text
    assert "warning" not in text
    assert max(map(len, lines)) <= 80
    assert "channel" in category_columns(root / "feature_store")


def test_reading_a_plan_needs_no_feast() -> None:
    """Serving starts fast: what it imports leaves Feast alone."""
    modules = "sentinel.features.plan.plan, sentinel.scoring.runtime, sentinel.ledger.log"
    program = f"import sys, {modules}\nassert not {{'feast', 'pandas'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=850)
