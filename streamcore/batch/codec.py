"""Batches as bytes, for sockets, spill files and loop logs.

A batch with a schema is an Arrow IPC record batch (zero copy on receipt); one without is a list of rows,
by pickle on authenticated sockets and the job's private spill files, by the plain codec in snapshots.
"""

from __future__ import annotations

import enum
import pickle
from typing import Any

import cloudpickle
import pyarrow as pa

from streamcore.batch import plain
from streamcore.batch.columns import Columns
from streamcore.batch.convert import Batch, to_columns
from streamcore.batch.schema import Field, Schema
from streamcore.errors import TopologyError


class BodyKind(enum.IntEnum):
    """What the bytes of an encoded batch are."""

    ARROW = 1
    ROWS = 2
    ARROW_WITH_SCHEMA = 3


def encode_wire(batch: Batch, schema: Schema | None) -> tuple[BodyKind, Any]:
    """The batch for a process of the same job; returns the kind and a buffer.

    Raises:
        BadRecordError: a row of a typed stream isn't of its type.
        TopologyError: a row can't be sent to another process at all.
    """
    if isinstance(batch, Columns):
        if batch.schema == schema:
            return BodyKind.ARROW, batch.to_arrow().serialize()
        return BodyKind.ARROW_WITH_SCHEMA, _with_schema(batch)
    if schema is not None:
        return BodyKind.ARROW, to_columns(batch, schema).to_arrow().serialize()
    try:
        return BodyKind.ROWS, pickle.dumps(batch, protocol=5)
    except (pickle.PicklingError, AttributeError, TypeError):
        return BodyKind.ROWS, _pickle_by_value(batch)


def decode_wire(kind: int, body: Any, schema: Schema | None) -> Batch:
    """The batch that `encode_wire` was given; typed rows come back as columns."""
    if kind == BodyKind.ROWS:
        rows: list[Any] = pickle.loads(body)  # noqa: S301 - the connection proved the job's secret
        return rows
    if kind == BodyKind.ARROW_WITH_SCHEMA:
        return _from_stream(body)
    assert schema is not None, "an Arrow body on a channel without schema"
    return Columns.from_arrow(pa.ipc.read_record_batch(pa.py_buffer(body), schema.arrow), schema)


def encode_saved(batch: Batch, *, allow_pickle: bool) -> tuple[BodyKind, bytes]:
    """The batch for a snapshot: Arrow with its schema, or rows in the plain codec.

    Raises:
        StateCodecError: a row has no plain form and pickle was not allowed.
    """
    if isinstance(batch, Columns):
        return BodyKind.ARROW_WITH_SCHEMA, _with_schema(batch).to_pybytes()
    return BodyKind.ROWS, plain.encode(batch, allow_pickle=allow_pickle)


def decode_saved(kind: int, body: bytes, *, allow_pickle: bool) -> Batch:
    """The batch that `encode_saved` was given."""
    if kind == BodyKind.ARROW_WITH_SCHEMA:
        return _from_stream(body)
    rows: list[Any] = plain.decode(body, allow_pickle=allow_pickle)
    return rows


def _with_schema(batch: Columns) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    record_batch = batch.to_arrow()
    with pa.ipc.new_stream(sink, record_batch.schema) as writer:
        writer.write_batch(record_batch)
    return sink.getvalue()


def _from_stream(body: Any) -> Columns:
    with pa.ipc.open_stream(pa.py_buffer(body)) as reader:
        record_batch = reader.read_next_batch()
    schema = Schema(tuple(Field(f.name, f.type, f.nullable) for f in record_batch.schema))
    return Columns.from_arrow(record_batch, schema)


def _pickle_by_value(batch: Batch) -> bytes:
    try:
        data: bytes = cloudpickle.dumps(batch, protocol=5)
    except Exception as error:
        raise TopologyError(
            f"a record can't be sent to another process: {error}",
            hint="send plain values between operators, and open files, locks and connections inside of them",
        ) from error
    return data
