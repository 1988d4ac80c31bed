"""Other ways to build a scoring API, that `benchmarks serving` compares Sentinel with."""
