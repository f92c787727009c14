"""Adds asynchronous look-ups to a topology."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from streamcore.api.callsite import user_line
from streamcore.api.schemas import annotated_result
from streamcore.batch import Schema
from streamcore.errors import TopologyError
from streamcore.runtime.async_function import AsyncFunction, Retry
from streamcore.runtime.operators.async_map import AsyncMap, AsyncOptions
from streamcore.runtime.spec import Form

if TYPE_CHECKING:
    from streamcore.api.stream import DataStream


class _Plain(AsyncFunction[Any, Any]):
    """An `async def` as a function object."""

    def __init__(self, function: Callable[[Any], Awaitable[Any]]) -> None:
        self._function = function

    async def call(self, record: Any) -> Any:
        return await self._function(record)


def add_async_map(
    stream: DataStream[Any],
    function: AsyncFunction[Any, Any] | Callable[[Any], Awaitable[Any]],
    returns: Any,
    ordered: bool,
    timeout: float,
    capacity: int,
    retry: Retry | None,
) -> DataStream[Any]:
    """Adds the operator, after `DataStream.async_map`."""
    where = f"async_map ({user_line()})"
    if timeout <= 0 or capacity < 1:
        raise TopologyError(
            f"{where}: a timeout of {timeout} s and {capacity} calls at a time",
            hint="the timeout is above 0 s, and there is at least one call",
        )
    if isinstance(function, AsyncFunction):
        returns, asking = returns or annotated_result(function.call), function
    elif inspect.iscoroutinefunction(function):
        returns, asking = returns or annotated_result(function), _Plain(function)
    else:
        raise TopologyError(f"{where}: {function!r} is no coroutine function", hint="async def look_up(record): ...")
    options = AsyncOptions(ordered, float(timeout), capacity, retry or Retry(attempts=1))
    make = partial(_with_own_function, asking, stream.schema, options)
    return stream._then("async_map", make, Form.ROWS, returns).start_new_chain()


def _with_own_function(function: AsyncFunction[Any, Any], schema: Schema | None, options: AsyncOptions) -> AsyncMap:
    """An operator with a copy of the user's function object: every subtask has its own."""
    return AsyncMap(copy.deepcopy(function), schema, options)
