"""The features of this deployment. Everything that computes them reads this file and no other.

To change a feature: edit here, look at `sentinel features plan`, then `sentinel features apply`.
Windows slide (see docs/feature-store.md); features of a payment see only what came before it.
"""

from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, PushSource, StreamFeatureView
from feast.aggregation import Aggregation
from feast.types import Array, Bool, Float32, Float64, Int64, String
from feast.value_type import ValueType

from sentinel.feast_plugin import profiles
from sentinel.feast_plugin.source import EntityProfiles, TransactionHistory, TransactionLog
from sentinel.feast_plugin.tags import fields, ratio, request, windowed

HOUR, DAY, WEEK = timedelta(hours=1), timedelta(days=1), timedelta(days=7)
MONTH, QUARTER = timedelta(days=30), timedelta(days=90)

# Chargebacks take days to arrive, so a fraud rate up to now is too low. These windows end a week
# ago, when most of the truth is known; the counts of frauds "known" reach up to now.
MATURE = windowed(offset=WEEK)

# What was usual before last week: a spree of the last days does not blur what it is held against.
USUAL = windowed(offset=WEEK)

log = TransactionLog(description="Payments and labels in the order Sentinel learnt of them")
transactions = PushSource(name="transactions", batch_source=log)

customer = Entity(name="customer", join_keys=["customer_id"], value_type=ValueType.STRING)
card = Entity(name="card", join_keys=["card_id"], value_type=ValueType.STRING)
merchant = Entity(name="merchant", join_keys=["merchant_id"], value_type=ValueType.STRING)
device = Entity(name="device", join_keys=["device_id"], value_type=ValueType.STRING)
ip = Entity(name="ip", join_keys=["ip_address"], value_type=ValueType.STRING)
transaction = Entity(name="transaction", join_keys=["transaction_id"], value_type=ValueType.STRING)


def count(name: str, window: timedelta, hop: timedelta | None = None) -> Aggregation:
    """How many transactions."""
    return Aggregation(
        name=name,
        function="count",
        column="transaction_id",
        time_window=window,
        slide_interval=hop,
    )


def amount(name: str, function: str, window: timedelta) -> Aggregation:
    """A statistic of the amounts, in minor units."""
    return Aggregation(name=name, function=function, column="amount_minor", time_window=window)


def distinct(name: str, column: str, window: timedelta) -> Aggregation:
    """How many different values."""
    return Aggregation(name=name, function="count_distinct", column=column, time_window=window)


def since_last(name: str, window: timedelta) -> Aggregation:
    """Seconds since the entity was last seen, null if that is longer than the window ago."""
    return Aggregation(
        name=name, function="time_since_last", column="event_timestamp", time_window=window
    )


def fraud_count(name: str, window: timedelta) -> Aggregation:
    """How many transactions of the window are known to be frauds."""
    return Aggregation(name=name, function="sum", column="is_fraud", time_window=window)


def fraud_rate(name: str, window: timedelta, hop: timedelta | None = None) -> Aggregation:
    """Known frauds as a share of the transactions of the window."""
    return Aggregation(
        name=name, function="mean", column="is_fraud", time_window=window, slide_interval=hop
    )


