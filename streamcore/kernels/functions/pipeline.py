"""numba's compiler with Python's semantics: `exact(function)` is a user's function in compiled form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
from numba import types
from numba.core import ir
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import FunctionPass, register_pass
from numba.core.typed_passes import NopythonTypeInference
from numba.core.untyped_passes import IRProcessing

from streamcore.kernels.functions.classes import is_tuple_class
from streamcore.kernels.functions.emit import NUMBERS, show
from streamcore.kernels.functions.records import ColumnValue
from streamcore.kernels.functions.refusal import NotCompilableError
from streamcore.kernels.functions.rewrite import Rewriter

_exact: dict[Any, Any] = {}


def exact(function: Callable[..., Any]) -> Any:
    """The dispatcher of a user's function, or of a helper that it calls; one for all calls of a compilation."""
    if function not in _exact:
        _exact[function] = numba.njit(
            pipeline_class=_ExactCompiler, nogil=True, forceinline=True, no_cpython_wrapper=True, no_cfunc_wrapper=True
        )(function)
    return _exact[function]


def forget_exact() -> None:
    """Begins a new compilation: a global of a function that was compiled before may have another value by now."""
    _exact.clear()


@register_pass(mutates_CFG=True, analysis_only=False)
class _ExactSemantics(FunctionPass):  # type: ignore[misc]
    _name = "streamcore_exact_semantics"

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        Rewriter(state.func_ir, exact).run()
        state.typingctx.refresh()  # knows the intrinsics that were made on the way
        state.targetctx.refresh()
        return True


@register_pass(mutates_CFG=False, analysis_only=True)
class _StableTypes(FunctionPass):  # type: ignore[misc]
    """Refuses what numba would have converted on the way: in Python a variable keeps the type of its value."""

    _name = "streamcore_stable_types"

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        typemap = state.typemap
        for block in state.func_ir.blocks.values():
            for statement in block.find_insts(ir.Assign):
                _check_assignment(statement, typemap)
        return False


class _ExactCompiler(CompilerBase):  # type: ignore[misc]
    def define_pipelines(self) -> list[Any]:
        manager = DefaultPassBuilder.define_nopython_pipeline(self.state)
        manager.add_pass_after(_ExactSemantics, IRProcessing)
        manager.add_pass_after(_StableTypes, NopythonTypeInference)
        manager.finalize()
        return [manager]


def _check_assignment(statement: Any, typemap: Any) -> None:
    line, value = statement.loc.line, statement.value
    target = types.unliteral(typemap[statement.target.name])
    if isinstance(target, types.Optional):
        raise NotCompilableError("a value is None on one path and a number on another", line)
    _refuse_unknown(target, line)
    sources: list[Any] = []
    if isinstance(value, ir.Var):
        sources = [value]
    elif isinstance(value, ir.Expr) and value.op == "cast":
        sources = [value.value]
    elif isinstance(value, ir.Expr) and value.op == "phi":
        sources = value.incoming_values
    elif isinstance(value, ir.Expr) and value.op in ("exhaust_iter", "static_getitem", "getiter"):
        _check_tuple_use(typemap[value.value.name], line)
    for source in sources:
        if source is ir.UNDEFINED:
            raise NotCompilableError(f"variable {_name(statement.target)} may be unset", line)
        found = types.unliteral(typemap[source.name])
        if found != target:
            raise NotCompilableError(
                f"{_name(statement.target)} is {_word(found)} on one path and {_word(target, found)} on another",
                line,
            )


def _refuse_unknown(target: Any, line: int) -> None:
    if isinstance(target, types.Integer | types.Float) and target not in NUMBERS.values():
        raise NotCompilableError(f"has a value of type {target}, which is no Python number", line)


def _check_tuple_use(used: Any, line: int) -> None:
    if isinstance(used, types.BaseNamedTuple):
        cls = used.instance_class.stands_for
        if cls is not None and not is_tuple_class(cls):
            raise NotCompilableError(f"takes a {cls.__name__} as a tuple", line)


def _name(var: Any) -> str:
    return "a value" if var.name.startswith("$") else repr(var.unversioned_name)


def _word(number: Any, other: Any = None) -> str:
    if number == types.float64 and other == types.int64:
        return "float"
    words = {types.int64: "int", types.float64: "float", types.boolean: "bool", types.none: "None"}
    if isinstance(number, ColumnValue):
        return str(number)
    return words.get(number) or show(number)
