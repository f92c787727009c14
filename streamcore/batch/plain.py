"""The plain codec: Python values in snapshots without pickle.

MessagePack with tagged extensions for what MessagePack lacks: tuples, sets, any dictionary key, big integers,
NumPy arrays, times, decimals, UUIDs, enums, and records of the user's own dataclasses, NamedTuples and msgspec Structs.
Reading never imports a module and never runs user code but the constructor of such a record, whose class
must already be loaded; so a snapshot that somebody else could write to is safe to open.

The first record of a class in what is encoded at once brings the class's form (`record_forms.RecordForm`) under a
number, by which the others name it.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import pickle
import uuid
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from streamcore.batch.record_forms import RecordForm, SavedRecord, builder_of, find_class, form_of, is_importable
from streamcore.batch.schema import is_record_type, record_type
from streamcore.errors import StateCodecError

_TUPLE, _SET, _FROZENSET, _BIG_INT, _ARRAY, _SCALAR, _TEXT, _ENUM, _OLD_RECORD, _PICKLE, _DICT, _ROW = range(1, 13)
_FORM, _RECORD = 13, 14
_INT_MIN, _INT_MAX = -(1 << 63), (1 << 64) - 1
_ARRAY_KINDS = "biufcmMSU"  # all but objects and structs


def encode(value: Any, *, allow_pickle: bool = False) -> bytes:
    """The value as bytes; `allow_pickle` falls back to pickle for classes that have no plain form. A `SavedRecord` goes
    back as the record that it was read from.

    Raises:
        StateCodecError: a value inside has no plain form.
    """
    try:
        return msgspec.msgpack.encode(_Writing(allow_pickle).wrap(value))
    except (UnicodeEncodeError, RecursionError) as error:
        raise StateCodecError(f"a value can't be saved: {error}") from error


def dict_of_saved(pairs: bytes) -> bytes:
    """A dictionary, encoded, of an encoded list of its pairs."""
    return msgspec.msgpack.encode(msgspec.msgpack.Ext(_DICT, pairs))


def decode(
    data: bytes | memoryview, *, allow_pickle: bool = False, as_fields: bool = False, changes: set[str] | None = None
) -> Any:
    """The value that `encode` was given.

    Args:
        as_fields: leaves records as `SavedRecord`s, whatever has become of their classes, and members of enums that
            are gone as their names.
        changes: gets a sentence about each record class that has other fields now.

    Raises:
        StateCodecError: the bytes are not of this codec, name a class that isn't loaded or doesn't take its
            saved fields, or hold a pickle that was not allowed.
    """
    return _Reading(allow_pickle, as_fields, changes).value(data)


def rebuilt(value: Any) -> Any:
    """What was decoded `as_fields`, with the records as those of their classes again.

    Raises:
        StateCodecError: as `decode`.
    """
    match value:
        case SavedRecord():
            return builder_of(value.form).build([rebuilt(item) for item in value.values()])
        case dict():
            return {rebuilt(key): rebuilt(item) for key, item in value.items()}
        case list() | set() | frozenset():
            return type(value)(map(rebuilt, value))
        case tuple():
            items = map(rebuilt, value)
            return type(value)._make(items) if hasattr(value, "_make") else tuple(items)
    return value


_TEXT_TYPES: dict[type, Callable[[str], Any]] = {
    datetime.datetime: datetime.datetime.fromisoformat,
    datetime.date: datetime.date.fromisoformat,
    datetime.time: datetime.time.fromisoformat,
    decimal.Decimal: decimal.Decimal,
    uuid.UUID: uuid.UUID,
    datetime.timedelta: lambda text: datetime.timedelta(microseconds=int(text)),
    complex: complex,
}
_TEXT_BY_NAME = {cls.__name__: parse for cls, parse in _TEXT_TYPES.items()}


class _Writing:
    """One call of `encode`."""

    def __init__(self, allow_pickle: bool) -> None:
        self._allow_pickle = allow_pickle
        self._known: dict[Any, tuple[int, tuple[str, ...]]] = {}  # class → number, fields

    def wrap(self, value: Any) -> Any:
        """The value in types that MessagePack has."""
        cls: Any = type(value)
        if cls in (str, float, bool, bytes) or value is None:
            return value
        if cls is int:
            return value if _INT_MIN <= value <= _INT_MAX else msgspec.msgpack.Ext(_BIG_INT, _int_bytes(value))
        if cls is list:
            return [self.wrap(item) for item in value]
        if cls is dict:
            if all(_is_plain_key(key) for key in value):
                return {key: self.wrap(item) for key, item in value.items()}
            return self._pack(_DICT, list(map(list, value.items())))
        if cls is tuple:
            return self._pack(_TUPLE, list(value))
        if cls is set or cls is frozenset:
            return self._pack(_SET if cls is set else _FROZENSET, list(value))
        if cls in self._known:
            return self._record(*self._known[cls], value)
        if cls is SavedRecord:
            form = value.form
            if form in self._known:
                return self._record(*self._known[form], tuple(value.values()))
            return self._first_record(form, form, tuple(value.values()))
        if isinstance(value, enum.Enum) and is_importable(cls):
            member = value.value if isinstance(value, enum.Flag) else value.name
            return self._pack(_ENUM, [cls.__module__, cls.__qualname__, member])
        if cls is np.ndarray and value.dtype.kind in _ARRAY_KINDS:
            return self._pack(_ARRAY, [value.dtype.str, list(value.shape), value.tobytes()])
        if isinstance(value, np.generic) and value.dtype.kind in _ARRAY_KINDS:
            return self._pack(_SCALAR, [value.dtype.str, value.tobytes()])
        if cls in _TEXT_TYPES:
            return self._pack(_TEXT, [cls.__name__, _text(value)])
        if isinstance(value, tuple) and hasattr(value, "_fields") and is_record_type(cls):
            return self._pack(_ROW, [list(value._fields), list(value)])
        form = form_of(cls)
        if form is not None and is_importable(cls):
            return self._first_record(cls, form, value)
        if self._allow_pickle:
            return msgspec.msgpack.Ext(_PICKLE, _pickled(value))
        raise StateCodecError(
            f"a value of type {cls.__module__}.{cls.__qualname__} has no safe saved form",
            hint="keep builtins, NumPy arrays, dataclasses, NamedTuples or Structs defined at module level in state, "
            "or ask for pickle by name: Checkpointing(..., allow_pickle=True)",
        )

    def _first_record(self, known_by: Any, form: RecordForm, value: Any) -> msgspec.msgpack.Ext:
        number = len(self._known)
        self._known[known_by] = number, form.names
        return self._record(msgspec.msgpack.Ext(_FORM, form.encoded(number)), form.names, value)

    def _record(self, form: Any, names: tuple[str, ...], value: Any) -> msgspec.msgpack.Ext:
        fields = value if isinstance(value, tuple) else [getattr(value, name) for name in names]
        return msgspec.msgpack.Ext(_RECORD, msgspec.msgpack.encode([form, *map(self.wrap, fields)]))

    def _pack(self, code: int, body: Any) -> msgspec.msgpack.Ext:
        return msgspec.msgpack.Ext(code, msgspec.msgpack.encode(self.wrap(body)))


def _is_plain_key(key: Any) -> bool:
    cls = type(key)
    return cls in (str, float, bool, bytes) or key is None or (cls is int and _INT_MIN <= key <= _INT_MAX)


def _int_bytes(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)


def _pickled(value: Any) -> bytes:
    try:
        return pickle.dumps(value, protocol=5)
    except Exception as error:
        raise StateCodecError(f"a value of type {type(value).__qualname__} can't be pickled: {error}") from error


def _text(value: Any) -> str:
    if isinstance(value, datetime.timedelta):
        return str(value // datetime.timedelta(microseconds=1))
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _array_type(name: str) -> np.dtype[Any]:
    dtype = np.dtype(name)
    if dtype.kind not in _ARRAY_KINDS:
        raise StateCodecError(f"the snapshot holds an array of {dtype}")
    return dtype


class _Reading:
    """One call of `decode`."""

    def __init__(self, allow_pickle: bool, as_fields: bool, changes: set[str] | None) -> None:
        self._allow_pickle = allow_pickle
        self._as_fields = as_fields
        self._changes = changes
        self._makers: dict[int, Callable[[list[Any]], Any]] = {}

    def value(self, data: bytes | memoryview) -> Any:
        """What the bytes stand for."""
        try:
            return msgspec.msgpack.decode(data, ext_hook=self._unwrap)
        except StateCodecError:
            raise
        except Exception as error:
            raise StateCodecError(f"these bytes are not a saved value: {type(error).__name__}: {error}") from error

    def _unwrap(self, code: int, data: memoryview) -> Any:
        if code == _BIG_INT:
            return int.from_bytes(data, "big", signed=True)
        if code == _PICKLE:
            if self._allow_pickle:
                return pickle.loads(data)  # noqa: S301 - the user asked for it by name
            raise StateCodecError(
                "the snapshot holds pickled values",
                hint="only if you trust who wrote it: Checkpointing(..., allow_pickle=True)",
            )
        body = self.value(data)
        match code:
            case 1:
                return tuple(body)
            case 2:
                return set(body)
            case 3:
                return frozenset(body)
            case 5:
                return np.frombuffer(body[2], _array_type(body[0])).reshape(body[1]).copy()
            case 6:
                dtype = _array_type(body[0])
                return np.frombuffer(body[1], dtype)[0] if dtype.itemsize else np.zeros(1, dtype)[0]
            case 7:
                return _TEXT_BY_NAME[body[0]](body[1])
            case 8:
                return self._member(*body)
            case 9:
                return self._maker(_form_without_names(*body))(body[2])
            case 11:
                return dict(body)
            case 12:
                return record_type(tuple(body[0]))._make(body[1])
            case 13:
                number, form = RecordForm.decoded(body)
                self._makers[number] = self._maker(form)
                return number
            case 14:
                return self._makers[body[0]](body[1:])
        raise StateCodecError(f"unknown saved form {code}", hint="the snapshot was written by a newer version")

    def _maker(self, form: RecordForm) -> Callable[[list[Any]], Any]:
        if self._as_fields:
            return lambda values: SavedRecord(form, values)
        builder = builder_of(form)
        if builder.change and self._changes is not None:
            self._changes.add(builder.change)
        return builder.build

    def _member(self, module: str, qualname: str, member: Any) -> Any:
        try:
            cls = find_class(module, qualname)
            if not issubclass(cls, enum.Enum):
                raise StateCodecError(f"the snapshot holds a member of {qualname}, which is no enum any more")
            if issubclass(cls, enum.Flag):
                return cls(member)
            if member not in cls.__members__:
                raise StateCodecError(
                    f"the snapshot holds {qualname}.{member}, and the enum has no such member now",
                    hint="keep the member, or give the descriptor a version and a migrate function: it gets the name",
                )
            return cls[member]
        except StateCodecError:
            if self._as_fields:
                return member
            raise


def _form_without_names(module: str, qualname: str, values: list[Any]) -> RecordForm:
    """The form of a record of a snapshot from before fields were saved with their names: they are as they were then."""
    cls = find_class(module, qualname)
    now = form_of(cls)
    if now is None:
        raise StateCodecError(f"the snapshot holds a record of {qualname}, which is no record class any more")
    if len(now.names) != len(values):
        raise StateCodecError(f"a saved {qualname} has {len(values)} fields, the class now has {len(now.names)}")
    return RecordForm(module, qualname, now.names, now.types)
