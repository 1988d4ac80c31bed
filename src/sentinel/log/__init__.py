"""The log's own language: what an entry is, and what a label does to the entry it is about."""
