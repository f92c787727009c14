"""Choices in expressions: `when(col("celsius") > 30).then("hot").otherwise("fine")`."""

from __future__ import annotations

from typing import Any

from streamcore.batch import compute
from streamcore.batch.expressions import Call, Expression, as_expression


def when(condition: Expression) -> When:
    """Begins a choice by condition.

    Example:
        >>> from streamcore import col, when
        >>> str(when(col("a") > 1).then("big").otherwise("small"))
        'when(col("a") > 1).then("big").otherwise("small")'
    """
    return When(condition)


class When:
    """`when(condition)`: what comes where the condition is true follows with `then`."""

    def __init__(self, condition: Expression, earlier: tuple[tuple[Expression, Expression], ...] = ()) -> None:
        self._condition = as_expression(condition)
        self._earlier = earlier

    def then(self, value: Any) -> Then:
        """The value (or expression) where the condition is true."""
        return Then((*self._earlier, (self._condition, as_expression(value))))


class Then:
    """Conditions and values so far; `otherwise` makes them an expression."""

    def __init__(self, cases: tuple[tuple[Expression, Expression], ...]) -> None:
        self._cases = cases

    def when(self, condition: Expression) -> When:
        """Another condition, which counts where those before are not true."""
        return When(condition, self._cases)

    def otherwise(self, value: Any) -> Expression:
        """The value (or expression) where no condition is true; None: missing."""
        result = as_expression(value)
        for condition, chosen in reversed(self._cases):
            template = "when({}).then({}).otherwise({})"
            result = Call(template, compute.choose, (condition, chosen, result), nulls=_of_branches)
        return result


def _of_branches(operands: list[bool]) -> bool:
    return any(operands[1:])
