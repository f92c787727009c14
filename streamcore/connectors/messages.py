"""Messages that a service pushes, as records: text, bytes, or JSON of any or of one type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

from streamcore.batch import Schema, schema_of
from streamcore.connectors.json_source import row_decoder
from streamcore.connectors.options import check_choice
from streamcore.errors import UsageError

Format = Literal["json", "text", "bytes"]


class MessageFormat:
    """What a source makes of each message. Instances travel to the workers.

    Args:
        format: `json`, `text` (UTF-8, as `str`) or `bytes`.
        type: with `json`: a dataclass, a NamedTuple, a msgspec Struct, or any other type that msgspec decodes;
            messages that aren't of it are malformed. Objects become dicts when None.

    Attributes:
        schema: the columns of the type, if it has such.

    Raises:
        UsageError: the format is unknown, or the type can't be decoded from JSON.
    """

    def __init__(self, format: Format, type: Any = None) -> None:  # noqa: A002 - the usual names
        check_choice("format", format, get_args(Format))
        if type is not None and format != "json":
            raise UsageError(f"messages in the format {format!r} have no type", hint='a type goes with format="json"')
        if format == "json":
            row_decoder(type)
        self.format = format
        self.type = type
        self.schema: Schema | None = schema_of(type)

    def decoder(self) -> Callable[[bytes], Any]:
        """Decodes one message; raises ValueError or RecursionError when it is malformed."""
        if self.format == "json":
            return row_decoder(self.type)
        return _same if self.format == "bytes" else bytes.decode


def _same(data: bytes) -> bytes:
    return data
