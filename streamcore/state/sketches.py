"""Accumulators of distinct values and of distributions: exact sets, and sketches by Apache DataSketches."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from streamcore.batch import Columns
from streamcore.batch.dictionary import decoded
from streamcore.errors import TopologyError
from streamcore.kernels.grouping import interpolated_quantiles
from streamcore.state.accumulators import Entries, Numbers, Part
from streamcore.state.object_parts import BytesCodec, ListCodec, by_entry
from streamcore.state.values import numbers, objects, ordered_rows, present_rows, rows_of

EXACT_VALUES = 512
"""Up to as many values of a group are kept as they are, and their quantiles are exact."""

_COMPRESSION = 500  # of t-digests: centroids are about as many
_HUGE = 1e300  # stands for infinity, which has no mean
_EMPTY_TEXT = "\0"  # the library passes over empty text
_RAW, _SKETCH = b"\0", b"\1"
_NAN = float("nan")


def sketch_library(where: str) -> Any:
    """The module `datasketches`.

    Raises:
        TopologyError: it isn't installed.
    """
    try:
        return importlib.import_module("datasketches")
    except ImportError:
        raise TopologyError(
            f"{where} needs the package datasketches (Apache DataSketches), which isn't installed",
            hint="pip install 'streamcore[sketches]'",
        ) from None


@dataclass(frozen=True)
class Distinct:
    """The different values of `field`, of type `type`, as a set. Missing values are left out; NaN is one value."""

    field: str
    type: pa.DataType

    @functools.cached_property
    def parts(self) -> tuple[Part, ...]:
        """The sets."""
        make = _set_with_one_nan if pa.types.is_floating(self.type) else set
        return (Part(f"set_{self.field}", np.dtype(object), None, ListCodec(self.type, make)),)

    def add(self, totals: Sequence[Numbers], entries: Entries, batch: Columns) -> None:
        """Adds records: record i to entries[i]."""
        order, groups, column = _grouped(batch, self.field, entries)
        values, sets = objects(rows_of(column, order)), totals[0]
        if pa.types.is_floating(self.type):
            values = _with_one_nan(values)
        for entry, start, stop in groups:
            if sets[entry] is None:
                sets[entry] = set(values[start:stop])
            else:
                sets[entry].update(values[start:stop])

    def merge(self, totals: Sequence[Numbers], entries: Entries, partial: Sequence[Numbers]) -> None:
        """Adds sets: the i-th to that of entries[i]."""
        sets = totals[0]
        for entry, more in zip(entries.tolist(), partial[0].tolist(), strict=True):
            if more is None:
                continue
            if sets[entry] is None:
                sets[entry] = set(more)
            else:
                sets[entry] |= more


@dataclass(frozen=True)
class HyperLogLog:
    """How many different values `field` has, about: 2**`lg_k` registers of a byte (Flajolet et al. 2007)."""

    field: str
    lg_k: int

    @functools.cached_property
    def parts(self) -> tuple[Part, ...]:
        """The sketches."""
        codec = BytesCodec(_hll_to_bytes, _hll_from_bytes)
        return (Part(f"hll{self.lg_k}_{self.field}", np.dtype(object), None, codec),)

    def add(self, totals: Sequence[Numbers], entries: Entries, batch: Columns) -> None:
        """Adds records: record i to entries[i]."""
        library, sketches = sketch_library("approx_count_distinct"), totals[0]
        order, groups, column = _grouped(batch, self.field, entries)
        values = _hashable(rows_of(column, order))
        for entry, start, stop in groups:
            sketch = sketches[entry]
            if sketch is None:
                sketch = sketches[entry] = library.hll_sketch(self.lg_k, library.HLL_8)
            update = sketch.update
            for value in values[start:stop]:
                update(value)

    def merge(self, totals: Sequence[Numbers], entries: Entries, partial: Sequence[Numbers]) -> None:
        """Adds sketches: the i-th to that of entries[i]."""
        library, sketches = sketch_library("approx_count_distinct"), totals[0]
        for entry, more in zip(entries.tolist(), partial[0].tolist(), strict=True):
            if more is None:
                continue
            union = library.hll_union(self.lg_k)
            if sketches[entry] is not None:
                union.update(sketches[entry])
            union.update(more)
            sketches[entry] = union.get_result(library.HLL_8)


@dataclass(frozen=True)
class Digest:
    """The distribution of `field`: up to EXACT_VALUES values as they are, more of them as a t-digest (Dunning 2021).
    NaN and missing values are left out."""

    field: str

    @functools.cached_property
    def parts(self) -> tuple[Part, ...]:
        """float64 arrays, or digests."""
        codec = BytesCodec(_digest_to_bytes, _digest_from_bytes)
        return (Part(f"digest_{self.field}", np.dtype(object), None, codec),)

    def add(self, totals: Sequence[Numbers], entries: Entries, batch: Columns) -> None:
        """Adds records: record i to entries[i]."""
        column = batch[self.field]
        if (rows := ordered_rows(column)) is not None:
            entries = entries[rows]
        order, groups = by_entry(entries)
        values = numbers(rows_of(column, order if rows is None else rows[order])).astype(np.float64, copy=False)
        for entry, start, stop in groups:
            _add_values(totals[0], entry, values[start:stop])

    def merge(self, totals: Sequence[Numbers], entries: Entries, partial: Sequence[Numbers]) -> None:
        """Adds distributions: the i-th to that of entries[i]."""
        for entry, more in zip(entries.tolist(), partial[0].tolist(), strict=True):
            if isinstance(more, np.ndarray):
                _add_values(totals[0], entry, more)
            elif more is not None:
                held = totals[0][entry]
                digest = held if held is not None and not isinstance(held, np.ndarray) else _new_digest(held)
                digest.merge(more)
                totals[0][entry] = digest


def sizes(sets: Numbers) -> Numbers:
    """How many values each set has; int64 (n,)."""
    return np.fromiter((0 if held is None else len(held) for held in sets.tolist()), np.int64, len(sets))


def estimates(sketches: Numbers) -> Numbers:
    """About how many different values each sketch has seen; int64 (n,)."""
    values = (0 if sketch is None else round(sketch.get_estimate()) for sketch in sketches.tolist())
    return np.fromiter(values, np.int64, len(sketches))


def quantiles_of(digests: Numbers, q: float) -> Numbers:
    """The q-quantile of each distribution; float64 (n,), NaN for one of no values."""
    held = digests.tolist()
    raw = [digest if isinstance(digest, np.ndarray) else np.empty(0) for digest in held]
    starts = np.zeros(len(raw) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, raw), np.int64, len(raw)), out=starts[1:])
    out: Numbers = interpolated_quantiles(np.concatenate([np.empty(0), *raw]), starts, q)
    for i, digest in enumerate(held):
        if digest is not None and not isinstance(digest, np.ndarray):
            value = digest.get_quantile(q)
            out[i] = value if abs(value) < _HUGE / 1e6 else np.copysign(np.inf, value)
    return out


def _with_one_nan(values: list[float]) -> list[float]:
    """The values with the same object for every NaN, since a set knows it by its identity."""
    return [value if value == value else _NAN for value in values]  # noqa: PLR0124 - false for NaN


def _grouped(batch: Columns, field: str, entries: Entries) -> tuple[Any, Any, Any]:
    """The field's rows that have a value, in order of entries; the groups; and the column without its dictionary."""
    column = decoded(batch.encoded(field))
    rows = present_rows(column)
    order, groups = by_entry(entries if rows is None else entries[rows])
    return order if rows is None else rows[order], groups, column


