"""Numba's compiler with the settings every kernel uses, typed for mypy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import numba

_P = ParamSpec("_P")
_R = TypeVar("_R")


def kernel(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Compile to machine code without the interpreter lock, cached on disk, IEEE arithmetic."""
    compiled: Any = numba.njit(cache=True, nogil=True, fastmath=False, error_model="numpy")(
        function
    )
    return cast(Callable[_P, _R], compiled)


