"""Features for those who ask from outside a scorer: of now, of the past, and materialized.

Readers give the features of entities as they are now: from a running scorer, from shared state, or
from snapshot and log. Data frames become rows for `sentinel.features.as_of`. Materialized views are
tables in the offline store. Nothing here knows Feast, whose stores are built on it.
"""
