"""Revisions of the tables of drift beside a ledger in PostgreSQL."""
