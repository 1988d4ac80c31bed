"""Numba's compiler with the settings every kernel uses, typed for mypy."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

_Function = TypeVar("_Function", bound=Callable[..., Any])
_OPTIONS: dict[str, Any] = {"nogil": True, "fastmath": False, "error_model": "numpy"}
_KERNEL_PACKAGES = ("features", "models", "state")


def kernel(function: _Function) -> _Function:
    """Compile to machine code without the interpreter lock, cached on disk, IEEE arithmetic."""
    return cast("_Function", numba.njit(cache=True, **_OPTIONS)(function))


def inner_kernel(function: _Function) -> _Function:
    """`kernel` for functions that make no arrays: they don't count references to those they get.

    Counting is atomic, and costs more than what a small function does that a kernel calls for
    every event.
    """
    return cast(
        "_Function", numba.njit(cache=True, _nrt=False, forceinline=True, **_OPTIONS)(function)
    )


def _cache_folder() -> Path | None:
    """A folder for compiled kernels that changes with any source they may depend on.

    It is made in ``NUMBA_CACHE_DIR``, or else beside this package. Numba looks at a kernel's own
    file only, and would go on using machine code that holds an old constant of another file.
    """
    package = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for name in _KERNEL_PACKAGES:
        for path in sorted((package / name).glob("*.py")):
            digest.update(path.read_bytes())
    parent = Path(os.environ.get("NUMBA_CACHE_DIR") or package / "__pycache__")
    folder = parent / f"kernels-{digest.hexdigest()[:16]}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


_folder = _cache_folder()
if _folder is not None:
    numba.config.CACHE_DIR = str(_folder)
