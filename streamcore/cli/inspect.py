"""The command `inspect`: what is in a snapshot, without the job."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from streamcore.batch.json_values import decode_key, encode_json
from streamcore.cli.tables import size, table
from streamcore.errors import ConnectorError, UsageError
from streamcore.snapshots import OperatorInfo, Snapshot, SnapshotState

_FORMATS = ["table", "json", "jsonl", "csv", "parquet"]
_LONGEST_CELL = 200
_ROWS_OF_A_TABLE = 20


@click.command()
@click.argument("path", metavar="SNAPSHOT")
@click.option("--operator", "uid", metavar="UID", help="Show this operator.")
@click.option(
    "--state", "name", metavar="NAME", help="Show the rows of this state.  [default: the operator's only one]"
)
@click.option(
    "--key", metavar="KEY", help='Only what belongs to a key, in JSON: 7, "paris", ["paris", 7]; or plain text.'
)
@click.option("--timers", is_flag=True, help="Show the operator's timers instead of state.")
@click.option("--format", "form", type=click.Choice(_FORMATS), default="table", show_default=True)
@click.option("--output", metavar="FILE", help="Write the rows there; needed for parquet.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many rows.  [default: 20 in a table, else all]")
@click.option("--allow-pickle", is_flag=True, help="Unpickle pickled values: only if you trust who wrote them.")
def inspect(path: str, uid: str | None, name: str | None, key: str | None, form: str, **options: Any) -> None:
    """Shows what is in a SNAPSHOT: DIR/chk-NNNNNNNN, a savepoint, or the latest checkpoint of a directory.

    Without options: its operators, their states, where the sources stand, what sinks have prepared. With --operator the
    rows of a state. The job's code is not needed: records of its classes are shown by their fields.
    """
    if uid is None and (name or key or options["timers"] or options["output"]):
        raise UsageError("which operator's?", hint="add --operator UID; without options, inspect lists them")
    if form == "parquet" and options["output"] is None:
        raise UsageError("--format parquet needs --output FILE")
    snapshot = Snapshot.open(path, allow_pickle=options["allow_pickle"])
    if uid is None:
        click.echo(_overview_json(snapshot) if form in ("json", "jsonl") else _overview(snapshot))
        return
    if options["timers"]:
        _show(_timers(snapshot, uid), form, options["output"], options["limit"])
        return
    name = name or _only_state(snapshot, uid)
    if name is None:
        click.echo(_operator(snapshot.operators[uid]))
        return
    state = snapshot.state(uid, name)
    if key is not None:
        _show(_of_key(state, key), form, options["output"], options["limit"])
    elif form in ("csv", "parquet"):
        found = state.to_arrow()
        _save(found.slice(0, options["limit"] or found.num_rows), form, options["output"])
    else:
        _show(state.rows(), form, options["output"], options["limit"])


def _overview(snapshot: Snapshot) -> str:
    operators = snapshot.operators
    lines = [
        f"{snapshot.path}",
        f"job {snapshot.job}, {snapshot.created.astimezone():%Y-%m-%d %H:%M:%S}, {size(snapshot.size_bytes)}",
        "",
    ]
    rows = [["OPERATOR", "SUBTASKS", "STATE", "KIND", "KEYS", "SIZE", "FIELDS"]]
    for info in operators.values():
        states = [
            [found.name, found.kind, f"{found.keys:,}", size(found.size_bytes), _fields(found.fields)]
            for found in info.states.values()
        ]
        for place, row in enumerate(states or [["", "", "", "", ""]]):
            rows.append([info.uid, str(info.parallelism), *row] if place == 0 else ["", "", *row])
    lines.append(table(rows))
    for info in operators.values():
        lines += _more(info)
    lines += [f"in flight on {edge}: {count:,} records" for edge, count in snapshot.in_flight().items()]
    return "\n".join(lines)


def _overview_json(snapshot: Snapshot) -> str:
    operators = {
        uid: {
            "name": info.name,
            "parallelism": info.parallelism,
            "max_parallelism": info.max_parallelism,
            "states": {
                found.name: {
                    "kind": found.kind, "keys": found.keys, "size_bytes": found.size_bytes, "version": found.version,
                    "fields": found.fields,
                }
                for found in info.states.values()
            },
            "splits": {split.id: {"offset": split.offset, "exhausted": split.exhausted} for split in info.splits},
            "prepared": info.prepared,
            "timers": info.timers,
            "event_timers": info.event_timers,
        }
        for uid, info in snapshot.operators.items()
    }  # fmt: skip
    return encode_json(
        {
            "path": snapshot.path,
            "job": snapshot.job,
            "created": snapshot.created.isoformat(),
            "size_bytes": snapshot.size_bytes,
            "operators": operators,
            "in_flight": snapshot.in_flight(),
        }
    ).decode()


def _more(info: OperatorInfo) -> list[str]:
    """What an operator has besides keyed state."""
    lines = []
    if info.splits:
        lines += [f"{info.uid} reads {len(info.splits)} splits:"]
        lines += [
            f"  {split.id}: {'at its end, ' * split.exhausted}offset {_cell(split.offset)}" for split in info.splits
        ]
    if info.prepared:
        lines.append(f"{info.uid} has prepared output, to be committed by a restore: {_cell(info.prepared)}")
    if info.timers or info.event_timers:
        lines.append(f"{info.uid} has {info.timers:,} timers, and {info.event_timers:,} of event time")
    lines += [f"{info.uid} also keeps {_cell(own)}" for own in info.own]
    return lines


def _operator(info: OperatorInfo) -> str:
    states = [f"  {found.name}: {found.kind}, {found.keys:,} keys" for found in info.states.values()]
    head = (
        f"operator {info.uid} ({info.name}) has {'several states; say --state NAME:' if states else 'no keyed state'}"
    )
    return "\n".join([head, *states, *_more(info)])


def _only_state(snapshot: Snapshot, uid: str) -> str | None:
    snapshot.state(uid, "")  # raises where there is no such operator
    names = list(snapshot.operators[uid].states)
    return names[0] if len(names) == 1 else None


def _timers(snapshot: Snapshot, uid: str) -> Iterator[dict[str, Any]]:
    for event_time in (True, False):
        for time_ms, key in snapshot.timers(uid, event_time=event_time):
            yield {"time": "event" if event_time else "processing", "time_ms": time_ms, "key": key}


def _of_key(state: SnapshotState, text: str) -> list[dict[str, Any]]:
    """The rows of the key that a text stands for: as JSON, else as it is."""
    candidates: list[Any] = []
    with contextlib.suppress(UsageError):  # it is text that was not put in quotes
        candidates.append(decode_key(text))
    for key in [*candidates, text]:
        found = state.get(key)
        if found is not None:
            if isinstance(found, list) and state.kind == "table":
                return found
            return [{"key": key, **found} if state.kind == "columnar" else {"key": key, "value": found}]
    return []


def _show(rows: Iterable[dict[str, Any]], form: str, output: str | None, limit: int | None) -> None:
    if form == "table" and limit is None and output is None:
        limit = _ROWS_OF_A_TABLE
    left = iter(rows)
    shown = list(itertools.islice(left, limit))
    more = limit is not None and next(left, None) is not None
    if form in ("csv", "parquet"):
        names = list(dict.fromkeys(name for row in shown for name in row))
        _save(pa.table({name: [_cell(row.get(name)) for row in shown] for name in names}), form, output)
        return
    if form == "jsonl":
        text = "\n".join(encode_json(row).decode() for row in shown)
    elif form == "json":
        text = encode_json(shown).decode()
    else:
        text = _as_table(shown)
    _write(text, output)
    if more:
        click.echo("… there are more: --limit N, or --format jsonl", err=True)


def _as_table(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return "nothing"
    names = list(dict.fromkeys(name for row in rows for name in row))
    return table([names, *([_cell(row[name]) if name in row else "" for name in names] for row in rows)])


def _save(found: pa.Table, form: str, output: str | None) -> None:
    try:
        if form == "parquet":
            pq.write_table(found, output)
        else:
            flat = pa.table({name: _flat(found[name]) for name in found.column_names})
            sink = pa.BufferOutputStream()
            pyarrow.csv.write_csv(flat, sink)
            _write(sink.getvalue().to_pybytes().decode().rstrip("\n"), output)
    except OSError as error:
        raise ConnectorError(f"{output} can't be written: {error.strerror or error}") from error


def _flat(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column as CSV can have it: what is nested as JSON."""
    if not pa.types.is_nested(column.type):
        return column
    return pa.chunked_array([pa.array([encode_json(value).decode() for value in column.to_pylist()])])


def _write(text: str, output: str | None) -> None:
    if output is None:
        click.echo(text)
        return
    try:
        Path(output).write_text(f"{text}\n", encoding="utf-8")
    except OSError as error:
        raise ConnectorError(f"{output} can't be written: {error.strerror}") from error


def _cell(value: Any) -> str:
    text = value if isinstance(value, str) else encode_json(value).decode()
    return text if len(text) <= _LONGEST_CELL else f"{text[: _LONGEST_CELL - 1]}…"


def _fields(fields: dict[str, str]) -> str:
    return ", ".join(f"{name}: {kind}" for name, kind in fields.items())
