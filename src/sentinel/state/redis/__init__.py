"""Feature state in Redis, shared by many scorers.

A record is a base and a tail of events. `records` appends to it and reads it, `group_fold` folds
what comes back into vectors, `features` does so for a scorer, `effects` does what the log
says beside the decisions. Why it is so: docs/decisions/300-a-record-is-a-base-and-a-tail.md.
"""
