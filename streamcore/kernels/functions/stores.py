"""From the values of compiled code to the numbers of columns, as `batch.convert` does it for rows, and back."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import from_dtype, types

from streamcore.batch import Field
from streamcore.kernels.functions.emit import EXACT, Scope, kind_of_type, operation
from streamcore.kernels.functions.layout import Kind, kind_of
from streamcore.kernels.functions.refusal import refuse_type

_EXACT_IN_FLOAT32 = 1 << 24


@cache
def storing(field: Field) -> Any:
    """The intrinsic that makes a number of a field's dtype from a result; gives up on what doesn't fit.

    As for rows, an integer field takes floats without fraction, a float field takes integers that are exact in it.
    """
    dtype = field.dtype
    assert dtype is not None, f"column {field} holds no numbers"
    wanted, target = kind_of(field), from_dtype(dtype)

    def define(a: Any) -> Any:
        given = kind_of_type(a, f"field {field.name!r}: a result")
        if (given is Kind.BOOL) != (wanted is Kind.BOOL):
            raise refuse_type(f"field {field.name!r} is {field.type}, the result is {given.value}")
        argument = {Kind.INT: types.int64, Kind.FLOAT: types.float64, Kind.BOOL: types.boolean}[given]

        def emit(scope: Scope, x: Any) -> Any:
            if wanted is Kind.BOOL:
                return x
            if wanted is Kind.INT:
                return _to_integer(scope, x if given is Kind.INT else _whole(scope, x), dtype)
            return _to_float(scope, x, given, dtype)

        return target, (argument,), emit

    return operation(1, define)


def _whole(scope: Scope, x: Any) -> Any:
    number = scope.double_to_integer(x)
    scope.bail_if(scope.builder.fcmp_ordered("!=", scope.to_double(number), x))
    return number


def _to_integer(scope: Scope, x: Any, dtype: np.dtype[Any]) -> Any:
    limits = np.iinfo(dtype)
    low, high = max(int(limits.min), -(1 << 63)), min(int(limits.max), (1 << 63) - 1)
    builder = scope.builder
    if (low, high) != (-(1 << 63), (1 << 63) - 1):
        below = builder.icmp_signed("<", x, scope.integer(low))
        scope.bail_if(builder.or_(below, builder.icmp_signed(">", x, scope.integer(high))))
    return x if dtype.itemsize == 8 else builder.trunc(x, ir.IntType(8 * dtype.itemsize))


def _to_float(scope: Scope, x: Any, given: Kind, dtype: np.dtype[Any]) -> Any:
    builder = scope.builder
    if given is Kind.INT:
        exact = EXACT if dtype.itemsize == 8 else _EXACT_IN_FLOAT32
        shifted = builder.add(x, scope.integer(exact))
        scope.bail_if(builder.icmp_unsigned(">", shifted, scope.integer(2 * exact)))
        x = scope.to_double(x)
    return x if dtype.itemsize == 8 else builder.fptrunc(x, ir.FloatType())


def _from_uint64(a: Any) -> Any:
    def emit(scope: Scope, x: Any) -> Any:
        scope.bail_if(scope.builder.icmp_signed("<", x, scope.integer(0)))
        return x

    return types.int64, (types.uint64,), emit


from_uint64 = operation(1, _from_uint64)
"""A uint64 as int64; gives up on the upper half."""
