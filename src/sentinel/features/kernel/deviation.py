"""The standard deviation of integers, exact until one rounding at its end."""

from __future__ import annotations

import numpy as np

from sentinel.features.jit import inner_kernel


@inner_kernel
def _product(a: np.uint64, b: np.uint64) -> tuple[np.uint64, np.uint64]:
    """128 bits of ``a * b`` as (high, low), by halves of 32 bits."""
    u32 = np.uint64(32)
    mask32 = np.uint64(0xFFFFFFFF)
    a0, a1 = a & mask32, a >> u32
    b0, b1 = b & mask32, b >> u32
    p00, p01, p10, p11 = a0 * b0, a0 * b1, a1 * b0, a1 * b1
    middle = (p00 >> u32) + (p01 & mask32) + (p10 & mask32)
    low = (p00 & mask32) | (middle << u32)
    return p11 + (p01 >> u32) + (p10 >> u32) + (middle >> u32), low


@inner_kernel
def standard_deviation(count: int, total: int, high: int, low: int) -> float:
    """Sample standard deviation, ``sqrt(V / (n * (n - 1)))`` with ``V = n * squares - total^2``.

    V is an exact, non-negative integer below 2^128, rounded once to the nearest double; the
    squares come in two limbs, ``high * 2^40 + low``.
    """
    n = np.uint64(count)
    size = np.uint64(abs(total))
    high_u = np.uint64(high)
    squares_low = (high_u << np.uint64(40)) + np.uint64(low)
    squares_high = high_u >> np.uint64(24)
    if squares_low < np.uint64(low):
        squares_high += np.uint64(1)
    v_high, v_low = _product(squares_low, n)
    v_high += squares_high * n
    total_high, total_low = _product(size, size)
    if v_low < total_low:
        v_high -= np.uint64(1)
    v_low -= total_low
    v_high -= total_high
    # To the nearest double: 64 leading bits with a sticky last bit, then one rounding.
    shift = 0
    while v_high != np.uint64(0):
        sticky = v_low & np.uint64(1)
        v_low = (v_low >> np.uint64(1)) | (v_high << np.uint64(63)) | sticky
        v_high = v_high >> np.uint64(1)
        shift += 1
    deviations = np.float64(v_low) * 2.0**shift
    return float(np.sqrt(deviations / (np.float64(count) * np.float64(count - 1))))
