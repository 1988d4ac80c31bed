"""The features of this deployment. Everything that computes them reads this file and no other.

To change a feature: edit here, look at `sentinel features plan`, then `sentinel features apply`.
Windows slide (see docs/feature-store.md); features of a payment see only what came before it. A
line is a family, one feature for each of its windows: ``count(HOUR, DAY)`` of the view "card" is
``card_count_1h`` and ``card_count_1d``.
"""

from sentinel.feast_plugin.families import (
    DAY,
    HOUR,
    MONTH,
    QUARTER,
    WEEK,
    amount,
    count,
    distinct,
    entity,
    entity_view,
    fraud_count,
    fraud_rate,
    history_view,
    payments,
    profile_view,
    ratio,
    request_view,
    since_last,
    vector,
)

transactions = payments()
customer, card, merchant = entity("customer"), entity("card"), entity("merchant")
device, ip, transaction = entity("device"), entity("ip"), entity("transaction")

# Chargebacks take days to arrive, so a fraud rate up to now is too low. Rates end a week ago, when
# most of the truth is known; the counts of frauds "known" reach up to now.
MATURE = WEEK

# What was usual before last week: a spree of the last days does not blur what it is held against.
USUAL = [amount(f, MONTH, offset=WEEK, span="usual") for f in ("mean", "std", "max")]
TO_USUAL = [
    ratio("amount", to=["amount_mean_usual", "amount_max_usual"]),
    ratio("amount_mean_7d", "amount_max_7d", to="amount_mean_usual", called="usual"),
]

# Card: is this how the card is used? Bursts, unusual amounts, unfamiliar shops and devices.
card_features = entity_view(
    "card",
    card,
    count(HOUR, DAY, WEEK, MONTH),
    amount("sum", HOUR, DAY, WEEK),
    amount("mean", WEEK, MONTH),
    amount("std", MONTH),
    amount("max", WEEK, MONTH),
    *USUAL,
    since_last(MONTH),
    distinct("merchant_id", DAY, MONTH, capacity=32),
    distinct("device_id", MONTH, capacity=8),
    distinct("ip_address", WEEK, capacity=8),
    fraud_count(MONTH),
    fraud_rate(MONTH, offset=MATURE),
    ratio("amount", to=["amount_mean_30d", "amount_max_30d"]),
    *TO_USUAL,
    ratio("count_1d", to="count_30d"),
    source=transactions,
)

# Customer: the same over all of a person's cards, for sources that know no cards as well.
customer_features = entity_view(
    "customer",
    customer,
    count(HOUR, DAY, WEEK, MONTH),
    amount("sum", DAY, WEEK),
    amount("mean", DAY, WEEK, MONTH),
    amount("std", MONTH),
    amount("max", WEEK, MONTH),
    *USUAL,
    since_last(MONTH),
    distinct("merchant_id", WEEK, capacity=32),
    distinct("card_id", MONTH, capacity=8),
    distinct("device_id", MONTH, capacity=8),
    fraud_count(MONTH),
    fraud_rate(MONTH, offset=MATURE),
    ratio("amount", to=["amount_mean_7d", "amount_mean_30d", "amount_max_30d"]),
    *TO_USUAL,
    ratio("count_1d", to="count_30d"),
    source=transactions,
)

# Merchant or terminal: is it compromised, or being used to test stolen cards?
merchant_features = entity_view(
    "merchant",
    merchant,
    count(HOUR, DAY, WEEK, MONTH),
    amount("mean", DAY, MONTH),
    amount("std", MONTH),
    since_last(WEEK),
    distinct("customer_id", HOUR, capacity=32),
    fraud_count(WEEK, 2 * WEEK, MONTH),
    fraud_rate(DAY, WEEK, MONTH, offset=MATURE),
    # Week by week further back: a compromise begins, and ends when it has been dealt with.
    *(fraud_rate(WEEK, offset=n * WEEK, hop=DAY, span=f"{n}_weeks_ago") for n in (2, 3, 4)),
    ratio("amount", to="amount_mean_30d"),
    ratio("count_1d", to="count_30d"),
    source=transactions,
)

# Device: one device with many cards is a ring or a bot.
device_features = entity_view(
    "device",
    device,
    count(HOUR, DAY, WEEK),
    amount("sum", DAY),
    since_last(MONTH),
    distinct("card_id", DAY, MONTH, capacity=16),
    distinct("customer_id", MONTH, capacity=16),
    fraud_count(MONTH),
    fraud_rate(MONTH, offset=MATURE),
    source=transactions,
)

# IP address: shared by many, so bursts and numbers of different cards matter most.
ip_features = entity_view(
    "ip",
    ip,
    count(HOUR, DAY, WEEK),
    amount("sum", DAY),
    since_last(WEEK),
    distinct("card_id", HOUR, WEEK, capacity=32),
    distinct("customer_id", WEEK, capacity=32),
    fraud_count(MONTH),
    fraud_rate(MONTH, offset=MATURE),
    source=transactions,
)

# Customer at a merchant: have they met before? There are many pairs, so the hop is long and a
# record short.
customer_merchant_features = entity_view(
    "customer_merchant",
    [customer, merchant],
    count(QUARTER, hop=WEEK),
    since_last(QUARTER),
    source=transactions,
)

# The payment itself. An attribute that a source does not give is null.
PLACE = ["channel", "entry_mode", "authentication", "mcc", "merchant_country"]
MEANS = ["card_country", "card_brand", "card_type", "device_system"]
request_features = request_view(
    "request",
    "amount",
    "hour_of_day",
    "day_of_week",
    categories=[*PLACE, *MEANS],
    numbers=["account_age_days"],
    source=transactions,
)

# What the IEEE-CIS data says of a payment in names of its own; null for any other source.
ieee_cis_features = request_view(
    "ieee_cis",
    categories=["ProductCD", "card6", "P_emaildomain"],
    numbers=["C1", "C13"],
    prefix="ieee",
    source=transactions,
)

fraud_detection_v1 = vector(
    "fraud_detection_v1",
    card_features,
    customer_features,
    merchant_features,
    device_features,
    ip_features,
    customer_merchant_features,
    request_features,
    ieee_cis_features,
)

# Slow-changing views: what is usual, for analysts, rules and Feast's SDK. They are in no vector.
customer_profile = profile_view(
    customer,
    usual={"mcc": "mcc", "country": "merchant_country", "channel": "channel"},
    amount_quantiles=[0.5, 0.9, 0.99],
    description="What is usual for a customer, over all that is known",
)
merchant_profile = profile_view(
    merchant,
    usual={"mcc": "mcc", "card_country": "card_country"},
    amount_quantiles=[0.1, 0.5, 0.9],
    description="What is usual at a merchant, over all that is known",
)

# Every transaction of the log with its vector and score.
transaction_history = history_view(transaction)
