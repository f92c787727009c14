"""Expressions over the columns of a stream: `col("celsius") * 1.8 + 32`.

An expression is a small tree that is built once, checked against the stream's schema when the topology is built, and
evaluated a batch at a time. It pickles, so it travels to workers like any function.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamcore.batch import compute
from streamcore.batch.columns import Columns
from streamcore.batch.compute import Value
from streamcore.batch.schema import Schema
from streamcore.errors import TopologyError

_Text = str  # the name for it inside of `Expression`, where `str` is the text functions


class Expression(ABC):
    """A column to be computed; made by `col`, `lit` and `when`, and by operators and methods on these.

    Operators: `+ - * / // % **`, comparisons, and `& | ^ ~` for and, or, exclusive or, not. Missing values stay
    missing, as in SQL; a filter keeps the records for which its expression is true. Text functions are under `str`.

    Example:
        >>> str((col("celsius") * 1.8 + 32).round(1))
        '(col("celsius") * 1.8 + 32).round(1)'
    """

    _rank = 9  # how tightly its text binds, for parentheses

    @abstractmethod
    def evaluate(self, columns: Columns) -> Value:
        """The value for a batch: an array in some form, or a scalar that stands for one."""

    @abstractmethod
    def is_nullable(self, schema: Schema) -> bool:
        """Whether the result may lack values, on a stream of that schema."""

    @property
    def str(self) -> TextFunctions:
        """The functions of text columns."""
        return TextFunctions(self)

    def abs(self) -> Expression:
        """The absolute value."""
        return self._call("abs", partial(compute.math, np.abs))

    def round(self, decimals: int = 0) -> Expression:
        """Rounded to a number of decimals, halves to the even neighbour."""
        return self._call("round", partial(compute.rounding, np.round), decimals)

    def floor(self) -> Expression:
        """The greatest whole number that isn't above."""
        return self._call("floor", partial(compute.rounding, np.floor))

    def ceil(self) -> Expression:
        """The least whole number that isn't below."""
        return self._call("ceil", partial(compute.rounding, np.ceil))

    def sqrt(self) -> Expression:
        """The square root; of a negative number NaN."""
        return self._call("sqrt", partial(compute.real_math, np.sqrt))

    def exp(self) -> Expression:
        """e to this power."""
        return self._call("exp", partial(compute.real_math, np.exp))

    def log(self) -> Expression:
        """The natural logarithm."""
        return self._call("log", partial(compute.real_math, np.log))

    def clip(self, lower: float, upper: float) -> Expression:
        """The number, or the nearer bound if it lies outside of them."""
        return self._call("clip", partial(compute.math, np.clip), lower, upper)

    def between(self, lower: Any, upper: Any) -> Expression:
        """Whether it lies between two values or is one of them."""
        return _binary("&", _binary(">=", self, lower), _binary("<=", self, upper))

    def isin(self, values: Iterable[Any]) -> Expression:
        """Whether it is one of some values of its kind."""
        return self._call("isin", compute.is_in, tuple(values))

    def is_null(self) -> Expression:
        """Whether it is missing."""
        return Call("{}.is_null()", compute.is_null, (self,), nulls=_never)

    def is_not_null(self) -> Expression:
        """Whether it is there."""
        return ~self.is_null()

    def fill_null(self, value: Any) -> Expression:
        """The value, or another (of its kind, or an expression) where it is missing."""
        return Call("{}.fill_null({})", compute.fill_null, (self, as_expression(value)), nulls=_of_last)

    def cast(self, declared: Any) -> Expression:
        """As another type: `int`, `float`, `str`, a NumPy dtype, a pyarrow type. Fractions are cut off, texts read.

        What can't be had in that type (`"x"` as a number) fails the job when it comes.

        Raises:
            TopologyError: the type has no column form.
        """
        arrow: pa.DataType = Schema.of(cast=declared).fields[0].type
        return self._call("cast", compute.cast, arrow)

    def _call(self, name: _Text, function: Callable[..., Value], *options: Any) -> Expression:
        shown = ", ".join(map(_text_of, options))
        return Call("{}." + _escape(f"{name}({shown})"), function, (self,), options)

    def __add__(self, other: Any) -> Expression:
        return _binary("+", self, other)

    def __radd__(self, other: Any) -> Expression:
        return _binary("+", other, self)

    def __sub__(self, other: Any) -> Expression:
        return _binary("-", self, other)

    def __rsub__(self, other: Any) -> Expression:
        return _binary("-", other, self)

    def __mul__(self, other: Any) -> Expression:
        return _binary("*", self, other)

    def __rmul__(self, other: Any) -> Expression:
        return _binary("*", other, self)

    def __truediv__(self, other: Any) -> Expression:
        return _binary("/", self, other)

    def __rtruediv__(self, other: Any) -> Expression:
        return _binary("/", other, self)

    def __floordiv__(self, other: Any) -> Expression:
        return _binary("//", self, other)

    def __rfloordiv__(self, other: Any) -> Expression:
        return _binary("//", other, self)

    def __mod__(self, other: Any) -> Expression:
        return _binary("%", self, other)

    def __rmod__(self, other: Any) -> Expression:
        return _binary("%", other, self)

    def __pow__(self, other: Any) -> Expression:
        return _binary("**", self, other)

    def __rpow__(self, other: Any) -> Expression:
        return _binary("**", other, self)

    def __neg__(self) -> Expression:
        return Call("-{}", partial(compute.math, np.negative), (self,), rank=7)

    def __eq__(self, other: object) -> Expression:  # type: ignore[override]
        return _binary("==", self, other)

    def __ne__(self, other: object) -> Expression:  # type: ignore[override]
        return _binary("!=", self, other)

    def __lt__(self, other: Any) -> Expression:
        return _binary("<", self, other)

    def __le__(self, other: Any) -> Expression:
        return _binary("<=", self, other)

    def __gt__(self, other: Any) -> Expression:
        return _binary(">", self, other)

    def __ge__(self, other: Any) -> Expression:
        return _binary(">=", self, other)

    def __and__(self, other: Any) -> Expression:
        return _binary("&", self, other)

    def __rand__(self, other: Any) -> Expression:
        return _binary("&", other, self)

    def __or__(self, other: Any) -> Expression:
        return _binary("|", self, other)

    def __ror__(self, other: Any) -> Expression:
        return _binary("|", other, self)

    def __xor__(self, other: Any) -> Expression:
        return _binary("^", self, other)

    def __rxor__(self, other: Any) -> Expression:
        return _binary("^", other, self)

    def __invert__(self) -> Expression:
        return Call("~{}", compute.invert, (self,), rank=7)

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> NoReturn:
        raise TopologyError(
            f"{self} is true or false only for a record, not when the topology is built",
            hint="write & | ~ for and, or, not, with parentheses round comparisons; .between(a, b) for a <= x <= b",
        )

    def __repr__(self) -> _Text:
        return str(self)