# Card: is this how the card is used? Bursts, unusual amounts, unfamiliar shops and devices.
card_windows = [
    count("card_count_1h", HOUR),
    count("card_count_1d", DAY),
    count("card_count_7d", WEEK),
    count("card_count_30d", MONTH),
    amount("card_amount_sum_1h", "sum", HOUR),
    amount("card_amount_sum_1d", "sum", DAY),
    amount("card_amount_sum_7d", "sum", WEEK),
    amount("card_amount_mean_7d", "mean", WEEK),
    amount("card_amount_mean_30d", "mean", MONTH),
    amount("card_amount_std_30d", "std", MONTH),
    amount("card_amount_max_7d", "max", WEEK),
    amount("card_amount_max_30d", "max", MONTH),
    amount("card_amount_mean_usual", "mean", MONTH),
    amount("card_amount_std_usual", "std", MONTH),
    amount("card_amount_max_usual", "max", MONTH),
    since_last("card_seconds_since_last", MONTH),
    distinct("card_merchants_1d", "merchant_id", DAY),
    distinct("card_merchants_30d", "merchant_id", MONTH),
    distinct("card_devices_30d", "device_id", MONTH),
    distinct("card_ips_7d", "ip_address", WEEK),
    fraud_count("card_frauds_known_30d", MONTH),
    fraud_rate("card_fraud_rate_30d", MONTH),
]
card_features = StreamFeatureView(
    name="card",
    entities=[card],
    source=transactions,
    timestamp_field="event_timestamp",
    aggregations=card_windows,
    schema=[
        *fields(
            card_windows,
            {
                "card_merchants_1d": windowed(capacity=32),
                "card_merchants_30d": windowed(capacity=32),
                "card_devices_30d": windowed(capacity=8),
                "card_ips_7d": windowed(capacity=8),
                "card_fraud_rate_30d": MATURE,
                "card_amount_mean_usual": USUAL,
                "card_amount_std_usual": USUAL,
                "card_amount_max_usual": USUAL,
            },
        ),
        Field(
            name="card_amount_to_mean_30d",
            dtype=Float32,
            tags=ratio("amount_minor", "card_amount_mean_30d"),
        ),
        Field(
            name="card_amount_to_max_30d",
            dtype=Float32,
            tags=ratio("amount_minor", "card_amount_max_30d"),
        ),
        Field(
            name="card_amount_to_mean_usual",
            dtype=Float32,
            tags=ratio("amount_minor", "card_amount_mean_usual"),
        ),
        Field(
            name="card_amount_to_max_usual",
            dtype=Float32,
            tags=ratio("amount_minor", "card_amount_max_usual"),
        ),
        Field(
            name="card_mean_7d_to_usual",
            dtype=Float32,
            tags=ratio("card_amount_mean_7d", "card_amount_mean_usual"),
        ),
        Field(
            name="card_max_7d_to_usual",
            dtype=Float32,
            tags=ratio("card_amount_max_7d", "card_amount_mean_usual"),
        ),
        Field(
            name="card_count_1d_to_30d",
            dtype=Float32,
            tags=ratio("card_count_1d", "card_count_30d"),
        ),
    ],
)

# Customer: the same over all of a person's cards, for sources that know no cards as well.
customer_windows = [
    count("customer_count_1h", HOUR),
    count("customer_count_1d", DAY),
    count("customer_count_7d", WEEK),
    count("customer_count_30d", MONTH),
    amount("customer_amount_sum_1d", "sum", DAY),
    amount("customer_amount_sum_7d", "sum", WEEK),
    amount("customer_amount_mean_1d", "mean", DAY),
    amount("customer_amount_mean_7d", "mean", WEEK),
    amount("customer_amount_mean_30d", "mean", MONTH),
    amount("customer_amount_std_30d", "std", MONTH),
    amount("customer_amount_max_7d", "max", WEEK),
    amount("customer_amount_max_30d", "max", MONTH),
    amount("customer_amount_mean_usual", "mean", MONTH),
    amount("customer_amount_std_usual", "std", MONTH),
    amount("customer_amount_max_usual", "max", MONTH),
    since_last("customer_seconds_since_last", MONTH),
    distinct("customer_merchants_7d", "merchant_id", WEEK),
    distinct("customer_cards_30d", "card_id", MONTH),
    distinct("customer_devices_30d", "device_id", MONTH),
    fraud_count("customer_frauds_known_30d", MONTH),
    fraud_rate("customer_fraud_rate_30d", MONTH),
]
customer_features = StreamFeatureView(
    name="customer",
    entities=[customer],
    source=transactions,
    timestamp_field="event_timestamp",
    aggregations=customer_windows,
    schema=[
        *fields(
            customer_windows,
            {
                "customer_merchants_7d": windowed(capacity=32),
                "customer_cards_30d": windowed(capacity=8),
                "customer_devices_30d": windowed(capacity=8),
                "customer_fraud_rate_30d": MATURE,
                "customer_amount_mean_usual": USUAL,
                "customer_amount_std_usual": USUAL,
                "customer_amount_max_usual": USUAL,
            },
        ),
        Field(
            name="customer_amount_to_mean_7d",
            dtype=Float32,
            tags=ratio("amount_minor", "customer_amount_mean_7d"),
        ),
        Field(
            name="customer_amount_to_mean_30d",
            dtype=Float32,
            tags=ratio("amount_minor", "customer_amount_mean_30d"),
        ),
        Field(
            name="customer_amount_to_max_30d",
            dtype=Float32,
            tags=ratio("amount_minor", "customer_amount_max_30d"),
        ),
        Field(
            name="customer_amount_to_mean_usual",
            dtype=Float32,
            tags=ratio("amount_minor", "customer_amount_mean_usual"),
        ),
        Field(
            name="customer_amount_to_max_usual",
            dtype=Float32,
            tags=ratio("amount_minor", "customer_amount_max_usual"),
        ),
        Field(
            name="customer_mean_7d_to_usual",
            dtype=Float32,
            tags=ratio("customer_amount_mean_7d", "customer_amount_mean_usual"),
        ),
        Field(
            name="customer_max_7d_to_usual",
            dtype=Float32,
            tags=ratio("customer_amount_max_7d", "customer_amount_mean_usual"),
        ),
        Field(
            name="customer_count_1d_to_30d",
            dtype=Float32,
            tags=ratio("customer_count_1d", "customer_count_30d"),
        ),
    ],
)

