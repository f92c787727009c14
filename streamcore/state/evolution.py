"""State of a snapshot whose descriptor has changed since: what becomes of it, and what is refused.

========================  ==================================================================================
what has changed          what becomes of the state
========================  ==================================================================================
columnar field added      starts at the descriptor's `initial`, or zero
record field added        gets the default of the class; without one it is refused
field removed             is dropped; the log says so
number made wider         is converted, where the new type holds every old value exactly
fields in another order   are found by name
class moved or renamed    is found by `formerly`
anything else             refused, but with a `version` and a `migrate` function on the descriptor, which makes the
                          new values of what an older version has saved
========================  ==================================================================================

A record's class as a snapshot has it is in `streamcore.batch.record_forms`, columns are in `streamcore.batch.widening`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from streamcore.batch import Columns, plain
from streamcore.batch.widening import as_of_now, is_wider, widened
from streamcore.errors import IncompatibleSnapshotError, StateCodecError
from streamcore.kernels.key_columns import as_list
from streamcore.kernels.key_index import take_keys
from streamcore.state.descriptors import ColumnarState, ListState, MapState, TableState, Versioned
from streamcore.state.key_groups import groups_of

_OTHER_UID = "restore with the code that wrote the snapshot, or give the operator another uid"


@dataclass(slots=True)
class Evolution:
    """How the state of one descriptor is taken over. A function of the user's may make any error.

    Attributes:
        name: of the state.
        saved_version: of the descriptor that it was saved by.
        descriptor: None: an operator's own table, which has no version.
        changes: gets a sentence for each difference that the user should hear of.
    """

    name: str
    saved_version: int
    descriptor: Versioned | None
    max_parallelism: int
    allow_pickle: bool
    changes: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        version = self.descriptor.version if self.descriptor is not None else 0
        if self.saved_version > version:
            raise IncompatibleSnapshotError(
                f"{self.what} is of version {self.saved_version} in the snapshot, and of version {version} in the "
                "operator",
                hint="restore with the code that wrote the snapshot, or newer code",
            )

    @property
    def what(self) -> str:
        """The state, for messages."""
        return f"state {self.name!r}"

    @property
    def makes_values(self) -> bool:
        """Whether a function of the user's makes the values anew."""
        return self._migrate is not None

    @property
    def _migrate(self) -> Any:
        descriptor = self.descriptor
        return descriptor.migrate if descriptor is not None and self.saved_version < descriptor.version else None

    def entries(self, group: int, body: bytes) -> Iterable[tuple[Any, Any]]:
        """The (key, value) pairs of object state in one key group.

        Raises:
            IncompatibleSnapshotError: a value can't be taken over, or a key belongs to another group now.
        """
        changes: set[str] = set()
        migrate = self._migrate
        try:
            pairs = plain.decode(body, allow_pickle=self.allow_pickle, as_fields=migrate is not None, changes=changes)
            if migrate is not None:
                pairs = [(plain.rebuilt(key), self._migrated(migrate, value)) for key, value in pairs]
        except StateCodecError as error:
            raise IncompatibleSnapshotError(f"{self.what}: {error.message}", hint=error.hint) from error
        if changes or migrate is not None:
            self.changes |= changes
            keys = [key for key, _ in pairs]
            self.check_groups(groups_of(keys, self.max_parallelism) if keys else keys, group)
        return ((key, value) for key, value in pairs)

    def _migrated(self, migrate: Any, value: Any) -> Any:
        version = self.saved_version
        match self.descriptor:
            case ListState():
                return [migrate(item, version) for item in value]
            case MapState():
                return {plain.rebuilt(key): migrate(item, version) for key, item in value.items()}
        return migrate(value, version)

    def columns(self, saved: Mapping[str, Any], own: Any) -> dict[str, Any]:
        """The arrays of columnar state for some of its rows.

        Args:
            saved: field → array (n,) or (n, width).
            own: which rows, int64 (m,).

        Raises:
            IncompatibleSnapshotError: a field is narrower, or of another kind or width.
        """
        descriptor = self.descriptor
        assert isinstance(descriptor, ColumnarState), f"{self.what} is not columnar"
        arrays = {name: values[own] for name, values in saved.items()}
        migrate = self._migrate
        if migrate is not None:
            arrays = {name: np.asarray(values) for name, values in self._made(migrate, Columns.of(**arrays)).items()}
            for name, values in arrays.items():
                if name not in descriptor.schema.by_name or len(values) != len(own):
                    raise IncompatibleSnapshotError(
                        f"{self.what}: migrate made {len(values)} values of {name!r} out of {len(own)} rows",
                        hint=f"return an array with a value per row for some or all of {descriptor.schema}",
                    )
        for name in arrays.keys() - descriptor.schema.by_name.keys():
            self.changes.add(f"field {name} is dropped")
        known = [field for field in descriptor.schema.fields if field.name in arrays]
        return {field.name: widened(arrays[field.name], field, self.what) for field in known}

    def rows(self, rows: Columns) -> Columns:
        """The rows of table state, which have the key of the descriptor.

        Raises:
            IncompatibleSnapshotError: a column is missing, narrower, or of another kind.
        """
        descriptor, migrate = self.descriptor, self._migrate
        assert isinstance(descriptor, TableState), f"{self.what} is no table"
        if migrate is not None:
            rows = self._made(migrate, rows)
        if descriptor.schema is None:
            return rows
        needed = descriptor.schema.fields
        for wanted in needed:
            there = rows.schema.by_name.get(wanted.name)
            if there is None or not is_wider(there.type, wanted.type):
                raise IncompatibleSnapshotError(
                    f"{self.what} has {'no column' if there is None else f'a column {there}, not'} {wanted} in the "
                    "snapshot",
                    hint="restore with the aggregates and fields of the snapshot, or give the operator another uid; "
                    f"the columns are {rows.schema}",
                )
        if all(rows.schema.by_name[wanted.name].type == wanted.type for wanted in needed):
            return rows
        return as_of_now(rows, descriptor.schema, self.what)

    def _made(self, migrate: Any, old: Columns) -> Any:
        return migrate(old, self.saved_version)

    def check_groups(self, groups: Any, saved: Any) -> None:
        """Looks whether keys are still in the groups in which they were saved.

        Args:
            groups: of the keys as they are now, int (n,).
            saved: as they were saved, int (n,), or the one of all.

        Raises:
            IncompatibleSnapshotError: a key hashes differently now, so that its records would go elsewhere.
        """
        if np.any(np.asarray(groups) != saved):
            raise IncompatibleSnapshotError(
                f"{self.what}: its keys have other fields or values now than in the snapshot, so that the records of a "
                "key would not find its state",
                hint=_OTHER_UID,
            )