class Column(Expression):
    """A column of the stream."""

    def __init__(self, name: _Text) -> None:
        self.name = name

    def evaluate(self, columns: Columns) -> Value:
        return columns.encoded(self.name)

    def is_nullable(self, schema: Schema) -> bool:
        return schema.by_name[self.name].nullable

    def __str__(self) -> _Text:
        return f"col({_text_of(self.name)})"


class Literal(Expression):
    """The same value for every record."""

    def __init__(self, value: Any) -> None:
        """Raises TopologyError for what no column can hold."""
        if compute.kind(value) == "number" and value < 0:
            self._rank = 7
        self.value = value

    def evaluate(self, columns: Columns) -> Value:
        return self.value

    def is_nullable(self, schema: Schema) -> bool:
        return self.value is None

    def __str__(self) -> _Text:
        return _text_of(self.value)


Nulls = Callable[[list[bool]], bool]
"""From whether the operands may lack values, whether the result may."""


def _never(operands: list[bool]) -> bool:
    return False


def _of_last(operands: list[bool]) -> bool:
    return operands[-1]


class Call(Expression):
    """A function of other expressions; `template` is its text, `rank` how tightly that binds."""

    def __init__(
        self,
        template: _Text,
        function: Callable[..., Value],
        operands: tuple[Expression, ...],
        options: tuple[Any, ...] = (),
        *,
        nulls: Nulls = any,
        rank: int = 9,
    ) -> None:
        self._template = template
        self._function = function
        self._operands = operands
        self._options = options
        self._nulls = nulls
        self._rank = rank

    def evaluate(self, columns: Columns) -> Value:
        return self._function(*(operand.evaluate(columns) for operand in self._operands), *self._options)

    def is_nullable(self, schema: Schema) -> bool:
        return self._nulls([operand.is_nullable(schema) for operand in self._operands])

    def __str__(self) -> _Text:
        if self._rank == 9:
            ranks = [9 if self._template.startswith("{}.") else 0, 0, 0]
        else:  # operators of one rank are read from the left, but powers from the right and comparisons together
            ranks = [self._rank + (self._rank in {1, 8}), self._rank + 1]
        texts = [_inside(o, rank) for o, rank in zip(self._operands, ranks, strict=False)]
        if self._rank < 9 and all(isinstance(operand, Literal) for operand in self._operands):
            texts[0] = f"lit({self._operands[0]})"  # else Python would compute it
        return self._template.format(*texts)


