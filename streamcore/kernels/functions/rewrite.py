"""The pass over a user's function that gives it Python's semantics: operators and calls become checked ones.

Works on numba's untyped intermediate representation, right after it was made from bytecode and before any of numba's
own rewrites. Whatever is not known to be equal to the interpreter is refused here, with the user's line.
"""

from __future__ import annotations

import dataclasses
import inspect
import types as python_types
from collections.abc import Callable
from typing import Any

from numba.core import ir, ir_utils

from streamcore.kernels.functions.checked import BINARY, UNARY
from streamcore.kernels.functions.checked_calls import BUILTINS, index
from streamcore.kernels.functions.classes import field_names, is_record_class
from streamcore.kernels.functions.records import constructor, replacer
from streamcore.kernels.functions.refusal import BailOutError, NotCompilableError

_STRUCTURE = {
    "cast",
    "build_tuple",
    "static_getitem",
    "exhaust_iter",
    "getiter",
    "iternext",
    "pair_first",
    "pair_second",
    "phi",
}
_WORDS = {
    "build_list": "makes a list",
    "build_map": "makes a dictionary",
    "build_set": "makes a set",
    "make_function": "defines a function (or uses a comprehension)",
    "yield": "yields",
    "undef": "uses a variable that may be unset",
}
MAX_INT = (1 << 63) - 1


