"""Models: training, evaluation, registry, and the compiled kernels that serve them."""

import os

# Threads of OpenMP wait for each other by spinning, which on a machine that has other work takes
# forty times as long as sleeping. The runtime reads this once, when LightGBM loads it.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
