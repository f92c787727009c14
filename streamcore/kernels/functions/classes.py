"""The users' record classes: NamedTuples, dataclasses and Structs, and what stands for them in compiled code."""

from __future__ import annotations

import collections
import dataclasses
import functools
import inspect
import keyword
from typing import Any

import msgspec

from streamcore.kernels.functions.refusal import NotCompilableError


@functools.cache
def record_class(names: tuple[str, ...], cls: Any) -> Any:
    """The namedtuple class that stands for `cls` (None: for a record of a schema without a type) in compiled code."""
    for name in names:
        if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_"):
            raise NotCompilableError(f"the field {name!r} has a name that a namedtuple can't have")
    make: Any = collections.namedtuple
    proxy = make(cls.__name__ if cls else "Record", names)
    proxy.stands_for = cls
    return proxy


def is_tuple_class(cls: Any) -> bool:
    """Whether records of the class are tuples: they can be unpacked and read by position."""
    return issubclass(cls, tuple)


def is_record_class(value: Any) -> bool:
    """Whether a value is a NamedTuple, dataclass or Struct class."""
    return isinstance(value, type) and (
        dataclasses.is_dataclass(value)
        or (issubclass(value, tuple) and hasattr(value, "_fields"))
        or issubclass(value, msgspec.Struct)
    )


def field_names(cls: Any) -> tuple[str, ...]:
    """The fields of a record class, in order."""
    if dataclasses.is_dataclass(cls):
        return tuple(field.name for field in dataclasses.fields(cls))
    return tuple(getattr(cls, "_fields", ()) or getattr(cls, "__struct_fields__", ()))


_READING = ("__getattribute__", "__getitem__", "__iter__")


def check_plain(cls: Any) -> None:
    """Refuses a record class that runs code of the user's when a record is made or read.

    Raises:
        NotCompilableError: names the method in the way.
    """
    names = field_names(cls)
    if issubclass(cls, tuple):
        base = next(c for c in cls.__mro__ if c.__bases__ == (tuple,))
        own = cls.__new__ is not base.__new__ or cls.__init__ is not object.__init__
        own = own or any(inspect.getattr_static(cls, name) is not base.__dict__.get(name) for name in names)
        own = own or any(getattr(cls, name) is not getattr(tuple, name) for name in _READING)
    elif issubclass(cls, msgspec.Struct):
        own = hasattr(cls, "__post_init__") or cls.__getattribute__ is not msgspec.Struct.__getattribute__
    else:
        own = _has_own_code(cls, names)
    if own:
        raise NotCompilableError(f"{cls.__name__} has code of its own that runs when a record is made or read")


def _has_own_code(cls: Any, names: tuple[str, ...]) -> bool:
    code = getattr(cls.__init__, "__code__", None)
    return (
        hasattr(cls, "__post_init__")
        or code is None
        or code.co_filename != "<string>"  # not the one that dataclass made
        or cls.__new__ is not object.__new__
        or cls.__getattribute__ is not object.__getattribute__
        or (cls.__setattr__ is not object.__setattr__ and not cls.__dataclass_params__.frozen)
        or any(isinstance(inspect.getattr_static(cls, name, None), property) for name in names)
        or any(not field.init for field in dataclasses.fields(cls))
    )
