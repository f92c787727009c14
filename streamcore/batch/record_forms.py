"""Record classes as snapshots have them, and records built again when their class has changed since.

A snapshot says of every class of its records (dataclass, NamedTuple, msgspec Struct) what fields it had, so that they
are found by name: a field may have moved, been added with a default, or been removed. Where both sides know a field to
be a plain number or text, its type is compared too.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import msgspec

from streamcore.errors import StateCodecError, UsageError

C = TypeVar("C", bound=type)

_MIGRATE = "give the field a default, or the descriptor a version and a migrate function that makes the new values"
_SCALARS: dict[Any, str] = {int: "int", float: "float", bool: "bool", str: "str", bytes: "bytes"}
_WIDER: dict[tuple[str, str], Callable[[Any], Any]] = {
    ("int", "float"): float,
    ("bool", "int"): int,
    ("bool", "float"): float,
}

_former: dict[str, type] = {}


@dataclasses.dataclass(frozen=True, slots=True)
class RecordForm:
    """A record class as it was when a snapshot was taken.

    Attributes:
        types: of the fields: `int`, `float`, `bool`, `str`, `bytes`, with `?` where it may be missing; empty: another.
    """

    module: str
    qualname: str
    names: tuple[str, ...]
    types: tuple[str, ...]


class SavedRecord(dict[str, Any]):
    """The fields of a saved record by name, not made a record of its class again: what a `migrate` function is given.

    Attributes:
        form: the record's class as it was.
    """

    __slots__ = ("form",)

    def __init__(self, form: RecordForm, values: Iterable[Any]) -> None:
        super().__init__(zip(form.names, values, strict=True))
        self.form = form

    def __hash__(self) -> int:  # type: ignore[override]  # it may stand in a set, or be a key
        return hash(tuple(self.values()))

    @property
    def saved_class(self) -> str:
        """The name of the record's class, with its module."""
        return f"{self.form.module}.{self.form.qualname}"


def formerly(*names: str) -> Callable[[C], C]:
    """Tells that older snapshots know a record class or an enum by other names: decorates the class.

    Args:
        names: module and class, as in `"shop.models.Cart"`.

    Raises:
        UsageError: a name has no module, or is already taken by another class.

    Example:
        >>> import dataclasses
        >>> @formerly("old_shop.Cart")
        ... @dataclasses.dataclass
        ... class Basket:
        ...     items: int
    """

    def register(cls: C) -> C:
        for name in names:
            taken = _former.get(name, cls)
            if "." not in name or (taken.__module__, taken.__qualname__) != (cls.__module__, cls.__qualname__):
                why = f"{taken.__qualname__} has been named so" if "." in name else "it lacks the module"
                raise UsageError(
                    f"formerly({name!r}) of {cls.__qualname__}: {why}", hint="name the class as in 'shop.models.Cart'"
                )
            _former[name] = cls
        return cls

    return register


def is_importable(cls: type) -> bool:
    """Whether the class is what stands under its name, so that a restore finds it again."""
    return _lookup(cls.__module__, cls.__qualname__) is cls


def find_class(module: str, qualname: str) -> type:
    """The class that a snapshot names, or that was `formerly` named so; imports nothing.

    Raises:
        StateCodecError: no such class is loaded.
    """
    loaded = _lookup(module, qualname)
    found: type | None = loaded if isinstance(loaded, type) else _former.get(f"{module}.{qualname}")
    if found is None:
        raise StateCodecError(
            f"the snapshot holds a record of class {module}.{qualname}, which is not loaded",
            hint="import the module that defines it; if the class has another name now, decorate it with "
            f'@formerly("{module}.{qualname}")',
        )
    return found


def _lookup(module: str, qualname: str) -> Any:
    """What has the name, if it is loaded; asks no `__getattr__`, which could import more."""
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = vars(found).get(part) if isinstance(found, (types.ModuleType, type)) else None
    return found


@functools.cache
def form_of(cls: type) -> RecordForm | None:
    """The form of a record class; None: it is none, or can't be built from what it holds."""
    names = _fields(cls)
    if names is None or (dataclasses.is_dataclass(cls) and list(inspect.signature(cls).parameters) != names):
        return None
    try:
        hints = typing.get_type_hints(cls)
    except Exception:  # noqa: BLE001 - annotations are any expressions; then the types are not known
        hints = {}
    return RecordForm(cls.__module__, cls.__qualname__, tuple(names), tuple(_type(hints.get(name)) for name in names))