def _hashable(column: Any) -> list[Any]:
    """The values as the library takes them: int64, float or text."""
    if isinstance(column, np.ndarray):
        if column.dtype.kind == "f":
            return column.tolist()  # type: ignore[no-any-return]
        return numbers(column).view(np.int64).tolist()  # type: ignore[no-any-return]
    values = objects(column)
    if pa.types.is_uint64(column.type):
        return [value - (1 << 64) if value >= 1 << 63 else value for value in values]
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        values = [value.decode("latin-1") for value in values]
    return [_EMPTY_TEXT if value == "" else value for value in values]


def _set_with_one_nan(values: list[Any]) -> set[Any]:
    """A set out of a column, where every NaN is another object than before."""
    return set(_with_one_nan(values))


def _hll_to_bytes(sketch: Any) -> bytes:
    data: bytes = sketch.serialize_compact()
    return data


def _hll_from_bytes(data: bytes) -> Any:
    return sketch_library("approx_count_distinct").hll_sketch.deserialize(data)


def _digest_to_bytes(held: Any) -> bytes:
    return _RAW + held.tobytes() if isinstance(held, np.ndarray) else _SKETCH + held.serialize()


def _digest_from_bytes(data: bytes) -> Any:
    if data[:1] == _RAW:
        return np.frombuffer(data, np.float64, offset=1)
    return sketch_library("quantile").tdigest_double.deserialize(data[1:])


def _add_values(digests: Numbers, entry: int, values: Numbers) -> None:
    held = digests[entry]
    if held is None and len(values) <= EXACT_VALUES:
        digests[entry] = values.copy()
    elif isinstance(held, np.ndarray) and len(held) + len(values) <= EXACT_VALUES:
        digests[entry] = np.concatenate((held, values))
    else:
        if held is None or isinstance(held, np.ndarray):
            held = digests[entry] = _new_digest(held)
        _update(held, values)


def _new_digest(values: Numbers | None) -> Any:
    digest = sketch_library("quantile").tdigest_double(_COMPRESSION)
    if values is not None:
        _update(digest, values)
    return digest


def _update(digest: Any, values: Numbers) -> None:
    digest.update(np.clip(values, -_HUGE, _HUGE))
