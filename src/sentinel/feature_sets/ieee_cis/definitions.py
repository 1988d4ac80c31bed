"""Features of the IEEE-CIS data, with the columns that `sentinel import ieee-cis` keeps.

To change a feature: edit here, look at `sentinel features plan`, then `sentinel features apply`.
Windows slide (see docs/feature-store.md); features of a payment see only what came before it. A
line is a family, one feature for each of its windows: ``count(HOUR, DAY)`` of the view "card" is
``card_count_1h`` and ``card_count_1d``.

The data has clients (card1, addr1 and the day on which D1 began to count), cards (card1 to card6)
and devices, but neither merchants nor addresses of the network.
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
customer, card, device = entity("customer"), entity("card"), entity("device")

# Frauds are known 30 days after they happened, as the import declares. Rates end that long ago.
MATURE = MONTH

# What was usual before last week: a spree of the last days does not blur what it is held against.
USUAL = [amount(f, MONTH, offset=WEEK, span="usual") for f in ("mean", "std", "max")]
TO_USUAL = [
    ratio("amount", to=["amount_mean_usual", "amount_max_usual"]),
    ratio("amount_mean_7d", "amount_max_7d", to="amount_mean_usual", called="usual"),
]

# Client: a fraud on one of its payments marks those after it, so known frauds weigh most here.
customer_features = entity_view(
    "customer",
    customer,
    count(HOUR, DAY, WEEK, MONTH),
    count(QUARTER, hop=WEEK),
    amount("sum", DAY, WEEK),
    amount("mean", WEEK, MONTH),
    amount("std", MONTH),
    amount("max", WEEK, MONTH),
    *USUAL,
    since_last(QUARTER),
    distinct("card_id", MONTH, capacity=8),
    distinct("device_id", MONTH, capacity=8),
    distinct("P_emaildomain", MONTH, capacity=8),
    fraud_count(MONTH),
    fraud_count(QUARTER, hop=WEEK),
    fraud_rate(QUARTER, offset=MATURE, hop=WEEK),
    ratio("amount", to=["amount_mean_7d", "amount_mean_30d", "amount_max_30d"]),
    *TO_USUAL,
    ratio("count_1d", to="count_30d"),
    source=transactions,
)

# Card: many clients share card1 to card6, so this is what happens with cards of this kind.
card_features = entity_view(
    "card",
    card,
    count(HOUR, DAY, WEEK, MONTH),
    amount("sum", HOUR, DAY),
    amount("mean", WEEK, MONTH),
    amount("std", MONTH),
    *USUAL,
    since_last(MONTH),
    distinct("customer_id", DAY, WEEK, capacity=16),
    distinct("device_id", WEEK, capacity=8),
    fraud_count(WEEK, MONTH),
    fraud_rate(MONTH, offset=MATURE),
    ratio("amount", to=["amount_mean_7d", "amount_mean_30d", "amount_mean_usual"]),
    ratio("count_1d", to="count_30d"),
    source=transactions,
)

# Device: one device with many clients is a ring or a bot.
device_features = entity_view(
    "device",
    device,
    count(HOUR, DAY, WEEK),
    amount("sum", DAY),
    since_last(MONTH),
    distinct("card_id", DAY, MONTH, capacity=16),
    distinct("customer_id", DAY, MONTH, capacity=16),
    fraud_count(MONTH),
    fraud_rate(MONTH, offset=MATURE),
    source=transactions,
)

# Client on a device: have they met before? There are many pairs, so the hop is long.
customer_device_features = entity_view(
    "customer_device",
    [customer, device],
    count(QUARTER, hop=WEEK),
    since_last(QUARTER),
    source=transactions,
)

# The payment itself. Most of D1 to D15 count days from something in the client's past: Dn_day is
# the day they count from, which stays the same while Dn grows. D3, D5 and D9 are no such counts.
DAY_COUNTS = [n for n in range(1, 16) if n not in (3, 5, 9)]
request_features = request_view(
    "request",
    "amount",
    "hour_of_day",
    "day_of_week",
    categories=[
        *("ProductCD", "card4", "card6", "addr1", "addr2", "P_emaildomain", "R_emaildomain"),
        *(f"M{n}" for n in range(1, 10)),
        *("DeviceType", "DeviceInfo"),
        *(f"id_{n}" for n in range(12, 39)),
    ],
    numbers=[
        *("dist1", "dist2"),
        *(f"C{n}" for n in range(1, 15)),
        *(f"D{n}_day" for n in DAY_COUNTS),
        *("D3", "D5", "D9"),
        *(f"id_{n:02d}" for n in range(1, 12)),
    ],
    source=transactions,
)

fraud_detection_v1 = vector(
    "fraud_detection_v1",
    customer_features,
    card_features,
    device_features,
    customer_device_features,
    request_features,
)

# Slow-changing: what is usual, for analysts, rules and Feast's SDK. It is in no vector.
customer_profile = profile_view(
    customer,
    usual={"product": "ProductCD", "email": "P_emaildomain"},
    amount_quantiles=[0.5, 0.9, 0.99],
    description="What is usual for a client, over all that is known",
)

# Every transaction of the log with its vector and score.
transaction_history = history_view(entity("transaction"))
