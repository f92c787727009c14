"""The type and the event time that a stream has after an operator."""

from __future__ import annotations

import typing
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from streamcore.api.callsite import user_line
from streamcore.batch import Schema, schema_of
from streamcore.errors import TopologyError
from streamcore.runtime.event_time import EventTime

T = TypeVar("T")


def carried_time(time: EventTime | None, schema: Schema | None) -> EventTime | None:
    """Where event time is after an operator: in the field of the same name, if the results have one."""
    if time is None or not isinstance(time.by, str):
        return None
    return time if schema is not None and time.by in schema.by_name else None


def kept_time(time: EventTime | None, schema: Schema | None) -> EventTime | None:
    """Where event time is after an operator that hands on the records as they are."""
    return time if time is not None and not isinstance(time.by, str) else carried_time(time, schema)


def checked(what: str, make: Callable[..., T], *arguments: Any) -> T:
    """What `make` makes of expressions; its complaint names the user's line."""
    try:
        return make(*arguments)
    except TopologyError as error:
        raise TopologyError(f"{what} ({user_line()}): {error.message}", hint=error.hint) from error


def annotated_result(function: Callable[..., Any]) -> Any:
    """The type that a function says it returns, if streams of it have columns; else None."""
    try:
        declared = typing.get_type_hints(function).get("return")
    except (TypeError, NameError, AttributeError):
        return None
    try:
        return declared if schema_of(declared) is not None else None
    except TopologyError:
        return None  # a record type with fields that have no column form travels as rows


def common_schema(schemas: Sequence[Schema | None]) -> Schema | None:
    """The schema of a union; None if one of the streams is untyped.

    Raises:
        TopologyError: the streams have different types.
    """
    if len(set(schemas)) == 1:
        return schemas[0]
    if None not in schemas:
        raise TopologyError(
            f"union ({user_line()}): the streams have different types: {', '.join(str(s) for s in set(schemas))}",
            hint="map them to one type first, or use connect",
        )
    return None
