"""Batches: how records travel. A batch is a list of rows or a `Columns`; results never depend on its size."""

from streamcore.batch.columns import Array, Columns, concat_columns
from streamcore.batch.convert import Batch, concat, same_form, slice_batch, take, to_columns, to_rows
from streamcore.batch.schema import Field, Schema, Vector, schema_of

__all__ = [
    "Array",
    "Batch",
    "Columns",
    "Field",
    "Schema",
    "Vector",
    "concat",
    "concat_columns",
    "same_form",
    "schema_of",
    "slice_batch",
    "take",
    "to_columns",
    "to_rows",
]
