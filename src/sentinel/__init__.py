"""Sentinel: self-hosted real-time card-fraud detection."""

import os

# OpenMP's threads wait for each other in a loop by default: where cores are shared, the same fit of
# LightGBM then takes many times as long. The runtime reads this once, when it is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
