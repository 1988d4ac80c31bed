"""Features of customers at terminals, for the Fraud Detection Handbook's data and what is like it.

To change a feature: edit here, look at `sentinel features plan`, then `sentinel features apply`.
Windows slide (see docs/feature-store.md); features of a payment see only what came before it. A
line is a family, one feature for each of its windows: ``count(HOUR, DAY)`` of the view "customer"
is ``customer_count_1h`` and ``customer_count_1d``.

A payment has a customer, a terminal (here a merchant) and an amount. Two things make frauds that
can be told: a customer whose payments suddenly grow, and a terminal at which every payment is
fraud for some weeks.
"""

from typing import Final

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
customer, merchant = entity("customer"), entity("merchant")

# Frauds are known a week after they happened, as the import declares. Rates end that long ago.
MATURE = WEEK
FORTNIGHT = 2 * WEEK

# What was usual before the last two weeks, over as long a time as there is: a spree of the last
# days does not blur what it is held against.
USUAL = [
    amount(f, QUARTER, offset=FORTNIGHT, hop=WEEK, span="usual") for f in ("mean", "std", "max")
]
RECENT_MAX = [f"amount_max_{days}d" for days in (1, 3, 7, 14, 30)]
RECENT_MEAN = [f"amount_mean_{days}d" for days in (1, 7, 14)]

# Customer: has somebody else begun to pay? Large payments of the last days against what is usual.
customer_features = entity_view(
    "customer",
    customer,
    count(HOUR, DAY, WEEK, MONTH),
    amount("sum", DAY, WEEK),
    amount("mean", DAY, WEEK, MONTH),
    amount("mean", FORTNIGHT, hop=DAY),
    amount("mean", QUARTER, hop=WEEK),
    amount("std", MONTH),
    amount("std", FORTNIGHT, hop=DAY),
    amount("max", DAY, WEEK, MONTH),
    amount("max", 3 * DAY, FORTNIGHT, hop=DAY),
    *USUAL,
    *(amount(f, MONTH, offset=WEEK, span="last_month") for f in ("mean", "max")),
    since_last(MONTH),
    distinct("merchant_id", WEEK, capacity=16),
    fraud_count(MONTH),
    fraud_rate(MONTH, offset=MATURE),
    ratio("amount", to=["amount_mean_7d", "amount_mean_30d", "amount_mean_90d"]),
    ratio("amount", to=["amount_max_14d", "amount_max_30d"]),
    ratio("amount", to=["amount_mean_usual", "amount_std_usual", "amount_max_usual"]),
    ratio("amount", to=["amount_mean_last_month", "amount_max_last_month"]),
    ratio(*RECENT_MAX, *RECENT_MEAN, "amount_std_14d", to="amount_mean_usual", called="usual"),
    ratio("count_1d", to="count_30d"),
    source=transactions,
)

# Terminal: is it compromised? A compromise begins, lasts some weeks, and ends when it has been
# dealt with, so rates are told week by week. A fraud of a large amount says nothing of the
# terminal: it is the customer's affair, and is left out where amounts are "ordinary".
ORDINARY: Final = (("amount_minor", "<=", 22_000),)
terminal_features = entity_view(
    "merchant",
    merchant,
    count(HOUR, DAY, WEEK, MONTH),
    amount("mean", DAY, hop=HOUR),
    amount("mean", MONTH),
    amount("std", MONTH),
    since_last(WEEK),
    distinct("customer_id", HOUR, capacity=8),
    fraud_count(WEEK, FORTNIGHT, MONTH),
    fraud_count(8 * DAY, 10 * DAY, 27 * DAY, hop=DAY),
    fraud_rate(DAY, 2 * DAY, 3 * DAY, WEEK, FORTNIGHT, MONTH, offset=MATURE),
    *(fraud_rate(WEEK, offset=n * WEEK, hop=DAY, span=f"{n}_weeks_ago") for n in (2, 3, 4)),
    *(fraud_count(WEEK, offset=n * WEEK, hop=DAY, span=f"{n}_weeks_ago") for n in (1, 2, 3, 4)),
    fraud_count(WEEK, FORTNIGHT, 27 * DAY, hop=DAY, name="ordinary_frauds", where=ORDINARY),
    fraud_rate(
        *(DAY, 2 * DAY, 3 * DAY, WEEK, FORTNIGHT, 20 * DAY),
        hop=12 * HOUR,
        offset=MATURE,
        name="ordinary_fraud_rate",
        where=ORDINARY,
    ),
    ratio("amount", to="amount_mean_30d"),
    ratio("count_1d", to="count_30d"),
    source=transactions,
)

# Customer at a terminal: have they met before? There are many pairs, so the hop is long.
customer_terminal_features = entity_view(
    "customer_merchant",
    [customer, merchant],
    count(QUARTER, hop=WEEK),
    since_last(QUARTER),
    source=transactions,
)

request_features = request_view(
    "request", "amount", "hour_of_day", "day_of_week", source=transactions
)

fraud_detection_v1 = vector(
    "fraud_detection_v1",
    customer_features,
    terminal_features,
    customer_terminal_features,
    request_features,
)

# Slow-changing: what is usual, for analysts, rules and Feast's SDK. It is in no vector.
customer_profile = profile_view(
    customer,
    usual={},
    amount_quantiles=[0.5, 0.9, 0.99],
    description="What is usual for a customer, over all that is known",
)

# Every transaction of the log with its vector and score.
transaction_history = history_view(entity("transaction"))
