"""Drift: what moved since a model was made, how far, since when, and what that does to its figures.

Nothing here knows of HTTP, of a registry or of a feature store.
"""
