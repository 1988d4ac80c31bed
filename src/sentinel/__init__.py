"""Sentinel: self-hosted real-time card-fraud detection."""
