"""Values that Python already has, or makes one by one, as a source."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from streamcore.batch import Batch, Columns, schema_of
from streamcore.connectors.base import ReaderContext, Source, Split, SplitReader
from streamcore.errors import ConnectorError, UsageError

T_co = TypeVar("T_co", covariant=True)


class IterableSource(Source[T_co]):
    """The values of a list, of any other iterable, or of what a function returns; one split.

    Args:
        values: a sequence or `Columns` (sliced, fast); an iterable that can be gone through again; or a
            function without arguments that returns an iterable. These two are gone through from the start
            after a restart, up to the offset. A one-shot iterator can't be: it works until a restart.
        schema: the columns of the stream, if it is to be typed.

    Raises:
        UsageError: `values` is none of these.
    """

    def __init__(self, values: Iterable[T_co] | Callable[[], Iterable[T_co]] | Columns, schema: Any = None) -> None:
        if not isinstance(values, Columns | Iterable) and not callable(values):
            raise UsageError(
                f"{type(values).__name__} is not iterable", hint="pass a list or a function that returns one"
            )
        self.values = values
        self.schema = values.schema if isinstance(values, Columns) and schema is None else schema_of(schema)
        self._is_taken = False

    def splits(self) -> Sequence[Split]:
        """The one split."""
        return [Split("all")]

    def reader(self, split: Split, offset: Any, context: ReaderContext) -> SplitReader:
        """A reader of the values; its offset is the number of records handed out.

        Raises:
            ConnectorError: a one-shot iterator would have to start again, or there are fewer values than
                before the restart.
        """
        start = int(offset or 0)
        if isinstance(self.values, Columns | Sequence):
            return _SequenceReader(self.values, start)
        made: Iterable[Any] = self.values() if callable(self.values) else self.values
        if made is self.values and iter(made) is made:
            if start or self._is_taken:
                raise ConnectorError(
                    f"a {type(made).__name__} can't be read again from record {start}",
                    hint="pass a list, or a function that returns the iterator",
                )
            self._is_taken = True
        return _IteratorReader(iter(made), start)


class _SequenceReader(SplitReader):
    def __init__(self, values: Columns | Sequence[Any], start: int) -> None:
        if start > len(values):
            raise _too_few(len(values), start)
        self._values = values
        self.offset = start

    def poll(self, limit: int) -> Batch | None:
        stop = min(self.offset + limit, len(self._values))
        values = self._values
        batch = values.slice(self.offset, stop) if isinstance(values, Columns) else list(values[self.offset : stop])
        self.offset = stop
        self.exhausted = stop == len(values)
        return batch


class _IteratorReader(SplitReader):
    def __init__(self, values: Iterator[Any], start: int) -> None:
        skipped = sum(1 for _ in itertools.islice(values, start))
        if skipped < start:
            raise _too_few(skipped, start)
        self._values = values
        self.offset = start

    def poll(self, limit: int) -> Batch | None:
        rows = list(itertools.islice(self._values, limit))
        self.offset += len(rows)
        self.exhausted = len(rows) < limit
        return rows

    def close(self) -> None:
        """Ends a generator, so that its `finally` clauses run."""
        if isinstance(self._values, Generator):
            self._values.close()


def _too_few(count: int, start: int) -> ConnectorError:
    return ConnectorError(
        f"the source has {count} values, but {start} were read before the restart",
        hint="a source that is read again must give the same values",
    )
