"""Feast's side of Sentinel: definitions in, plan out, and the stores Feast loads by class path."""
