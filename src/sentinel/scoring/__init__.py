"""Scoring: features, model and policy to a decision. Knows nothing of HTTP."""
