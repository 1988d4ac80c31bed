# ruff: noqa: ARG001 - Numba prescribes what its code generators take.
"""How kernels are compiled, and vectors of doubles for them.

LLVM has vector types and Numba does not show them: left alone, it must prove for every inner loop
of eight steps that no two arrays overlap, and gives up. A `Lanes(n)` value is one LLVM
`<n x double>`: `load` and `store` move it, `fill` repeats a scalar, `+ - *` work lane by lane, each
rounded on its own as IEEE 754 says, so results don't depend on the width. LLVM splits a vector
the processor has no register for.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.datamodel import models
from numba.extending import intrinsic, overload, register_model
from numpy.typing import NDArray

from sentinel.features.jit import kernel

njit = kernel


class Lanes(types.Type):
    """The Numba type of a vector of `n` doubles."""

    def __init__(self, n: int) -> None:
        self.n = n
        super().__init__(name=f"Lanes({n})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, lanes: Lanes) -> None:
        super().__init__(manager, lanes, ir.VectorType(ir.DoubleType(), lanes.n))


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, i: Any, vector: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [i]), vector.as_pointer())


def _repeat(builder: Any, scalar: Any, n: int) -> Any:
    undefined = ir.Constant(ir.VectorType(scalar.type, n), ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), n), [0] * n)
    return builder.shuffle_vector(first, undefined, zeros)


@intrinsic(prefer_literal=True)
def fill(typingctx: Any, x: Any, n: Any) -> Any:
    """`n` lanes that all hold the double `x`; `n` is a constant."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _repeat(builder, args[0], signature.return_type.n)

    return Lanes(n.literal_value)(types.float64, n), generate


@intrinsic(prefer_literal=True)
def load(typingctx: Any, array: Any, i: Any, n: Any) -> Any:
    """`array[i : i + n]` of a one-dimensional float64 array; not bounds-checked."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = ir.VectorType(ir.DoubleType(), signature.return_type.n)
        pointer = _pointer(context, builder, signature.args[0], args[0], args[1], vector)
        return builder.load(pointer, align=8)

    return Lanes(n.literal_value)(array, types.uintp, n), generate


@intrinsic
def store(typingctx: Any, array: Any, i: Any, lanes: Any) -> Any:
    """`array[i : i + n] = lanes` for a one-dimensional float64 array; not bounds-checked."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = ir.VectorType(ir.DoubleType(), signature.args[2].n)
        pointer = _pointer(context, builder, signature.args[0], args[0], args[1], vector)
        builder.store(args[2], pointer, align=8)
        return context.get_dummy_value()

    return types.void(array, types.uintp, lanes), generate


@intrinsic(prefer_literal=True)
def at_most(typingctx: Any, array: Any, i: Any, bound: Any, n: Any) -> Any:
    """1.0 in the lanes where the float32 `array[i : i + n]` is `<= bound`, 0.0 elsewhere."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = ir.VectorType(ir.FloatType(), signature.return_type.n)
        pointer = _pointer(context, builder, signature.args[0], args[0], args[1], vector)
        bounds = _repeat(builder, args[2], vector.count)
        mask = builder.fcmp_ordered("<=", builder.load(pointer, align=4), bounds)
        return builder.uitofp(mask, ir.VectorType(ir.DoubleType(), vector.count))

    return Lanes(n.literal_value)(array, types.uintp, types.float32, n), generate


@intrinsic
def rule_out(typingctx: Any, array: Any, i: Any, bound: Any, left: Any, j: Any, mask: Any) -> Any:
    """Where the float32 `array[i : i + 16]` is not `<= bound`: `left[j : j + 16] &= mask`.

    `left` is int32 or int64, and of the uint64 `mask` it takes the lower bits; not bounds-checked.

    Returns:
        uint32: one bit for each lane, set where that was so.
    """
    n = 16

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        words = ir.VectorType(ir.IntType(left.dtype.bitwidth), n)
        values = _pointer(
            context, builder, signature.args[0], args[0], args[1], ir.VectorType(ir.FloatType(), n)
        )
        right = builder.fcmp_unordered(
            ">", builder.load(values, align=4), _repeat(builder, args[2], n)
        )
        word = args[5]
        if left.dtype.bitwidth < 64:
            word = builder.trunc(word, words.element)
        kept = builder.select(right, _repeat(builder, word, n), ir.Constant(words, [-1] * n))
        place = _pointer(context, builder, signature.args[3], args[3], args[4], words)
        align = left.dtype.bitwidth // 8
        builder.store(builder.and_(builder.load(place, align=align), kept), place, align=align)
        return builder.zext(builder.bitcast(right, ir.IntType(n)), ir.IntType(32))

    signature = types.uint32(array, types.uintp, types.float32, left, types.uintp, types.uint64)
    return signature, generate


@intrinsic
def total(typingctx: Any, lanes: Any) -> Any:
    """The sum of all lanes, from the first to the last."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        result = ir.Constant(ir.DoubleType(), 0.0)
        for lane in range(signature.args[0].n):
            place = ir.Constant(ir.IntType(32), lane)
            result = builder.fadd(result, builder.extract_element(args[0], place))
        return result

    return types.float64(lanes), generate


def _lane_by_lane(instruction: str) -> Callable[..., Any]:
    @intrinsic
    def operation(typingctx: Any, a: Any, b: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return getattr(builder, instruction)(*args)

        return a(a, b), generate

    return operation  # type: ignore[no-any-return]


def _overload(symbol: Callable[..., Any], instruction: str) -> None:
    operation = _lane_by_lane(instruction)

    @overload(symbol, strict=False)
    def dispatch(a: Any, b: Any) -> Any:
        if isinstance(a, Lanes) and isinstance(b, Lanes) and a.n == b.n:
            # Numba wants a function here, not the intrinsic itself.
            return lambda a, b: operation(a, b)  # noqa: PLW0108
        if isinstance(a, Lanes) and isinstance(b, types.Float):
            n = a.n
            return lambda a, b: operation(a, fill(b, n))
        if isinstance(b, Lanes) and isinstance(a, types.Float):
            n = b.n
            return lambda a, b: operation(fill(a, n), b)
        return None


_overload(operator.add, "fadd")
_overload(operator.sub, "fsub")
_overload(operator.mul, "fmul")


@njit
def aligned(n: int) -> NDArray[np.float64]:
    """A float64 array (n,) that starts on a cache line, so that no vector straddles two."""
    block = np.empty(n + 8)
    start = -(block.ctypes.data // 8) % 8
    return block[start : start + n]
