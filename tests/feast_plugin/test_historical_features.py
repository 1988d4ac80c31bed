"""``get_historical_features`` gives what a reader at that time saw, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sentinel.domain import InvalidQuery
from tests.feast_plugin.conftest import Deployment
from tests.feast_plugin.expected import SERVICE, questions, told_before
from tests.features.logs import bits_of, bits_of_values

pytestmark = pytest.mark.filterwarnings("ignore")


def test_every_value_is_the_oracles(deployment: Deployment, store: Any) -> None:
    names = list(deployment.plan.feature_names)
    frame = questions(deployment.entries, 400)
    result = store.get_historical_features(frame, store.get_feature_service(SERVICE)).to_df()

    assert list(result["card_id"]) == list(frame["card_id"])  # rows keep their order
    assert list(result.index) == list(range(len(frame)))
    found = bits_of(result[names].to_numpy(dtype=np.float32))
    wanted = bits_of_values(told_before(deployment, frame), len(names))
    different = np.argwhere(found != wanted)
    assert len(different) == 0, [(int(r), names[c]) for r, c in different[:10]]
    # The questions would not be worth much if their answers were all alike.
    varied = [name for name in names if result[name].nunique() > 1]
    assert len(varied) > 0.75 * len(names)


def test_arrow_and_full_names(deployment: Deployment, store: Any) -> None:
    import pyarrow as pa

    frame = questions(deployment.entries, 20)
    job = store.get_historical_features(
        frame, ["card:card_count_1d", "card:card_amount_mean_7d"], full_feature_names=True
    )
    table = job.to_arrow()
    assert table.schema.field("card__card_count_1d").type == pa.float32()
    assert table.column("card__card_count_1d").null_count == 0  # a count is never null
    assert table.column("card__card_amount_mean_7d").null_count > 0  # a mean of nothing is


def test_rows_before_any_history_are_zero_or_null(store: Any) -> None:
    import pandas as pd

    frame = pd.DataFrame({"event_timestamp": [pd.Timestamp("1999-01-01")], "card_id": ["k1"]})
    row = store.get_historical_features(
        frame,
        ["card:card_count_30d", "card:card_amount_mean_30d", "card:card_seconds_since_last"],
    ).to_df()
    assert row["card_count_30d"].tolist() == [0.0]
    assert row[["card_amount_mean_30d", "card_seconds_since_last"]].isna().all(axis=None)


def test_ordinary_views_are_joined_and_lose_no_row(store: Any) -> None:
    import pandas as pd

    frame = pd.DataFrame(
        {
            "event_timestamp": [pd.Timestamp("2024-02-01", tz="UTC")] * 3,
            "customer_id": ["c2", "nobody", "c1"],
        }
    )
    result = store.get_historical_features(
        frame, ["limits:credit_limit", "customer:customer_count_30d"]
    ).to_df()
    assert result["customer_id"].tolist() == ["c2", "nobody", "c1"]
    assert result["credit_limit"].tolist()[::2] == [2000.0, 1000.0]
    assert np.isnan(result["credit_limit"][1])
    assert result["customer_count_30d"].tolist()[1] == 0.0
    assert (result["customer_count_30d"][[0, 2]] > 0).all()


def test_whole_numbers_are_identifiers_too(store: Any) -> None:
    """A column of whole numbers with gaps is of floats in pandas; keys stay "7", not "7.0"."""
    import pandas as pd

    from sentinel.retrieval.entity_frame import rows_as_of

    frame = pd.DataFrame(
        {"event_timestamp": [pd.Timestamp("2024-01-01")] * 2, "card_id": [7.0, None]}
    )
    asked = rows_as_of(frame, "event_timestamp", ["card_id"])
    assert asked.columns["card_id"].to_pylist() == ["7", None]


@pytest.mark.parametrize(
    ("entity_df", "message"),
    [
        ("SELECT 1", "duckdb"),
        ({"event_timestamp": ["2024-01-01"]}, "no column 'card_id'"),
        ({"event_timestamp": [None], "card_id": ["k1"]}, "no time in row 0"),
        (
            {"event_timestamp": ["2024-01-01"], "card_id": ["k1"], "amount_minor": [1.5]},
            "minor units",
        ),
        (
            {"event_timestamp": ["2024-01-01"], "card_id": ["k1"], "card_count_1d": [1]},
            "full_feature_names",
        ),
    ],
)
def test_questions_that_cannot_be_answered_say_why(
    store: Any, entity_df: Any, message: str
) -> None:
    import pandas as pd

    if isinstance(entity_df, dict):
        entity_df = pd.DataFrame(entity_df)
        entity_df["event_timestamp"] = pd.to_datetime(entity_df["event_timestamp"])
    with pytest.raises(InvalidQuery, match=message):
        store.get_historical_features(entity_df, ["card:card_count_1d"]).to_df()


def test_ids_of_any_type_ask_for_the_same_entity_now_and_then(store: Any) -> None:
    import pandas as pd

    now = pd.Timestamp("2024-03-01", tz="UTC")
    names = ["card:card_count_30d", "card:card_amount_sum_7d"]

    def then(column: Any) -> Any:
        frame = pd.DataFrame({"card_id": column, "event_timestamp": [now] * len(column)})
        return store.get_historical_features(frame, names).to_df()["card_count_30d"].tolist()

    assert then(["17", 17]) == then(["17", "17"])
    assert then([17.0, float("nan")])[0] == then(["17"])[0]
    with pytest.raises(InvalidQuery, match="whole numbers"):
        store.get_historical_features(
            pd.DataFrame({"card_id": ["17"], "event_timestamp": [1710064800]}), names
        )


def test_floats_and_gaps_are_the_same_online(store: Any) -> None:
    def online(*ids: Any) -> Any:
        rows = [{"card_id": one} for one in ids]
        found = store.get_online_features(["card:card_count_30d"], rows).to_dict()
        return found["card_count_30d"]

    assert online(17.0, float("nan")) == [*online("17"), None]
    assert online(17) == online("17")
    with pytest.raises(InvalidQuery, match="lost digits"):
        online(1234567890123456789.0)
