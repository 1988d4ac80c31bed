"""Tests of plans, the fold and everything that runs it."""
