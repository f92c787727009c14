"""The tools of the checked operations: kinds of operands, and code that gives up on a record."""

from __future__ import annotations

import ctypes
import ctypes.util
import math
import sys
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from streamcore.kernels.functions.layout import Kind
from streamcore.kernels.functions.refusal import BailOutError, refuse_type

INT = ir.IntType(64)
DOUBLE = ir.DoubleType()
BIT = ir.IntType(1)
MIN_INT = -(1 << 63)
EXACT = 1 << 53
"""Up to here every integer is a double."""

LIBM = (
    *("exp", "expm1", "log", "log2", "log10", "log1p", "sin", "cos", "tan", "asin", "acos", "atan", "atan2"),
    *("sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "pow", "fmod"),
)
"""The functions of the C library that compiled code calls."""

NUMBERS = {Kind.INT: types.int64, Kind.FLOAT: types.float64, Kind.BOOL: types.boolean}


def _symbol(name: str) -> str:
    return f"streamcore_{name}"


def _register_libm() -> None:
    """Tells LLVM where the functions are; before anything is compiled, and before machine code from the cache is
    loaded, which calls them without having been compiled here."""
    library = ctypes.CDLL(ctypes.util.find_library("m")) if sys.platform != "win32" else ctypes.CDLL("ucrtbase")
    for name in LIBM:
        address = ctypes.cast(getattr(library, name), ctypes.c_void_p).value
        llvm.add_symbol(_symbol(name), address)


_register_libm()


def kind_of_type(value: Any, what: str) -> Kind:
    """The kind of an operand.

    Raises:
        TypingError: it is no number that compiled code knows; `what` says what was tried.
    """
    plain = types.unliteral(value)
    for kind, number in NUMBERS.items():
        if plain == number:
            return kind
    raise refuse_type(f"{what} on {show(plain)}")


def show(value: Any) -> str:
    """A type in the user's words."""
    if isinstance(value, types.BaseNamedTuple):
        return f"a record ({value.instance_class.__name__})"
    if isinstance(value, types.BaseTuple):
        return "a tuple"
    if value == types.unicode_type or isinstance(value, types.UnicodeCharSeq | types.StringLiteral):
        return "a string"
    return "None" if value == types.none else str(value)


Emit = Callable[["Scope", Any, Any], Any]


class Scope:
    """What the code of one operation is made with."""

    def __init__(self, context: Any, builder: Any) -> None:
        self.context = context
        self.builder = builder

    def bail_if(self, condition: Any) -> None:
        """Gives up on the record where `condition` (one bit) holds."""
        with self.builder.if_then(condition, likely=False):
            self.context.call_conv.return_user_exc(self.builder, BailOutError, ())

    def integer(self, value: int) -> Any:
        return ir.Constant(INT, value)

    def double(self, value: float) -> Any:
        return ir.Constant(DOUBLE, value)

    def to_double(self, value: Any) -> Any:
        """An integer as a double, rounded to even as Python does."""
        return self.builder.sitofp(value, DOUBLE)

    def overflow_checked(self, operation: str, a: Any, b: Any) -> Any:
        """`sadd`, `ssub` or `smul`; gives up on overflow."""
        pair = getattr(self.builder, f"{operation}_with_overflow")(a, b)
        self.bail_if(self.builder.extract_value(pair, 1))
        return self.builder.extract_value(pair, 0)

    def bail_unless_exact(self, value: Any) -> None:
        """Gives up unless the integer has an equal double for sure."""
        shifted = self.builder.add(value, self.integer(EXACT))
        self.bail_if(self.builder.icmp_unsigned(">", shifted, self.integer(2 * EXACT)))

    def is_finite(self, value: Any) -> Any:
        return self.builder.fcmp_ordered("<", self.absolute(value), self.double(math.inf))

    def absolute(self, value: Any) -> Any:
        return self.call_llvm("llvm.fabs", value)

    def call_llvm(self, name: str, *values: Any) -> Any:
        """An LLVM intrinsic on doubles that is exact (fabs, floor, sqrt, …)."""
        function = self.builder.module.declare_intrinsic(
            name, [DOUBLE], ir.FunctionType(DOUBLE, [DOUBLE] * len(values))
        )
        return self.builder.call(function, values)

    def call_libm(self, name: str, *values: Any) -> Any:
        """The function of the C library that Python calls, under a name that LLVM can't optimise by."""
        symbol, module = _symbol(name), self.builder.module
        function = module.globals.get(symbol)
        if function is None:
            function = ir.Function(module, ir.FunctionType(DOUBLE, [DOUBLE] * len(values)), symbol)
        return self.builder.call(function, values)

    def double_to_integer(self, value: Any) -> Any:
        """Cuts off the fraction; gives up on what doesn't fit int64, nan and infinities included."""
        inside = self.builder.and_(
            self.builder.fcmp_ordered(">=", value, self.double(-(2.0**63))),
            self.builder.fcmp_ordered("<", value, self.double(2.0**63)),
        )
        self.bail_if(self.builder.not_(inside))
        return self.builder.fptosi(value, INT)


def operation(arity: int, definition: Callable[..., Any]) -> Any:
    """The intrinsic of `definition(*kinds) -> (result type, argument types, emit)`."""

    def typed(*operands: Any) -> Any:
        result, arguments, emit = definition(*operands)

        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            return emit(Scope(context, builder), *values)

        return result(*arguments), codegen

    if arity == 1:
        return intrinsic(lambda typingctx, a: typed(a))
    return intrinsic(lambda typingctx, a, b: typed(a, b))
