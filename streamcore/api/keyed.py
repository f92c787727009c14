"""`KeyedStream`: a stream partitioned by key, with state per key."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Generic, Literal, TypeVar

import numpy as np

from streamcore.api.stream import DataStream
from streamcore.batch import Field, Schema
from streamcore.runtime.operators.keyed import CountColumns, CountRows, Reduce, Scan
from streamcore.runtime.spec import Form

K = TypeVar("K")
T = TypeVar("T")
U = TypeVar("U")
S = TypeVar("S")

Emit = Literal["each", "final"]


class KeyedStream(DataStream[T], Generic[K, T]):
    """A stream whose records of equal key meet in one subtask, in order. Functions given to `process` have keyed
    state and timers."""

    def scan(
        self, initial: S, function: Callable[[S, T], tuple[S, U]], *, returns: type[U] | Schema | None = None
    ) -> DataStream[U]:
        """A running computation per key: `function(state, record) -> (state, result)`, starting from `initial`.

        `initial` is shared by all keys: return a new state rather than changing it in place.
        """
        return self._then("scan", partial(Scan, self._key, initial, function), Form.ROWS, returns)

    def reduce(self, function: Callable[[T, T], T], *, emit: Emit = "each") -> DataStream[T]:
        """Folds the records of each key: emits the value after each record, or (`"final"`) once at the end of input."""
        return self._then(
            "reduce", partial(Reduce, self._key, function, only_final=emit == "final"), Form.ROWS, self.schema
        )

    def count(self, *, emit: Emit = "each") -> DataStream[Any]:
        """Counts the records of each key: the count after each record, or (`"final"`) once a key at the end of input.

        On a typed stream keyed by fields the results have these fields and `count`; else they are tuples (key, count).
        """
        final = emit == "final"
        if self.schema is None or not self._key.fields:
            return self._then("count", partial(CountRows, self._key, only_final=final), Form.ROWS, None)
        schema = Schema(
            (*self.schema.select(self._key.fields).fields, Field("count", Schema.of(n=np.int64).fields[0].type))
        )
        return self._then("count", partial(CountColumns, self._key, schema, only_final=final), Form.COLUMNS, schema)

    @property
    def _key(self) -> Any:
        assert self._partitioning is not None, "a keyed stream without key"
        return self._partitioning.key
