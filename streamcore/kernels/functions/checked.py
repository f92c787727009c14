"""Python's operators on int, float and bool for compiled code, exact or given up.

Each is the operator as CPython defines it where 64-bit integers and doubles can express that; where they can't (an
integer overflows, a division by zero, a power that is complex), the operation bails out and the interpreter decides.
"""

from __future__ import annotations

import operator
from typing import Any

from numba import types

from streamcore.kernels.functions.emit import BIT, MIN_INT, NUMBERS, Scope, kind_of_type, operation
from streamcore.kernels.functions.layout import Kind

_SIGNS = {
    operator.lt: "<",
    operator.le: "<=",
    operator.gt: ">",
    operator.ge: ">=",
    operator.eq: "==",
    operator.ne: "!=",
}


def _arithmetic(symbol: str, on_ints: Any, on_floats: Any, int_result: Any = types.int64) -> Any:
    def define(a: Any, b: Any) -> Any:
        kinds = kind_of_type(a, f"`{symbol}`"), kind_of_type(b, f"`{symbol}`")
        if Kind.FLOAT in kinds:
            return types.float64, (types.float64, types.float64), on_floats
        return int_result, (types.int64, types.int64), on_ints

    return operation(2, define)


def _true_divide_ints(scope: Scope, a: Any, b: Any) -> Any:
    scope.bail_unless_exact(a)
    scope.bail_unless_exact(b)
    return true_divide(scope, scope.to_double(a), scope.to_double(b))


def true_divide(scope: Scope, a: Any, b: Any) -> Any:
    """a / b of doubles."""
    scope.bail_if(scope.builder.fcmp_ordered("==", b, scope.double(0.0)))
    return scope.builder.fdiv(a, b)


def _bail_on_bad_divisor(scope: Scope, a: Any, b: Any) -> None:
    builder = scope.builder
    scope.bail_if(builder.icmp_signed("==", b, scope.integer(0)))
    lowest = builder.icmp_signed("==", a, scope.integer(MIN_INT))
    scope.bail_if(builder.and_(lowest, builder.icmp_signed("==", b, scope.integer(-1))))


def _floor_divide_ints(scope: Scope, a: Any, b: Any) -> Any:
    _bail_on_bad_divisor(scope, a, b)
    builder = scope.builder
    quotient, rest = builder.sdiv(a, b), builder.srem(a, b)
    return builder.select(_is_off(scope, rest, b), builder.sub(quotient, scope.integer(1)), quotient)


def _modulo_ints(scope: Scope, a: Any, b: Any) -> Any:
    _bail_on_bad_divisor(scope, a, b)
    rest = scope.builder.srem(a, b)
    return scope.builder.select(_is_off(scope, rest, b), scope.builder.add(rest, b), rest)


def _is_off(scope: Scope, rest: Any, b: Any) -> Any:
    """Whether C's rest is on the other side of zero than Python's."""
    builder = scope.builder
    other_sign = builder.icmp_signed("<", builder.xor(rest, b), scope.integer(0))
    return builder.and_(builder.icmp_signed("!=", rest, scope.integer(0)), other_sign)


def _divmod_floats(scope: Scope, a: Any, b: Any) -> tuple[Any, Any]:
    """CPython's float floor division: (quotient, rest)."""
    builder, zero, one = scope.builder, scope.double(0.0), scope.double(1.0)
    scope.bail_if(builder.fcmp_ordered("==", b, zero))
    rest = scope.call_libm("fmod", a, b)
    quotient = builder.fdiv(builder.fsub(a, rest), b)
    has_rest = builder.fcmp_unordered("!=", rest, zero)
    other_side = builder.xor(builder.fcmp_ordered("<", b, zero), builder.fcmp_ordered("<", rest, zero))
    moved = builder.and_(has_rest, other_side)
    quotient = builder.select(moved, builder.fsub(quotient, one), quotient)
    rest = builder.select(moved, builder.fadd(rest, b), rest)
    rest = builder.select(has_rest, rest, scope.call_llvm("llvm.copysign", zero, b))
    floored = scope.call_llvm("llvm.floor", quotient)
    too_low = builder.fcmp_ordered(">", builder.fsub(quotient, floored), scope.double(0.5))
    floored = builder.select(too_low, builder.fadd(floored, one), floored)
    signed_zero = scope.call_llvm("llvm.copysign", zero, builder.fdiv(a, b))
    return builder.select(builder.fcmp_unordered("!=", quotient, zero), floored, signed_zero), rest


