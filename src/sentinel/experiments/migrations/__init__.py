"""Revisions of the tables that hold the versions of a policy beside a ledger in PostgreSQL."""