class Rewriter:
    """Rewrites the representation of one function in place.

    Args:
        compiled: gives the compiled form of a helper function that is called.

    Raises (from `run`):
        NotCompilableError: the reason and the line.
    """

    def __init__(self, func_ir: Any, compiled: Callable[[Any], Any]) -> None:
        self._ir = func_ir
        self._compiled = compiled
        self._fresh = 0
        self._scope: Any = None
        self._body: list[Any] = []

    def run(self) -> None:
        """Rewrites all blocks."""
        for block in self._ir.blocks.values():
            if isinstance(block.terminator, ir.Raise | ir.StaticRaise | ir.DynamicRaise):
                # the interpreter runs the record again and raises the user's exception, with the user's message
                block.body = [ir.StaticRaise(BailOutError, (), block.terminator.loc)]
                continue
            self._scope, self._body = block.scope, []
            for statement in block.body:
                self._statement(statement)
            block.body = self._body
        self._ir._definitions = ir_utils.build_definitions(self._ir.blocks)

    def _statement(self, statement: Any) -> None:
        line = statement.loc.line
        match statement:
            case ir.Assign():
                self._body.append(ir.Assign(self._value(statement.value, line), statement.target, statement.loc))
            case ir.Del() | ir.Return() | ir.Jump() | ir.Branch():
                self._body.append(statement)
            case ir.SetAttr() | ir.SetItem() | ir.StaticSetItem():
                raise NotCompilableError("changes an object in place", line)
            case _:
                raise NotCompilableError(f"has a statement that is not compiled ({type(statement).__name__})", line)

    def _value(self, value: Any, line: int) -> Any:
        match value:
            case ir.Var() | ir.Arg():
                return value
            case ir.Const():
                return ir.Const(checked_constant(value.value, "uses", line), value.loc)
            case ir.Global() | ir.FreeVar():
                return self._named(value.name, value.value, line)
            case ir.Expr():
                return self._expression(value, line)
        raise NotCompilableError(f"has an expression that is not compiled ({value})", line)

    def _named(self, name: str, value: Any, line: int) -> Any:
        """A global, a variable of an outer function, or an attribute of a module."""
        loc = ir.Loc(self._ir.loc.filename, line)
        if is_callable(value) or isinstance(value, python_types.ModuleType):
            # resolved where it is called; by itself it is nothing that an operation takes
            return ir.Const(None, loc)
        return ir.Const(checked_constant(value, f"{name!r} is", line), loc)

    def _expression(self, expr: Any, line: int) -> Any:
        match expr.op:
            case "binop" | "inplace_binop":
                return self._operator(expr, line)
            case "unary":
                return self._call(UNARY[expr.fn], [expr.value], expr.loc)
            case "call":
                return self._rewrite_call(expr, line)
            case "getattr":
                found = self._object(expr)
                if found is None:
                    # the method is known where it is called, as other functions
                    return ir.Const(None, expr.loc) if expr.attr == "_replace" else expr
                return self._named(expr.attr, found[0], line)
            case "getitem":
                return self._checked_getitem(expr, line)
            case "static_getitem" if not isinstance(expr.index, int):
                raise NotCompilableError("takes a slice", line)
            case op if op in _STRUCTURE:
                return expr
            case op:
                raise NotCompilableError(_WORDS.get(op, f"uses {op.replace('_', ' ')}"), line)

    def _operator(self, expr: Any, line: int) -> Any:
        function = expr.fn if expr.op == "binop" else expr.immutable_fn
        if function not in BINARY:
            name = {"contains": "in", "is_": "is", "is_not": "is not"}.get(function.__name__, function.__name__)
            raise NotCompilableError(f"uses `{name}`", line)
        return self._call(BINARY[function], [expr.lhs, expr.rhs], expr.loc)

    def _checked_getitem(self, expr: Any, line: int) -> Any:
        position = ir_utils.guard(ir_utils.get_definition, self._ir, expr.index)
        if isinstance(position, ir.Const) and isinstance(position.value, int):
            return expr
        raise NotCompilableError("takes an item by an index that isn't constant", line)

    def _rewrite_call(self, expr: Any, line: int) -> Any:
        if expr.vararg is not None or expr.varkwarg is not None:
            raise NotCompilableError("calls with * or **", line)
        definition = ir_utils.guard(ir_utils.get_definition, self._ir, expr.func)
        if isinstance(definition, ir.Expr) and definition.op == "getattr" and self._object(definition) is None:
            if definition.attr == "_replace" and not expr.args:
                return self._replace(definition.value, expr, is_method=True)
            raise NotCompilableError(f"calls the method {definition.attr!r}", line)
        found = self._object(definition)
        if found is None:
            raise NotCompilableError("calls something that isn't known before it runs", line)
        return self._call_to(found[0], expr, line)

    def _call_to(self, function: Any, expr: Any, line: int) -> Any:
        name = getattr(function, "__qualname__", repr(function))
        if is_record_class(function):
            return self._call(constructor(function), self._bound(function, expr, line), expr.loc)
        if function is dataclasses.replace and len(expr.args) == 1:
            return self._replace(expr.args[0], expr, is_method=False)
        if isinstance(function, python_types.FunctionType):
            called = self._fresh_value(ir.Global(function.__name__, self._compiled(function), expr.loc))
            return ir.Expr.call(called, expr.args, expr.kws, expr.loc)
        if expr.kws:
            raise NotCompilableError(f"calls {name}() with keywords", line)
        if function is range:
            return self._range(expr)
        by_arity = BUILTINS.get(function) if is_hashable(function) else None
        if by_arity is None:
            raise NotCompilableError(f"calls {name}(), which is not compiled", line)
        if function in (min, max) and len(expr.args) > 1:
            return self._fold(by_arity[2], expr)
        if len(expr.args) not in by_arity:
            raise NotCompilableError(f"calls {name}() with {len(expr.args)} arguments, which is not compiled", line)
        return self._call(by_arity[len(expr.args)], list(expr.args), expr.loc)

    def _range(self, expr: Any) -> Any:
        bounds = [self._fresh_value(self._call(index, [bound], expr.loc)) for bound in expr.args]
        return ir.Expr.call(self._fresh_value(ir.Global("range", range, expr.loc)), bounds, (), expr.loc)

    def _fold(self, function: Any, expr: Any) -> Any:
        first, *rest = expr.args
        for other in rest[:-1]:
            first = self._fresh_value(self._call(function, [first, other], expr.loc))
        return self._call(function, [first, rest[-1]], expr.loc)

    def _replace(self, record: Any, expr: Any, *, is_method: bool) -> Any:
        names = tuple(name for name, _ in expr.kws)
        return self._call(replacer(names, is_method), [record, *(value for _, value in expr.kws)], expr.loc)

    def _bound(self, cls: Any, expr: Any, line: int) -> list[Any]:
        """The arguments of a record's constructor by position, defaults filled in."""
        constructor(cls)  # first of all, it must be one that is known
        try:
            bound = inspect.signature(cls).bind(*expr.args, **dict(expr.kws))
        except TypeError as error:
            raise NotCompilableError(f"{cls.__name__}: {error}", line) from None
        bound.apply_defaults()
        return [
            value
            if isinstance(value, ir.Var)
            else self._fresh_value(ir.Const(checked_constant(value, f"the default of {name!r} is", line), expr.loc))
            for name, value in ((name, bound.arguments[name]) for name in field_names(cls))
        ]

    def _object(self, definition: Any) -> tuple[Any] | None:
        """The Python object that a value stands for, in a tuple; None when it is known only as the function runs."""
        match definition:
            case ir.Global() | ir.FreeVar():
                return (definition.value,)
            case ir.Expr(op="getattr"):
                owner = ir_utils.guard(ir_utils.get_definition, self._ir, definition.value)
                found = self._object(owner)
                if found is not None and isinstance(found[0], python_types.ModuleType):
                    return (getattr(found[0], definition.attr, None),)
        return None

    def _call(self, function: Any, arguments: list[Any], loc: Any) -> Any:
        called = self._fresh_value(ir.Global(getattr(function, "__name__", "checked"), function, loc))
        return ir.Expr.call(called, arguments, (), loc)

    def _fresh_value(self, value: Any) -> Any:
        self._fresh += 1
        var = self._scope.define(f"$exact.{self._fresh}", value.loc)
        self._body.append(ir.Assign(value, var, value.loc))
        return var


def is_callable(value: Any) -> bool:
    """Whether a value is a function or class, which compiled code may call if it knows it."""
    return isinstance(value, python_types.FunctionType | python_types.BuiltinFunctionType | type)


def is_hashable(value: Any) -> bool:
    """Whether a value can be looked up."""
    return getattr(type(value), "__hash__", None) is not None


def checked_constant(value: Any, what: str, line: int | None) -> Any:
    """A number, None, or a tuple of them, that compiled code can hold.

    Raises:
        NotCompilableError: it is anything else.
    """
    kind = type(value)
    if kind is tuple:
        for item in value:
            checked_constant(item, what, line)
        return value
    if kind is int and not -MAX_INT - 1 <= value <= MAX_INT:
        raise NotCompilableError(f"{what} {value}, which doesn't fit 64 bits", line)
    if kind in (int, float, bool) or value is None:
        return value
    if kind is python_types.CodeType:
        raise NotCompilableError("defines a function (or uses a comprehension)", line)
    shown = "a string" if kind is str else f"of type {kind.__name__}"
    raise NotCompilableError(f"{what} {shown}, which is not compiled", line)
