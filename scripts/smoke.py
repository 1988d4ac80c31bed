"""Shows that what is compiled runs on this machine: Numba compiles, LightGBM trains."""

from __future__ import annotations

import ctypes
import platform


def main() -> None:
    """Compile one function and train one small model."""
    openmp = "the system's OpenMP runtime"
    try:
        ctypes.CDLL("libgomp.so.1")
    except OSError:
        openmp = "scikit-learn's OpenMP runtime"

    import lightgbm
    import numba
    import numpy as np

    total = numba.njit(lambda values: values.sum())
    if total(np.arange(10)) != 45:
        raise SystemExit("Numba computes wrong sums here.")
    features = np.random.default_rng(7).normal(size=(500, 4))
    labels = (features[:, 0] > 0).astype(int)
    data = lightgbm.Dataset(features, labels)
    booster = lightgbm.train({"objective": "binary", "verbose": -1, "num_threads": 2}, data, 5)
    highest = np.argsort(np.asarray(booster.predict(features)))[-100:]
    if not labels[highest].all():
        raise SystemExit("LightGBM learns nothing here.")
    print(
        f"Python {platform.python_version()}: Numba {numba.__version__} compiles,"
        f" LightGBM {lightgbm.__version__} trains on {openmp}."
    )


if __name__ == "__main__":
    main()