def _fields(cls: Any) -> list[str] | None:
    if dataclasses.is_dataclass(cls):
        return [field.name for field in dataclasses.fields(cls)]
    if issubclass(cls, msgspec.Struct):
        return list(cls.__struct_fields__)
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        return list(cls._fields)
    return None


def _type(hint: Any) -> str:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        options = [option for option in typing.get_args(hint) if option is not type(None)]
        known = _SCALARS.get(options[0], "") if len(options) == 1 else ""
        return f"{known}?" if known else ""
    return _SCALARS.get(hint, "") if isinstance(hint, type) else ""


@dataclasses.dataclass(frozen=True, slots=True)
class Builder:
    """Makes records of the class that a saved form stands for now.

    Attributes:
        change: what is different, in words; empty: nothing.
    """

    build: Callable[[list[Any]], Any]
    change: str


def builder_of(form: RecordForm) -> Builder:
    """How records of a saved form become records again.

    Raises:
        StateCodecError: the class isn't loaded, is no record class any more, needs a field that was not saved, or has
            one of another kind.
    """
    return _builder(form, find_class(form.module, form.qualname))


@functools.cache
def _builder(form: RecordForm, cls: type) -> Builder:
    now = form_of(cls)
    if now is None:
        raise StateCodecError(f"the snapshot holds a record of {form.qualname}, which is no record class any more")
    if (form.names, form.types) == (now.names, now.types):
        return Builder(_plain_builder(cls, form.names), "")
    added = [name for name in now.names if name not in form.names]
    dropped = [name for name in form.names if name not in now.names]
    _refuse_without_default(form, cls, added)
    kept = [(name, form.names.index(name)) for name in now.names if name in form.names]
    new_types = dict(zip(now.names, now.types, strict=True))
    conversions = {name: _conversion(form.qualname, name, form.types[place], new_types[name]) for name, place in kept}
    words = [f"field {name} is new" for name in added] + [f"field {name} is dropped" for name in dropped]
    words += [
        f"field {name} was {form.types[place]} and is {new_types[name]}"
        for name, place in kept
        if form.types[place] != new_types[name]
    ]

    def build(values: list[Any]) -> Any:
        return cls(**{name: conversions[name](values[place]) for name, place in kept})

    return Builder(build, f"{cls.__qualname__}: {', '.join(words) or 'its fields are in another order'}")


def _plain_builder(cls: Any, names: tuple[str, ...]) -> Callable[[list[Any]], Any]:
    parameters = inspect.signature(cls).parameters
    by_place = all(parameter.kind is parameter.POSITIONAL_OR_KEYWORD for parameter in parameters.values())
    if by_place and tuple(parameters) == names:
        return lambda values: cls(*values)
    return lambda values: cls(**dict(zip(names, values, strict=True)))


def _refuse_without_default(form: RecordForm, cls: Any, added: list[str]) -> None:
    parameters = inspect.signature(cls).parameters
    for name in added:
        if name not in parameters or parameters[name].default is inspect.Parameter.empty:
            raise StateCodecError(
                f"{cls.__qualname__} has a field {name} without default, which the snapshot does not have "
                f"(it has {', '.join(form.names)})",
                hint=_MIGRATE,
            )


def _conversion(cls: str, name: str, old: str, new: str) -> Callable[[Any], Any]:
    """From the old type to the new one, exactly.

    Raises:
        StateCodecError: the new one can't hold the old one's values.
    """
    was, now = old.rstrip("?"), new.rstrip("?")
    if not was or not now or (was == now and (old == new or new.endswith("?"))):
        return lambda value: value
    if was != now and (was, now) not in _WIDER:
        raise StateCodecError(
            f"{cls} has field {name} as {new}, and in the snapshot it is {old}",
            hint="only bool to int, and int or bool to float are done without being told; for others give the "
            "descriptor a version and a migrate function",
        )
    widen = _WIDER.get((was, now), lambda value: value)

    def convert(value: Any) -> Any:
        if value is None and new.endswith("?"):
            return None
        wide = None if value is None else widen(value)
        if wide != value or value is None:
            raise StateCodecError(
                f"{cls} has field {name} as {new}, and in the snapshot there is a value {value!r}",
                hint="give the descriptor a version and a migrate function",
            )
        return wide

    return convert
