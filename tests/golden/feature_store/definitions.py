"""A small set of features, as a user of the first format wrote it down."""

from sentinel.feast_plugin.families import (
    DAY,
    HOUR,
    WEEK,
    amount,
    count,
    distinct,
    entity,
    entity_view,
    fraud_count,
    fraud_rate,
    payments,
    ratio,
    request_view,
    since_last,
    vector,
)

transactions = payments()
customer, card, merchant = entity("customer"), entity("card"), entity("merchant")

card_features = entity_view(
    "card",
    card,
    count(HOUR, DAY),
    *(amount(f, DAY) for f in ("sum", "mean", "std", "min", "max")),
    since_last(WEEK),
    distinct("merchant_id", DAY, capacity=8),
    fraud_count(WEEK),
    fraud_rate(WEEK, offset=DAY),
    ratio("amount", to="amount_mean_1d"),
    source=transactions,
)
pair_features = entity_view(
    "customer_merchant", [customer, merchant], count(WEEK), source=transactions
)
request_features = request_view(
    "request",
    "amount",
    "hour_of_day",
    "day_of_week",
    categories=["channel"],
    numbers=["risk"],
    source=transactions,
)

fraud_detection_v1 = vector("fraud_detection_v1", card_features, pair_features, request_features)