# Merchant or terminal: is it compromised, or being used to test stolen cards?
merchant_windows = [
    count("merchant_count_1h", HOUR),
    count("merchant_count_1d", DAY),
    count("merchant_count_7d", WEEK),
    count("merchant_count_30d", MONTH),
    amount("merchant_amount_mean_1d", "mean", DAY),
    amount("merchant_amount_mean_30d", "mean", MONTH),
    amount("merchant_amount_std_30d", "std", MONTH),
    since_last("merchant_seconds_since_last", WEEK),
    distinct("merchant_customers_1h", "customer_id", HOUR),
    fraud_count("merchant_frauds_known_7d", WEEK),
    fraud_count("merchant_frauds_known_14d", 2 * WEEK),
    fraud_count("merchant_frauds_known_30d", MONTH),
    fraud_rate("merchant_fraud_rate_1d", DAY),
    fraud_rate("merchant_fraud_rate_7d", WEEK),
    fraud_rate("merchant_fraud_rate_30d", MONTH),
    # Week by week further back: a compromise begins, and ends when it has been dealt with.
    fraud_rate("merchant_fraud_rate_2_weeks_ago", WEEK, hop=DAY),
    fraud_rate("merchant_fraud_rate_3_weeks_ago", WEEK, hop=DAY),
    fraud_rate("merchant_fraud_rate_4_weeks_ago", WEEK, hop=DAY),
]
merchant_features = StreamFeatureView(
    name="merchant",
    entities=[merchant],
    source=transactions,
    timestamp_field="event_timestamp",
    aggregations=merchant_windows,
    schema=[
        *fields(
            merchant_windows,
            {
                "merchant_customers_1h": windowed(capacity=32),
                "merchant_fraud_rate_1d": MATURE,
                "merchant_fraud_rate_7d": MATURE,
                "merchant_fraud_rate_30d": MATURE,
                "merchant_fraud_rate_2_weeks_ago": windowed(offset=2 * WEEK),
                "merchant_fraud_rate_3_weeks_ago": windowed(offset=3 * WEEK),
                "merchant_fraud_rate_4_weeks_ago": windowed(offset=4 * WEEK),
            },
        ),
        Field(
            name="merchant_amount_to_mean_30d",
            dtype=Float32,
            tags=ratio("amount_minor", "merchant_amount_mean_30d"),
        ),
        Field(
            name="merchant_count_1d_to_30d",
            dtype=Float32,
            tags=ratio("merchant_count_1d", "merchant_count_30d"),
        ),
    ],
)

# Device: one device with many cards is a ring or a bot.
device_windows = [
    count("device_count_1h", HOUR),
    count("device_count_1d", DAY),
    count("device_count_7d", WEEK),
    amount("device_amount_sum_1d", "sum", DAY),
    since_last("device_seconds_since_last", MONTH),
    distinct("device_cards_1d", "card_id", DAY),
    distinct("device_cards_30d", "card_id", MONTH),
    distinct("device_customers_30d", "customer_id", MONTH),
    fraud_count("device_frauds_known_30d", MONTH),
    fraud_rate("device_fraud_rate_30d", MONTH),
]
device_features = StreamFeatureView(
    name="device",
    entities=[device],
    source=transactions,
    timestamp_field="event_timestamp",
    aggregations=device_windows,
    schema=fields(
        device_windows,
        {
            "device_cards_1d": windowed(capacity=16),
            "device_cards_30d": windowed(capacity=16),
            "device_customers_30d": windowed(capacity=16),
            "device_fraud_rate_30d": MATURE,
        },
    ),
)

# IP address: shared by many, so bursts and numbers of different cards matter most.
ip_windows = [
    count("ip_count_1h", HOUR),
    count("ip_count_1d", DAY),
    count("ip_count_7d", WEEK),
    amount("ip_amount_sum_1d", "sum", DAY),
    since_last("ip_seconds_since_last", WEEK),
    distinct("ip_cards_1h", "card_id", HOUR),
    distinct("ip_cards_7d", "card_id", WEEK),
    distinct("ip_customers_7d", "customer_id", WEEK),
    fraud_count("ip_frauds_known_30d", MONTH),
    fraud_rate("ip_fraud_rate_30d", MONTH),
]
ip_features = StreamFeatureView(
    name="ip",
    entities=[ip],
    source=transactions,
    timestamp_field="event_timestamp",
    aggregations=ip_windows,
    schema=fields(
        ip_windows,
        {
            "ip_cards_1h": windowed(capacity=32),
            "ip_cards_7d": windowed(capacity=32),
            "ip_customers_7d": windowed(capacity=32),
            "ip_fraud_rate_30d": MATURE,
        },
    ),
)

