"""Numba's compiler with the settings every kernel uses, typed for mypy."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.caching import CompileResultCacheImpl, FunctionCache, UserProvidedCacheLocator
from numba.extending import intrinsic

KERNELS: list[Any] = []
"""Every kernel that was imported, as Numba's dispatcher."""

_Function = TypeVar("_Function", bound=Callable[..., Any])
_OPTIONS: dict[str, Any] = {"nogil": True, "fastmath": False, "error_model": "numpy"}
_PACKAGE = Path(__file__).resolve().parent.parent
_KERNEL_PACKAGES = ("drift", "features", "models", "state")


@intrinsic
def prefetch(typingctx: Any, array: Any, row: Any, column: Any) -> Any:  # noqa: ARG001
    """Ask the processor for the memory of an element, and go on; hides what waiting costs.

    The column says nothing where the array has one dimension. Not bounds-checked.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = signature.args[0]
        data = context.make_array(kind)(context, builder, args[0])
        strides = cgutils.unpack_tuple(builder, data.strides)
        shape = cgutils.unpack_tuple(builder, data.shape)
        place = cgutils.get_item_pointer2(
            context, builder, data.data, shape, strides, kind.layout, list(args[1 : 1 + kind.ndim])
        )
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(ir.VoidType(), [byte, word, word, word]),
            "llvm.prefetch.p0i8",
        )
        # To be read or written, soon, in all caches.
        hints = [ir.Constant(word, 1), ir.Constant(word, 3), ir.Constant(word, 1)]
        builder.call(function, [builder.bitcast(place, byte), *hints])
        return context.get_dummy_value()

    return types.none(array, types.intp, types.intp), generate


@intrinsic
def load64(typingctx: Any, data: Any, place: Any) -> Any:  # noqa: ARG001
    """Eight bytes of an array of bytes as one int64, wherever they begin. Not bounds-checked."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, args[0])
        start = builder.gep(array.data, [args[1]])
        return builder.load(builder.bitcast(start, ir.IntType(64).as_pointer()), align=1)

    return types.int64(data, types.intp), generate


def _cache_folder() -> tuple[Path | None, bool]:
    """A folder for compiled kernels that changes with any source they may depend on.

    It is in ``NUMBA_CACHE_DIR``, or else beside this package. Numba looks at a kernel's own file
    only, and would go on using machine code that holds an old constant of another file.

    Returns:
        The folder, or None if there is none and none can be made; and whether it may be written.
    """
    digest = hashlib.sha256()
    for name in _KERNEL_PACKAGES:
        for path in sorted((_PACKAGE / name).rglob("*.py")):
            digest.update(path.read_bytes())
    parent = Path(os.environ.get("NUMBA_CACHE_DIR") or _PACKAGE / "__pycache__")
    folder = parent / f"kernels-{digest.hexdigest()[:16]}"
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    return (folder if folder.is_dir() else None), os.access(folder, os.W_OK)


CACHE_FOLDER, CACHE_IS_WRITABLE = _cache_folder()
if CACHE_FOLDER is not None:
    numba.config.CACHE_DIR = str(CACHE_FOLDER)


class _KernelLocator(UserProvidedCacheLocator):
    """Where a kernel is kept: by its place in the package, wherever the package itself is.

    So an installed package and a checkout of the same sources find each other's kernels.
    """

    @classmethod
    def get_suitable_cache_subpath(cls, py_file: str) -> str:
        folder = Path(py_file).resolve().parent
        if folder.is_relative_to(_PACKAGE):
            return ".".join(folder.relative_to(_PACKAGE).parts)
        return str(super().get_suitable_cache_subpath(py_file))

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> _KernelLocator:
        """Without a try to write: `_cache_folder` has found out."""
        return cls(py_func, py_file)

    def ensure_cache_path(self) -> None:
        Path(self.get_cache_path()).mkdir(parents=True, exist_ok=True)


class _KernelImpl(CompileResultCacheImpl):
    _locator_classes = (_KernelLocator,)


class _Kernels(FunctionCache):
    """Compiled kernels of a folder that this process writes, too."""

    _impl_class = _KernelImpl


class _FoundKernels(_Kernels):
    """Kernels that somebody else compiled, in a folder that this process cannot write.

    What is not among them, since it was compiled for another processor, is compiled in memory.
    """

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep nothing."""


def _compiled(function: _Function, **more: Any) -> _Function:
    # Without a folder of ours Numba takes one in the home of the user, unless one was named.
    elsewhere = CACHE_FOLDER is None and "NUMBA_CACHE_DIR" not in os.environ
    dispatcher: Any = numba.njit(cache=elsewhere, **_OPTIONS, **more)(function)
    if CACHE_FOLDER is not None:
        dispatcher._cache = (_Kernels if CACHE_IS_WRITABLE else _FoundKernels)(function)
    KERNELS.append(dispatcher)
    return cast("_Function", dispatcher)


def kernel(function: _Function) -> _Function:
    """Compile to machine code without the interpreter lock, cached on disk, IEEE arithmetic."""
    return _compiled(function)


def inner_kernel(function: _Function) -> _Function:
    """`kernel` for functions that make no arrays: they don't count references to those they get.

    Counting is atomic, and costs more than what a small function does that a kernel calls for
    every event.
    """
    return _compiled(function, _nrt=False, forceinline=True)
