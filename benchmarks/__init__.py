"""Commands that measure what the documentation claims; see ``python -m benchmarks --help``."""