def _shift_left(scope: Scope, a: Any, b: Any) -> Any:
    builder = scope.builder
    scope.bail_if(builder.icmp_unsigned(">", b, scope.integer(62)))  # a negative count is a large unsigned one
    shifted = builder.shl(a, b)
    scope.bail_if(builder.icmp_signed("!=", builder.ashr(shifted, b), a))
    return shifted


def _shift_right(scope: Scope, a: Any, b: Any) -> Any:
    builder = scope.builder
    scope.bail_if(builder.icmp_signed("<", b, scope.integer(0)))
    most = scope.integer(63)
    return builder.ashr(a, builder.select(builder.icmp_signed(">", b, most), most, b))


def _bitwise(symbol: str, name: str) -> Any:
    def define(a: Any, b: Any) -> Any:
        kinds = {kind_of_type(a, f"`{symbol}`"), kind_of_type(b, f"`{symbol}`")}
        if Kind.FLOAT in kinds:
            kind_of_type(types.none, f"`{symbol}` of a float")
        number = types.boolean if kinds == {Kind.BOOL} else types.int64
        return number, (number, number), lambda scope, x, y: getattr(scope.builder, name)(x, y)

    return operation(2, define)


def _integers_only(symbol: str, emit: Any) -> Any:
    def define(a: Any, b: Any) -> Any:
        if Kind.FLOAT in (kind_of_type(a, f"`{symbol}`"), kind_of_type(b, f"`{symbol}`")):
            kind_of_type(types.none, f"`{symbol}` of a float")
        return types.int64, (types.int64, types.int64), emit

    return operation(2, define)


def _power_floats(scope: Scope, x: Any, y: Any) -> Any:
    """CPython's float_pow for finite operands and nan; it calls C's pow too."""
    builder, zero = scope.builder, scope.double(0.0)
    scope.bail_if(_is_infinite(scope, x))
    scope.bail_if(builder.not_(scope.is_finite(y)))
    is_zero = builder.fcmp_ordered("==", x, zero)
    scope.bail_if(builder.and_(is_zero, builder.fcmp_ordered("<", y, zero)))
    fraction = builder.fcmp_ordered("!=", y, scope.call_llvm("llvm.floor", y))
    negative = builder.fcmp_ordered("<", x, zero)
    scope.bail_if(builder.and_(negative, fraction))
    half = builder.fmul(y, scope.double(0.5))
    odd = builder.and_(negative, builder.fcmp_ordered("!=", half, scope.call_llvm("llvm.floor", half)))
    power = scope.call_libm("pow", builder.select(negative, builder.fneg(x), x), y)
    scope.bail_if(_is_infinite(scope, power))
    return builder.select(odd, builder.fneg(power), power)


def _is_infinite(scope: Scope, value: Any) -> Any:
    return scope.builder.fcmp_ordered("==", scope.absolute(value), scope.double(float("inf")))


def _power_ints(scope: Scope, base: Any, exponent: Any) -> Any:
    """Repeated multiplication; gives up on overflow and on negative exponents (whose result is a float)."""
    builder = scope.builder
    scope.bail_if(builder.icmp_signed("<", exponent, scope.integer(0)))
    result = _variable(scope, scope.integer(1))
    square = _variable(scope, base)
    left = _variable(scope, exponent)
    head, body, end = (builder.append_basic_block(name) for name in ("power", "power.more", "power.end"))
    builder.branch(head)
    builder.position_at_end(head)
    builder.cbranch(builder.icmp_signed(">", builder.load(left), scope.integer(0)), body, end)
    builder.position_at_end(body)
    with builder.if_then(builder.trunc(builder.load(left), BIT)):
        builder.store(scope.overflow_checked("smul", builder.load(result), builder.load(square)), result)
    builder.store(builder.lshr(builder.load(left), scope.integer(1)), left)
    with builder.if_then(builder.icmp_signed(">", builder.load(left), scope.integer(0))):
        builder.store(scope.overflow_checked("smul", builder.load(square), builder.load(square)), square)
    builder.branch(head)
    builder.position_at_end(end)
    return builder.load(result)


def _variable(scope: Scope, value: Any) -> Any:
    with scope.builder.goto_entry_block():
        place = scope.builder.alloca(value.type)
    scope.builder.store(value, place)
    return place


