"""Batches as bytes in snapshots: columns as an Arrow IPC stream with their schema, rows in the plain codec."""

from __future__ import annotations

import enum
from typing import Any

import pyarrow as pa

from streamcore.batch import plain
from streamcore.batch.columns import Columns
from streamcore.batch.convert import Batch
from streamcore.batch.schema import Field, Schema


class SavedKind(enum.IntEnum):
    """What the bytes of a saved batch are."""

    ROWS = 2
    ARROW = 3


def encode_saved(batch: Batch, *, allow_pickle: bool) -> tuple[SavedKind, bytes]:
    """The batch for a snapshot: Arrow with its schema, or rows in the plain codec.

    Raises:
        StateCodecError: a row has no plain form and pickle was not allowed.
    """
    if isinstance(batch, Columns):
        return SavedKind.ARROW, with_schema(batch).to_pybytes()
    return SavedKind.ROWS, plain.encode(batch, allow_pickle=allow_pickle)


def decode_saved(kind: int, body: bytes, *, allow_pickle: bool) -> Batch:
    """The batch that `encode_saved` was given."""
    if kind == SavedKind.ARROW:
        return from_stream(body)
    rows: list[Any] = plain.decode(body, allow_pickle=allow_pickle)
    return rows


def with_schema(batch: Columns) -> pa.Buffer:
    """The columns as an Arrow IPC stream of one batch."""
    sink = pa.BufferOutputStream()
    record_batch = batch.to_arrow()
    with pa.ipc.new_stream(sink, record_batch.schema) as writer:
        writer.write_batch(record_batch)
    return sink.getvalue()


def from_stream(body: Any) -> Columns:
    """The columns that `with_schema` was given."""
    with pa.ipc.open_stream(pa.py_buffer(body)) as reader:
        record_batch = reader.read_next_batch()
    schema = Schema(tuple(Field(f.name, f.type, f.nullable) for f in record_batch.schema))
    return Columns.from_arrow(record_batch, schema)