Pairs = list[tuple[Any, Any]]
"""Keys and values of object state."""


@dataclass(frozen=True)
class OtherForm:
    """State that an operator keeps in columns when its function is compiled, and as objects when it is interpreted:
    how the one becomes the other.

    Attributes:
        first: gives the first value of a field that the snapshot doesn't have, or raises an
            `IncompatibleSnapshotError`.
        to_columns: the arrays of the fields, from the values.
        to_values: the values, from the keys and the arrays of all fields, of those keys that have one.
    """

    names: tuple[str, ...]
    first: Callable[[str], Any]
    to_columns: Callable[[list[Any]], Mapping[str, Any]]
    to_values: Callable[[list[Any], Mapping[str, Any]], Pairs]

    def completed(self, saved: dict[str, Any]) -> dict[str, Any]:
        """Saved columnar state with the fields that are new since."""
        columns, count = saved["columns"], len(saved["groups"])
        new = {name: np.full(count, self.first(name)) for name in self.names if name not in columns}
        return {**saved, "columns": {**columns, **new}}


def in_columns(saved: dict[str, Any], groups: range, evolution: Evolution, form: OtherForm) -> dict[str, Any]:
    """Saved object state as columnar state, of the key groups.

    Raises:
        IncompatibleSnapshotError: a value doesn't fit the columns.
    """
    found = [(group, evolution.entries(group, body)) for group, body in saved["groups"].items() if group in groups]
    rows = [(group, key, value) for group, pairs in found for key, value in pairs]
    try:
        columns = form.to_columns([value for _, _, value in rows])
    except (ValueError, AttributeError, TypeError) as error:
        raise IncompatibleSnapshotError(
            f"{evolution.what} was kept as Python objects that don't fit the columns of the compiled function: {error}",
            hint="keep the function interpreted: compiled=False",
        ) from error
    return {
        "groups": np.array([group for group, _, _ in rows], np.int32),
        "keys": [key for _, key, _ in rows],
        "columns": columns,
    }


def as_values(saved: dict[str, Any], groups: range, evolution: Evolution, form: OtherForm) -> Pairs:
    """Saved columnar state as object state, of the key groups.

    Raises:
        IncompatibleSnapshotError: a field is new and has no first value.
    """
    own = np.flatnonzero((saved["groups"] >= groups.start) & (saved["groups"] < groups.stop))
    evolution.changes.update(f"field {name} is dropped" for name in saved["columns"].keys() - set(form.names))
    columns = {name: values[own] for name, values in form.completed(saved)["columns"].items()}
    return form.to_values(as_list(take_keys(saved["keys"], own)), columns)