class TextFunctions:
    """The functions of a text column: `col("name").str.lower()`."""

    def __init__(self, expression: Expression) -> None:
        self._expression = expression

    def lower(self) -> Expression:
        """In lower case."""
        return self._call("lower", pc.utf8_lower)

    def upper(self) -> Expression:
        """In upper case."""
        return self._call("upper", pc.utf8_upper)

    def strip(self) -> Expression:
        """Without white space at both ends."""
        return self._call("strip", pc.utf8_trim_whitespace)

    def length(self) -> Expression:
        """The number of characters, int32."""
        return self._call("length", pc.utf8_length)

    def contains(self, pattern: str, *, regex: bool = False) -> Expression:
        """Whether a text, or a match of a regular expression (RE2), is in it.

        Raises:
            TopologyError: the regular expression is wrong.
        """
        if regex:
            try:
                pc.match_substring_regex(pa.array([""]), pattern)
            except pa.ArrowInvalid as error:
                raise TopologyError(f"contains: {error}") from error
        return self._call("contains", pc.match_substring_regex if regex else pc.match_substring, pattern)

    def starts_with(self, pattern: str) -> Expression:
        """Whether it begins with a text."""
        return self._call("starts_with", pc.starts_with, pattern)

    def ends_with(self, pattern: str) -> Expression:
        """Whether it ends with a text."""
        return self._call("ends_with", pc.ends_with, pattern)

    def replace(self, pattern: str, replacement: str) -> Expression:
        """With every occurrence of a text replaced."""
        return self._call("replace", pc.replace_substring, pattern, replacement)

    def slice(self, start: int, stop: int | None = None) -> Expression:
        """The characters from `start` up to, not including, `stop`; both count from the end when negative."""
        return self._call("slice", pc.utf8_slice_codeunits, start, stop)

    def _call(self, name: str, function: Callable[..., Any], *options: Any) -> Expression:
        return self._expression._call(f"str.{name}", partial(compute.text, function), *options)


def col(name: str) -> Expression:
    """The column of that name.

    Example:
        >>> str(col("a") > 1)
        'col("a") > 1'
    """
    return Column(name)


def lit(value: Any) -> Expression:
    """A value that is the same for every record: a number, text, bytes, a time, or None.

    Raises:
        TopologyError: no column can hold it.
    """
    return Literal(value)


_RANKS = {"**": 8, "*": 6, "/": 6, "//": 6, "%": 6, "+": 5, "-": 5, "&": 4, "^": 3, "|": 2}


def _binary(op: str, left: Any, right: Any) -> Expression:
    rank = _RANKS.get(op, 1)
    function = compute.arithmetic if rank > 4 else compute.logic if rank > 1 else compute.compare
    return Call(f"{{}} {op} {{}}", partial(function, op), (as_expression(left), as_expression(right)), rank=rank)


def as_expression(value: Any) -> Expression:
    """The expression, or that of a plain value."""
    return value if isinstance(value, Expression) else Literal(value)


def _inside(operand: Expression, rank: int) -> str:
    if isinstance(operand, Literal) and rank == 9:
        return f"lit({operand})"
    return f"({operand})" if operand._rank < rank else str(operand)


def _text_of(value: Any) -> str:
    return (
        f'"{value}"' if isinstance(value, str) and '"' not in value else str(value) if _is_type(value) else repr(value)
    )


def _is_type(value: Any) -> bool:
    return isinstance(value, pa.DataType)


def _escape(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")