def _comparison(compare: Any) -> Any:
    sign = _SIGNS[compare]

    def on_ints(scope: Scope, a: Any, b: Any) -> Any:
        return scope.builder.icmp_signed(sign, a, b)

    def on_floats(scope: Scope, a: Any, b: Any) -> Any:
        ordered = scope.builder.fcmp_unordered if sign == "!=" else scope.builder.fcmp_ordered
        return ordered(sign, a, b)

    def int_first(scope: Scope, a: Any, b: Any) -> Any:
        scope.bail_unless_exact(a)
        return on_floats(scope, scope.to_double(a), b)

    def int_last(scope: Scope, a: Any, b: Any) -> Any:
        scope.bail_unless_exact(b)
        return on_floats(scope, a, scope.to_double(b))

    def define(a: Any, b: Any) -> Any:
        floats = kind_of_type(a, f"`{sign}`") is Kind.FLOAT, kind_of_type(b, f"`{sign}`") is Kind.FLOAT
        emit = {(False, False): on_ints, (True, True): on_floats, (False, True): int_first, (True, False): int_last}
        return types.boolean, tuple(types.float64 if f else types.int64 for f in floats), emit[floats]

    return operation(2, define)


def _negative(a: Any) -> Any:
    if kind_of_type(a, "`-`") is Kind.FLOAT:
        return types.float64, (types.float64,), lambda scope, x: scope.builder.fneg(x)
    return types.int64, (types.int64,), lambda scope, x: scope.overflow_checked("ssub", scope.integer(0), x)


def _positive(a: Any) -> Any:
    number = types.float64 if kind_of_type(a, "`+`") is Kind.FLOAT else types.int64
    return number, (number,), lambda scope, x: x


def _invert(a: Any) -> Any:
    if kind_of_type(a, "`~`") is not Kind.INT:
        kind_of_type(types.none, "`~` of a bool or float")
    return types.int64, (types.int64,), lambda scope, x: scope.builder.not_(x)


def _truth(a: Any) -> Any:
    kind = kind_of_type(a, "the truth of a value: `if`, `and`, `or`, `bool`")
    return types.boolean, (NUMBERS[kind],), lambda scope, x: is_true(scope, kind, x)


def _not(a: Any) -> Any:
    kind = kind_of_type(a, "`not`")
    return types.boolean, (NUMBERS[kind],), lambda scope, x: scope.builder.not_(is_true(scope, kind, x))


def is_true(scope: Scope, kind: Kind, value: Any) -> Any:
    """Whether a number is not zero; nan is true."""
    if kind is Kind.FLOAT:
        return scope.builder.fcmp_unordered("!=", value, scope.double(0.0))
    return value if kind is Kind.BOOL else scope.builder.icmp_signed("!=", value, scope.integer(0))


truth = operation(1, _truth)
floor_divide = _arithmetic("//", _floor_divide_ints, lambda s, a, b: _divmod_floats(s, a, b)[0])
modulo = _arithmetic("%", _modulo_ints, lambda s, a, b: _divmod_floats(s, a, b)[1])
divide = _arithmetic("/", _true_divide_ints, true_divide, types.float64)
power = _arithmetic("**", _power_ints, _power_floats)

BINARY: dict[Any, Any] = {
    operator.add: _arithmetic(
        "+", lambda s, a, b: s.overflow_checked("sadd", a, b), lambda s, a, b: s.builder.fadd(a, b)
    ),
    operator.sub: _arithmetic(
        "-", lambda s, a, b: s.overflow_checked("ssub", a, b), lambda s, a, b: s.builder.fsub(a, b)
    ),
    operator.mul: _arithmetic(
        "*", lambda s, a, b: s.overflow_checked("smul", a, b), lambda s, a, b: s.builder.fmul(a, b)
    ),
    operator.truediv: divide,
    operator.floordiv: floor_divide,
    operator.mod: modulo,
    operator.pow: power,
    operator.lshift: _integers_only("<<", _shift_left),
    operator.rshift: _integers_only(">>", _shift_right),
    operator.and_: _bitwise("&", "and_"),
    operator.or_: _bitwise("|", "or_"),
    operator.xor: _bitwise("^", "xor"),
    **{compare: _comparison(compare) for compare in _SIGNS},
}
"""Operator function → its checked intrinsic."""

UNARY: dict[Any, Any] = {
    operator.neg: operation(1, _negative),
    operator.pos: operation(1, _positive),
    operator.invert: operation(1, _invert),
    operator.not_: operation(1, _not),
}