# Customer at a merchant: have they met before? There are many pairs, so the hop is long and a
# record short.
customer_merchant_windows = [
    count("customer_merchant_count_90d", QUARTER, hop=WEEK),
    since_last("customer_merchant_seconds_since_last", QUARTER),
]
customer_merchant_features = StreamFeatureView(
    name="customer_merchant",
    entities=[customer, merchant],
    source=transactions,
    timestamp_field="event_timestamp",
    aggregations=customer_merchant_windows,
    schema=fields(customer_merchant_windows),
)

# The payment itself. An attribute that a source does not give is null.
categories = [
    "channel",
    "entry_mode",
    "authentication",
    "mcc",
    "merchant_country",
    "card_country",
    "card_brand",
    "card_type",
    "device_system",
]
numbers = ["account_age_days"]
request_features = FeatureView(
    name="request",
    entities=[],
    source=log,
    schema=[
        Field(name="amount", dtype=Float32, tags=request("amount")),
        Field(name="hour_of_day", dtype=Float32, tags=request("hour_of_day")),
        Field(name="day_of_week", dtype=Float32, tags=request("day_of_week")),
        *(
            Field(name=column, dtype=Float32, tags=request("category", column=column))
            for column in categories
        ),
        *(
            Field(name=column, dtype=Float32, tags=request("number", column=column))
            for column in numbers
        ),
    ],
)

# What the IEEE-CIS data says of a payment in names of its own; null for any other source.
ieee_cis_features = FeatureView(
    name="ieee_cis",
    entities=[],
    source=log,
    schema=[
        *(
            Field(name=f"ieee_{column}", dtype=Float32, tags=request("category", column=column))
            for column in ("ProductCD", "card6", "P_emaildomain")
        ),
        *(
            Field(name=f"ieee_{column}", dtype=Float32, tags=request("number", column=column))
            for column in ("C1", "C13")
        ),
    ],
)

fraud_detection_v1 = FeatureService(
    name="fraud_detection_v1",
    features=[
        card_features,
        customer_features,
        merchant_features,
        device_features,
        ip_features,
        customer_merchant_features,
        request_features,
        ieee_cis_features,
    ],
    description="The vector that fraud models see, in this order",
)

# Slow-changing views. They are not in the vector: `sentinel features materialize` computes them
# once a day from all of an entity's transactions, for analysts, rules and Feast's SDK.
customer_profile = FeatureView(
    name="customer_profile",
    entities=[customer],
    source=EntityProfiles("customer_profiles"),
    schema=[
        profiles.first_seen("customer_since"),
        profiles.last_seen("customer_last_seen"),
        profiles.transactions("customer_transactions"),
        profiles.usual("customer_usual_mcc", "mcc"),
        profiles.usual("customer_usual_country", "merchant_country"),
        profiles.usual("customer_usual_channel", "channel"),
        profiles.amount_quantile("customer_amount_p50", 0.5),
        profiles.amount_quantile("customer_amount_p90", 0.9),
        profiles.amount_quantile("customer_amount_p99", 0.99),
    ],
    description="What is usual for a customer, over all that is known",
)
merchant_profile = FeatureView(
    name="merchant_profile",
    entities=[merchant],
    source=EntityProfiles("merchant_profiles"),
    schema=[
        profiles.first_seen("merchant_since"),
        profiles.last_seen("merchant_last_seen"),
        profiles.transactions("merchant_transactions"),
        profiles.usual("merchant_usual_mcc", "mcc"),
        profiles.usual("merchant_usual_card_country", "card_country"),
        profiles.amount_quantile("merchant_amount_p10", 0.1),
        profiles.amount_quantile("merchant_amount_p50", 0.5),
        profiles.amount_quantile("merchant_amount_p90", 0.9),
    ],
    description="What is usual at a merchant, over all that is known",
)

# Every transaction of the log with its vector, and what the champion said of it when it was
# materialized. `GET /predict/{transaction_id}` answers from here for history that other machines
# imported.
transaction_history = FeatureView(
    name="transaction_history",
    entities=[transaction],
    source=TransactionHistory("transaction_history"),
    schema=[
        Field(name="amount_minor", dtype=Int64),
        Field(name="plan_hash", dtype=String),
        Field(name="vector", dtype=Array(Float32)),
        Field(name="fraud_probability", dtype=Float64),
        Field(name="is_fraud", dtype=Bool),
        Field(name="model_version", dtype=String),
    ],
    description="Vector and score of each transaction",
)
