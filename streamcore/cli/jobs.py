"""The commands that ask running jobs: `jobs`, `savepoint`, `state`, `stop`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from streamcore.batch.json_values import decode_key
from streamcore.cli.options import read_interval
from streamcore.cli.tables import table
from streamcore.errors import JobUnavailableError, UsageError
from streamcore.job.client import JobClient, connect
from streamcore.job.registry import JobEntry, running_jobs

_JOB = click.argument("job", metavar="JOB")


@click.command()
def jobs() -> None:
    """Lists this user's running jobs."""
    entries = running_jobs()
    if not entries:
        click.echo("no jobs are running")
        return
    rows = [["JOB", "PID", "SINCE", "STATE", "RECORDS", "CHECKPOINTS"], *map(_row, entries)]
    click.echo(table(rows))


@click.command()
@_JOB
@click.option(
    "--dir", "directory", metavar="URL", help="Make its directory there.  [default: `savepoints` in --checkpoint-dir]"
)
@click.option("--stop", is_flag=True, help="Stop the job with it.")
@click.option(
    "--timeout", metavar="DURATION", default="10min", show_default=True, callback=read_interval,
    help="Give it up after so long.",
)  # fmt: skip
def savepoint(job: str, directory: str | None, stop: bool, timeout: float) -> None:
    """Takes a savepoint of a running JOB and prints its path, to start from with --restore.

    JOB is a name, or a process id where several jobs have the name. The job goes on, unless it is to --stop; then
    its output up to the savepoint is committed, and it leaves with exit code 0.
    """
    shown = ""

    def show(state: str, written: int, parts: int) -> None:
        nonlocal shown
        text = (
            "waiting for its turn" if state == "waiting" else f"{written} of {parts} subtasks have written their part"
        )
        if text != shown:
            shown = text
            click.echo(text, err=True)

    path = connect(job).savepoint(directory, stop=stop, timeout=timeout, progress=show)
    click.echo(path)
    if stop:
        click.echo(f"stopped; to go on, run it again with --restore {path}", err=True)


@click.command()
@_JOB
@click.argument("uid", required=False)
@click.argument("name", required=False)
@click.argument("key", required=False)
@click.option("--live", is_flag=True, help="As it is now, not as of the last checkpoint.")
@click.option(
    "--timeout", metavar="DURATION", default="10s", show_default=True, callback=read_interval,
    help="Wait so long for the answer, through a restart too.",
)  # fmt: skip
def state(job: str, uid: str | None, name: str | None, key: str | None, live: bool, timeout: float) -> None:
    """Prints as JSON what state NAME of operator UID of a running JOB has for KEY.

    KEY is JSON, a list for a tuple; what isn't JSON is taken as text. Without NAME: the operator's states; without UID:
    the operators.
    """
    client = connect(job)
    if uid is None:
        click.echo(table([["UID", "OPERATOR"], *sorted(client.operators().items())]))
    elif name is None:
        click.echo(table([["STATE", "KIND"], *sorted(client.states(uid, timeout=timeout).items())]))
    elif key is None:
        raise UsageError(f"no key is given to look up in {name!r}", hint="add KEY, as JSON")
    else:
        answer = client.ask(uid, name, _key(key), consistency="live" if live else "checkpoint", timeout=timeout)
        if not answer.found:
            click.echo(f"there is nothing for {key}", err=True)
        click.echo(bytes(answer.value))


@click.command()
@_JOB
@click.option("--drain", is_flag=True, help="End its input and process what is there, instead of a last checkpoint.")
def stop(job: str, drain: bool) -> None:
    """Stops a running JOB, as SIGTERM does, and waits until it has ended."""
    connect(job).stop(drain=drain)


def _key(text: str) -> Any:
    try:
        return decode_key(text)
    except UsageError:
        return text


def _row(entry: JobEntry) -> list[str]:
    try:
        info = JobClient(entry).status()
        state, records = info.state, f"{info.records_read:,}"
    except JobUnavailableError:
        state, records = "doesn't answer", ""
    since = f"{datetime.fromtimestamp(entry.started_ms / 1000, tz=UTC).astimezone():%Y-%m-%d %H:%M:%S}"
    return [entry.job, str(entry.pid), since, state, records, entry.checkpoints or ""]
