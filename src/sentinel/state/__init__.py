"""State backends: where feature records live between events."""
