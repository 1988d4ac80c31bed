"""Revisions of the tables that keep keys beside a ledger in PostgreSQL."""
