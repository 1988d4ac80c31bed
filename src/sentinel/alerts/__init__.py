"""Alerts of a deployment without Prometheus: conditions, their states, and who is told how."""
