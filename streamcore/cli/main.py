"""The command `streamcore`. Errors of streamcore end as a message and an exit code, everything else is a bug."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from streamcore.api.environment import StreamEnvironment
from streamcore.batch.wire import COMPRESSIONS
from streamcore.checkpoint.log import CheckpointLog
from streamcore.checkpoint.storage import open_storage
from streamcore.cli import jobs
from streamcore.cli.inspect import inspect
from streamcore.cli.options import read_duration, read_interval, read_optional_duration
from streamcore.cli.produce import produce
from streamcore.cli.progress import progress_line
from streamcore.cli.tables import checkpoint_table, table
from streamcore.cli.targets import app_names, build_topology, load_app, user_code
from streamcore.errors import DamagedCheckpointError, NoCheckpointError, StreamcoreError, UsageError, UserFunctionError
from streamcore.job.config import Checkpointing
from streamcore.job.restart import FixedDelay
from streamcore.job.run import Observer
from streamcore.job.status import JobResult
from streamcore.kernels.functions.program import compile_seconds
from streamcore.logs import configure_logging
from streamcore.metrics import metrics_server
from streamcore.state.backends import NAMES

EXIT_CODES = """\b
Exit codes:
  0    the job finished, or was stopped on request
  1    the job failed
  2    wrong usage or topology
  3    input or output that can't be used
  4    checkpoints: none to restore, damaged, of another topology, taken over
  5    the machine: a port in use, a directory that can't be written
  130  interrupted twice
"""


class _Group(click.Group):
    """Shows a StreamcoreError as a message and ends with its exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except StreamcoreError as error:
            if isinstance(error, UserFunctionError) and error.traceback_text:
                click.echo("Traceback of your code (most recent call last):", err=True)
                click.echo(error.traceback_text.rstrip(), err=True)
            click.echo(f"error: {error.message}", err=True)
            if error.hint:
                click.echo(f"  hint: {error.hint}", err=True)
            ctx.exit(error.exit_code)


def _read_settings(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    settings: dict[str, str] = {}
    for text in values:
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise click.BadParameter(f"{text!r} is not KEY=VALUE", ctx, param)
        settings[key] = value
    return settings


_set_option = click.option(
    "--set", "given", metavar="KEY=VALUE", multiple=True, callback=_read_settings,
    help="A setting of the topology: a keyword of its function. Repeat for more.",
)  # fmt: skip
_POSITIVE = click.IntRange(min=1)


@click.group(cls=_Group, name="streamcore", epilog=EXIT_CODES)
def cli() -> None:
    """Stateful stream processing in plain Python.

    A TARGET is the name of an app (see `streamcore apps`) or FILE.py:FUNCTION.
    """


@cli.command()
@click.argument("target")
@_set_option
@click.option("--workers", type=_POSITIVE, default=1, show_default=True, help="Processes to run on.")
@click.option("--parallelism", type=_POSITIVE, help="Subtasks per operator.  [default: one a worker]")
@click.option("--batch-size", type=_POSITIVE, default=16_384, show_default=True, help="Records an output waits for.")
@click.option(
    "--buffer-timeout", metavar="DURATION", default="5ms", show_default=True, callback=read_duration,
    help="The longest that it waits; 0: not at all.",
)  # fmt: skip
@click.option(
    "--compression", type=click.Choice(COMPRESSIONS), default="none", show_default=True,
    help="Of batches between processes.",
)  # fmt: skip
@click.option(
    "--state-backend", type=click.Choice(NAMES), default="heap", show_default=True,
    help="Where state of Python objects is: in memory, or on a local disk.",
)  # fmt: skip
@click.option("--checkpoint-dir", metavar="URL", help="Take snapshots here: a directory or an fsspec URL.")
@click.option(
    "--checkpoint-interval", metavar="DURATION", default="10s", show_default=True, callback=read_interval,
    help="From the start of one to the start of the next.",
)  # fmt: skip
@click.option(
    "--checkpoint-mode", type=click.Choice(["exactly-once", "at-least-once"]), default="exactly-once",
    show_default=True, help="At-least-once never waits for barriers; after a restore records may count twice.",
)  # fmt: skip
@click.option("--unaligned", is_flag=True, help="Barriers overtake queued records, which go into the checkpoint.")
@click.option(
    "--aligned-timeout", metavar="DURATION", callback=read_optional_duration,
    help="A checkpoint that is older than this becomes unaligned.",
)  # fmt: skip
@click.option("--restore", metavar="latest|PATH", help="Go on from the latest checkpoint, or from DIR/chk-NNNNNNNN.")
@click.option(
    "--allow-dropped-state", is_flag=True,
    help="Drop the state of operators that the topology no longer has, instead of refusing the snapshot.",
)  # fmt: skip
@click.option(
    "--fallback", is_flag=True,
    help="Where the latest checkpoint is damaged, go on from the next older whole one; its later output comes again.",
)  # fmt: skip
@click.option(
    "--metrics-port", type=click.IntRange(0, 65535), help="Serve Prometheus metrics on 127.0.0.1; 0: a free port."
)
@click.option(
    "--restart-attempts", type=click.IntRange(min=0),
    help="Restart so often, a second after a failure.  [default: 5 in a row with checkpoints, else 0]",
)  # fmt: skip
@click.option(
    "--on-stop", type=click.Choice(["snapshot", "drain"]), default="snapshot", show_default=True,
    help="On SIGTERM or Ctrl-C: stop at a last checkpoint, or end the input and process what is there.",
)  # fmt: skip
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True
)
@click.option("--no-progress", is_flag=True, help="No progress line.")
@click.option("--no-control", is_flag=True, help="Don't let `streamcore savepoint`, `state` and `stop` ask the job.")
def run(target: str, given: dict[str, str], **options: Any) -> None:
    """Runs a topology to its end. The first Ctrl-C stops it gracefully, the second at once."""
    configure_logging(options["log_level"].upper(), as_json=options["log_format"] == "json")
    checkpointing = _checkpointing(options)
    attempts = options["restart_attempts"]
    app = load_app(target)
    settings = app.settings(given)
    env = StreamEnvironment(
        app.name,
        checkpoint=checkpointing,
        workers=options["workers"],
        parallelism=options["parallelism"],
        batch_size=options["batch_size"],
        buffer_timeout=options["buffer_timeout"],
        compression=options["compression"],
        state_backend=options["state_backend"],
        restart=None if attempts is None else FixedDelay(attempts=attempts, delay=1.0),
        restore=options["restore"],
        allow_dropped_state=options["allow_dropped_state"],
    )
    env.config.on_stop = options["on_stop"]
    env.config.control = "off" if options["no_control"] else "on"
    before_s = compile_seconds()
    build_topology(app, env, settings)
    if compile_seconds() > before_s:
        click.echo(f"functions compiled or loaded in {compile_seconds() - before_s:.2f} s", err=True)
    observers: list[Observer] = [] if options["no_progress"] else [progress_line(app)]
    if options["metrics_port"] is not None:
        observers.append(metrics_server(options["metrics_port"]))
    result = env.execute(tuple(observers))
    click.echo(_summary(result, can_resume=options["on_stop"] == "snapshot"), err=True)
    with user_code(f"the report of {app.name}", UserFunctionError):
        report = app.describe_result(result, settings)
    if report:
        click.echo(report)


