"""The built-in functions and those of `math` for compiled code, exact or given up (see `checked`)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from numba import types

from streamcore.kernels.functions.checked import power, true_divide, truth
from streamcore.kernels.functions.emit import NUMBERS, Scope, kind_of_type, operation
from streamcore.kernels.functions.layout import Kind
from streamcore.kernels.functions.refusal import refuse_type

_LIBM = (
    *("exp", "expm1", "log2", "log10", "log1p", "sin", "cos", "tan", "asin", "acos", "atan"),
    *("sinh", "cosh", "tanh", "asinh", "acosh", "atanh"),
)


def _absolute(a: Any) -> Any:
    if kind_of_type(a, "abs()") is Kind.FLOAT:
        return types.float64, (types.float64,), Scope.absolute

    def emit(scope: Scope, x: Any) -> Any:
        negated = scope.overflow_checked("ssub", scope.integer(0), x)  # gives up on the lowest int, and only there
        return scope.builder.select(scope.builder.icmp_signed("<", x, scope.integer(0)), negated, x)

    return types.int64, (types.int64,), emit


def _extreme(name: str, sign: str) -> Any:
    """min or max of two: the second where it is smaller (larger), else the first; as Python, also for nan and -0.0."""

    def define(a: Any, b: Any) -> Any:
        kind = kind_of_type(a, f"{name}()")
        if kind is not kind_of_type(b, f"{name}()"):
            raise refuse_type(f"{name}() of different types: its result is now one, now the other")

        def emit(scope: Scope, x: Any, y: Any) -> Any:
            builder = scope.builder
            if kind is Kind.FLOAT:
                return builder.select(builder.fcmp_ordered(sign, y, x), y, x)
            compare = builder.icmp_signed if kind is Kind.INT else builder.icmp_unsigned
            return builder.select(compare(sign, y, x), y, x)

        return NUMBERS[kind], (NUMBERS[kind],) * 2, emit

    return operation(2, define)


def _to_integer(round_first: str, what: str) -> Any:
    """int, round, floor, ceil and trunc of one number."""

    def define(a: Any) -> Any:
        if kind_of_type(a, what) is not Kind.FLOAT:
            return types.int64, (types.int64,), lambda scope, x: x

        def emit(scope: Scope, x: Any) -> Any:
            return scope.double_to_integer(scope.call_llvm(round_first, x))

        return types.int64, (types.float64,), emit

    return operation(1, define)


def _to_float(a: Any) -> Any:
    kind_of_type(a, "float()")
    return types.float64, (types.float64,), lambda scope, x: x


def _index(a: Any) -> Any:
    if kind_of_type(a, "range()") is Kind.FLOAT:
        raise refuse_type("range() of a float")
    return types.int64, (types.int64,), lambda scope, x: x


def _of_doubles(name: str, arity: int, emit: Callable[..., Any]) -> Any:
    """A function of `math` whose arguments are made floats first."""

    def define(*operands: Any) -> Any:
        for operand in operands:
            kind_of_type(operand, f"math.{name}()")
        return types.float64, (types.float64,) * arity, emit

    return operation(arity, define)


def _libm(name: str) -> Any:
    def emit(scope: Scope, *values: Any) -> Any:
        result = scope.call_libm(name, *values)
        _bail_on_error(scope, result, values)
        return result

    return emit


def _bail_on_error(scope: Scope, result: Any, values: tuple[Any, ...]) -> None:
    """Gives up where `math` might raise: on a result that isn't finite though no argument is nan."""
    builder = scope.builder
    wrong = builder.not_(scope.is_finite(result))
    for value in values:
        wrong = builder.and_(wrong, builder.fcmp_ordered("ord", value, value))
    scope.bail_if(wrong)


def _log(scope: Scope, x: Any) -> Any:
    scope.bail_if(scope.builder.fcmp_ordered("<=", x, scope.double(0.0)))
    return scope.call_libm("log", x)


def _log_to_base(scope: Scope, x: Any, base: Any) -> Any:
    return true_divide(scope, _log(scope, x), _log(scope, base))


def _sqrt(scope: Scope, x: Any) -> Any:
    scope.bail_if(scope.builder.fcmp_ordered("<", x, scope.double(0.0)))
    return scope.call_llvm("llvm.sqrt", x)


def _scaled(factor: float) -> Callable[[Scope, Any], Any]:
    return lambda scope, x: scope.builder.fmul(x, scope.double(factor))


def _finite_pair(name: str) -> Any:
    """A function of two doubles; what isn't finite is left to the interpreter."""

    def emit(scope: Scope, x: Any, y: Any) -> Any:
        for value in (x, y):
            scope.bail_if(scope.builder.not_(scope.is_finite(value)))
        result = scope.call_libm(name, x, y)
        scope.bail_if(scope.builder.not_(scope.is_finite(result)))
        return result

    return emit


def _test(name: str, check: Callable[[Scope, Any], Any]) -> Any:
    def define(a: Any) -> Any:
        kind_of_type(a, f"math.{name}()")
        return types.boolean, (types.float64,), check

    return operation(1, define)


def _is_nan(scope: Scope, x: Any) -> Any:
    return scope.builder.fcmp_unordered("uno", x, x)


def _is_inf(scope: Scope, x: Any) -> Any:
    return scope.builder.fcmp_ordered("==", scope.absolute(x), scope.double(math.inf))


index = operation(1, _index)

BUILTINS: dict[Any, dict[int, Any]] = {
    abs: {1: operation(1, _absolute)},
    bool: {1: truth},
    int: {1: _to_integer("llvm.trunc", "int()")},
    float: {1: operation(1, _to_float)},
    round: {1: _to_integer("llvm.rint", "round()")},
    min: {2: _extreme("min", "<")},
    max: {2: _extreme("max", ">")},
    pow: {2: power},
    math.sqrt: {1: _of_doubles("sqrt", 1, _sqrt)},
    math.log: {1: _of_doubles("log", 1, _log), 2: _of_doubles("log", 2, _log_to_base)},
    math.fabs: {1: _of_doubles("fabs", 1, Scope.absolute)},
    math.floor: {1: _to_integer("llvm.floor", "math.floor()")},
    math.ceil: {1: _to_integer("llvm.ceil", "math.ceil()")},
    math.trunc: {1: _to_integer("llvm.trunc", "math.trunc()")},
    math.isnan: {1: _test("isnan", _is_nan)},
    math.isinf: {1: _test("isinf", _is_inf)},
    math.isfinite: {1: _test("isfinite", Scope.is_finite)},
    math.copysign: {2: _of_doubles("copysign", 2, lambda s, x, y: s.call_llvm("llvm.copysign", x, y))},
    math.degrees: {1: _of_doubles("degrees", 1, _scaled(180.0 / math.pi))},
    math.radians: {1: _of_doubles("radians", 1, _scaled(math.pi / 180.0))},
    math.atan2: {2: _of_doubles("atan2", 2, _finite_pair("atan2"))},
    math.pow: {2: _of_doubles("pow", 2, _finite_pair("pow"))},
    math.fmod: {2: _of_doubles("fmod", 2, _finite_pair("fmod"))},
    **{getattr(math, name): {1: _of_doubles(name, 1, _libm(name))} for name in _LIBM},
}
"""Function → number of arguments → its checked intrinsic."""