@cli.command()
def apps() -> None:
    """Lists the apps that come with streamcore."""
    rows = []
    for name in app_names():
        try:
            summary = load_app(name).summary
        except StreamcoreError as error:  # one broken app mustn't hide the others
            summary = error.message.partition("\n")[0]
        rows.append([name, summary])
    click.echo(table(rows) if rows else "no apps are installed")


@cli.command()
@click.argument("target")
@_set_option
def describe(target: str, given: dict[str, str]) -> None:
    """Shows the plan of a topology without running it."""
    app = load_app(target)
    env = StreamEnvironment(app.name)
    build_topology(app, env, app.settings(given))
    click.echo(env.describe())


@cli.command()
@click.argument("directory", metavar="DIR")
def checkpoints(directory: str) -> None:
    """Lists the complete checkpoints in a checkpoint directory."""
    log = CheckpointLog(open_storage(directory))
    entries = log.checkpoints()
    try:
        latest, note = log.latest().checkpoint_id, ""
    except (NoCheckpointError, DamagedCheckpointError) as error:
        if not entries:
            raise
        latest, note = None, f"--restore latest takes none of them: {error.message}"
    click.echo(checkpoint_table(entries, latest))
    if note:
        click.echo(note)


for command in (inspect, produce, jobs.jobs, jobs.savepoint, jobs.state, jobs.stop):
    cli.add_command(command)


def main() -> None:
    """The entry of the console script."""
    cli(prog_name="streamcore")


def _checkpointing(options: Mapping[str, Any]) -> Checkpointing | None:
    if options["checkpoint_dir"] is not None:
        return Checkpointing(
            options["checkpoint_dir"],
            interval=options["checkpoint_interval"],
            mode=options["checkpoint_mode"],
            unaligned=options["unaligned"],
            aligned_timeout=options["aligned_timeout"],
            fallback=options["fallback"],
        )
    if options["fallback"]:
        raise UsageError("--fallback needs --checkpoint-dir", hint="add --checkpoint-dir DIR and --restore latest")
    if options["restore"] is not None:
        raise UsageError(
            f"--restore {options['restore']} needs --checkpoint-dir",
            hint="add --checkpoint-dir DIR: where the job takes its checkpoints from here on",
        )
    if options["unaligned"] or options["aligned_timeout"] is not None or options["checkpoint_mode"] != "exactly-once":
        raise UsageError(
            "--checkpoint-mode, --unaligned and --aligned-timeout need --checkpoint-dir",
            hint="say where checkpoints are kept: --checkpoint-dir DIR",
        )
    return None


def _summary(result: JobResult, *, can_resume: bool) -> str:
    rate = result.records_read / result.run_s if result.run_s > 0 else 0.0
    text = (
        f"{'stopped on request' if result.stopped else 'finished'}: {result.records_read:,} records in "
        f"{result.run_s:.2f} s ({rate:,.0f}/s) after {result.start_s:.2f} s to start, "
        f"restarts: {result.restarts}, checkpoints: {result.checkpoints}"
    )
    if result.savepoint is not None:
        return f"{text}; to go on, run it again with --restore {result.savepoint}"
    if result.stopped and can_resume and result.last_checkpoint is not None:
        return f"{text}; to go on, run it again with --restore latest (from {result.last_checkpoint})"
    return text
